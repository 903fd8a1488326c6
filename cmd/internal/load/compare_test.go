package load

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
)

// A shape says what each second of a run was like.
type shape func(second int, random *rand.Rand) Second

// like are seconds of about that rate and those times, in microseconds.
func like(rate int64, p50, p99 float64) shape {
	return func(_ int, random *rand.Rand) Second {
		about := func(x float64) float64 { return x * (1 + 0.05*random.NormFloat64()) }
		b := &Brief{P50: about(p50), P90: about(2 * p50), P99: about(p99), P999: about(2 * p99), Max: about(3 * p99)}
		return Second{Responses: int64(about(float64(rate))), Response: b}
	}
}

// every makes every n-th second another one.
func every(n int, other, usual shape) shape {
	return func(at int, random *rand.Rand) Second {
		if at%n == n-1 {
			return other(at, random)
		}
		return usual(at, random)
	}
}

func failing(errors int64, s shape) shape {
	return func(at int, random *rand.Rand) Second {
		second := s(at, random)
		second.Errors, second.Responses = errors, second.Responses-errors
		return second
	}
}

// shaped makes the report of a run. The figures of the whole run come from the
// means of its seconds.
func shaped(seed uint64, seconds int, s shape) *Report {
	random := rand.New(rand.NewPCG(seed, 0))
	r := &Report{Ended: "done", Seconds: float64(seconds), Errors: map[string]int64{}, ResponseTime: &Latency{}, Client: Client{PerRequest: 4}}
	n := float64(seconds)
	for at := range seconds {
		second := s(at, random)
		second.At, second.Length = float64(at), 1
		r.Series = append(r.Series, second)
		r.Responses += second.Responses
		r.Requests += second.Responses + second.Errors
		r.Errors["closed"] += second.Errors
		r.ResponseTime.P50 += second.Response.P50 / n
		r.ResponseTime.P90 += second.Response.P90 / n
		r.ResponseTime.P99 += second.Response.P99 / n
		r.ResponseTime.P999 += second.Response.P999 / n
	}
	r.Rates.Responses = float64(r.Responses) / n
	return r
}

func verdicts(c *Comparison) map[string]Outcome {
	m := map[string]Outcome{}
	for _, r := range c.Rows {
		m[r.Metric] = r.Verdict
	}
	return m
}

func TestCompare(t *testing.T) {
	usual := like(10000, 800, 2000)
	for _, c := range []struct {
		name string
		a, b *Report
		want map[string]Outcome
	}{
		{
			"two runs that are alike differ by chance only",
			shaped(1, 30, usual), shaped(2, 30, usual),
			map[string]Outcome{"rate": NoDifference, "p50": NoDifference, "p90": NoDifference, "p99": NoDifference, "p99.9": NoDifference, "errors": NoDifference},
		},
		{
			"half as fast again, and slower at the end",
			shaped(1, 30, usual), shaped(2, 30, like(15000, 800, 3000)),
			map[string]Outcome{"rate": Better, "p50": NoDifference, "p99": Worse, "p99.9": Worse},
		},
		{
			"a difference of two percent drowns in a spread of five",
			shaped(1, 30, usual), shaped(2, 30, like(10200, 816, 2040)),
			map[string]Outcome{"rate": NoDifference, "p50": NoDifference, "p99": NoDifference},
		},
		{
			"a few seconds do, if they are far apart",
			shaped(1, 5, usual), shaped(2, 5, like(5000, 1600, 2000)),
			map[string]Outcome{"rate": Worse, "p50": Worse, "p99": NoDifference},
		},
		{
			"four seconds do not, however far apart",
			shaped(1, 30, usual), shaped(2, 4, like(1, 80000, 200000)),
			map[string]Outcome{"rate": TooShort, "p50": TooShort, "p99": TooShort, "errors": TooShort},
		},
		{
			"a stall every third second moves no median",
			shaped(1, 30, usual), shaped(2, 30, every(3, like(10000, 800, 200000), usual)),
			map[string]Outcome{"rate": NoDifference, "p50": NoDifference, "p99": Worse, "p99.9": Worse},
		},
		{
			"nor do its absence, and errors in every third",
			shaped(1, 30, every(3, like(10000, 800, 200000), usual)), shaped(2, 30, every(3, failing(500, usual), usual)),
			map[string]Outcome{"p99": Better, "errors": Worse},
		},
		{
			"one bad second of thirty may be chance",
			shaped(1, 30, usual), shaped(2, 30, every(30, failing(9000, usual), usual)),
			map[string]Outcome{"errors": NoDifference},
		},
		{
			"better as a rule, far worse now and then",
			shaped(1, 30, usual), shaped(2, 30, every(5, like(10000, 800, 200000), like(10000, 800, 1000))),
			map[string]Outcome{"p50": NoDifference, "p99": CannotTell},
		},
	} {
		got := Compare(c.a, c.b)
		for metric, want := range c.want {
			if outcome := verdicts(got)[metric]; outcome != want {
				t.Errorf("%s: %s is %q, want %q", c.name, metric, outcome, want)
			}
		}
		if outcome := verdicts(got)["CPU per request"]; outcome != CannotTell {
			t.Errorf("%s: one figure a run, and CPU per request is %q", c.name, outcome)
		}
	}
}

