package load

import (
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals says when requests are due: at a rate that is constant or grows
// from one to another, evenly or at random. It is pure: asked for the next due
// time again and again, it needs no clock.
//
// A rate is an expected number of arrivals up to each moment. The n-th even
// arrival is where that number reaches n; of random ones (a Poisson process) the
// steps are not 1 but exponentially distributed around 1.
type Arrivals struct {
	from, to float64       // per second
	hold     time.Duration // how long the rate stays at from
	rise     time.Duration // and then takes to get to to

	steps *rand.PCG // nil: even
	step  float64   // of all loops: each takes its share
	at    float64   // expected number of arrivals up to the next one
}

// NewArrivals makes the arrivals of one of several loops. The rate is from
// until hold has passed, and then goes to to within rise.
func NewArrivals(from, to float64, hold, rise time.Duration, poisson bool, loop, loops int) *Arrivals {
	a := &Arrivals{from: from, to: to, hold: hold, rise: rise, step: float64(loops), at: float64(loop)}
	if poisson {
		a.steps, a.at = rand.NewPCG(rand.Uint64(), rand.Uint64()), 0
		a.Take()
	}
	return a
}

// Clone returns arrivals that go on as these would.
func (a *Arrivals) Clone() *Arrivals {
	c := *a
	if a.steps != nil {
		steps := *a.steps
		c.steps = &steps
	}
	return &c
}

// Due is when the next request is due, since the start.
func (a *Arrivals) Due() time.Duration {
	held := a.from * a.hold.Seconds()
	rise := a.rise.Seconds()
	risen := (a.from + a.to) / 2 * rise
	seconds := 0.0
	switch n := a.at - held; {
	case n < 0:
		seconds = a.at / a.from
	case n < risen:
		// n = from t + slope t^2 / 2, solved for t without a difference of nearly
		// equal numbers.
		slope := (a.to - a.from) / rise
		seconds = a.hold.Seconds() + 2*n/(a.from+math.Sqrt(max(0, a.from*a.from+2*slope*n)))
	case a.to == 0:
		return math.MaxInt64 // a ramp that went down to nothing
	default:
		seconds = a.hold.Seconds() + rise + (n-risen)/a.to
	}
	if math.IsNaN(seconds) { // the very first of a ramp from 0
		seconds = a.hold.Seconds()
	}
	if seconds > maxSeconds {
		return math.MaxInt64
	}
	return time.Duration(seconds * 1e9)
}

const maxSeconds = 100 * 365 * 24 * 3600

// Take moves on to the request after the one that is due next.
func (a *Arrivals) Take() {
	if a.steps == nil {
		a.at += a.step
		return
	}
	uniform := float64(a.steps.Uint64()>>11) / (1 << 53) // [0, 1)
	a.at -= math.Log1p(-uniform) * a.step
}

// Skip moves past the requests that are due before end, at most so many, and
// returns how many there were.
func (a *Arrivals) Skip(end time.Duration, most int64) (n int64) {
	if a.steps == nil {
		// Where rounding has put the count beside what Due says, the rest corrects it.
		at := a.at
		n = int64(min(max(math.Floor((a.expected(end)-at)/a.step)-1, 0), float64(most)))
		a.at += float64(n) * a.step
		if n > 0 && a.Due() >= end {
			n, a.at = 0, at
		}
	}
	for ; n < most && a.Due() < end; n++ {
		a.Take()
	}
	return n
}

// expected is the number of arrivals of all loops up to a time.
func (a *Arrivals) expected(t time.Duration) float64 {
	held, rise := a.hold.Seconds(), a.rise.Seconds()
	switch s := t.Seconds(); {
	case s <= held:
		return a.from * s
	case s < held+rise:
		s -= held
		return a.from*(held+s) + (a.to-a.from)/rise*s*s/2
	default:
		return a.from*held + (a.from+a.to)/2*rise + a.to*(s-held-rise)
	}
}
