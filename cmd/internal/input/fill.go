package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"hotlap/engine"
)

var errLong = errors.New("longer than 64 MiB")

// A filler forms one batch of requests. Plain lines that follow each other
// share one string: a run costs one allocation, not one per line.
type filler struct {
	s     *Source
	batch []*engine.Request
	n     int     // served so far
	size  int64   // bytes of their lines
	items []*Item // to be used

	run  []span
	base []byte // the text that spans of run refer to
}

// A span is where the URL of an item is in the text of a run.
type span struct {
	it       *Item
	from, to int
}

// serve forms requests of about room bytes, at least one if there is any.
func (f *filler) serve(batch []*engine.Request, room int64) int {
	f.batch, f.n, f.size = batch, 0, 0
	f.borrow()
	for f.n < len(f.batch) && f.size < room && !f.s.idle() {
		switch {
		case f.s.block.long:
			f.s.block.long = false
			f.s.number++
			f.add(f.item(0), errLong)
		case len(f.s.args) > 0:
			f.argument()
		default:
			f.line()
		}
	}
	f.share()
	f.settle()
	return f.n
}

// borrow takes free items.
func (f *filler) borrow() {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	from := max(0, len(s.free)-len(f.batch))
	f.items = append(f.items[:0], s.free[from:]...)
	s.free = s.free[:from]
}

// settle gives back items that were not used, and counts the others.
func (f *filler) settle() {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, f.items...)
	s.pending += f.size
}

// item returns an item for the current line or argument.
func (f *filler) item(size int) *Item {
	var it *Item
	if last := len(f.items) - 1; last >= 0 {
		it = f.items[last]
		f.items = f.items[:last]
	} else {
		it = &Item{src: f.s}
	}
	it.Tag, it.Number, it.size = it, f.s.number, int64(size)
	return it
}

// clear drops what an item refers to, but for memory it will use again.
func (it *Item) clear() {
	clear(it.own)
	*it = Item{src: it.src, own: it.own[:0]}
}

// line forms the request of the next line, if it is one.
func (f *filler) line() {
	s, from := f.s, f.s.rest
	s.number++
	line := from
	if end := bytes.IndexByte(from, '\n'); end >= 0 {
		line, s.rest = from[:end], from[end+1:]
	} else {
		s.rest = nil
	}
	size := len(from) - len(s.rest)
	if last := len(line) - 1; last >= 0 && line[last] == '\r' {
		line = line[:last]
	}
	switch first := firstByte(line); {
	case first == 0, line[0] == '#':
	case len(line) > s.in.most:
		f.add(f.item(size), errLong)
	case first == '{':
		f.share() // its text does not belong into the run's string
		it := f.item(size)
		f.add(it, it.parse(line))
	default:
		f.plain(f.item(size), from, len(line))
	}
}

// firstByte is the first that is no space; 0 if there is none.
func firstByte(line []byte) byte {
	for _, b := range line {
		if b != ' ' && b != '\t' {
			return b
		}
	}
	return 0
}

// plain adds the request of a line that is a URL, the first n bytes of from.
func (f *filler) plain(it *Item, from []byte, n int) {
	if len(f.run) > 0 && len(f.base)-len(from)+n > textMost {
		f.share()
	}
	if len(f.run) == 0 {
		f.base = from
	}
	at := len(f.base) - len(from)
	f.run = append(f.run, span{it, at, at + n})
	if f.s.o.Check != nil {
		f.share()
	}
	f.add(it, nil)
}

// share gives the items of the run their URLs.
func (f *filler) share() {
	if len(f.run) == 0 {
		return
	}
	text := string(f.base[:f.run[len(f.run)-1].to])
	for i := range f.run {
		u := &f.run[i]
		u.it.URL = text[u.from:u.to]
	}
	f.run, f.base = f.run[:0], nil
}

func (f *filler) argument() {
	s := f.s
	s.number++
	it := f.item(len(s.args[0]))
	it.URL, s.args = s.args[0], s.args[1:]
	f.add(it, nil)
}

// add serves an item, whose line was bad if err is not nil.
func (f *filler) add(it *Item, err error) {
	it.Err = err
	if it.Body == nil {
		it.Body = f.s.o.Body
	}
	if it.Method == "" {
		it.Method = f.s.o.Method
	}
	if it.Method == "" && it.Body != nil {
		it.Method = "POST"
	}
	f.batch[f.n] = &it.Request
	f.n++
	f.size += it.size
	if f.s.o.Check != nil {
		f.check(it)
	}
}

// check ends the input at a bad line.
func (f *filler) check(it *Item) {
	err := it.Err
	if err == nil {
		var bad *engine.Error
		if errors.As(f.s.o.Check(&it.Request), &bad) && bad.Kind == engine.InvalidRequest {
			err = errors.New(bad.Message)
		}
	}
	if err != nil {
		f.s.rest, f.s.args, f.s.block.long = nil, nil, false
		f.s.ended = io.EOF
		err = fmt.Errorf("%s: %w", it.Place(), err)
		f.s.err.CompareAndSwap(nil, &err)
	}
}
