package ebpf

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"time"

	"hotlap/ebpf/internal/prog"
)

// Histogram counts times in buckets, four to each power of two of a microsecond.
type Histogram [prog.Buckets]uint64

// Count is how many times it holds.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile returns a time that the share q of all times does not exceed, as
// exact as the buckets: the end of one. It is 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.Count())))
	var n uint64
	for i, c := range h {
		if n += c; c > 0 && n >= rank {
			return prog.BucketFrom(i + 1)
		}
	}
	return 0
}

func (h *Histogram) minus(before *Histogram) (d Histogram) {
	for i, n := range h {
		d[i] = n - min(n, before[i])
	}
	return d
}

// MarshalJSON writes [from, count] pairs of the buckets that are not empty;
// from is in microseconds.
func (h Histogram) MarshalJSON() ([]byte, error) {
	pairs := [][2]uint64{}
	for i, n := range h {
		if n > 0 {
			pairs = append(pairs, [2]uint64{uint64(prog.BucketFrom(i).Microseconds()), n})
		}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var pairs [][2]uint64
	if err := json.Unmarshal(text, &pairs); err != nil {
		return err
	}
	*h = Histogram{}
	for _, pair := range pairs {
		from := time.Duration(pair[0]) * time.Microsecond
		i := sort.Search(len(h), func(i int) bool { return prog.BucketFrom(i) >= from })
		if i == len(h) || prog.BucketFrom(i) != from {
			return fmt.Errorf("no bucket begins at %v", from)
		}
		h[i] = pair[1]
	}
	return nil
}
