package load

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// due takes the first n due times.
func due(a *Arrivals, n int) (times []time.Duration) {
	for range n {
		times = append(times, a.Due())
		a.Take()
	}
	return times
}

// near says that two times differ by rounding only.
func near(a, b time.Duration) bool { return (a - b).Abs() <= time.Microsecond }

func TestConstantArrivals(t *testing.T) {
	const rate = 8_000 // every 125 us, which is exact
	for n, at := range due(NewArrivals(rate, rate, 0, 10*time.Second, false, 0, 1), 20*rate) {
		if want := time.Duration(n) * 125 * time.Microsecond; !near(at, want) {
			t.Fatalf("request %d is due after %v, want %v", n, at, want)
		}
	}
}

// The schedule goes on as it is in the warm-up before it and after its end.
func TestConstantArrivalsKnowNoSeams(t *testing.T) {
	for n, at := range due(NewArrivals(1000, 1000, 1500*time.Millisecond, time.Second, false, 0, 1), 5000) {
		if want := time.Duration(n) * time.Millisecond; !near(at, want) {
			t.Fatalf("request %d is due after %v, want %v", n, at, want)
		}
	}
}

// The loops share the schedule of one: no gap, nothing twice.
func TestLoopsInterleave(t *testing.T) {
	const loops, each = 3, 10_000
	whole := due(NewArrivals(100, 5000, time.Second, 4*time.Second, false, 0, 1), loops*each)
	for loop := range loops {
		for n, at := range due(NewArrivals(100, 5000, time.Second, 4*time.Second, false, loop, loops), each) {
			if want := whole[n*loops+loop]; at != want {
				t.Fatalf("request %d of loop %d is due after %v, want %v", n, loop, at, want)
			}
		}
	}
}

// A ramp has as many requests, up to each moment, as the rate's integral says.
func TestRamp(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to float64
		hold     time.Duration
	}{
		{"up", 100, 1900, 0},
		{"from nothing", 0, 2000, 0},
		{"from nothing, after a warm-up without load", 0, 2000, time.Second},
		{"down", 1900, 100, 0},
		{"down to nothing", 2000, 0, 0},
		{"after a warm-up at its first rate", 500, 1500, 2 * time.Second},
		{"flat", 1000, 1000, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			const rise = 10 * time.Second
			a := NewArrivals(c.from, c.to, c.hold, rise, false, 0, 1)
			total := int(c.from*c.hold.Seconds() + (c.from+c.to)/2*rise.Seconds())
			before := time.Duration(-1)
			for n, at := range due(a, total) {
				if at <= before {
					t.Fatalf("request %d is due after %v, the one before after %v", n, at, before)
				}
				before = at
				held := min(at, c.hold).Seconds()
				risen := max(0, (at - c.hold).Seconds())
				sum := c.from*held + c.from*risen + (c.to-c.from)/rise.Seconds()*risen*risen/2
				if math.Abs(sum-float64(n)) > 0.01 {
					t.Fatalf("request %d is due after %v, when %.3f are", n, at, sum)
				}
			}
			if end := c.hold + rise; before >= end || end-before > 300*time.Millisecond {
				t.Errorf("the last request is due after %v, the ramp ends after %v", before, end)
			}
			if next := a.Due(); c.to == 0 && next != math.MaxInt64 {
				t.Errorf("after the ramp to nothing a request is due after %v", next)
			}
		})
	}
}

// Ramps to nothing end there, whatever their figures: none of them divides evenly.
func TestRampToNothingEnds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 7))
	for range 2000 {
		from, rise := 1+1000*random.Float64(), time.Duration(1e8+4e9*random.Float64())
		hold := time.Duration(1e9 * random.Float64())
		a := NewArrivals(from, 0, hold, rise, false, 0, 1)
		before := time.Duration(-1)
		for at := a.Due(); at != math.MaxInt64; at = a.Due() {
			if at < before || at > hold+rise {
				t.Fatalf("from %v within %v after %v: due after %v, the one before after %v", from, rise, hold, at, before)
			}
			before = at
			a.Take()
		}
	}
}

