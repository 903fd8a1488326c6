package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// A process is hotlap at work, with the test at the other end of its standard
// input, output and error.
type process struct {
	t           *testing.T
	cmd         *exec.Cmd
	stdin       io.WriteCloser
	stdout      *reader
	stderr      *reader
	ended       chan struct{} // closed when it is gone
	interrupted time.Time     // when it got its first signal
}

// start runs hotlap: TestMain has put it into PATH.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command("hotlap", args...))
}

// startCommand runs a command that ends in hotlap. Its output and error are
// pipes, unless it has others already.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if cmd.Stdout == nil {
		p.stdout, cmd.Stdout = newPipe(t)
	}
	if cmd.Stderr == nil {
		p.stderr, cmd.Stderr = newPipe(t)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, theirs := range []io.Writer{cmd.Stdout, cmd.Stderr} {
		theirs.(*os.File).Close() // only the process has it now: we see its end
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// newPipe makes a pipe for what a process writes.
func newPipe(t *testing.T) (*reader, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return newReader(t, r), w
}

// give writes lines to the standard input, which stays open.
func (p *process) give(lines ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, strings.Join(lines, "\n")+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// giveWithoutEnd writes a line again and again, as long as it is read.
func (p *process) giveWithoutEnd(line string) {
	go func() {
		for {
			if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
				return
			}
		}
	}()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if p.interrupted.IsZero() {
		p.interrupted = time.Now()
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exits wants the process to end with this code. What it writes must have been
// read, or fit into a pipe.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("it does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("%v, want exit code %d", p.cmd.ProcessState, code)
	}
}

// A reader is the test's end of what a process writes.
type reader struct {
	t *testing.T
	f *os.File
	b *bufio.Reader
}

func newReader(t *testing.T, f *os.File) *reader {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	return &reader{t, f, bufio.NewReader(f)}
}

// waits begins a wait for something to read, which patience bounds.
func (r *reader) waits() {
	r.t.Helper()
	if err := r.f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
}

// line waits for the next line.
func (r *reader) line() string {
	r.t.Helper()
	r.waits()
	line, err := r.b.ReadString('\n')
	if err != nil {
		r.t.Fatalf("%q and %v, want a line", line, err)
	}
	return line
}

// until waits for text, and returns what came up to its end.
func (r *reader) until(text string) string {
	r.t.Helper()
	r.waits()
	var got strings.Builder
	for !strings.HasSuffix(got.String(), text) {
		b, err := r.b.ReadByte()
		if err != nil {
			r.t.Fatalf("%q and %v, want %q", got.String(), err, text)
		}
		got.WriteByte(b)
	}
	return got.String()
}

// rest waits for the end, and returns what came up to it.
func (r *reader) rest() string {
	r.t.Helper()
	r.waits()
	text, err := io.ReadAll(r.b)
	if err != nil {
		r.t.Fatalf("%q and %v", text, err)
	}
	return string(text)
}

// result waits for the next line and decodes it.
func (r *reader) result() result {
	r.t.Helper()
	return results(r.t, r.line())[0]
}

// A result is what the tests look at in a line of the output.
type result struct {
	ID     int
	URL    string
	Status int
	Body   string
	Error  struct{ Kind, Phase, Message string }
}

// results decodes lines, which must be whole.
func results(t *testing.T, text string) (list []result) {
	t.Helper()
	for line := range strings.Lines(text) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("%.200q is no line: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}

// checkLedger wants one result for each of the first lines of the input, in
// any order: nothing is lost, nothing is told twice.
func checkLedger(t *testing.T, list []result) {
	t.Helper()
	byID := slices.SortedFunc(slices.Values(list), func(a, b result) int { return cmp.Compare(a.ID, b.ID) })
	for i, r := range byID {
		if r.ID != i+1 {
			t.Fatalf("among %d results, number %d has id %d", len(list), i+1, r.ID)
		}
	}
}
