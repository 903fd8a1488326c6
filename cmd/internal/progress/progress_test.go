package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var start = time.Unix(1000, 0)

func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

func TestLine(t *testing.T) {
	for _, c := range []struct {
		before, now Sample
		want        string
	}{
		{Sample{At: at(0)}, Sample{At: at(0)}, "0  0/s  0 in flight  0 errors"},
		{Sample{At: at(0)}, Sample{At: at(2), Done: 5000, InFlight: 256, Errors: 3}, "5,000  2,500/s  256 in flight  3 errors"},
		{Sample{At: at(0)}, Sample{At: at(2), Done: 5000, Total: 1_000_000, InFlight: 1024},
			"5,000 / 1,000,000 (0%)  2,500/s  1,024 in flight  0 errors  ETA 6m38s"},
		{Sample{At: at(8), Done: 900}, Sample{At: at(10), Done: 1000, Total: 1000}, "1,000 / 1,000 (100%)  50/s  0 in flight  0 errors  ETA 0s"},
		{Sample{At: at(8), Done: 900}, Sample{At: at(10), Done: 900, Total: 1000}, "900 / 1,000 (90%)  0/s  0 in flight  0 errors"},
		{Sample{At: at(8), Done: 900}, Sample{At: at(10), Done: 1100, Read: 0.25}, "1,100 (25% of the input)  100/s  0 in flight  0 errors  ETA 30s"},
	} {
		if got := Line(start, c.before, c.now); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// terminal makes a pseudo-terminal; what is written to tty is read from screen.
func terminal(t *testing.T, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: 24}); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// shown runs a meter on out through two ticks, and returns the first size
// bytes that it wrote.
func shown(t *testing.T, out, from *os.File, redraw bool, size int) string {
	t.Helper()
	n := 0
	m := &Meter{out: out, redraw: redraw, quit: make(chan struct{}), line: Lines(func() Sample {
		n++
		return Sample{At: at(float64(n)), Done: int64(n) * 10, Total: 100}
	}, redraw)}
	tick := make(chan time.Time)
	m.done.Go(func() { m.run(tick) })
	for range 2 {
		tick <- time.Time{}
	}
	m.Stop()
	buf := make([]byte, size)
	if _, err := io.ReadFull(from, buf); err != nil { // a terminal passes on a line at a time
		t.Fatal(err)
	}
	return string(buf)
}

func TestOnTerminal(t *testing.T) {
	screen, tty := terminal(t, 30)
	if !IsTerminal(tty) || Width(tty) != 30 {
		t.Fatalf("terminal: %v, %d columns", IsTerminal(tty), Width(tty))
	}
	const want = "\r20 / 100 (20%)  10/s  0 in fl\x1b[K" + "\r30 / 100 (30%)  10/s  0 in fl\x1b[K" + "\r\x1b[K"
	got := shown(t, tty, screen, true, len(want))
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOffTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	const want = "20 / 100 (20%)  10/s  0 in flight  0 errors  ETA 8s\n30 / 100 (30%)  10/s  0 in flight  0 errors  ETA 7s\n"
	got := shown(t, w, r, false, len(want))
	if got != want || strings.Contains(got, "\x1b") {
		t.Errorf("got %q", got)
	}
	if IsTerminal(w) || CanRedraw(w) || Color(w) || Width(w) != 0 {
		t.Error("a pipe passes for a terminal")
	}
}

func TestEnvironment(t *testing.T) {
	_, tty := terminal(t, 80)
	for _, c := range []struct {
		term, noColor string
		redraw, color bool
	}{
		{"xterm", "", true, true},
		{"xterm", "1", true, false},
		{"dumb", "", false, false},
	} {
		t.Setenv("TERM", c.term)
		t.Setenv("NO_COLOR", c.noColor)
		if CanRedraw(tty) != c.redraw || Color(tty) != c.color {
			t.Errorf("TERM=%s NO_COLOR=%s: redraw %v, color %v", c.term, c.noColor, CanRedraw(tty), Color(tty))
		}
	}
}
