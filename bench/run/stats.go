package main

import (
	"math"
	"slices"
)

// spread is what many rounds say about one number.
type spread struct{ min, median, max float64 }

// spreadOf sorts the values that are there and takes the middle; of an even
// count, the mean of the two in the middle. Without any value it is zero.
func spreadOf(values []float64) spread {
	v := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(v)
	n := len(v)
	if n == 0 {
		return spread{}
	}
	return spread{min: v[0], median: (v[(n-1)/2] + v[n/2]) / 2, max: v[n-1]}
}
