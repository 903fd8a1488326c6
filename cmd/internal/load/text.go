package load

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
)

// WriteText tells the report to people.
func (r *Report) WriteText(w io.Writer, color bool) error {
	t := text{color: color}
	t.target(r)
	t.line("requests", "%s in %s, %s responses/s%s", report.Count(r.Requests), duration(r.Seconds), rate(r.Rates.Responses), r.asked())
	if len(r.Statuses) > 0 {
		t.line("statuses", "%s", report.ByCount(r.Statuses))
	}
	t.errors(r)
	t.line("bodies", "%s, %s/s", report.Bytes(r.Bytes.Body), report.Bytes(int64(r.Rates.Body)))
	t.latencies(r)
	t.line("client", "%.2f us CPU/request (%s user, %s system), loops %s busy, %s peak memory",
		r.Client.PerRequest, duration(r.Client.User), duration(r.Client.System), percents(r.Client.Busy), report.Bytes(r.Client.MaxRSS))
	for i, f := range r.Kernel.Facts() {
		t.line([]string{"kernel", ""}[min(i, 1)], "%s: %s", f.Name, f.Value)
	}
	t.verdict(&r.Verdict)
	t.gates(r.Gates)
	if r.Ended != Done {
		t.line("ended", "early: by a signal")
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

// How a run ended: Report.Ended.
const (
	Done   = "done"
	Signal = "signal"
)

type text struct {
	b     strings.Builder
	color bool
}

func (t *text) line(name, format string, args ...any) {
	fmt.Fprintf(&t.b, "%-10s "+format+"\n", append([]any{name}, args...)...)
}

func (t *text) red(s string) string {
	if t.color {
		return "\x1b[31m" + s + "\x1b[0m"
	}
	return s
}

func (t *text) target(r *Report) {
	l := &r.Load
	what := "none"
	if len(l.Targets) > 0 {
		what = l.Targets[0]
	}
	if l.TargetCount > 1 {
		what += fmt.Sprintf(" and %s more", report.Count(int64(l.TargetCount-1)))
	}
	how := "closed loop"
	if l.Loop == OpenLoop {
		how = fmt.Sprintf("open loop, %s arrivals", l.Arrivals)
	}
	t.line("target", "%s: %s, pipeline %d, %s, %s", what, several(l.Connections, "connection"), l.Pipeline, several(l.Loops, "loop"), how)
}

// several is a number of things.
func several(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return report.Count(int64(n)) + " " + thing
}

// asked is what was asked for in an open loop.
func (r *Report) asked() string {
	if r.Load.Loop != OpenLoop {
		return ""
	}
	return fmt.Sprintf(" of %s asked (%.2f %%)", rate(r.Rates.Asked), 100*r.Rates.Achieved)
}

// rate is a number per second, with digits where it is small.
func rate(perSecond float64) string {
	if perSecond < 10 && perSecond != math.Trunc(perSecond) {
		return fmt.Sprintf("%.2f", perSecond)
	}
	return report.Count(int64(perSecond + 0.5))
}

func (t *text) errors(r *Report) {
	parts := []string{}
	if sum := sumOf(r.Errors); sum > 0 {
		parts = append(parts, fmt.Sprintf("%s errors (%s)", report.Count(sum), report.ByCount(r.Errors)))
	}
	for _, n := range []struct {
		count int64
		what  string
	}{{r.NonOK, "not 2xx"}, {r.Unanswered, "unanswered"}, {r.Unsent, "due and never sent"}} {
		if n.count > 0 {
			parts = append(parts, report.Count(n.count)+" "+n.what)
		}
	}
	if len(parts) > 0 {
		t.line("failed", "%s", t.red(strings.Join(parts, ", ")))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.ErrorExamples)) {
		t.line("", "%s", r.ErrorExamples[kind])
	}
}

func (t *text) latencies(r *Report) {
	rows := []struct {
		name string
		l    *Latency
	}{{"response", r.ResponseTime}, {"service", r.ServiceTime}, {"not 2xx", r.NonOKTime}, {"lag", r.ScheduleLag}}
	head := false
	for _, row := range rows {
		if row.l == nil {
			continue
		}
		if !head {
			t.line("", "%9s %9s %9s %9s %9s %9s %9s %9s %9s", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max", "mean", "stddev")
			head = true
		}
		l := row.l
		cells := []string{}
		for _, v := range []float64{l.P50, l.P75, l.P90, l.P99, l.P999, l.P9999, l.Max, l.Mean, l.StdDev} {
			cells = append(cells, fmt.Sprintf("%9s", UnitMicros.Format(v)))
		}
		t.line(row.name, "%s", strings.Join(cells, " "))
	}
}

func (t *text) verdict(v *ebpf.Verdict) {
	valid := string(v.Valid)
	if v.Valid == ebpf.ValidNo {
		valid = t.red(valid)
	}
	t.line("verdict", "bound by: %s; valid: %s (%s)", v.Bound, valid, v.Why)
	for _, f := range SortedFindings(v.Findings) {
		mark := "note"
		if f.Spoils {
			mark = t.red("spoils")
		}
		t.line("", "%s: %s, %s: %s", mark, f.Code, f.Subject, f.Evidence)
		if f.Advice != "" {
			t.line("", "      %s", f.Advice)
		}
	}
}

func (t *text) gates(all []GateResult) {
	for _, g := range all {
		holds := "holds"
		if !g.Holds {
			holds = t.red("breached")
		}
		t.line("assert", "%s %s: %s", g.Expression, holds, g.Says)
	}
}

// SortedFindings has those that spoil the run first.
func SortedFindings(all []ebpf.Finding) []ebpf.Finding {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b ebpf.Finding) int {
		switch {
		case a.Spoils == b.Spoils:
			return 0
		case a.Spoils:
			return -1
		}
		return 1
	})
	return all
}

func duration(s float64) string { return UnitMicros.Format(s * 1e6) }

func percents(shares []float64) string {
	parts := make([]string, len(shares))
	for i, s := range shares {
		parts[i] = fmt.Sprintf("%.0f %%", 100*s)
	}
	if len(parts) == 0 {
		return "unknown"
	}
	return strings.Join(parts, ", ")
}
