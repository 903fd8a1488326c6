package tune

import (
	"math"
	"testing"
)

// runs makes the runs of one kind: a row for each metric.
func runs(rows map[string][]float64) (list []Figures) {
	for name, values := range rows {
		for i, v := range values {
			if len(list) <= i {
				list = append(list, Figures{})
			}
			list[i][name] = v
		}
	}
	return list
}

func TestJudge(t *testing.T) {
	type figures = map[string][]float64
	metrics := []Metric{
		{Name: "drops", Kind: Benefit, Least: 10},
		{Name: "resets", Kind: Harm, Least: 5},
		{Name: "memory", Kind: Shown, Least: 1},
	}
	five := func(n float64) []float64 { return []float64{n, n, n, n, n} }
	for _, c := range []struct {
		name          string
		before, after figures
		want          Verdict
	}{
		{"nothing moves", figures{"drops": five(300), "resets": five(0)}, figures{"drops": five(300), "resets": five(0)}, NoEffect},
		{"drops go", figures{"drops": five(300), "resets": five(0)}, figures{"drops": five(0), "resets": five(0)}, Effective},
		{"drops come", figures{"drops": five(0), "resets": five(0)}, figures{"drops": five(300), "resets": five(0)}, Harmful},
		{"resets come", figures{"drops": five(7), "resets": five(0)}, figures{"drops": five(7), "resets": five(30)}, Harmful},
		{"resets go", figures{"drops": five(7), "resets": five(30)}, figures{"drops": five(7), "resets": five(0)}, Effective},
		{"drops go, resets come", figures{"drops": five(300), "resets": five(0)}, figures{"drops": five(0), "resets": five(30)}, Trade},
		{"drops come, resets go", figures{"drops": five(0), "resets": five(30)}, figures{"drops": five(300), "resets": five(0)}, Trade},
		{"what is shown is not judged", figures{"drops": five(0), "resets": five(0), "memory": five(0)}, figures{"drops": five(0), "resets": five(0), "memory": five(900)}, NoEffect},

		{"a difference that does not matter", figures{"drops": five(30), "resets": five(0)}, figures{"drops": five(21), "resets": five(0)}, NoEffect},
		{"the least that matters", figures{"drops": five(30), "resets": five(0)}, figures{"drops": five(20), "resets": five(0)}, Effective},

		{"noisy, and all runs apart", figures{"drops": {100, 150, 200, 400, 900}, "resets": five(0)}, figures{"drops": {0, 20, 50, 60, 99}, "resets": five(0)}, Effective},
		{"one run overlaps", figures{"drops": {100, 150, 200, 400, 900}, "resets": five(0)}, figures{"drops": {0, 20, 50, 60, 101}, "resets": five(0)}, Inconclusive},
		{"one run touches", figures{"drops": {100, 150, 200, 400, 900}, "resets": five(0)}, figures{"drops": {0, 20, 50, 60, 100}, "resets": five(0)}, Inconclusive},
		{"equal medians in a noise that may hide all", figures{"drops": {0, 10, 50, 90, 100}, "resets": five(0)}, figures{"drops": {0, 20, 50, 70, 100}, "resets": five(0)}, Inconclusive},
		{"one disturbed run hides nothing", figures{"drops": {300, 300, 300, 300, 600}, "resets": five(0)}, figures{"drops": five(300), "resets": five(0)}, NoEffect},
		{"two disturbed runs do", figures{"drops": {300, 300, 300, 600, 600}, "resets": five(0)}, figures{"drops": five(300), "resets": five(0)}, Inconclusive},

		{"better, but a harm is open", figures{"drops": five(300), "resets": five(0)}, figures{"drops": five(0), "resets": {0, 0, 0, 30, 30}}, Inconclusive},
		{"worse, but a benefit is open", figures{"drops": five(300), "resets": five(0)}, figures{"drops": {0, 0, 300, 300, 300}, "resets": five(30)}, Inconclusive},
		{"a harm is not known", figures{"drops": five(300)}, figures{"drops": five(0)}, Inconclusive},
		{"not known in one run", figures{"drops": five(300), "resets": five(0)}, figures{"drops": five(0), "resets": {0, 0, 0, 0}}, Inconclusive},
		{"no number", figures{"drops": five(300), "resets": five(0)}, figures{"drops": {0, 0, 0, 0, math.NaN()}, "resets": five(0)}, Inconclusive},
		{"too few runs", figures{"drops": {300, 300, 300}, "resets": {0, 0, 0}}, figures{"drops": {0, 0, 0}, "resets": {0, 0, 0}}, Inconclusive},
		{"enough runs", figures{"drops": {300, 300, 300, 300}, "resets": {0, 0, 0, 0}}, figures{"drops": {0, 0, 0, 0}, "resets": {0, 0, 0, 0}}, Effective},
		{"no runs", nil, nil, Inconclusive},
	} {
		if got := Judge(metrics, runs(c.before), runs(c.after)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A metric of which more is better turns the other way; a second benefit that
// is open takes nothing from one that is clear.
func TestJudgeMore(t *testing.T) {
	metrics := []Metric{
		{Name: "made", Kind: Benefit, More: true, Least: 5},
		{Name: "p99", Unit: "s", Kind: Benefit, Least: 0.5},
	}
	few, many := []float64{99, 100, 100, 100, 100}, []float64{200, 200, 200, 200, 200}
	steady, noisy := []float64{0.001, 0.002, 0.001, 0.4, 0.001}, []float64{0.001, 1, 2, 0.1, 3}
	for _, c := range []struct {
		before, after []float64
		p99           []float64
		want          Verdict
	}{
		{few, many, steady, Effective},
		{many, few, steady, Harmful},
		{few, few, steady, NoEffect},
		{few, many, noisy, Effective},
		{many, few, noisy, Inconclusive},
		{few, few, noisy, Inconclusive},
	} {
		got := Judge(metrics, runs(map[string][]float64{"made": c.before, "p99": c.p99}), runs(map[string][]float64{"made": c.after, "p99": c.p99}))
		if got != c.want {
			t.Errorf("made %v -> %v, p99 %v: %s, want %s", c.before, c.after, c.p99, got, c.want)
		}
	}
	if got := Judge(nil, []Figures{{}, {}, {}, {}}, []Figures{{}, {}, {}, {}}); got != Inconclusive {
		t.Errorf("without a metric: %s", got)
	}
}
