// Package progress shows how far a run is, on standard error.
//
// On a terminal it is one line, drawn again and again; elsewhere a line every
// ten seconds. Nothing is shown that would not be true: an unknown total is
// left out.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/report"
)

// PrintEvery is how often a line is printed where none can be drawn over.
const PrintEvery = 10 * time.Second

const (
	drawEvery = 200 * time.Millisecond
	window    = 10 // samples over which a terminal's rate is taken
)

// A Sample is the state of a run at one moment.
type Sample struct {
	At       time.Time
	Done     int64
	Total    int64   // 0 is unknown
	Read     float64 // part of the input that was read, 0 to 1; 0 is unknown
	InFlight int64
	Errors   int64
}

// Line tells how far the run is at s. The rate is that since before; start is
// when the run began.
func Line(start time.Time, before, s Sample) string {
	rate := 0.0
	if d := s.At.Sub(before.At); d > 0 {
		rate = float64(s.Done-before.Done) / d.Seconds()
	}
	var b strings.Builder
	b.WriteString(report.Count(s.Done))
	switch {
	case s.Total > 0:
		fmt.Fprintf(&b, " / %s (%d%%)", report.Count(s.Total), s.Done*100/s.Total)
	case s.Read > 0:
		fmt.Fprintf(&b, " (%d%% of the input)", int(s.Read*100))
	}
	fmt.Fprintf(&b, "  %s/s  %s in flight  %s errors", report.Count(int64(rate)), report.Count(s.InFlight), report.Count(s.Errors))
	if left, ok := s.left(s.At.Sub(start), rate); ok {
		fmt.Fprintf(&b, "  ETA %s", left.Round(time.Second))
	}
	return b.String()
}

// left is how long the rest will take, if that can be told.
func (s *Sample) left(elapsed time.Duration, rate float64) (time.Duration, bool) {
	seconds := 0.0
	switch {
	case s.Total > 0 && rate > 0:
		seconds = float64(s.Total-s.Done) / rate
	case s.Total == 0 && s.Read > 0:
		seconds = elapsed.Seconds() * (1 - s.Read) / s.Read
	default:
		return 0, false
	}
	const most = 1000 * 3600
	return time.Duration(seconds * float64(time.Second)), seconds < most
}

// Lines makes lines of what sample says, for a Meter.
func Lines(sample func() Sample, redraw bool) func() string {
	samples := []Sample{sample()}
	start := samples[0].At
	return func() string {
		s := sample()
		line := Line(start, samples[0], s)
		if samples = append(samples, s); len(samples) > window || !redraw {
			samples = samples[1:]
		}
		return line
	}
}

// A Meter shows a line until it is stopped.
type Meter struct {
	out    *os.File
	redraw bool
	line   func() string
	quit   chan struct{}
	done   sync.WaitGroup
}

// Start shows on out what line says, which is asked from another goroutine: on
// a terminal it is drawn over several times a second, elsewhere a line is
// printed at each interval.
func Start(out *os.File, redraw bool, interval time.Duration, line func() string) *Meter {
	m := &Meter{out: out, redraw: redraw, line: line, quit: make(chan struct{})}
	if redraw {
		interval = drawEvery
	}
	ticker := time.NewTicker(interval)
	m.done.Go(func() {
		defer ticker.Stop()
		m.run(ticker.C)
	})
	return m
}

// Stop ends the progress and takes its line off the terminal.
func (m *Meter) Stop() {
	close(m.quit)
	m.done.Wait()
}

func (m *Meter) run(tick <-chan time.Time) {
	for {
		select {
		case <-tick:
		case <-m.quit:
			if m.redraw {
				io.WriteString(m.out, "\r\x1b[K")
			}
			return
		}
		m.show(m.line())
	}
}

func (m *Meter) show(line string) {
	if !m.redraw {
		fmt.Fprintln(m.out, line)
		return
	}
	if width := Width(m.out); width > 0 && utf8.RuneCountInString(line) >= width {
		line = string([]rune(line)[:width-1]) // a full line would wrap, and not be drawn over
	}
	io.WriteString(m.out, "\r"+line+"\x1b[K")
}

// IsTerminal says whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// CanRedraw says whether a line on f can be drawn over.
func CanRedraw(f *os.File) bool { return IsTerminal(f) && os.Getenv("TERM") != "dumb" }

// Color says whether what is written to f may be coloured (no-color.org).
func Color(f *os.File) bool { return os.Getenv("NO_COLOR") == "" && CanRedraw(f) }

// Width is the number of columns of a terminal; 0 if it is not known.
func Width(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
