package engine

import "time"

// A cause says why a connection ends, and so what its unanswered calls may be
// told. The zero cause ends an idle connection.
type cause struct {
	kind    Kind
	err     error
	message string

	// announced: an answer said Connection: close. RFC 9112 section 9.6: the
	// server "MUST NOT process any further requests received on that
	// connection", so what is behind that answer was not acted on.
	announced bool
	complete  bool  // it ends behind a complete answer: nobody left in line is at fault
	asked     bool  // we said Connection: close ourselves
	unasked   bool  // bytes came that answer nothing
	victim    *call // the first in line was canceled or ran out of time by its own limit
}

// close ends the connection. Each call that it held goes on: to its end, to a
// later attempt, or to another connection. The socket is closed by the loop
// once no event of the current batch can name its number any more.
func (c *conn) close(now int64, w cause) {
	if c.state == connClosed {
		return
	}
	l, o := c.l, c.o
	c.state = connClosed
	c.noteDepth(w)
	o.forget(c)
	l.wheel.remove(&c.timer)
	l.releaseSocket(c)
	c.dropRaces()
	c.keepPartial(nil)
	l.unfavour(c)
	c.disperse(now, w)
	l.mark(o)
}

// lingerMost is how long a connection waits for the peer to close it.
const lingerMost = time.Second

// linger leaves it to the peer to close the connection, as we have asked it to:
// who sends the first FIN keeps the connection in TIME_WAIT, and ours are ports
// that we need again. The place is taken until then.
func (c *conn) linger(now int64) {
	c.lingers = true
	c.deadline = now + int64(lingerMost)
	c.arm()
}

// noteDepth tells the origin's depth what this end means.
func (c *conn) noteDepth(w cause) {
	d := &c.o.depth
	expected := w.asked || w.announced && d.announced(c.answers)
	if c.pipe.n > 0 && !expected && w.kind != Timeout && w.victim == nil {
		d.cut()
	}
}

// disperse decides for each call of a closed connection. Calls that are to be
// sent again go to the front of the queue in their order. RFC 9112 section
// 9.3.2: a client that retries a pipeline "MUST NOT pipeline immediately after
// connection establishment, since the first remaining request in the prior
// pipeline might have caused an error response": so the first goes alone.
func (c *conn) disperse(now int64, w cause) {
	p := &c.pipe
	n := p.n
	if n == 0 {
		return
	}
	alone := n > 1 || p.wrote(0)
	var again callQueue
	for i := range n {
		k := p.at(i)
		v := c.verdict(w, k, i)
		k.conn = nil
		switch {
		case k.ghost:
			c.l.finish(k, now)
		case v == fail:
			c.l.finishOn(c, k, i, now, c.errorFor(w, k, i))
		default:
			k.queued += c.waitInLine(k, i, now)
			if v == retry {
				k.solo = true // whatever it does to a server, it does to itself
			} else if alone {
				k.solo, alone = true, false
			}
			c.l.again(k, now, v, &again)
		}
	}
	*p = pipeline{}
	c.o.requeue(&again)
}

// verdict applies the retry policy to the call at i.
func (c *conn) verdict(w cause, k *call, i int) verdict {
	if k == w.victim {
		return fail
	}
	first, wrote := i == 0, c.pipe.wrote(i)
	return decide(outcome{
		kind:       w.kind,
		idempotent: k.p.idempotent,
		wrote:      wrote,
		fault:      first && !w.complete && (wrote && !w.unasked || c.answers == 0),
		processed:  wrote && !w.announced,
		stale:      w.kind == Closed && c.answers > 0 && k.first == 0,
		moved:      k.moved,
		attempts:   int(k.attempts),
		retries:    c.l.e.cfg.Retries,
	})
}

