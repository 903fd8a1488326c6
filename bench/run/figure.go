package main

import (
	"fmt"
	"strconv"

	"hotlap/bench/sample"
)

// A figure is a number that each run gives: a column of a table. 0 means that
// the client does not tell.
type figure struct {
	name   string // with its unit
	of     func(*sample.Sample) float64
	digits int
}

var (
	cpuFigure       = figure{"CPU us/request", (*sample.Sample).CPUus, 3}
	serverCPUFigure = figure{"server CPU us/request", (*sample.Sample).ServerCPUus, 3}
	rateFigure      = figure{"requests/s", (*sample.Sample).Rate, 0}
	memoryFigure    = figure{"peak MB", (*sample.Sample).PeakMB, 1}
	p50Figure       = figure{"p50 ms", func(s *sample.Sample) float64 { return s.P50us / 1e3 }, 3}
	lagP50Figure    = figure{"lag p50 us", func(s *sample.Sample) float64 { return s.LagP50us }, 1}
	lagP99Figure    = figure{"lag p99 us", func(s *sample.Sample) float64 { return s.LagP99us }, 1}
	achievedFigure  = figure{"answered of due", (*sample.Sample).Achieved, 5}
)

func (f figure) format(v float64) string { return strconv.FormatFloat(v, 'f', f.digits, 64) }

// cell is a spread in a table.
func (f figure) cell(s spread) string {
	switch {
	case s == spread{}:
		return "-"
	case s.min == s.max:
		return f.format(s.median)
	}
	return fmt.Sprintf("%s (%s-%s)", f.format(s.median), f.format(s.min), f.format(s.max))
}

// A limit is what a figure has to keep to, by its median.
type limit struct {
	figure    figure
	of        string // the client; "" is hotlap
	to        string // "": the figure itself; else its ratio to that of this client
	low, high float64
}

// ratio is a figure without a unit.
var ratio = figure{digits: 2}

// text is the figure, the limit, and whether it holds.
func (l limit) text(o *outcome) string {
	of, shown, what := l.of, l.figure, l.figure.name
	if of == "" {
		of = hotlapName
	}
	values := o.values(of, l.figure)
	if l.to != "" {
		shown, what = ratio, what+", times that of "+l.to
		values = ratios(values, o.values(l.to, l.figure))
	}
	s := spreadOf(values)
	return fmt.Sprintf("%s, %s: %s; limit %s: %s", of, what, shown.cell(s), l.bounds(), l.verdict(s))
}

func (l limit) bounds() string {
	if l.low == 0 {
		return fmt.Sprintf("at most %g", l.high)
	}
	return fmt.Sprintf("from %g to %g", l.low, l.high)
}

func (l limit) verdict(s spread) string {
	switch {
	case s == spread{}:
		return "**not measured**"
	case l.low <= s.median && s.median <= l.high:
		return "holds"
	}
	return "**does not hold**"
}

// ratios divides pairwise: round by round, so that what disturbed a whole round
// disturbs no ratio. Where either is missing there is none.
func ratios(a, b []float64) []float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}
