// Package input reads the requests of a run, from lines of text or from
// arguments, and serves them to the engine as its Source.
//
// How a line travels:
//
//  1. A blockReader, a goroutine, reads and hands over blocks of whole lines.
//  2. Next splits a block: a plain line becomes a request by reference to one
//     string that many lines share, a JSON line by parsing. It returns what it
//     has; it waits only when it has nothing.
//  3. The engine gives the request back in a Result. Release takes it apart:
//     its Item is used again, its bytes leave the budget.
package input

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"hotlap/engine"
)

// Bounds of what a Source holds.
const (
	// textMost is about how many bytes of lines share one string, which lives
	// as long as any of them is in flight.
	textMost = 4 << 10
	// pendingMost is how many bytes of lines may be in flight. One request is
	// let through whatever its size.
	pendingMost = 32 << 20
)

// An Item is one request of the input and what its result echoes. It is reused
// once its result was released.
type Item struct {
	engine.Request
	Number int64  // of the line or argument, from 1
	ID     []byte // JSON; nil if the number is the id
	Meta   []byte // JSON; nil if there is none

	size int64          // bytes of its line
	own  []engine.Field // memory of Header
	src  *Source
}

// ItemOf returns the item of a request that came from a Source.
func ItemOf(r *engine.Request) *Item { return r.Tag.(*Item) }

// Place names where the request came from: "line 7".
func (it *Item) Place() string { return fmt.Sprintf("%s %d", it.src.noun, it.Number) }

// Options say how lines become requests.
type Options struct {
	Method string // of lines that name none
	Body   []byte // of lines that have none
	// Check, if not nil, is asked about each request. The first line it
	// refuses, and the first that cannot be parsed, is the last that is sent.
	Check func(*engine.Request) error
}

// A Source serves lines or arguments as requests. Next is for one goroutine,
// the engine's; the other methods are for any.
type Source struct {
	o      Options
	noun   string // what is numbered: "line", "argument"
	in     *blockReader
	args   []string
	number int64
	block  block
	rest   []byte // of block, not yet served
	ended  error  // what Next returns when nothing is left
	fill   filler

	stop     chan struct{}
	stopOnce sync.Once
	taken    atomic.Int64
	over     atomic.Bool // nothing will be taken any more
	argc     int64       // arguments there were
	err      atomic.Pointer[error]

	mu      sync.Mutex
	free    []*Item
	pending int64         // bytes of items that are out
	freed   chan struct{} // one token: pending fell
}

// Lines makes a Source of text.
func Lines(in io.Reader, o Options) *Source { return lines(in, o, MaxLine) }

func lines(in io.Reader, o Options, most int) *Source {
	s := newSource("line", o)
	s.in = readBlocks(in, most, s.stop)
	return s
}

// Args makes a Source of URLs.
func Args(urls []string, o Options) *Source {
	s := newSource("argument", o)
	s.args, s.argc, s.ended = urls, int64(len(urls)), io.EOF
	return s
}

func newSource(noun string, o Options) *Source {
	s := &Source{o: o, noun: noun, stop: make(chan struct{}), freed: make(chan struct{}, 1)}
	s.fill.s = s
	return s
}

// Stop ends the input: Next returns io.EOF, also one that is waiting.
func (s *Source) Stop() { s.stopOnce.Do(func() { close(s.stop) }) }

// Err says what ended the input before its end: a failed read, or with Check
// the first bad line.
func (s *Source) Err() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Total is how many requests there are, once that is known: at the end of the
// input, or from the start for arguments.
func (s *Source) Total() (int64, bool) {
	if s.argc > 0 {
		return s.argc, true
	}
	return s.Taken(), s.over.Load()
}

// Taken is how many requests were served.
func (s *Source) Taken() int64 { return s.taken.Load() }

// Next implements engine.Source.
func (s *Source) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	for {
		room, err := s.room(ctx)
		if err != nil {
			return 0, err
		}
		n := s.fill.serve(batch, room)
		if n > 0 || s.idle() && s.ended != nil {
			s.taken.Add(int64(n))
			if s.idle() && s.ended != nil {
				s.over.Store(true)
				return n, s.ended
			}
			return n, nil
		}
		if err := s.more(ctx); err != nil {
			return 0, err
		}
	}
}

// idle says that there is nothing left to serve without waiting.
func (s *Source) idle() bool { return len(s.rest) == 0 && len(s.args) == 0 && !s.block.long }

// room waits until bytes may be sent, and says how many.
func (s *Source) room(ctx context.Context) (int64, error) {
	for {
		select {
		case <-s.stop:
			return 0, io.EOF
		default:
		}
		s.mu.Lock()
		room := pendingMost - s.pending
		s.mu.Unlock()
		if room > 0 {
			return room, nil
		}
		select {
		case <-s.freed:
		case <-s.stop:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// more waits for the next block.
func (s *Source) more(ctx context.Context) error {
	if s.block.text != nil {
		s.in.giveBack(s.block.text)
	}
	s.block = block{}
	select {
	case s.block = <-s.in.blocks:
		s.rest = s.block.text
		if s.number == 0 {
			s.rest = bytes.TrimPrefix(s.rest, []byte("\xef\xbb\xbf")) // a byte order mark
		}
		s.endWith(s.block.err)
		return nil
	case <-s.stop:
		return io.EOF
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endWith notes the end of the input. An early end is for Err to tell: what
// was sent before it is not to be cut off.
func (s *Source) endWith(err error) {
	if err == nil {
		return
	}
	s.ended = io.EOF
	if err != io.EOF {
		s.err.CompareAndSwap(nil, &err)
	}
}

// Release takes back the requests of consumed results.
func (s *Source) Release(results []*engine.Result) {
	var size int64
	s.mu.Lock()
	for _, r := range results {
		it := ItemOf(r.Request)
		size += it.size
		it.clear()
		s.free = append(s.free, it)
	}
	s.pending -= size
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}
