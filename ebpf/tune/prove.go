package tune

import (
	"math"
	"slices"

	"hotlap/ebpf"
)

// Verdict is what an experiment showed of a knob.
type Verdict string

// The verdicts.
const (
	Effective    Verdict = "effective"    // something got better, nothing worse
	NoEffect     Verdict = "no effect"    // nothing moved, and a move that matters would have been seen
	Harmful      Verdict = "harmful"      // something got worse, nothing better
	Trade        Verdict = "trade"        // something got better, something else worse
	Inconclusive Verdict = "inconclusive" // the runs differ too much to say
)

// Kind is what a metric is there for.
type Kind string

// The kinds. Benefits and harms are judged alike, each in both directions: a
// benefit that shrinks is harm. They differ in what may stay open: see Judge.
const (
	Benefit Kind = "benefit" // what the knob is turned for
	Harm    Kind = "harm"    // what it may cost
	Shown   Kind = "shown"   // for the reader; not judged
)

// A Metric is something that an experiment counts or times in each of its runs.
// An experiment names its metrics beforehand.
type Metric struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"` // "" for a count, "s" for seconds, "%"
	Kind Kind   `json:"kind"`
	// More is better; else less is.
	More bool `json:"more_is_better,omitempty"`
	// Counter: the observer counts it, of all sockets or by the kernel's name for the
	// namespace. Else the load does.
	Counter ebpf.Counter `json:"counter,omitempty"`
	// Least is the smallest difference that matters, in the metric's unit. What is
	// below it is no effect, however steady. It is more than 0.
	Least float64 `json:"least"`
}

// Figures are the metrics of one run, by name. One that is absent is not known.
type Figures map[string]float64

// FewestRuns before, and as many after, are needed for a claim. If the knob did
// nothing, all runs after it would lie on one side of all before it once in 35 times
// with 4 and 4, once in 126 with 5 and 5: and Least has to be passed besides.
const FewestRuns = 4

// Judge computes the verdict of an experiment from its runs.
//
// A metric has moved where the medians differ by Least or more and all runs after
// are on one side of all runs before. It has stayed where the medians differ by
// less, and so do the runs of each kind among themselves (the lowest and the
// highest aside: one run may have been disturbed). Otherwise it is open. An open
// harm lets nothing be called effective, an open benefit nothing harmful.
func Judge(metrics []Metric, before, after []Figures) Verdict {
	var better, worse, judged bool
	open := map[Kind]bool{}
	for _, m := range metrics {
		if m.Kind == Shown {
			continue
		}
		judged = true
		switch m.compare(before, after) {
		case gotBetter:
			better = true
		case gotWorse:
			worse = true
		case unclear:
			open[m.Kind] = true
		}
	}
	switch {
	case better && worse:
		return Trade
	case better && !open[Harm]:
		return Effective
	case worse && !open[Benefit]:
		return Harmful
	case judged && !better && !worse && len(open) == 0:
		return NoEffect
	}
	return Inconclusive
}

type movement int

const (
	stayed movement = iota
	gotBetter
	gotWorse
	unclear
)

// compare says where a metric went.
func (m *Metric) compare(before, after []Figures) movement {
	b, a := m.values(before), m.values(after)
	if len(b) != len(before) || len(a) != len(after) || min(len(b), len(a)) < FewestRuns {
		return unclear
	}
	difference := median(a) - median(b)
	more, less := a[0] > b[len(b)-1], a[len(a)-1] < b[0]
	switch {
	case math.Abs(difference) < m.Least:
		if spread(b) < m.Least && spread(a) < m.Least {
			return stayed
		}
		return unclear
	case !more && !less:
		return unclear
	case more == m.More:
		return gotBetter
	}
	return gotWorse
}

// values are a metric's, from the lowest to the highest, of the runs that have it.
func (m *Metric) values(runs []Figures) (list []float64) {
	for _, r := range runs {
		if v, known := r[m.Name]; known && !math.IsNaN(v) {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list
}

// Median is the metric's over the runs that have it, and false if none has.
func (m *Metric) Median(runs []Figures) (float64, bool) {
	list := m.values(runs)
	if len(list) == 0 {
		return 0, false
	}
	return median(list), true
}

// median is that of a sorted list.
func median(list []float64) float64 {
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// spread is how far the values of a sorted list lie apart without the outermost.
func spread(list []float64) float64 { return list[len(list)-2] - list[1] }