// errorFor says what the call at i ends with.
func (c *conn) errorFor(w cause, k *call, i int) *Error {
	e := &Error{Kind: w.kind, Err: w.err, Message: w.message}
	if i > 0 && k != w.victim {
		e.Kind, e.Message = Closed, "the connection was lost while the request was in its pipeline: "+w.message
	}
	switch {
	case i >= c.pipe.unsent:
		e.Phase = PhaseWrite
	case i == 0 && c.in.inBody:
		e.Phase = PhaseBody
	default:
		e.Phase = PhaseHead
	}
	return e
}

// again prepares a call for another attempt: a replay goes to the queue of
// those, a retry waits for its back-off first.
func (l *loop) again(k *call, now int64, v verdict, replays *callQueue) {
	l.dropBody(k)
	k.begun = false
	k.first, k.written, k.connect, k.tls = 0, 0, 0, 0
	k.waiting = now
	if v != retry {
		k.moved = k.moved || v == replayOnce
		k.attempts--
		k.part.acc.replays++
		l.e.pacer.charge(now)
		k.state = callQueued
		replays.pushBack(k)
		return
	}
	k.part.acc.retries++
	k.state = callBackoff
	k.retryAt = now + int64(backoff(int(k.attempts), l.rnd))
	l.armCall(k)
}

// expire is called by the wheel: the call's own deadline, or the end of its
// back-off.
func (k *call) expire(now int64) {
	l := k.part.l
	switch {
	case k.state == callFree:
		return
	case k.deadline != 0 && now >= k.deadline:
		l.abandon(k, now, Timeout, "the request's own deadline passed")
		return
	case k.state == callBackoff && now >= k.retryAt:
		k.retryAt = 0
		l.queue(k)
		l.armCall(k) // before anything can end the call
		l.letGo(now)
		return
	}
	l.armCall(k)
}

// armCall sets the call's timer to what comes first.
func (l *loop) armCall(k *call) {
	when := k.deadline
	if k.state == callBackoff && (when == 0 || k.retryAt < when) {
		when = k.retryAt
	}
	if when != 0 {
		k.armed = true
		k.timer.owner = k
		l.wheel.add(&k.timer, when)
	}
}

// abandon ends a call, wherever it is, before its response is complete. A
// connection survives that unless its first in line is the one: what comes for
// a call behind others is read and dropped when it comes.
func (l *loop) abandon(k *call, now int64, kind Kind, message string) {
	err := &Error{Kind: kind, Phase: PhaseQueue, Message: message}
	switch k.state {
	case callPaced:
		k.takeQueueTime(now)
		l.backlog.remove(k)
	case callQueued:
		k.takeQueueTime(now)
		l.o(k).queueOf(k).remove(k)
	case callBackoff:
		k.takeQueueTime(now)
	case callDialing:
		c := k.conn
		err.Phase = c.dialPhase()
		k.connect, k.tls = c.dialTimes(now)
		c.pinned, k.conn = nil, nil
	case callSent:
		c := k.conn
		i := c.pipe.index(k)
		if i == 0 && c.pipe.wrote(0) {
			c.close(now, cause{kind: kind, message: message, victim: k})
			return
		}
		err.Phase = PhaseWrite
		if i < c.pipe.unsent {
			err.Phase = PhaseHead
		}
		k.queued += c.waitInLine(k, i, now)
		c.leave(k, i)
	}
	l.fail(k, now, err)
}

// leave takes the call at i out of the pipeline; if any byte of it was written
// a ghost takes its place, which sends the rest and drops the answer.
func (c *conn) leave(k *call, i int) {
	k.conn = nil
	if !c.pipe.wrote(i) {
		c.pipe.removeUnsent(i)
		c.sent--
		return
	}
	g := &call{journey: journey{part: k.part, ghost: true, state: callSent, conn: c, written: k.written}}
	g.p = &prepared{head: k.p.head, idempotent: k.p.idempotent, closes: k.p.closes}
	if i == c.pipe.unsent { // the caller's body is the caller's again: keep what is still to be sent
		g.p.wire = append(append(g.p.wire, k.p.wire...), k.p.body...)
	}
	c.pipe.set(i, g)
}
