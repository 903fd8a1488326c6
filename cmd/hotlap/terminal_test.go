package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal makes a pseudo-terminal: what is written to tty is read from screen.
func terminal(t *testing.T) (screen *reader, tty *os.File) {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	screen = newReader(t, f)
	raw, err := f.SyscallConn() // File.Fd would take the deadline away
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// hangUp waits for all that has the terminal to close it, and returns what was
// shown up to then.
func (r *reader) hangUp() string {
	r.t.Helper()
	r.waits()
	text, err := io.ReadAll(r.b)
	if err != nil && !errors.Is(err, syscall.EIO) { // EIO is how a terminal says it
		r.t.Fatalf("%q and %v", text, err)
	}
	return string(text)
}

const erase = "\x1b[K"

// onTerminal runs hotlap with standard error on a terminal.
func onTerminal(t *testing.T, env []string, args ...string) (p *process, screen *reader) {
	t.Helper()
	screen, tty := terminal(t)
	cmd := exec.Command("hotlap", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = tty
	return startCommand(t, cmd), screen
}

// Progress is one line that is drawn again and again, and in the end is gone.
func TestProgressOnTerminal(t *testing.T) {
	s := newStage(t)
	p, screen := onTerminal(t, []string{"TERM=xterm", "NO_COLOR="}, "fetch", s.url+"/1", s.url+"/2", "nonsense")
	held := s.await("/1", "/2")
	// The test goes on when the screen shows what is known to be so.
	screen.until("2 in flight  1 errors")
	held[0].answer()
	shown := screen.until("1 in flight  1 errors")
	if strings.Contains(shown, "\n") || !strings.Contains(shown, erase+"\r2 / 3 (66%)  ") {
		t.Errorf("progress: %q", shown)
	}
	held[1].answer()
	p.exits(0)
	shown = screen.hangUp()
	if !regexp.MustCompile(`\r\x1b\[Krequests   3 in `).MatchString(shown) {
		t.Errorf("the line is not gone before the summary: %q", shown)
	}
	wants(t, shown, "errors     \x1b[31m1 (invalid_request 1)\x1b[0m")
}

// What a terminal shows where it is told otherwise.
func TestTerminalSettings(t *testing.T) {
	const red = "\x1b[31m"
	for _, c := range []struct {
		name          string
		env           []string
		args          []string
		drawn, colour bool
	}{
		{"as it is", nil, nil, true, true},
		{"no colour", []string{"NO_COLOR=1"}, nil, true, false},
		{"a terminal that cannot", []string{"TERM=dumb"}, nil, false, false},
		{"--progress never", nil, []string{"--progress", "never"}, false, true},
		{"--progress always", nil, []string{"--progress", "always"}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := append([]string{"TERM=xterm", "NO_COLOR="}, c.env...)
			p, screen := onTerminal(t, env, append([]string{"fetch", "nonsense"}, c.args...)...)
			p.exits(0)
			shown := screen.hangUp()
			// However short the run, the line is taken away in the end.
			if strings.Contains(shown, erase) != c.drawn || strings.Contains(shown, red) != c.colour {
				t.Errorf("progress drawn: want %v; colour: want %v; got %q", c.drawn, c.colour, shown)
			}
		})
	}
}

// Results and progress on one terminal would be a mess: results it is.
func TestResultsOnTerminal(t *testing.T) {
	screen, tty := terminal(t)
	cmd := exec.Command("hotlap", "fetch", "nonsense")
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdout, cmd.Stderr = tty, tty
	p := startCommand(t, cmd)
	p.exits(0)
	shown := screen.hangUp()
	if strings.Contains(shown, erase) {
		t.Errorf("progress among results: %q", shown)
	}
	wants(t, shown, `{"id":1,"url":"nonsense"`, "requests   1 in ")
}

// The demo shows progress, and a signal ends it early with its summary.
func TestDemoInterrupted(t *testing.T) {
	for _, c := range endings {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			p, screen := onTerminal(t, []string{"TERM=xterm"}, "demo", "-n", "1000m", "-c", "4")
			screen.until(" in flight")
			p.signal(c.signal)
			p.exits(c.code)
			said := p.stdout.rest()
			wants(t, said, "requests ", " 0 wrong\n", "rate ", "memory ")
			if shown := screen.hangUp(); !strings.HasSuffix(shown, "\r"+erase) {
				t.Errorf("left on the screen: %q", shown)
			}
		})
	}
}
