package ebpf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A weighing makes findings of what the kernel did to the run's own sockets.
type weighing struct {
	delta *Sample
	c     *ClientFigures
	list  []Finding
}

// kernelFindings are those that a Sample shows.
func kernelFindings(delta *Sample, c *ClientFigures) []Finding {
	w := &weighing{delta: delta, c: c}
	for _, l := range w.listeners() {
		w.listener(&l)
	}
	for i := range delta.Servers {
		if s := &delta.Servers[i]; c.isTarget(s.Addr) {
			w.server(s)
		}
	}
	for i := range delta.Destinations {
		if t := &delta.Destinations[i]; c.isTarget(t.Addr) {
			w.destination(t)
		}
	}
	w.support()
	return w.list
}

// add takes a finding about sockets. If it touches enough requests, each of
// which it cost at least so much time, it spoils the run.
func (w *weighing) add(f Finding, blames Bound, cost time.Duration) {
	f.Scope, f.blames = ScopeSocket, blames
	if f.Sure == "" {
		f.Sure = Measured
	}
	f.Spoils = w.c.spoiled(f.Affected, cost)
	w.list = append(w.list, f)
}

func reasonsText(reasons map[string]uint64) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, reasons[reason]))
	}
	return strings.Join(parts, ", ")
}

func count(c Counts, k Counter) int64 { return int64(c[k]) }
