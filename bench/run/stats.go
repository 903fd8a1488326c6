package main

import (
	"cmp"
	"slices"
)

// spread is what many rounds say about one number.
type spread struct{ min, median, max float64 }

// spreadOf sorts values and takes the middle; of an even count, the mean of
// the two in the middle.
func spreadOf(values []float64) spread {
	v := slices.Clone(values)
	slices.SortFunc(v, cmp.Compare[float64])
	n := len(v)
	if n == 0 {
		return spread{}
	}
	return spread{min: v[0], median: (v[(n-1)/2] + v[n/2]) / 2, max: v[n-1]}
}

// ratios divides pairwise: round by round, so that what disturbed a whole
// round disturbs no ratio.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}
