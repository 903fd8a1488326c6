package engine

import (
	"math/rand/v2"
	"testing"
)

type fakeOwner struct {
	t     timer
	fired []int64
	then  func()
}

func (f *fakeOwner) expire(now int64) {
	f.fired = append(f.fired, now)
	if f.then != nil {
		f.then()
	}
}

func newFakeOwner() *fakeOwner {
	f := &fakeOwner{}
	f.t.owner = f
	return f
}

func TestWheelFiresOnceNeverEarly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var w wheel
	var owners []*fakeOwner
	var due []int64
	for range 5000 {
		f := newFakeOwner()
		at := rnd.Int64N(60_000_000_000) // far beyond the horizon, too
		w.add(&f.t, at)
		owners, due = append(owners, f), append(due, max(at, 1))
	}
	for now := int64(0); now < 61_000_000_000; now += 1 + rnd.Int64N(50_000_000) {
		w.advance(now)
		for i, f := range owners {
			if len(f.fired) == 0 && due[i] < now-2*wheelTick {
				t.Fatalf("timer due at %d has not fired at %d", due[i], now)
			}
		}
	}
	for i, f := range owners {
		if len(f.fired) != 1 || f.fired[0] < due[i] {
			t.Fatalf("timer due at %d fired at %v, want once and not before", due[i], f.fired)
		}
	}
	if w.next() != 0 {
		t.Errorf("next of an empty wheel is %d", w.next())
	}
}

func TestWheelSoonestLeadsToTheNextTimer(t *testing.T) {
	var w wheel
	f := newFakeOwner()
	w.add(&f.t, 30_000_000_000)
	steps := 0
	for len(f.fired) == 0 {
		if w.soonest == 0 {
			t.Fatal("a timer waits, and soonest is 0")
		}
		w.advance(w.soonest)
		if steps++; steps > 20 {
			t.Fatalf("%d wake-ups for a timer of 30 s", steps)
		}
	}
	if f.fired[0] < 30_000_000_000 || f.fired[0] > 30_000_000_000+wheelTick {
		t.Errorf("fired at %d", f.fired[0])
	}
}

func TestWheelOwnersMayChangeTheirSlot(t *testing.T) {
	var w wheel
	a, b, c := newFakeOwner(), newFakeOwner(), newFakeOwner()
	for _, f := range []*fakeOwner{a, b, c} {
		w.add(&f.t, 1000)
	}
	// The last one added is the first to fire: it takes another out and puts
	// itself back.
	c.then = func() { c.then = nil; w.remove(&a.t); w.add(&c.t, 3*wheelTick) }
	w.advance(wheelTick)
	w.advance(4 * wheelTick)
	if len(a.fired) != 0 || len(b.fired) != 1 || len(c.fired) != 2 {
		t.Errorf("fired %d %d %d times, want 0 1 2", len(a.fired), len(b.fired), len(c.fired))
	}
}
