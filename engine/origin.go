package engine

import (
	"crypto/tls"
	"slices"
	"strings"
)

// An origin is scheme, host and port, and what one loop knows and holds of it:
// the requests that wait, its connections, the depth it has earned.
//
// Requests are given to an idle connection if there is one, else to a new one
// if there may be one, else to the shallowest pipeline. The first two keep one
// request from waiting behind another; what is pipelined has to wait anyway.
//
// Owner: the loop.
type origin struct {
	l      *loop
	key    string
	host   string
	port   uint16
	secure bool     // https
	proxy  *proxy   // that its connections go through; nil is none
	to     HostPort // where they are made to
	tls    *tls.Config

	shared   callQueue // may share a pipeline
	solo     callQueue // must be alone on their connection
	conns    []*conn   // open, or being opened
	idle     []*conn   // of these, open with nothing to do; the last one was used last
	draining int       // connections that take no more so that a solo call can have them
	most     int       // connections it may have on this loop
	hungry   bool      // a connection has room that no waiting call has filled
	dirty    bool      // in l.dirty
	held     bool      // in l.held
	queued   bool      // in l.waiting
	listed   bool      // in l.idle

	depth  depth
	memo   headMemo
	pacer  pacer // Config.HostRate
	slowed bool  // its pacer said not yet; timer ends that
	timer  timer
}

// An originKey tells origins apart: connections through different proxies are
// different connections.
type originKey struct {
	key   string
	proxy *proxy
}

// sweepOrigins is how many origins a loop knows before it forgets those that
// have no connection and nothing to do, with what was learnt of them.
const sweepOrigins = 4096

func (l *loop) originFor(p *prepared) *origin {
	if o := l.lastOrigin; o != nil && o.key == p.key && o.proxy == p.proxy {
		return o
	}
	key := originKey{p.key, p.proxy}
	o := l.origins[key]
	if o == nil {
		key.key = strings.Clone(p.key) // not with the whole of some URL
	}
	if o == nil {
		if len(l.origins) >= l.sweepAt {
			l.sweep()
			l.sweepAt = max(sweepOrigins, 2*len(l.origins))
		}
		o = &origin{
			l: l, key: key.key, host: strings.Clone(p.host), port: p.port, secure: p.secure, proxy: p.proxy,
			depth: newDepth(&l.e.cfg), pacer: newPacer(l.hostRate(p.key)), most: l.perHost(p.key),
		}
		o.to = l.e.cfg.destination(HostPort{o.host, o.port})
		if o.proxy != nil {
			o.to = o.proxy.at
		}
		o.timer.owner = o
		l.origins[key] = o
	}
	l.lastOrigin = o
	return o
}

// sweep forgets origins that hold nothing. The pacer stays with an origin that
// may not send yet.
func (l *loop) sweep() {
	l.lastOrigin = nil
	l.idle.keep(func(o *origin) bool {
		o.listed = len(o.idle) > 0
		return o.listed
	})
	now := l.now()
	for key, o := range l.origins {
		if len(o.conns) == 0 && o.empty() && !o.queued && !o.listed && !o.slowed && !o.dirty && !o.held && o.pacer.due() <= now {
			delete(l.origins, key)
		}
	}
}

func (o *origin) empty() bool { return o.shared.n == 0 && o.solo.n == 0 }

func (o *origin) queueOf(k *call) *callQueue {
	if k.solo {
		return &o.solo
	}
	return &o.shared
}

// enqueue adds a call to the end of its queue.
func (o *origin) enqueue(k *call) {
	k.state = callQueued
	o.queueOf(k).pushBack(k)
	if o.hungry || k.solo || len(o.conns) < o.most {
		o.l.mark(o)
	}
}

// requeue puts calls back to the front, in their order.
func (o *origin) requeue(again *callQueue) {
	for again.n > 0 {
		k := again.back
		again.remove(k)
		o.queueOf(k).pushFront(k)
		o.l.mark(o)
	}
}

// soloIsNext says whether the call that has waited longest must be alone.
func (o *origin) soloIsNext() bool {
	return o.solo.n > 0 && (o.shared.n == 0 || o.solo.front.seq < o.shared.front.seq)
}

// freshIsNext says whether the call that has waited longest was lost on a kept
// connection that the server had closed, as it may have closed the others.
func (o *origin) freshIsNext() bool { return o.soloIsNext() && o.solo.front.moved }

