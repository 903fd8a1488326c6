package main

import (
	"math"
	"slices"
)

// spread is what many rounds say about one number.
type spread struct{ min, median, max float64 }

// medianInterval is where the median of all rounds that could have been taken
// lies, with at least 95 % certainty, whatever their distribution: between the
// kth value from below and the kth from above, where k or more heads in so many
// throws of a coin as there are values are all but certain. It takes six.
func medianInterval(values []float64) (low, high float64, ok bool) {
	v := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(v)
	n, k := len(v), 0
	p := math.Pow(0.5, float64(n)) // of k heads
	for tail := p; tail <= 0.025; tail += p {
		k++
		p *= float64(n-k+1) / float64(k)
	}
	if k == 0 {
		return 0, 0, false
	}
	return v[k-1], v[n-k], true
}

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
