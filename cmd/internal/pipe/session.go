package pipe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"hotlap/engine"
)

// Bounds of a session beside its window.
const (
	windowBytes  = 64 << 20 // of requests in the window; a larger one is alone
	maxCancels   = 64       // CANCEL frames that wait for the feeder
	maxQuestions = 16       // STATS frames that wait to be answered
	reservedFeed = 256      // places in the engine beyond the window: see Config
)

// Memory is what a session may hold beside its engine: requests, and frames
// that are being read and written.
const Memory = windowBytes + MaxFrame + keptFrame + 2*keptBatch

// Config makes cfg fit for a session whose window is n requests; 0 is what the
// engine has by default. The engine has more places than the window, so that its
// feeder is always at Next, and cancels are never stuck behind a full engine.
func Config(cfg engine.Config, n int) engine.Config {
	cfg.KeepBody, cfg.KeepHead = true, true
	if n > 0 {
		cfg.MaxInFlight = n + reservedFeed
	}
	return cfg
}

// A Session serves one client. It is the engine's Source and Sink.
type Session struct {
	engine *engine.Engine
	window int
	in     io.Reader

	outLock sync.Mutex // frames are written whole
	out     io.Writer
	batch   batch

	questions chan struct{}  // STATS that wait for their answer
	over      chan struct{}  // closed when the run has ended
	answering sync.WaitGroup // answer
	reading   sync.WaitGroup // read

	watch sync.Once // the run's context

	mu     sync.Mutex
	moved  sync.Cond // anything below has changed
	queue  []*request
	free   []*request
	taken  uint64 // requests that were read, ever
	passed uint64 // of these, given to the engine in calls of Next that returned
	inside int    // requests that were read and whose results are not written
	bytes  int    // that they count
	cancel []cancellation
	ended  bool  // nothing more is read
	broken error // how the client broke the protocol

	blocked time.Time // since when the reader waits for room; zero if it does not
	writing time.Time // since when a frame is being written; zero if none is
}

// A cancellation is a CANCEL frame: for requests that were read before it.
type cancellation struct {
	ids   map[uint64]bool
	after uint64 // requests that were read before it, ever
}

// NewSession makes a session that reads from in and writes to out. It has the
// engine, which was made with Config, for itself.
func NewSession(e *engine.Engine, in io.Reader, out io.Writer) *Session {
	s := &Session{
		engine: e, window: e.MaxInFlight() - reservedFeed, in: in, out: out,
		questions: make(chan struct{}, maxQuestions), over: make(chan struct{}),
	}
	s.moved.L = &s.mu
	return s
}

// Serve serves until the input ends and all is answered. The error is that of
// the context, of the output, or how the client broke the protocol, which it was
// told. A read of the input may still be going on then.
func (s *Session) Serve(ctx context.Context) error {
	if err := s.write(jsonFrame(frameHello, s.hello())); err != nil {
		return err
	}
	s.reading.Go(s.read)
	s.answering.Go(s.answer)
	stats, err := s.engine.Run(ctx, s, s)
	s.Stop()
	close(s.over)
	s.answering.Wait()
	if err != nil {
		return err
	}
	if broken := s.Fault(); broken != nil {
		text := broken.Error()
		return errors.Join(broken, s.write(append(appendFrame(nil, frameFatal, 0, len(text)), text...)))
	}
	return s.write(jsonFrame(frameBye, statisticsOf(stats)))
}

// Wait waits for the reader, after Serve, and after the input was made to end.
func (s *Session) Wait() { s.reading.Wait() }

// Stop ends the input: what was read is still answered.
func (s *Session) Stop() { s.end(nil) }

func (s *Session) end(broken error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.broken = true, broken
	}
	s.moved.Broadcast()
}

// Fault is how the client broke the protocol, or nil.
func (s *Session) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Stuck is for how long both the output has not been read and input has been
// waiting for room in the window: a client that writes all before it reads.
func (s *Session) Stuck(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked.IsZero() || s.writing.IsZero() {
		return 0
	}
	return min(now.Sub(s.blocked), now.Sub(s.writing))
}

// read is the reader.
func (s *Session) read() {
	r := frameReader{from: bufio.NewReaderSize(s.in, 64<<10)}
	for {
		f, err := r.next()
		if err == nil {
			err = s.handle(f)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errEnded):
			s.Stop()
			return
		case err != nil:
			s.end(err)
			return
		}
	}
}

// errEnded stops the reader of a session that has ended.
var errEnded = errors.New("the session has ended")

func (s *Session) handle(f frame) error {
	switch f.kind {
	case frameRequests:
		return s.admit(f)
	case frameCancel:
		return s.cancelLater(f)
	case frameStats:
		return s.ask(f)
	}
	return fmt.Errorf("a frame of type %d, want %d, %d or %d", f.kind, frameRequests, frameCancel, frameStats)
}