// paced says whether a request may be sent now, and counts it.
func (o *origin) paced(now int64) bool {
	if o.pacer.take(now) {
		return true
	}
	if !o.slowed {
		o.slowed = true
		o.l.wheel.add(&o.timer, o.pacer.due())
	}
	return false
}

// expire is called by the wheel when the pacer lets the next request go.
func (o *origin) expire(now int64) {
	o.slowed = false
	o.l.mark(o)
}

// pump gives waiting calls to connections.
func (o *origin) pump(now int64) {
	for !o.empty() && !o.slowed {
		if n := len(o.idle); n > 0 && o.freshIsNext() {
			if len(o.conns) >= o.most {
				o.idle[0].close(now, cause{}) // for its place
			}
		} else if n > 0 {
			c := o.idle[n-1]
			c.fill(now, 1)
			if c.idle >= 0 { // it took nothing
				break
			}
			c.push(now)
			continue
		}
		if !o.mayDial() || !o.paced(now) {
			break
		}
		q := &o.shared
		if o.soloIsNext() {
			q = &o.solo
		}
		o.dial(now, q.popFront())
	}
	if o.shared.n > 0 && !o.slowed {
		o.spread(now)
	}
	o.hungry = o.empty()
}

// spread hands the queue to connections in use, shallowest first.
func (o *origin) spread(now int64) {
	for level := 1; level < o.depth.current && o.shared.n > 0; level++ {
		for _, c := range o.conns {
			if c.state == connOpen && c.pipe.n == level && c.room() > 0 {
				c.fill(now, 1)
			}
		}
	}
	for i := len(o.conns) - 1; i >= 0; i-- { // backwards: a failed write takes the connection out
		if c := o.conns[i]; c.state == connOpen && !c.pipe.allSent() && !c.blocked {
			c.push(now)
		}
	}
}

// mayDial says whether the origin may open one more connection. Where the
// loop's share of connections is used up, an idle connection of another origin
// is closed for it; if there is none it waits in line.
func (o *origin) mayDial() bool {
	l := o.l
	if len(o.conns) >= o.most || l.closing {
		return false
	}
	if len(l.shut) >= shutMost {
		if !o.held {
			o.held = true
			l.held = append(l.held, o)
		}
		return false
	}
	if l.open < l.mostOpen || l.closeAnIdleOne() {
		return true
	}
	if !o.queued && len(o.conns) == 0 {
		o.queued = true
		l.waiting.push(o)
	}
	return false
}

// shutMost is how many sockets may wait to be closed, beyond those that are
// counted as open, before no new one is opened: descriptors are limited.
const shutMost = 32

// forget takes a connection out of the origin's lists.
func (o *origin) forget(c *conn) {
	o.unidle(c)
	if c.draining {
		c.draining = false
		o.draining--
	}
	last := len(o.conns) - 1
	o.conns[c.at] = o.conns[last]
	o.conns[c.at].at = c.at
	o.conns[last] = nil
	o.conns = o.conns[:last]
	o.l.open--
}

func (o *origin) makeIdle(c *conn) {
	if !o.listed {
		o.listed = true
		o.l.idle.push(o)
	}
	c.idle = len(o.idle)
	o.idle = append(o.idle, c)
}

func (o *origin) unidle(c *conn) {
	if c.idle < 0 {
		return
	}
	last := len(o.idle) - 1
	o.idle[c.idle] = o.idle[last]
	o.idle[c.idle].idle = c.idle
	o.idle[last] = nil
	o.idle = o.idle[:last]
	c.idle = -1
}

// originQueue is a FIFO of origins.
type originQueue struct {
	all []*origin
	n   int
}

func (q *originQueue) push(o *origin) {
	q.all = append(q.all, o)
	q.n++
}

// keep drops those that are not to stay.
func (q *originQueue) keep(stays func(*origin) bool) {
	q.all = slices.DeleteFunc(q.all, func(o *origin) bool { return !stays(o) })
	q.n = len(q.all)
}

func (q *originQueue) pop() *origin {
	if q.n == 0 {
		return nil
	}
	o := q.all[0]
	q.all[0] = nil
	q.all = q.all[1:]
	q.n--
	return o
}
