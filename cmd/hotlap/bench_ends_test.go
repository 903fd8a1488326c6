package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A signal ends the load: the report tells what there is, of what was in flight
// too, and no gate is judged. The live line is gone before it.
func TestBenchInterrupted(t *testing.T) {
	for _, c := range endings {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			s, file := newStage(t), filepath.Join(t.TempDir(), "report.json")
			p, screen := onTerminal(t, []string{"TERM=xterm", "NO_COLOR="}, "bench", "-c", "2", "-d", "10m",
				"--assert", "responses>=1000m", "--json", file, s.url+"/held")
			held := s.await("/held")
			s.await("/held")
			screen.until("s  0/s  0 errors")
			held[0].answer()
			s.await("/held")
			p.signal(c.signal)
			p.exits(c.code)
			if shown := screen.hangUp(); !strings.HasSuffix(shown, "\r"+erase) {
				t.Errorf("left on the screen: %q", shown)
			}
			said := p.stdout.rest()
			wants(t, said, "requests   3 in ", "statuses   200 1\n", "2 unanswered", "ended      early: by a signal\n")
			if strings.Contains(said, "assert") {
				t.Errorf("a gate was judged: %s", said)
			}
			wants(t, readFile(t, file), `"ended": "signal"`, `"responses": 1,`, `"unanswered": 2,`)
		})
	}
}
