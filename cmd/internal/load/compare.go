package load

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// A Comparison says how run B fared beside run A.
//
// Two runs of the same thing never give the same figures. How far apart they
// may be by chance is taken from the runs themselves: each has a figure for
// every second, and a difference has to exceed the spread of those. What drifts
// more slowly than a run lasts is not seen that way: repeat runs in turns
// (A B A B) before much is built on a small difference.
type Comparison struct {
	Version  int          `json:"version"` // ReportVersion
	A        Side         `json:"a"`
	B        Side         `json:"b"`
	Warnings []string     `json:"warnings"` // why the two may not be comparable
	Rows     []Row        `json:"rows"`
	Gates    []GateResult `json:"gates,omitempty"` // of --assert
}

// A Side is one of the two runs.
type Side struct {
	Name    string `json:"name"`    // "A" or "B"; the caller may say more, such as the file
	Seconds int    `json:"seconds"` // whole ones, with figures of their own
}

// A Row compares one figure.
type Row struct {
	Metric  string   `json:"metric"` // such as "rate", "p99"
	Unit    Unit     `json:"unit"`
	A       *Sample  `json:"a"` // null if the run has no such figure
	B       *Sample  `json:"b"`
	Ratio   *float64 `json:"ratio"` // B's value over A's; null if there is none
	Verdict Outcome  `json:"verdict"`
	Why     string   `json:"why"`
}

// A Sample is a figure of one run.
type Sample struct {
	// Value is the median over the seconds of the run: the figure of its usual
	// second. Where one of the runs has too few, or is a ramp, it is Whole.
	Value  float64 `json:"value"`
	Spread *Spread `json:"spread"` // of the seconds; null if there are too few
	Whole  float64 `json:"whole"`  // of the whole run
}

// Spread is the range of the middle half of a run's seconds; of all of them
// where they are few.
type Spread struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Unit is what a figure is counted in.
type Unit string

const (
	UnitPerSecond Unit = "per_s"
	UnitMicros    Unit = "us"
	UnitShare     Unit = "share" // 0 to 1
)

// Outcome is what a row says of B.
type Outcome string

const (
	Better       Outcome = "better"
	Worse        Outcome = "worse"
	NoDifference Outcome = "no difference" // none that exceeds the spread
	TooShort     Outcome = "too short to tell"
	CannotTell   Outcome = "cannot tell" // a figure is missing, or nothing tells its spread
)

const (
	// enoughSeconds is how many a run has to have for a statement.
	enoughSeconds = 5
	// fewSeconds is from where on the middle half of the seconds stands for them.
	// Below, all of them do: of 5 and 5 that are alike, all of one lie above all
	// of the other once in 252 times.
	fewSeconds = 10
	// matters is the difference below which two figures count as the same.
	// Histograms have three digits.
	matters = 0.01
	// convincing and worthSaying are how likely it may be that bad seconds fell
	// to one run only by chance.
	convincing  = 0.01
	worthSaying = 0.1
	// wholeSecond is how long a second at the end of a run has to be to count.
	wholeSecond = 0.9
)

// A comparedFigure is what runs are compared by: a figure of the whole run and
// of each second; false where there is none.
type comparedFigure struct {
	name   string
	unit   Unit
	whole  func(*Report) (float64, bool)
	second func(*Second) (float64, bool) // nil if there is none by the second
}

// worse says whether x is worse than y by as much as matters.
func (f *comparedFigure) worse(x, y float64) bool {
	if f.unit == UnitPerSecond {
		x, y = y, x
	}
	return x-y > matters*max(x, y)
}

var comparedFigures = []comparedFigure{
	{"rate", UnitPerSecond,
		func(r *Report) (float64, bool) { return r.Rates.Responses, true },
		func(s *Second) (float64, bool) { return float64(s.Responses) / s.Length, s.Length > 0 }},
	percentileFigure("p50", func(l *Latency) float64 { return l.P50 }, func(b *Brief) float64 { return b.P50 }),
	percentileFigure("p90", func(l *Latency) float64 { return l.P90 }, func(b *Brief) float64 { return b.P90 }),
	percentileFigure("p99", func(l *Latency) float64 { return l.P99 }, func(b *Brief) float64 { return b.P99 }),
	percentileFigure("p99.9", func(l *Latency) float64 { return l.P999 }, func(b *Brief) float64 { return b.P999 }),
	{"errors", UnitShare,
		func(r *Report) (float64, bool) { return shareOf(sumOf(r.Errors), r.Requests) },
		func(s *Second) (float64, bool) { return shareOf(s.Errors, s.Responses+s.Errors) }},
	{"not 2xx", UnitShare,
		func(r *Report) (float64, bool) { return shareOf(r.NonOK, r.Responses) },
		func(s *Second) (float64, bool) { return shareOf(s.NonOK, s.Responses) }},
	{"CPU per request", UnitMicros,
		func(r *Report) (float64, bool) { return r.Client.PerRequest, r.Requests > 0 },
		nil},
}

