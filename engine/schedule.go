package engine

import "time"

// schedule is what a part knows of a Scheduled source.
type schedule struct {
	timed  Scheduled // nil if the source has no schedule
	due    []time.Duration
	nextAt int64 // when the next request is due
	roomAt int64 // since when there is a place for it, as far back as it matters
}

// follow begins to follow the schedule of a source.
func (p *part) follow(timed Scheduled) {
	p.timed, p.due = timed, make([]time.Duration, feedBatch)
	p.l.timed = append(p.l.timed, p)
	timed.Begin(p.l.e.wall.Add(time.Duration(p.run.started)))
}

// pullDue takes at most n requests that are due. It says whether more may be.
func (p *part) pullDue(now int64, n int) bool {
	if now < p.nextAt {
		return false
	}
	started := p.run.started
	got, next, err := p.timed.NextDue(time.Duration(now-started), p.asked[:n], p.due[:n])
	p.run.requests.Add(int64(got))
	for i, req := range p.asked[:got] {
		due := started + int64(p.due[i])
		k := p.newCall(due)
		k.held = max(p.roomAt-due, 0)
		k.late = now - due - k.held
		p.launch(k, req, now)
	}
	if err != nil {
		p.end(err)
		return false
	}
	p.nextAt = started + int64(next)
	return got == n
}

// pullTimed asks the sources that have a schedule.
func (l *loop) pullTimed(now int64) {
	for i := 0; i < len(l.timed); i++ {
		p := l.timed[i]
		p.pull(now)
		if p.source == nil {
			l.timed[i] = l.timed[len(l.timed)-1]
			l.timed = l.timed[:len(l.timed)-1]
			i--
		}
	}
}

// nextDue is when a source on the loop has to be asked; 0 is not before
// something else happens.
func (l *loop) nextDue() (next int64) {
	for _, p := range l.timed {
		if !p.ended && p.places() > 0 && (next == 0 || p.nextAt < next) {
			next = max(p.nextAt, 1)
		}
	}
	return next
}