// seeded are random arrivals that are the same each time.
func seeded(seed uint64, from, to float64, hold, rise time.Duration, loop, loops int) *Arrivals {
	a := NewArrivals(from, to, hold, rise, false, loop, loops)
	a.steps, a.at = rand.NewPCG(seed, uint64(loop)), 0
	a.Take()
	return a
}

// Of a Poisson process the intervals have the mean 1/rate and, being
// exponentially distributed, the same standard deviation; counts in equal
// times have their mean as variance. The loops together are such a process.
func TestPoissonArrivals(t *testing.T) {
	for _, loops := range []int{1, 3} {
		const rate, seconds = 1000, 200
		counts := make([]float64, seconds*10) // in tenths of a second
		var sum, squares, n float64
		for loop := range loops {
			a := seeded(42, rate, rate, 0, time.Second, loop, loops)
			before := time.Duration(0)
			for at := a.Due(); at < seconds*time.Second; at = a.Due() {
				d := (at - before).Seconds() * rate / float64(loops)
				sum, squares, n, before = sum+d, squares+d*d, n+1, at
				counts[at/(100*time.Millisecond)]++
				a.Take()
			}
		}
		mean := sum / n
		deviation := math.Sqrt(squares/n - mean*mean)
		if math.Abs(mean-1) > 0.01 || math.Abs(deviation-1) > 0.02 {
			t.Errorf("%d loops: intervals have mean %.3f and deviation %.3f of 1/rate, want 1 and 1", loops, mean, deviation)
		}
		perTenth, variance := n/float64(len(counts)), 0.0
		for _, c := range counts {
			variance += (c - perTenth) * (c - perTenth) / float64(len(counts))
		}
		if math.Abs(perTenth-100) > 1 || math.Abs(variance/perTenth-1) > 0.1 {
			t.Errorf("%d loops: %.1f in a tenth of a second with variance %.1f, want 100 and as much", loops, perTenth, variance)
		}
	}
}

// Random arrivals of a ramp follow its integral too.
func TestPoissonRamp(t *testing.T) {
	a, n := seeded(7, 0, 20_000, 0, 10*time.Second, 0, 1), 0.0
	half := 0.0
	for at := a.Due(); at < 10*time.Second; at = a.Due() {
		if at < 5*time.Second {
			half++
		}
		n++
		a.Take()
	}
	if math.Abs(n/100_000-1) > 0.02 || math.Abs(half/25_000-1) > 0.04 {
		t.Errorf("%v requests, %v in the first half of the time, want about 100,000 and 25,000", n, half)
	}
}

// Seeds differ from run to run.
func TestPoissonIsRandom(t *testing.T) {
	a := NewArrivals(1, 1, 0, time.Second, true, 0, 1)
	b := NewArrivals(1, 1, 0, time.Second, true, 0, 1)
	if a.Due() == b.Due() {
		t.Errorf("two schedules begin with %v", a.Due())
	}
}

func TestCloneGoesOnAlike(t *testing.T) {
	for _, poisson := range []bool{false, true} {
		a := NewArrivals(10, 1000, time.Second, 5*time.Second, poisson, 1, 2)
		due(a, 100)
		b := a.Clone()
		want, got := due(a, 1000), due(b, 1000)
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("poisson %v: the clone's request %d is due after %v, want %v", poisson, i, got[i], want[i])
			}
		}
	}
}

// Skip is Take, until the time.
func TestSkip(t *testing.T) {
	for range 300 {
		from, to := rand.Float64()*1000, rand.Float64()*1000
		hold, rise := time.Duration(rand.Int64N(1e9)), time.Duration(1+rand.Int64N(1e9))
		a := NewArrivals(from, to, hold, rise, rand.IntN(2) == 0, rand.IntN(3), 3)
		one := a.Clone()
		for range 5 {
			end, most := time.Duration(rand.Int64N(3e9)), rand.Int64N(2000)
			want := int64(0)
			for ; want < most && one.Due() < end; want++ {
				one.Take()
			}
			if n := a.Skip(end, most); n != want || *a != *one && a.steps == nil {
				t.Fatalf("%v to %v per second, %v + %v: skipped %d until %v, want %d", from, to, hold, rise, n, end, want)
			}
		}
	}
}
