package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// getFrame is a frame of n requests for a URL, as PROTOCOL.md has it.
func getFrame(url string, n int) string {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 2)
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint32(b, uint32(n*(28+len(url))))
	for id := range n {
		b = le.AppendUint64(b, uint64(id))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(len(url)))
		b = append(b, make([]byte, 12)...)
	}
	return string(b) + strings.Repeat(url, n)
}

func (p *process) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, text); err != nil {
		p.t.Fatal(err)
	}
}

// Ctrl-C is the client's business; SIGTERM ends the input, and what is in
// flight has a while.
func TestPipeSignals(t *testing.T) {
	s := newStage(t)
	p := start(t, "pipe")
	p.stdout.until(`"body"]}`) // HELLO, whose last phase is the body
	p.signal(syscall.SIGINT)
	p.write(getFrame(s.url+"/one", 1))
	s.await("/one")[0].answer()
	p.stdout.until("/one")
	p.write(getFrame(s.url+"/two", 1))
	held := s.await("/two")
	p.signal(syscall.SIGTERM)
	held[0].answer()
	p.stdout.until("/two")
	p.stdout.until(`"responses":2`)
	p.exits(exitSIGTERM)

	url := startTargetServer(t)
	p = start(t, "pipe")
	p.write(getFrame(url+"/delay/60000", 1) + getFrame(url+"/now", 1))
	p.stdout.until("/now")
	p.signal(syscall.SIGTERM)
	p.exits(exitSIGTERM) // past the grace
	if waited := time.Since(p.interrupted); waited < interruptGrace || waited > patience/2 {
		t.Errorf("it ended after %v, want about %v", waited, interruptGrace)
	}
}

// Nobody can speak the protocol at a terminal.
func TestPipeOnTerminal(t *testing.T) {
	screen, tty := terminal(t)
	cmd := exec.Command("hotlap", "pipe")
	cmd.Stdout = tty
	p := startCommand(t, cmd)
	p.exits(exitUsage)
	if said := p.stderr.rest(); !strings.Contains(said, "not for a terminal") {
		t.Errorf("it said %q", said)
	}
	if shown := screen.hangUp(); shown != "" {
		t.Errorf("it shows %q", shown)
	}
}

// A client that is gone ends it at once, although a request is in flight and
// somebody else still has the input open.
func TestPipeClientGone(t *testing.T) {
	url := startTargetServer(t)
	p := start(t, "pipe")
	p.write(getFrame(url+"/delay/60000", 1) + getFrame(url+"/now", 1))
	p.stdout.until("/now")
	p.stdout.f.Close()
	p.exits(exitFailed)
	if said := p.stderr.rest(); said != "" {
		t.Errorf("it said %q, and nobody is there", said)
	}
}

// The parent's end ends it, although somebody else has both pipes.
func TestPipeParentGone(t *testing.T) {
	parent := exec.Command("cat")
	hold, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	p := start(t, "pipe", "--parent", strconv.Itoa(parent.Process.Pid))
	p.stdout.until(`"protocol":1`)
	hold.Close()
	_ = parent.Wait()
	p.exits(exitFailed)
}

// A client that writes without end before it reads is told, and does not wait
// for ever.
func TestPipeStuck(t *testing.T) {
	url := startTargetServer(t)
	p := start(t, "pipe", "--window", "4", "--stall-timeout", "200ms")
	go func() {
		for frame := getFrame(url+"/bytes/100000", 10); ; {
			if _, err := io.WriteString(p.stdin, frame); err != nil {
				return
			}
		}
	}()
	p.exits(exitFailed)
	if said := p.stderr.rest(); !strings.Contains(said, "reads no results") {
		t.Errorf("it said %q", said)
	}
}

func TestPipeListen(t *testing.T) {
	url := startTargetServer(t)
	path := filepath.Join(t.TempDir(), "sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // by a process that crashed
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	p := start(t, "pipe", "--listen", path, "--max-clients", "2")
	if line := p.stderr.line(); line != "listening on "+path+"\n" {
		t.Fatalf("it said %q", line)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
	}
	second := start(t, "pipe", "--listen", path)
	second.exits(exitFailed)
	if said := second.stderr.rest(); !strings.Contains(said, "another process listens there") {
		t.Errorf("it said %q", said)
	}

	// Clients that go, in any state, give their places back.
	for range 5 {
		c := dialPipe(t, path)
		c.until(`"body"]}`)
		c.write(getFrame(url+"/delay/60000", 1) + getFrame(url+"/now", 1))
		c.until("/now")
		c.c.Close()
	}
	a, b := dialPipe(t, path), dialPipe(t, path)
	for _, c := range []*pipeClient{a, b} {
		c.write(getFrame(url+"/a", 3))
		c.until(`"body"]}`)
		c.until("/a")
	}
	if err := a.c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a.until(`"responses":3`)
	b.write("this is no frame")
	b.until("at most 67108864")
	if said := p.stderr.line(); !strings.Contains(said, "a client: a frame of") {
		t.Errorf("it said %q", said)
	}
	s, c := newStage(t), dialPipe(t, path)
	c.write(getFrame(s.url+"/held", 1))
	c.until(`"body"]}`)
	held := s.await("/held")
	p.signal(syscall.SIGTERM)
	held[0].answer() // it may finish
	c.until("/held")
	c.until(`"responses":1`)
	p.exits(exitSIGTERM)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays behind: %v", err)
	}
}

// A name that package net takes for an abstract socket, which anybody may use.
func TestPipeListenPrivately(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := listenPrivately("@sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat("@sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want a file of mode 0600", info, err)
	}
}

// A client that there is no descriptor for waits, and ends nobody.
func TestPipeListenDescriptors(t *testing.T) {
	url := startTargetServer(t)
	path := filepath.Join(t.TempDir(), "sock")
	p := start(t, "pipe", "--listen", path)
	p.stderr.line()
	first := dialPipe(t, path)
	first.until(`"body"]}`)
	var usual unix.Rlimit
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &usual); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: usual.Max} // beside standard input, output and error
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	second := dialPipe(t, path)
	if said := p.stderr.line(); !strings.Contains(said, "a client has to wait: accept") {
		t.Errorf("it said %q", said)
	}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &usual, nil); err != nil {
		t.Fatal(err)
	}
	second.until(`"body"]}`)
	for _, c := range []*pipeClient{first, second} {
		c.write(getFrame(url+"/a", 1))
		c.until("/a")
	}
	p.signal(syscall.SIGTERM)
	p.exits(exitSIGTERM)

	p = startCommand(t, exec.Command("sh", "-c", "ulimit -n 300 && exec hotlap pipe --listen sock -c 100"))
	p.exits(exitUsage)
	if said := p.stderr.rest(); !strings.Contains(said, "--max-clients 8, each with its connections") {
		t.Errorf("it said %q", said)
	}
}

// A pipeClient is a client at a socket.
type pipeClient struct {
	t *testing.T
	c *net.UnixConn
}

func dialPipe(t *testing.T, path string) *pipeClient {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &pipeClient{t, c}
}

// waits begins a wait for something to read or to write, which patience bounds.
func (c *pipeClient) waits() {
	c.t.Helper()
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *pipeClient) write(text string) {
	c.t.Helper()
	c.waits()
	if _, err := io.WriteString(c.c, text); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for text.
func (c *pipeClient) until(text string) {
	c.t.Helper()
	c.waits()
	var got []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(got), text) {
		if _, err := io.ReadFull(c.c, one); err != nil {
			c.t.Fatalf("%q and %v, want %q", got, err, text)
		}
		got = append(got, one[0])
	}
}
