package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// count is a flag value: a whole number with an optional k or m behind it.
type count int64

func (c *count) String() string { return strconv.FormatInt(int64(*c), 10) }
func (c *count) Type() string   { return "count" }

// Set reads 250, 10k, 1.5m.
func (c *count) Set(s string) error {
	digits, factor := s, 1.0
	switch {
	case strings.HasSuffix(s, "k"), strings.HasSuffix(s, "K"):
		digits, factor = s[:len(s)-1], 1e3
	case strings.HasSuffix(s, "m"), strings.HasSuffix(s, "M"):
		digits, factor = s[:len(s)-1], 1e6
	}
	f, err := strconv.ParseFloat(digits, 64)
	if f *= factor; err != nil || !(f >= 0 && f < 1<<53) || f != math.Trunc(f) {
		return fmt.Errorf("%q is no count: want a whole number, k and m are understood", s)
	}
	*c = count(f)
	return nil
}
