package tune

import (
	"context"
	"os"
	"strings"
	"testing"

	"hotlap/ebpf/internal/need"
)

func TestScratch(t *testing.T) {
	need.Root(t)
	for _, e := range Experiments() {
		if k := os.Getenv("ONLY"); k != "" && !strings.Contains(e.Knob, k) {
			continue
		}
		p := Verify(context.Background(), e)
		t.Logf("%s %s %s -> %s: %q %v %v %v", e.Knob, e.Case, p.From, p.To, p.Verdict, p.Err, p.With, p.Elapsed)
		for _, m := range p.Metrics {
			b, a, k := p.Median(m)
			t.Log("    ", m.Name, b, a, k, m.values(figures(p.Before)), m.values(figures(p.After)))
		}
	}
}