// admit decodes the requests of a frame into the queue, as the window has room.
func (s *Session) admit(f frame) error {
	d, err := splitRequests(f)
	if err != nil {
		return err
	}
	var batch []*request
	for d.left > 0 {
		if batch, err = s.room(batch[:0], &d); err != nil {
			return err
		}
		for _, q := range batch {
			d.next(q)
		}
		s.mu.Lock()
		s.queue = append(s.queue, batch...)
		s.taken += uint64(len(batch))
		s.mu.Unlock()
		s.moved.Broadcast()
	}
	return nil
}

// room waits until there is some for the next requests of a frame, and appends
// as many places as there are, taken, to dst.
func (s *Session) room(dst []*request, d *requestFrame) ([]*request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.ended {
			return dst, errEnded
		}
		for len(dst) < d.left && s.fits(d.sizeAt(len(dst))+requestOverhead) {
			s.inside++
			s.bytes += d.sizeAt(len(dst)) + requestOverhead
			dst = append(dst, s.place())
		}
		if len(dst) > 0 {
			s.blocked = time.Time{}
			return dst, nil
		}
		if s.blocked.IsZero() {
			s.blocked = time.Now()
		}
		s.moved.Wait()
	}
}

func (s *Session) fits(size int) bool {
	return s.inside == 0 || s.inside < s.window && s.bytes+size <= windowBytes
}

func (s *Session) place() *request {
	if last := len(s.free) - 1; last >= 0 {
		q := s.free[last]
		s.free = s.free[:last]
		return q
	}
	return new(request)
}

// cancelLater notes ids for the feeder.
func (s *Session) cancelLater(f frame) error {
	if len(f.payload) != f.count*8 {
		return fmt.Errorf("a frame of %d ids has %d bytes", f.count, len(f.payload))
	}
	ids := make(map[uint64]bool, f.count)
	for i := range f.count {
		ids[binary.LittleEndian.Uint64(f.payload[i*8:])] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.cancel) == maxCancels {
		if s.ended {
			return errEnded
		}
		s.moved.Wait()
	}
	s.cancel = append(s.cancel, cancellation{ids, s.taken})
	s.moved.Broadcast()
	return nil
}

// ask notes a question for answer, which writes: the reader must not wait for
// the output to be read.
func (s *Session) ask(f frame) error {
	if len(f.payload) != 0 {
		return fmt.Errorf("a frame of type %d with %d bytes, want none", frameStats, len(f.payload))
	}
	select {
	case s.questions <- struct{}{}:
		return nil
	case <-s.over:
		return errEnded
	}
}

// answer answers STATS. An output that fails shows in Put, too.
func (s *Session) answer() {
	for {
		select {
		case <-s.questions:
			if s.write(jsonFrame(frameStats, statisticsOf(s.engine.Stats()))) != nil {
				return
			}
		case <-s.over:
			return
		}
	}
}

// Next implements engine.Source.
func (s *Session) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	s.watch.Do(func() { context.AfterFunc(ctx, s.Stop) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 {
		if s.passCancels() {
			continue
		}
		if s.ended || ctx.Err() != nil {
			return 0, io.EOF
		}
		s.moved.Wait()
	}
	s.passCancels()
	n := min(len(batch), len(s.queue))
	for i, q := range s.queue[:n] {
		batch[i] = &q.Request
	}
	s.queue = s.queue[:copy(s.queue, s.queue[n:])]
	s.passed += uint64(n)
	return n, nil
}

// passCancels passes on the cancels whose requests the engine has, all at once:
// it costs a look at each request in flight.
func (s *Session) passCancels() bool {
	due := 0
	for due < len(s.cancel) && s.cancel[due].after <= s.passed {
		due++
	}
	if due == 0 {
		return false
	}
	ids := s.cancel[0].ids
	for _, c := range s.cancel[1:due] {
		maps.Copy(ids, c.ids)
	}
	s.cancel = append([]cancellation(nil), s.cancel[due:]...)
	s.engine.Cancel(func(r *engine.Request) bool { return ids[r.Tag.(*request).id] })
	s.moved.Broadcast()
	return true
}

// Put implements engine.Sink.
func (s *Session) Put(results []*engine.Result) error {
	err := s.writeResults(results)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside -= len(results)
	for _, r := range results {
		q := r.Request.Tag.(*request)
		s.bytes -= q.size
		q.forget()
		s.free = append(s.free, q)
	}
	s.moved.Broadcast()
	return err
}

// writeResults writes results in frames of moderate size.
func (s *Session) writeResults(results []*engine.Result) error {
	b := &s.batch // Put alone uses it
	b.reset()
	for _, r := range results {
		if b.count > 0 && b.size()+len(r.Head())+len(r.Body) > batchBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
		b.add(r)
	}
	return s.flush()
}

func (s *Session) flush() error {
	err := s.write(s.batch.frame()...)
	s.batch.reset()
	return err
}

// write writes one frame, which may be in parts.
func (s *Session) write(parts ...[]byte) error {
	s.outLock.Lock()
	defer s.outLock.Unlock()
	s.setWriting(time.Now())
	defer s.setWriting(time.Time{})
	for _, p := range parts {
		if _, err := s.out.Write(p); err != nil {
			return fmt.Errorf("write to the client: %w", err)
		}
	}
	return nil
}

func (s *Session) setWriting(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = t
}
