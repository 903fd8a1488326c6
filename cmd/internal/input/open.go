package input

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the largest window a .zst file may ask for: what zstd itself
// decompresses without being told to (--long=27).
const zstdWindow = 128 << 20

// A File is an input that was opened: plain, gzip or zstd.
type File struct {
	io.Reader          // its content, decompressed
	Raw       *os.File // what was opened
	name      string
	size      int64 // of the raw file, 0 where there is none
	consumed  atomic.Int64
}

// Open opens the named file. Names ending in .gz and .zst are decompressed, and
// so is what starts with their magic numbers.
func Open(name string) (*File, error) {
	raw, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f, err := Wrap(raw)
	if err != nil {
		raw.Close()
	}
	return f, err
}

// Wrap makes a File of an open file, such as standard input. It waits for the
// first byte only when it is asked for content.
func Wrap(raw *os.File) (*File, error) {
	f := &File{Raw: raw, name: raw.Name()}
	info, err := raw.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("read %s: is a directory", f.name)
	}
	if info.Mode().IsRegular() {
		f.size = info.Size()
	}
	f.Reader = &decoder{in: bufio.NewReaderSize(counter{raw, &f.consumed}, blockSize), name: f.name}
	return f, nil
}

// Fraction says how much of the file was read, from 0 to 1, where that can be
// known.
func (f *File) Fraction() (float64, bool) {
	if f.size == 0 {
		return 0, false
	}
	return min(float64(f.consumed.Load())/float64(f.size), 1), true
}

// counter counts the bytes read.
type counter struct {
	in io.Reader
	n  *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A decoder finds out at the first read what it is to decode.
type decoder struct {
	in   *bufio.Reader
	name string
	out  io.Reader
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.out == nil {
		if err := d.start(); err != nil {
			return 0, d.wrap(err)
		}
	}
	n, err := d.out.Read(p)
	return n, d.wrap(err)
}

// wrap names the input in an error. An end is none.
func (d *decoder) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, named := err.(*os.PathError); named {
		return err
	}
	return fmt.Errorf("read %s: %w", d.name, err)
}

func (d *decoder) start() error {
	var err error
	switch ext := filepath.Ext(d.name); {
	case ext == ".gz" || d.startsWith("\x1f\x8b"):
		d.out, err = gzip.NewReader(d.in)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	case ext == ".zst" || d.startsWith("\x28\xb5\x2f\xfd"):
		d.out, err = zstd.NewReader(d.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
	default:
		d.out = d.in
	}
	return err
}

// startsWith looks at one byte before it looks at more: a pipe may have no
// more for now, and a line of one byte is to be passed on.
func (d *decoder) startsWith(magic string) bool {
	if b, _ := d.in.Peek(1); string(b) != magic[:1] {
		return false
	}
	b, _ := d.in.Peek(len(magic))
	return string(b) == magic
}
