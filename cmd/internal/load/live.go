package load

import (
	"fmt"
	"strings"
	"time"

	"hotlap/cmd/internal/report"
)

// sparks are how many seconds the sparkline shows.
const sparks = 24

// Live makes lines that tell how a run goes: its rate now, the response times of
// the last second, and, where the line is drawn over, the rates of the seconds
// before.
func Live(r *Run, redraw bool) func() string {
	at, done := time.Now(), int64(0)
	rate := 0.0
	return func() string {
		stats := r.engine.Stats()
		now := time.Now()
		if d := now.Sub(at); d > 0 {
			rate = float64(stats.Responses-done) / d.Seconds()
		}
		at, done = now, stats.Responses
		var b strings.Builder
		elapsed := r.Elapsed()
		if elapsed < 0 {
			b.WriteString("warm-up")
		} else {
			fmt.Fprintf(&b, "%.1fs", elapsed.Seconds())
		}
		if r.stopped.Load() && stats.InFlight > 0 {
			fmt.Fprintf(&b, "  waiting for %s answers", report.Count(stats.InFlight))
		}
		fmt.Fprintf(&b, "  %s/s", report.Count(int64(rate)))
		last, rates := r.collector.recent(sparks)
		if last != nil && last.Response != nil {
			l := last.Response
			fmt.Fprintf(&b, "  p50 %s  p99 %s  max %s", UnitMicros.Format(l.P50), UnitMicros.Format(l.P99), UnitMicros.Format(l.Max))
		}
		fmt.Fprintf(&b, "  %s errors", report.Count(stats.Failed()))
		if last != nil && last.Backlog > 0 {
			fmt.Fprintf(&b, "  %s due and not sent", report.Count(last.Backlog))
		}
		if redraw && len(rates) > 1 {
			b.WriteString("  " + sparkline(rates))
		}
		return b.String()
	}
}

// sparkline draws values as blocks of eight heights, from 0 to the highest.
func sparkline(values []int64) string {
	const blocks = "▁▂▃▄▅▆▇█"
	heights := []rune(blocks)
	most := int64(1)
	for _, v := range values {
		most = max(most, v)
	}
	line := make([]rune, len(values))
	for i, v := range values {
		line[i] = heights[v*int64(len(heights)-1)/most]
	}
	return string(line)
}