// TestCompareMirrored: what is better of B beside A is worse of A beside B.
func TestCompareMirrored(t *testing.T) {
	mirror := map[Outcome]Outcome{Better: Worse, Worse: Better}
	a, b := shaped(1, 30, like(10000, 800, 2000)), shaped(2, 40, every(4, like(9000, 700, 90000), like(9000, 700, 2000)))
	there, back := Compare(a, b), Compare(b, a)
	decided := 0
	for i, r := range there.Rows {
		want, ok := mirror[r.Verdict]
		if !ok {
			want = r.Verdict
		} else {
			decided++
		}
		if back.Rows[i].Verdict != want {
			t.Errorf("%s: %q one way, %q the other", r.Metric, r.Verdict, back.Rows[i].Verdict)
		}
		if r.Ratio != nil && math.Abs(*r.Ratio**back.Rows[i].Ratio-1) > 1e-9 {
			t.Errorf("%s: ratios %v and %v", r.Metric, *r.Ratio, *back.Rows[i].Ratio)
		}
	}
	if decided < 3 {
		t.Errorf("only %d rows are better or worse", decided)
	}
}

// TestCompareChance compares runs that are alike many times over: it is rare
// that any of them seems better or worse.
func TestCompareChance(t *testing.T) {
	const runs = 400
	for _, seconds := range []int{5, 9, 10, 30, 120} {
		wrong := 0
		for seed := range uint64(runs) {
			c := Compare(shaped(2*seed, seconds, like(10000, 800, 2000)), shaped(2*seed+1, seconds, like(10000, 800, 2000)))
			if v := verdicts(c)["p99"]; v != NoDifference {
				wrong++
			}
		}
		if share := float64(wrong) / runs; share > 0.06 {
			t.Errorf("%d seconds: %.1f %% of the pairs seem to differ", seconds, 100*share)
		} else {
			t.Logf("%d seconds: %.1f %%", seconds, 100*share)
		}
	}
}

// TestCompareLike: the figures of a row are of one kind, medians or whole runs.
func TestCompareLike(t *testing.T) {
	long, short := shaped(1, 31, every(3, like(10000, 800, 200000), like(10000, 800, 2000))), shaped(2, 3, like(10000, 800, 2000))
	for _, c := range []*Comparison{Compare(long, short), Compare(short, long)} {
		for _, r := range c.Rows {
			if r.A != nil && r.B != nil && (r.A.Value != r.A.Whole || r.B.Value != r.B.Whole) {
				t.Errorf("%s: %+v beside %+v", r.Metric, r.A, r.B)
			}
		}
	}
}

func TestCompareMissing(t *testing.T) {
	a, b := &Report{Ended: "done"}, &Report{Ended: "done"}
	c := Compare(a, b)
	if len(c.Rows) != len(comparedFigures) || len(c.Warnings) != 0 {
		t.Errorf("%d rows, warnings %q", len(c.Rows), c.Warnings)
	}
	for _, r := range c.Rows {
		if r.Ratio != nil || r.Verdict != CannotTell && r.Verdict != TooShort {
			t.Errorf("%s: ratio %v, %q", r.Metric, r.Ratio, r.Verdict)
		}
	}
	if _, err := json.Marshal(c); err != nil {
		t.Error(err)
	}
	if err := c.WriteText(new(strings.Builder), false); err != nil {
		t.Error(err)
	}
}

// TestCompareCut: a second that the end cut short has no rate of its own.
func TestCompareCut(t *testing.T) {
	a, b := shaped(1, 12, like(10000, 800, 2000)), shaped(2, 12, like(10000, 800, 2000))
	a.Series[11].Length, a.Series[11].Responses = 0.01, 1e6
	c := Compare(a, b)
	if c.A.Seconds != 11 || c.B.Seconds != 12 {
		t.Errorf("%d and %d seconds, want 11 and 12", c.A.Seconds, c.B.Seconds)
	}
	if v := verdicts(c)["rate"]; v != NoDifference {
		t.Errorf("rate is %q", v)
	}
}

