package engine

// o returns the origin of a call.
func (l *loop) o(k *call) *origin { return l.originFor(k.p) }

// admit takes a call into the loop: it waits for the loop's pacer, or goes to
// its origin's queue.
func (l *loop) admit(k *call) {
	l.seq++
	k.seq = l.seq
	k.part.link(k)
	k.solo = !k.p.idempotent || k.p.closes
	if k.deadline != 0 {
		l.armCall(k)
	}
	l.queue(k)
}

// queue has a call wait for the pacer, if there is a rate, or for a connection.
func (l *loop) queue(k *call) {
	if l.e.pacer.on() {
		k.state = callPaced
		l.backlog.pushBack(k)
		return
	}
	l.o(k).enqueue(k)
}

// finishOn ends a call that held place i in a connection's pipeline: with its
// complete response, or with the error that its connection had.
func (l *loop) finishOn(c *conn, k *call, i int, now int64, err *Error) {
	k.queued += c.waitInLine(k, i, now)
	k.part.attach(k)
	k.Err = err
	k.complete(l.wallAt(k.accepted), now, c.headAt)
	l.finish(k, now)
}

// fail ends a call that has no place in a pipeline with an error.
func (l *loop) fail(k *call, now int64, err *Error) {
	k.part.attach(k)
	k.Err = err
	k.complete(l.wallAt(k.accepted), now, 0)
	l.finish(k, now)
}

// waitInLine is how long the call at i was kept waiting by those before it.
func (c *conn) waitInLine(k *call, i int, now int64) int64 {
	from := k.written
	if from == 0 {
		from = k.waiting
	}
	if i == 0 {
		now = c.headAt
	}
	return max(now-from, 0)
}

// finish ends a call: from here on it belongs to whoever takes its result.
func (l *loop) finish(k *call, now int64) {
	if k.armed {
		l.wheel.remove(&k.timer)
	}
	k.state, k.conn = callFree, nil
	if k.ghost {
		return
	}
	p := k.part
	p.unlink(k)
	p.acc.count(k.Result)
	if k.Body != nil {
		l.e.budget.handed.Add(l.e.budget.cost(k.Body))
	}
	if len(p.out) == 0 {
		l.outs = append(l.outs, p)
	}
	p.out = append(p.out, k.Result)
}

// deliver passes results on: to a sink on this loop at once, and its source is
// then asked for more; to others in batches, of which the last is left to the
// end of the turn. It says whether any call came in or went out.
func (l *loop) deliver(now int64) (moved bool) {
	outs := l.outs
	if len(outs) == 0 {
		return false
	}
	l.outs = l.outs[:0]
	for _, p := range outs {
		switch {
		case p.direct:
			p.answer()
		case p.sink != nil:
			p.put(now)
			p.pull(now)
			moved = true
		case len(p.out) >= handAt:
			p.run.hand(p)
		default:
			l.outs = append(l.outs, p)
		}
	}
	return moved
}

// handOver passes on all that deliver left.
func (l *loop) handOver() {
	for _, p := range l.outs {
		p.run.hand(p)
	}
	l.outs = l.outs[:0]
}

// keep adds data to what is kept of the body of k, up to MaxBody.
func (l *loop) keep(k *call, data []byte) {
	if room := l.e.cfg.MaxBody - int64(len(k.Body)); int64(len(data)) > room {
		data, k.Truncated = data[:room], true
	}
	if len(k.Body)+len(data) > cap(k.Body) {
		k.Body = l.roomFor(k, len(k.Body)+len(data))
	}
	before := l.e.budget.cost(k.Body)
	k.Body = append(k.Body, data...)
	l.e.budget.used.Add(l.e.budget.cost(k.Body) - before)
}

// roomFor returns the body of k with room for n bytes: small ones live in the
// call, others in pooled buffers, which count whole, and grow by doubling as
// bytes arrive.
func (l *loop) roomFor(k *call, n int) []byte {
	old := k.Body
	if n <= l.e.budget.small {
		m := k.memory()
		if m.small == nil || cap(m.small) < n {
			m.small = make([]byte, 0, smallSize(n))
		}
		return append(m.small[:0], old...)
	}
	b := append(l.buffers.get(n), old...)
	l.e.budget.used.Add(l.e.budget.cost(b) - l.e.budget.cost(old))
	l.buffers.put(old)
	return b
}

// smallSize rounds up, so that calls that are used again rarely grow.
func smallSize(n int) int {
	size := 64
	for size < n {
		size *= 2
	}
	return size
}

// dropBody forgets what was kept of a body.
func (l *loop) dropBody(k *call) {
	if !k.begun || k.Body == nil {
		return
	}
	l.e.budget.used.Add(-l.e.budget.cost(k.Body))
	l.buffers.put(k.Body)
	k.Body = nil
	if len(l.stalled) > 0 {
		l.unstallLater()
	}
}

// unfavour ends what c was allowed beyond the budget: another may be next.
func (l *loop) unfavour(c *conn) {
	if l.favoured == c {
		l.favoured = nil
		l.unstallLater()
	}
}

// unstallLater has connections that wait for the budget looked at again.
func (l *loop) unstallLater() {
	if len(l.stalled) > 0 && !l.unstaller {
		l.unstaller = true
		l.post(l.unstall)
	}
}

// unstall lets connections read on that waited for the budget. What still has
// to wait puts itself back.
func (l *loop) unstall(now int64) {
	l.unstaller = false
	l.stalling.Store(false)
	stalled := l.stalled
	l.stalled, l.spare = l.spare[:0], nil
	for i, c := range stalled {
		stalled[i] = nil
		if c.state == connOpen {
			c.resume(now)
			l.serve(c)
		}
	}
	l.spare = stalled
}

// cancel ends every call of a part.
func (l *loop) cancel(p *part, now int64, why string) {
	p.canceled = true
	for p.calls != nil {
		l.abandon(p.calls, now, Canceled, why)
	}
	p.pull(now)
}

// stop begins the end of the loop: connections are closed and the poller
// leaves after the next turn.
func (l *loop) stop(now int64) {
	l.closing = true
	for _, o := range l.origins {
		for len(o.conns) > 0 {
			o.conns[0].close(now, cause{kind: Canceled, message: "the engine is closed"})
		}
	}
}
