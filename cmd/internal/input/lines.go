package input

import (
	"bytes"
	"io"
)

// Bounds of the input.
const (
	MaxLine   = 64 << 20  // bytes of one line
	blockSize = 256 << 10 // read at once
	blockMost = 2         // blocks there are: one is read while one is parsed
	emptyMost = 100       // reads in a row that give nothing and no error
)

// A block is a piece of the input: whole lines, of which only the last of the
// input may lack its newline.
type block struct {
	text []byte
	long bool  // instead of text: one line was too long, and was skipped
	err  error // after text; io.EOF at the end
}

// A blockReader reads ahead on its own goroutine, so that lines that have
// arrived are handed over even while the next read blocks.
type blockReader struct {
	in     io.Reader
	most   int // bytes of a line
	blocks chan block
	spare  chan []byte   // buffers given back
	quit   chan struct{} // closed when no one takes blocks any more
}

func readBlocks(in io.Reader, most int, quit chan struct{}) *blockReader {
	r := &blockReader{
		in: in, most: most, blocks: make(chan block), spare: make(chan []byte, blockMost), quit: quit,
	}
	for range blockMost {
		r.spare <- nil
	}
	go r.run()
	return r
}

// giveBack returns the buffer of a block that was parsed. One that had to grow
// for a long line is not kept.
func (r *blockReader) giveBack(text []byte) {
	if cap(text) > blockSize {
		text = nil
	}
	r.spare <- text[:0]
}

// take returns an empty buffer with room for n bytes and more.
func (r *blockReader) take(n int) []byte {
	var buf []byte
	select {
	case buf = <-r.spare:
	case <-r.quit:
	}
	if n >= blockSize || cap(buf) < blockSize {
		buf = make([]byte, 0, max(blockSize, 2*n))
	}
	return buf
}

// run ends at the end of the input, or when quit is closed and the read that
// is under way returns.
func (r *blockReader) run() {
	buf, scanned := r.take(0), 0 // buf[:scanned] has no newline
	var err error
	for err == nil {
		if end := scanned + bytes.LastIndexByte(buf[scanned:], '\n') + 1; end > scanned {
			next := append(r.take(len(buf)-end), buf[end:]...)
			if !r.send(block{text: buf[:end]}) {
				return
			}
			buf = next
		}
		scanned = len(buf)
		if scanned <= r.most {
			buf, err = r.more(buf)
		} else if r.send(block{long: true}) {
			buf, err = r.skipLine(buf)
			scanned = 0
		} else {
			return
		}
	}
	if err != io.EOF { // half a line is no line
		buf = buf[:bytes.LastIndexByte(buf, '\n')+1]
	}
	r.send(block{text: buf, err: err})
}

// more reads once, behind what buf has.
func (r *blockReader) more(buf []byte) ([]byte, error) {
	if len(buf) == cap(buf) {
		buf = append(make([]byte, 0, min(2*cap(buf), r.most+2)), buf...)
	}
	n, err := r.read(buf[len(buf):cap(buf)])
	return buf[:len(buf)+n], err
}

// skipLine reads to the end of a line, and returns what came behind it.
func (r *blockReader) skipLine(buf []byte) ([]byte, error) {
	buf = buf[:cap(buf)]
	for {
		n, err := r.read(buf)
		if end := bytes.IndexByte(buf[:n], '\n') + 1; end > 0 {
			return buf[:copy(buf, buf[end:n])], err
		}
		if err != nil {
			return buf[:0], err
		}
	}
}

// read is one read that gives bytes or an error.
func (r *blockReader) read(p []byte) (int, error) {
	for range emptyMost {
		if n, err := r.in.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (r *blockReader) send(b block) bool {
	select {
	case r.blocks <- b:
		return true
	case <-r.quit:
		return false
	}
}