func TestCompareWarnings(t *testing.T) {
	change := map[string]func(*Report){
		"connections: 64 in A, 65 in B":                 func(r *Report) { r.Load.Connections = 65 },
		"pipeline depth: 1 in A, 8 in B":                func(r *Report) { r.Load.Pipeline = 8 },
		"rate: 1000 in A, 2000 in B":                    func(r *Report) { r.Load.Rate, r.Load.RampFrom = 2000, 2000 },
		"start of the ramp: 1000 in A, 10 in B":         func(r *Report) { r.Load.RampFrom = 10 },
		"targets: [http://a/] in A, [http://b/] in B":   func(r *Report) { r.Load.Targets = []string{"http://b/"} },
		"arrivals: none in A, poisson in B":             func(r *Report) { r.Load.Arrivals = "poisson" },
		"kernel: 6.18 in A, 6.19 in B":                  func(r *Report) { r.Environment.Kernel = "6.19" },
		"net.core.somaxconn: 4096 in A, 128 in B":       func(r *Report) { r.Environment.Sysctls = map[string]string{"net.core.somaxconn": "128"} },
		"net.core.somaxconn: 4096 in A, not known in B": func(r *Report) { r.Environment.Sysctls = nil },
		"B is not valid: the client was busy":           func(r *Report) { r.Verdict = ebpf.Verdict{Valid: ebpf.ValidNo, Why: "the client was busy"} },
		"observer's tier: none in A, bpf in B":          func(r *Report) { r.Kernel = &report.Kernel{Sample: ebpf.Sample{Tier: ebpf.TierBPF}} },
		"B ended early, by a signal":                    func(r *Report) { r.Ended = "signal" },
	}
	usual := func() *Report {
		return &Report{
			Ended:       "done",
			Load:        Load{Targets: []string{"http://a/"}, Connections: 64, Pipeline: 1, Rate: 1000, RampFrom: 1000},
			Environment: Environment{Kernel: "6.18", Sysctls: map[string]string{"net.core.somaxconn": "4096"}},
		}
	}
	for want, alter := range change {
		b := usual()
		alter(b)
		if got := Compare(usual(), b).Warnings; len(got) != 1 || got[0] != want {
			t.Errorf("warnings %q, want %q", got, want)
		}
	}
}

// TestCompareRamp: the seconds of a ramp differ by intent.
func TestCompareRamp(t *testing.T) {
	a, b := shaped(1, 30, like(10000, 800, 2000)), shaped(2, 30, like(20000, 80, 200))
	b.Load.Rate, b.Load.RampFrom = 20000, 1000
	for _, r := range Compare(a, b).Rows {
		if r.Verdict != CannotTell {
			t.Errorf("%s is %q", r.Metric, r.Verdict)
		}
	}
}

func TestCompareText(t *testing.T) {
	a, b := shaped(1, 30, like(10000, 800, 2000)), shaped(2, 30, like(15000, 800, 3000))
	b.Load.Connections = 7
	c := Compare(a, b)
	c.A.Name, c.B.Name = "before.json", "after.json"
	var plain, colored strings.Builder
	if err := c.WriteText(&plain, false); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteText(&colored, true); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + plain.String())
	for _, want := range []string{"before.json", "after.json", "connections: 0 in A, 7 in B", "p99.9", "worse: ", "better: ", "1.5", "ms"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("no %q in the text", want)
		}
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(colored.String(), "\x1b[31mworse\x1b[0m") || !strings.Contains(colored.String(), "\x1b[32mbetter\x1b[0m") {
		t.Error("color where there should be none, or none where it should be")
	}
}

func TestUnitFormat(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		x    float64
		want string
	}{
		{UnitPerSecond, 1234567.8, "1,234,568/s"}, {UnitShare, 0.0213, "2.13%"}, {UnitShare, 0, "0%"}, {UnitShare, 0.00001, "0.001%"},
		{UnitMicros, 0, "0s"}, {UnitMicros, 643, "643µs"}, {UnitMicros, 1234.5, "1.23ms"}, {UnitMicros, 2.5e6, "2.5s"},
		{UnitMicros, 1e300, "1277777h46m40s"},
	} {
		if got := c.unit.Format(c.x); got != c.want {
			t.Errorf("%v in %s is %q, want %q", c.x, c.unit, got, c.want)
		}
	}
}
