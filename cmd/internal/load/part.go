package load

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"time"

	"hotlap/engine"
)

// A part is what one loop has of a run: its share of the requests, and what it
// has measured. It is the engine's Source and Sink on that loop.
//
// Owner: the loop, while the run goes on.
type part struct {
	run *running
	turn
	index   int
	started time.Time // of the run
	left    int64     // requests still to be sent, of a count
	taken   int64     // requests that were sent
	window  *window
	start   time.Time     // of the last result
	due     time.Duration // the same, since the run started

	peers    []netip.AddrPort // the first few
	examples [engine.NumKinds]string
}

// peersMost is how many of the addresses that were connected to are remembered.
const peersMost = 256

// Next implements engine.Source for a closed loop.
func (p *part) Next(_ context.Context, batch []*engine.Request) (int, error) {
	if p.run.stopped.Load() || p.run.Duration > 0 && time.Since(p.started) >= p.run.end {
		return 0, io.EOF
	}
	n := int(min(int64(len(batch)), p.left))
	p.taken += int64(n)
	for i := range batch[:n] {
		batch[i] = p.turn.next()
	}
	if p.left -= int64(n); p.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Put implements engine.Sink.
func (p *part) Put(results []*engine.Result) error {
	for len(results) > 0 {
		r, n := results[0], 1
		for n < len(results) && alike(r, results[n]) {
			n++
		}
		p.note(r, p.add(r, int64(n)))
		for _, r := range results[:n] {
			if r.Request.Tag != nil {
				p.turn.release(r.Request)
			}
		}
		results = results[n:]
	}
	return nil
}

// alike says whether two responses have the same measures, as those have that
// were sent with one write(2) and received with one read(2): to record each by
// itself is a twentieth of the CPU time of a request in a pipeline of 32.
func alike(a, b *engine.Result) bool {
	return a.Err == nil && b.Err == nil && a.Status == b.Status && a.Bytes == b.Bytes &&
		a.Start == b.Start && a.Time == b.Time && a.Remote == b.Remote
}

// note remembers whom the loop talks to, and what goes wrong with requests that
// count.
func (p *part) note(r *engine.Result, counts bool) {
	if len(p.peers) < peersMost && r.Remote.IsValid() && (len(p.peers) == 0 || p.peers[len(p.peers)-1] != r.Remote) {
		if !slices.Contains(p.peers, r.Remote) {
			p.peers = append(p.peers, r.Remote)
		}
	}
	if counts && r.Err != nil && r.Err.Kind != engine.Canceled && p.examples[r.Err.Kind] == "" {
		p.examples[r.Err.Kind] = r.Err.Error()
	}
}

// add measures a result, and those that are like it: n in all. A request counts
// if it was due, or taken, in the measured part; it is put down to the second in
// which it ended.
func (p *part) add(r *engine.Result, n int64) (counts bool) {
	if r.Start != p.start { // which requests of a batch have in common
		p.start, p.due = r.Start, r.Start.Sub(p.started)
	}
	due := p.due
	end := due + r.Time.Total
	if due >= p.run.end || end < p.run.WarmUp || due < p.run.WarmUp && p.run.Open() {
		return false
	}
	if end >= p.window.to {
		p.window = p.run.collector.next(p, end)
	}
	inTime := int64(end) < p.run.stopAt.Load()
	if due < p.run.WarmUp {
		// It makes up for one that is taken in time and answered later.
		if inTime && r.Err == nil {
			p.window.inTime += n
		}
		return false
	}
	p.window.add(r, n, inTime)
	return true
}

// A timed part has requests that are due at their times: an open loop.
type timed struct {
	*part
	arrivals *Arrivals
}

// Begin implements engine.Scheduled.
func (p *timed) Begin(at time.Time) { p.started = at }

// endGrace is for how long after the end is sent what was due before it: a loop
// comes to a request some microseconds late.
const endGrace = time.Millisecond

// NextDue implements engine.Scheduled. What is due when the time is over is not
// sent any more, nor what still waits for a connection then.
func (p *timed) NextDue(now time.Duration, batch []*engine.Request, due []time.Duration) (n int, next time.Duration, err error) {
	end := p.run.end
	if p.run.stopped.Load() {
		end = min(end, time.Duration(p.run.stopAt.Load()))
	}
	if now-endGrace >= end || p.left <= 0 {
		return 0, 0, io.EOF
	}
	for next = p.arrivals.Due(); n < len(batch) && next <= now && next < end; next = p.arrivals.Due() {
		batch[n], due[n] = p.turn.next(), next
		n++
		p.taken++
		p.arrivals.Take()
		if p.left--; p.left == 0 {
			return n, 0, io.EOF
		}
	}
	if next >= end && now >= end {
		return n, 0, io.EOF
	}
	return n, min(next, end), nil
}

// leave accounts for the requests that were due and never sent, when the wait
// for the others is over: each is as old as it has become, to a 10,000th of the
// run.
func (p *timed) leave(now time.Duration) {
	end := min(time.Duration(p.run.stopAt.Load()), p.run.end)
	p.left -= p.arrivals.Skip(min(p.run.WarmUp, end), p.left)
	slice := max(end/10_000, 1)
	for p.left > 0 && p.arrivals.Due() < end {
		due := p.arrivals.Due()
		n := p.arrivals.Skip(min(due+slice, end), p.left)
		p.window.addUnsent(now-due, n)
		p.left -= n
	}
}