// percentileFigure is a percentile of response time.
func percentileFigure(name string, whole func(*Latency) float64, second func(*Brief) float64) comparedFigure {
	return comparedFigure{name, UnitMicros,
		func(r *Report) (float64, bool) {
			if r.ResponseTime == nil {
				return 0, false
			}
			return whole(r.ResponseTime), true
		},
		func(s *Second) (float64, bool) {
			if s.Response == nil {
				return 0, false
			}
			return second(s.Response), true
		}}
}

func shareOf(n, of int64) (float64, bool) { return float64(n) / float64(of), of > 0 }

func sumOf(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Compare compares two runs. It is pure.
func Compare(a, b *Report) *Comparison {
	c := &Comparison{
		Version: ReportVersion,
		A:       Side{"A", len(wholeSeconds(a))}, B: Side{"B", len(wholeSeconds(b))},
		Warnings: warnings(a, b),
	}
	for i := range comparedFigures {
		c.Rows = append(c.Rows, comparedFigures[i].compare(a, b))
	}
	return c
}

func (f *comparedFigure) compare(a, b *Report) Row {
	row := Row{Metric: f.name, Unit: f.unit}
	xs, ys := f.seconds(a), f.seconds(b)
	row.A, row.B = f.sample(a, xs), f.sample(b, ys)
	if row.A == nil || row.B == nil {
		row.Verdict, row.Why = CannotTell, "a run has no such figure"
		return row
	}
	ramp := isRamp(a) || isRamp(b)
	if ramp || row.A.Spread == nil || row.B.Spread == nil {
		row.A.Value, row.B.Value = row.A.Whole, row.B.Whole
	}
	if ratio := row.B.Value / row.A.Value; row.A.Value > 0 && !math.IsInf(ratio, 0) {
		row.Ratio = &ratio
	}
	switch {
	case f.second == nil:
		row.Verdict, row.Why = CannotTell, "one figure a run: nothing tells its spread"
	case ramp:
		row.Verdict, row.Why = CannotTell, "the seconds of a ramp differ by intent"
	case row.A.Spread == nil || row.B.Spread == nil:
		row.Verdict = TooShort
		row.Why = fmt.Sprintf("%d and %d whole seconds; it takes %d of each run", len(xs), len(ys), enoughSeconds)
	default:
		row.Verdict, row.Why = f.judge(row.A, row.B, xs, ys)
	}
	return row
}

func isRamp(r *Report) bool { return r.Load.RampFrom != r.Load.Rate }

func (f *comparedFigure) sample(r *Report, seconds []float64) *Sample {
	whole, ok := f.whole(r)
	if !ok {
		return nil
	}
	s := &Sample{Value: whole, Whole: whole}
	if len(seconds) >= enoughSeconds {
		s.Value, s.Spread = quantile(seconds, 0.5), spread(seconds)
	}
	return s
}

// judge compares the usual seconds of two runs, then their bad ones: a stall
// now and then moves no median. The whole run must not say the contrary.
func (f *comparedFigure) judge(a, b *Sample, xs, ys []float64) (Outcome, string) {
	verdict, why := f.usual(a, b)
	if verdict == NoDifference {
		if v, w := f.bad(xs, ys); w != "" {
			verdict, why = v, w
		}
	}
	switch {
	case verdict == Better && f.worse(b.Whole, a.Whole):
		return CannotTell, why + ", but over the whole run B was worse"
	case verdict == Worse && f.worse(a.Whole, b.Whole):
		return CannotTell, why + ", but over the whole run B was better"
	}
	return verdict, why
}

// usual compares by the medians of the seconds.
func (f *comparedFigure) usual(a, b *Sample) (Outcome, string) {
	const apart = "the usual seconds differ by more than their spread"
	switch {
	case a.Spread.Low <= b.Spread.High && b.Spread.Low <= a.Spread.High:
		return NoDifference, "within the spread of the seconds"
	case f.worse(b.Value, a.Value):
		return Worse, apart
	case f.worse(a.Value, b.Value):
		return Better, apart
	}
	return NoDifference, fmt.Sprintf("less than %.0f %%", 100*matters)
}

// bad compares by the seconds of one run that are worse than all of the other.
// It says why "" if there is nothing to say.
func (f *comparedFigure) bad(xs, ys []float64) (verdict Outcome, why string) {
	verdict, why = Worse, "in %d of %d seconds B was worse than A ever was"
	n, own, other := f.beyond(ys, xs), len(ys), len(xs)
	if n == 0 {
		verdict, why = Better, "in %d of %d seconds A was worse than B ever was"
		n, own, other = f.beyond(xs, ys), len(xs), len(ys)
	}
	why = fmt.Sprintf(why, n, own)
	switch p := byChance(n, own, other); {
	case p <= convincing:
		return verdict, why
	case p <= worthSaying:
		return NoDifference, why + ", which may be chance"
	}
	return NoDifference, ""
}

// beyond counts the seconds of xs that are worse than the worst of ys. Both are
// in order of size.
func (f *comparedFigure) beyond(xs, ys []float64) (n int) {
	worst := ys[len(ys)-1]
	if f.unit == UnitPerSecond {
		worst = ys[0]
	}
	for _, x := range xs {
		if f.worse(x, worst) {
			n++
		}
	}
	return n
}

// byChance is how likely it is that the n worst seconds of two runs that are
// alike all fall to the one that has so many, and none to the other.
func byChance(n, own, other int) float64 {
	return math.Pow(float64(own)/float64(own+other), float64(n))
}

// wholeSeconds leaves out a second that the end of the run cut short.
func wholeSeconds(r *Report) []Second {
	n := len(r.Series)
	if n > 0 && r.Series[n-1].Length < wholeSecond {
		n--
	}
	return r.Series[:n]
}

// seconds are the figures of a run's whole seconds, in order of size.
func (f *comparedFigure) seconds(r *Report) []float64 {
	if f.second == nil {
		return nil
	}
	var list []float64
	whole := wholeSeconds(r)
	for i := range whole {
		if x, ok := f.second(&whole[i]); ok {
			list = append(list, x)
		}
	}
	slices.Sort(list)
	return list
}

func spread(sorted []float64) *Spread {
	if len(sorted) < fewSeconds {
		return &Spread{sorted[0], sorted[len(sorted)-1]}
	}
	return &Spread{quantile(sorted, 0.25), quantile(sorted, 0.75)}
}

// quantile of what is not empty, between the two nearest.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// warnings name what differs between two runs besides what they found.
func warnings(a, b *Report) []string {
	list := []string{}
	differs := func(what string, x, y any) {
		if x, y := cmp.Or(fmt.Sprint(x), "none"), cmp.Or(fmt.Sprint(y), "none"); x != y {
			list = append(list, fmt.Sprintf("%s: %s in A, %s in B", what, x, y))
		}
	}
	for _, r := range []struct {
		name string
		*Report
	}{{"A", a}, {"B", b}} {
		if r.Verdict.Valid == "no" {
			list = append(list, fmt.Sprintf("%s is not valid: %s", r.name, r.Verdict.Why))
		}
		if r.Ended != "done" {
			list = append(list, fmt.Sprintf("%s ended early, by a %s", r.name, r.Ended))
		}
	}
	x, y := &a.Load, &b.Load
	differs("targets", x.Targets, y.Targets)
	differs("number of targets", x.TargetCount, y.TargetCount)
	differs("loop", x.Loop, y.Loop)
	differs("rate", x.Rate, y.Rate)
	if isRamp(a) || isRamp(b) {
		differs("start of the ramp", x.RampFrom, y.RampFrom)
	}
	differs("arrivals", x.Arrivals, y.Arrivals)
	differs("connections", x.Connections, y.Connections)
	differs("pipeline depth", x.Pipeline, y.Pipeline)
	differs("event loops", x.Loops, y.Loops)
	differs("timeout", x.Timeout, y.Timeout)
	differs("keep-alive", x.KeepAlive, y.KeepAlive)

	differs("observer's tier", a.Kernel.Seen().Tier, b.Kernel.Seen().Tier)

	v, w := &a.Environment, &b.Environment
	differs("hotlap", a.Tool, b.Tool)
	differs("kernel", v.Kernel, w.Kernel)
	differs("CPU", v.CPU, w.CPU)
	differs("CPUs", v.CPUs, w.CPUs)
	differs("CPUs of the client", v.AllowedCPU, w.AllowedCPU)
	differs("Go", v.Go, w.Go)
	names := maps.Clone(v.Sysctls)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, w.Sysctls)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		differs(name, settingOf(v.Sysctls, name), settingOf(w.Sysctls, name))
	}
	return list
}

func settingOf(m map[string]string, key string) string {
	if value, ok := m[key]; ok {
		return value
	}
	return "not known"
}
