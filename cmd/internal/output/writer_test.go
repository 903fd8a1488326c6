package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/need"
	"hotlap/engine"
)

// arrivals is a writer that tells of each write.
type arrivals chan string

func (a arrivals) Write(p []byte) (int, error) {
	a <- string(p)
	return len(p), nil
}

func TestIdleWritesAtOnce(t *testing.T) {
	a := make(arrivals, 1)
	w := NewWriter(a, Options{Idle: func() bool { return true }})
	defer w.Close()
	if err := w.Put([]*engine.Result{smallResult(t)}); err != nil {
		t.Fatal(err)
	}
	if len(a) != 1 {
		t.Error("the line was held back")
	}
}

func TestBusyWritesSoon(t *testing.T) {
	a := make(arrivals)
	w := NewWriter(a, Options{Idle: func() bool { return false }})
	for range 2 { // the timer works again after it fired
		if err := w.Put([]*engine.Result{smallResult(t)}); err != nil {
			t.Fatal(err)
		}
		if line := <-a; !strings.HasSuffix(line, "}\n") {
			t.Errorf("got %q", line)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFullBufferIsWritten(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, Options{})
	defer w.Close()
	r := smallResult(t)
	for b.Len() == 0 {
		w.timer.Stop() // only the size counts here
		_ = w.Put([]*engine.Result{r})
	}
	if b.Len() < writeAt || b.Len() > writeAt+1000 {
		t.Errorf("the first write had %d bytes", b.Len())
	}
}

// A body is not held in memory a second time, as JSON.
func TestLargeBodyInPieces(t *testing.T) {
	for _, unit := range []string{"\x01", "\xff", "x"} {
		var b bytes.Buffer
		w := NewWriter(&b, Options{Bodies: true})
		r := smallResult(t)
		r.Body = bytes.Repeat([]byte(unit), 8<<20)
		if err := w.Put([]*engine.Result{r}); err != nil {
			t.Fatal(err)
		}
		if cap(w.buf) > bufferMost {
			t.Errorf("%q: the buffer has grown to %d bytes", unit, cap(w.buf))
		}
		w.Close()
		if !json.Valid(b.Bytes()) {
			t.Errorf("%q: not JSON", unit)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestErrorIsReturnedAndKept(t *testing.T) {
	broken := errors.New("broken")
	w := NewWriter(failing{broken}, Options{Idle: func() bool { return true }})
	for range 2 {
		if err := w.Put([]*engine.Result{smallResult(t)}); err != broken {
			t.Errorf("Put: %v", err)
		}
	}
	if err := w.Close(); err != broken {
		t.Errorf("Close: %v", err)
	}
}

func TestLateErrorIsTold(t *testing.T) {
	broken, told := errors.New("broken"), make(chan error, 2)
	w := NewWriter(failing{broken}, Options{Fail: func(err error) { told <- err }})
	defer w.Close()
	if err := w.Put([]*engine.Result{smallResult(t)}); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != broken {
		t.Errorf("told of %v", err)
	}
}

func TestClosedPipe(t *testing.T) {
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r.Close()
	w := NewWriter(p, Options{Idle: func() bool { return true }})
	if err := w.Put([]*engine.Result{smallResult(t)}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
}

// tinyDisk mounts a file system with room for size bytes.
func tinyDisk(t *testing.T, size string) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// wholeLines checks that a file has lines of JSON, the last one complete, and
// returns how many.
func wholeLines(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") || !json.Valid([]byte(line)) {
			t.Fatalf("line %d of %s: %.80q", n+1, path, line)
		}
		n++
	}
	return n
}

func TestFullDisk(t *testing.T) {
	for name, body := range map[string]int{"small lines": 10, "a line that is written in pieces": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tinyDisk(t, "1m"), "out.jsonl")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := NewWriter(f, Options{Bodies: true})
			for range 10000 {
				r := smallResult(t)
				if err = w.Put([]*engine.Result{r}); err != nil {
					break
				}
				big := smallResult(t)
				big.Body = bytes.Repeat([]byte("x"), body)
				if err = w.Put([]*engine.Result{big}); err != nil {
					break
				}
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("got %v", err)
			}
			if n := wholeLines(t, path); n == 0 {
				t.Error("no line is left")
			}
		})
	}
}

// What others have added to the file stays.
func TestCutLeavesOthersAlone(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "shared"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewWriter(f, Options{})
	defer w.Close()
	if _, err := f.WriteString("a line\nhalf a l"); err != nil {
		t.Fatal(err)
	}
	w.tail = int64(len("half a l"))
	if _, err := f.WriteAt([]byte("others\n"), 15); err != nil {
		t.Fatal(err)
	}
	w.cut()
	if text, _ := os.ReadFile(f.Name()); string(text) != "a line\nhalf a lothers\n" {
		t.Errorf("others' text is gone: %q", text)
	}
	if err := f.Truncate(15); err != nil {
		t.Fatal(err)
	}
	w.cut()
	if text, _ := os.ReadFile(f.Name()); string(text) != "a line\n" {
		t.Errorf("not cut: %q", text)
	}
}
