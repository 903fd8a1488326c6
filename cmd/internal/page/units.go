package page

import (
	"math"
	"strconv"

	"hotlap/cmd/internal/report"
)

const none = "–" // stands where there is no figure

// duration writes microseconds in the unit that suits them, to three digits.
func duration(us float64) string {
	if us == 0 {
		return "0\u00a0s"
	}
	units := []struct {
		name  string
		size  float64 // in microseconds
		until float64 // of the unit, from where the next is used
	}{{"µs", 1, 1000}, {"ms", 1e3, 1000}, {"s", 1e6, 120}, {"min", 60e6, 120}, {"h", 3600e6, math.Inf(1)}}
	for _, u := range units {
		if math.Abs(us) < u.until*u.size {
			return digits(us/u.size) + "\u00a0" + u.name
		}
	}
	return none // not a number
}

// seconds writes seconds as duration does.
func seconds(s float64) string { return duration(s * 1e6) }

// setting writes seconds as they were asked for.
func setting(s float64) string { return strconv.FormatFloat(s, 'f', -1, 64) + "\u00a0s" }

// digits writes a number to three digits, and all that stand before the point.
func digits(x float64) string {
	switch size := math.Abs(x); {
	case size >= 1e15:
		return strconv.FormatFloat(x, 'g', 3, 64)
	case size >= 100:
		return report.Count(int64(math.Round(x)))
	case size == 0:
		return "0"
	case size >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

func count(n int64) string { return report.Count(n) }

func size(n int64) string { return report.Bytes(n) }

func rate(perSecond float64) string { return digits(perSecond) + "/s" }

// share writes a part of one in percent. What is not nothing is not shown as 0,
// what is not all is not shown as 100.
func share(x float64) string {
	switch {
	case x == 0 || x == 1:
		return strconv.FormatFloat(100*x, 'f', 0, 64) + "\u00a0%"
	case x > 0 && x < 0.0001:
		return "<0.01\u00a0%"
	case x < 1 && x > 0.9999:
		return ">99.99\u00a0%"
	}
	return strconv.FormatFloat(100*x, 'f', 2, 64) + "\u00a0%"
}

func part(n, of int64) string {
	if of == 0 {
		return none
	}
	return share(float64(n) / float64(of))
}
