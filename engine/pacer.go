package engine

import "sync"

// A pacer spaces events evenly: the n-th is due n intervals after the first.
// Events that could not happen when they were due (nothing to send, no
// connection) are not made up for in a burst: the schedule slides, but for a
// slack that absorbs the coarseness of wake-ups.
//
// It is pure: the clock is an argument. The zero pacer lets everything pass.
type pacer struct {
	interval float64 // nanoseconds; 0 is unlimited
	next     float64 // when the next event is due
}

// pacerSlack is how far behind the schedule may be and still be made up for.
const pacerSlack = 10_000_000 // nanoseconds

func newPacer(perSecond float64) pacer {
	if perSecond <= 0 {
		return pacer{}
	}
	return pacer{interval: 1e9 / perSecond}
}

// take says whether an event may happen now, and counts it.
func (p *pacer) take(now int64) bool {
	if p.interval == 0 {
		return true
	}
	if p.next > float64(now) {
		return false
	}
	p.charge(now)
	return true
}

// charge counts an event that happens whether it is due or not.
func (p *pacer) charge(now int64) {
	if p.interval != 0 {
		p.next = max(p.next, float64(now)-max(pacerSlack, p.interval)) + p.interval
	}
}

// due is when the next event may happen.
func (p *pacer) due() int64 { return int64(p.next) + 1 }

// A sharedPacer is one that all loops take from.
type sharedPacer struct {
	mu sync.Mutex
	p  pacer
}

func (s *sharedPacer) on() bool { return s.p.interval != 0 }

func (s *sharedPacer) take(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p.take(now)
}

func (s *sharedPacer) charge(now int64) {
	if s.on() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.p.charge(now)
	}
}

func (s *sharedPacer) due() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p.due()
}
