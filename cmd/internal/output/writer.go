// Package output writes the results of a run as JSON lines, one for each
// request, in order of completion.
//
// The encoder is written by hand: it appends to one buffer, allocates nothing
// per result, and encodes large bodies in pieces. encoding/json is the oracle
// of its tests.
package output

import (
	"bytes"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	"hotlap/engine"
)

const (
	writeAt    = 64 << 10              // bytes that are worth a write
	bufferMost = 1 << 20               // bytes of buffer that are kept: a long URL or meta needs more
	flushAfter = 20 * time.Millisecond // no line waits longer than this to be written
)

// Options say what is written, and when.
type Options struct {
	Bodies  bool // "body" or "body_base64"
	Headers bool // "headers"
	TLS     bool // "tls"
	// Idle says that no result is to be expected soon: then nothing is held
	// back. Nil is never.
	Idle func() bool
	// Fail is told of a failed write that no Put was there to return.
	Fail func(error)
}

// A Writer is the engine's Sink. Put and Close are for one goroutine.
type Writer struct {
	o       Options
	out     io.Writer
	fields  func(*engine.Result) iter.Seq2[[]byte, []byte]
	headers headers
	clock   clock

	mu     sync.Mutex // of all below: the timer writes too
	buf    []byte
	err    error
	tail   int64 // bytes written after the last whole line
	timer  *time.Timer
	timing bool // the timer runs
}

// NewWriter makes a Writer. If out is a regular file and a write to it fails,
// it is cut after its last whole line.
func NewWriter(out io.Writer, o Options) *Writer {
	w := &Writer{o: o, out: out, buf: make([]byte, 0, 2*writeAt)}
	w.fields = func(r *engine.Result) iter.Seq2[[]byte, []byte] { return r.Fields() }
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Stop()
	return w
}

// Put implements engine.Sink.
func (w *Writer) Put(results []*engine.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range results {
		w.result(r)
		w.writeIfFull()
	}
	switch {
	case len(w.buf) == 0:
	case w.o.Idle != nil && w.o.Idle():
		w.write()
	case !w.timing:
		w.timing = true
		w.timer.Reset(flushAfter)
	}
	return w.err
}

// Close writes what is held back. It does not close what is written to.
func (w *Writer) Close() error {
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write()
	return w.err
}

// tick writes what has waited long enough.
func (w *Writer) tick() {
	w.mu.Lock()
	w.timing = false
	known := w.err != nil
	w.write()
	err := w.err
	w.mu.Unlock()
	if err != nil && !known && w.o.Fail != nil {
		w.o.Fail(err)
	}
}

func (w *Writer) writeIfFull() {
	if len(w.buf) >= writeAt {
		w.write()
	}
}

// write empties the buffer. After a failure nothing is written any more.
func (w *Writer) write() {
	buf := w.buf
	if w.buf = buf[:0]; cap(buf) > bufferMost {
		w.buf = nil
	}
	if w.err != nil || len(buf) == 0 {
		return
	}
	n, err := w.out.Write(buf)
	w.tail += int64(n)
	if end := bytes.LastIndexByte(buf[:n], '\n') + 1; end > 0 {
		w.tail = int64(n - end)
	}
	if err != nil {
		w.err = err
		w.cut()
	}
}

// cut takes the unfinished line off a file. It leaves alone what is no file,
// and a file that others have written to since.
func (w *Writer) cut() {
	f, ok := w.out.(*os.File)
	if !ok || w.tail == 0 {
		return
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == info.Size() {
		_ = f.Truncate(at - w.tail) // the failed write is the error to report
	}
}
