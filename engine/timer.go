package engine

import "math/bits"

// A wheel holds timers in slots of one tick. It is one level deep: a timer
// beyond the horizon waits in the last slot and is put back when that comes,
// which for time limits of tens of seconds is a few moves in a timer's life.
// Most timers never fire, and a timer that is pushed back later need not be
// touched: its owner looks at its own deadline when expire is called.
//
// Owner: the loop. The clock is an argument.
type wheel struct {
	slots [wheelSlots]*timer
	used  [wheelSlots / 64]uint64 // a bit per slot that is not empty
	tick  int64                   // everything due before the end of this tick has fired
	// soonest is no later than when the first timer is due, 0 if there is none:
	// advance should be called then.
	soonest int64
}

const (
	wheelTick  = 4_000_000 // nanoseconds
	wheelSlots = 1024      // a horizon of about 4 s
)

// timer is a place in a wheel, embedded in its owner.
type timer struct {
	owner      interface{ expire(now int64) }
	when       int64 // nanoseconds; 0 is "not in the wheel"
	slot       int
	prev, next *timer
}

// add puts t into the wheel for when, or moves it there.
func (w *wheel) add(t *timer, when int64) {
	if t.when != 0 {
		w.remove(t)
	}
	t.when = max(when, 1)
	tick := (t.when + wheelTick - 1) / wheelTick
	tick = min(max(tick, w.tick+1), w.tick+wheelSlots-1)
	t.slot = int(tick % wheelSlots)
	t.prev, t.next = nil, w.slots[t.slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[t.slot] = t
	w.used[t.slot/64] |= 1 << (t.slot % 64)
	if due := tick * wheelTick; w.soonest == 0 || due < w.soonest {
		w.soonest = due
	}
}

// remove takes t out, if it is in.
func (w *wheel) remove(t *timer) {
	if t.when == 0 {
		return
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else if w.slots[t.slot] = t.next; t.next == nil {
		w.used[t.slot/64] &^= 1 << (t.slot % 64)
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.prev, t.next, t.when = nil, nil, 0
}

// next is the end of the first tick that has a timer; 0 if there is none.
func (w *wheel) next() int64 {
	start := int((w.tick + 1) % wheelSlots)
	for i := 0; i <= len(w.used); i++ {
		word := (start/64 + i) % len(w.used)
		set := w.used[word]
		if i == 0 {
			set &= ^uint64(0) << (start % 64)
		}
		if set != 0 {
			slot := word*64 + bits.TrailingZeros64(set)
			ahead := (slot - start + wheelSlots) % wheelSlots
			return (w.tick + 1 + int64(ahead)) * wheelTick
		}
	}
	return 0
}

// advance moves the wheel to now and expires what is due.
func (w *wheel) advance(now int64) {
	end := now / wheelTick
	if end-w.tick >= wheelSlots {
		w.tick = end - wheelSlots // one turn sees every slot
	}
	for w.tick < end {
		w.tick++
		slot := int(w.tick % wheelSlots)
		if w.used[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		w.fire(slot, now)
	}
	w.soonest = w.next()
}

// fire expires the timers of a slot that are due and puts the others back. One
// at a time: an owner that expires may take others out of the slot.
func (w *wheel) fire(slot int, now int64) {
	for t := w.slots[slot]; t != nil; t = w.slots[slot] {
		when := t.when
		w.remove(t)
		if when <= now {
			t.owner.expire(now)
		} else {
			w.add(t, when)
		}
	}
}
