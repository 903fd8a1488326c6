package engine

import (
	"hotlap/httpcodec"
)

// A conn is one connection to an origin: what was sent on it, what comes back,
// and when to lose patience. It runs on bytes and now: the socket is behind
// its transport, the clock is an argument.
//
// conn.go has its life, conn_send.go and conn_recv.go its two directions,
// conn_close.go its end and what becomes of the calls it held.
//
// Owner: the loop.
type conn struct {
	l     *loop
	o     *origin
	state connState
	at    int // index in o.conns
	idle  int // index in o.idle, or -1

	fd int
	t  transport // nil while there is no socket
	endpoint
	dialing

	pipe      pipeline
	exclusive bool  // holds a call that must be alone
	draining  bool  // takes no more until it is empty: a call that must be alone waits for it
	blocked   bool  // the last write was cut short: EPOLLOUT will come
	gone      bool  // the peer's FIN or RST was announced: no further event will come for what is unread
	sent      int   // requests given to this connection
	answers   int   // final responses received on it
	bound     int   // requests it may be sent, 0 is no bound: see depth.limit
	headAt    int64 // since when the first in line is the first
	paused    int64 // how long of that it was not read because the budget was spent
	lastWrite int64 // the last write that took a byte
	sockErr   error // the first error of a write: see Write

	in recvState

	stalled  int64 // since when it is not read because the budget is spent; 0 is "is read"
	lingers  bool  // waits for the peer's FIN: see linger
	ready    bool  // in l.ready
	writing  bool  // in l.writers
	deadline int64
	timer    timer
}

// connState is where a connection is in its life.
//
//	connResolving -> connConnecting -> connHandshaking -> connOpen
//	       \               |     \_____________|___________/  |
//	        \--------------+--------------------+------> connClosed
type connState uint8

const (
	connResolving   connState = iota // waits for the addresses of its origin's host
	connConnecting                   // has a socket whose connect(2) is under way
	connHandshaking                  // is connected; the TLS handshake is under way
	connOpen                         // can be written and read
	connClosed                       // is over; events for it are stale
)

// A transport moves the bytes of an open connection without blocking. Reading
// returns unix.EAGAIN when there is nothing, 0 and nil at the end; a write may
// be cut short. A TLS connection is a transport around a socket.
type transport interface {
	read(b []byte) (int, error)
	write(b []byte) (int, error)
	flush() error    // sends what write took and could not send yet
	truncated() bool // the end that read reported may have come before the peer's
}

// recvState is the receiving side.
type recvState struct {
	last    int64  // the last read that gave a byte
	partial []byte // a head that is not complete yet; nil when there is none
	interim int    // 1xx responses to the first in line so far
	inBody  bool
	closes  bool // no further response comes after this one
	minor   int  // HTTP/1.minor of this response
	body    httpcodec.Body
}

func (l *loop) newConn(o *origin) *conn {
	c := &conn{l: l, o: o, state: connResolving, at: len(o.conns), idle: -1}
	c.timer.owner = c
	o.conns = append(o.conns, c)
	l.open++
	return c
}

// room is how many more shareable calls the connection takes now.
func (c *conn) room() int {
	if c.state != connOpen || c.exclusive || c.draining || c.in.closes || c.lingers || c.sockErr != nil || c.stalled != 0 {
		return 0
	}
	n := c.o.depth.current - c.pipe.n
	if c.bound > 0 {
		n = min(n, c.bound-c.sent)
	}
	return n
}

// fill gives the connection up to most calls of its origin's queues.
func (c *conn) fill(now int64, most int) {
	o := c.o
	if o.solo.n == 0 && o.pacer.interval == 0 { // nothing to weigh: the common case, at a third of the time
		most = min(most, c.room())
		for ; most > 0 && o.shared.n > 0; most-- {
			c.assign(o.shared.popFront(), now)
		}
		if most > 0 {
			o.hungry = true
		}
		return
	}
	for ; most > 0; most-- {
		if c.pipe.n == 0 && c.state == connOpen && o.soloIsNext() {
			if o.freshIsNext() && c.answers > 0 {
				o.l.mark(o) // to have a connection made
				return
			}
			if c.room() > 0 && o.paced(now) {
				c.assign(o.solo.popFront(), now)
			}
			return
		}
		if c.room() <= 0 {
			return
		}
		if o.shared.n == 0 {
			o.hungry = true
			return
		}
		if o.soloIsNext() && o.draining < o.solo.n {
			c.draining = true
			o.draining++
			return
		}
		if !o.paced(now) {
			return
		}
		c.assign(o.shared.popFront(), now)
	}
}

// assign puts a call into the pipeline.
func (c *conn) assign(k *call, now int64) {
	k.takeQueueTime(now)
	k.attempts++
	k.connect, k.tls = 0, 0
	c.admit(k, now)
}

// admit puts into the pipeline a call whose attempt has begun.
func (c *conn) admit(k *call, now int64) {
	k.state, k.conn, k.peer = callSent, c, &c.endpoint
	k.waiting, k.written, k.first = now, 0, 0
	if c.pipe.n == 0 {
		c.headAt, c.paused = now, 0
	}
	if c.idle >= 0 {
		c.o.unidle(c)
	}
	c.exclusive = k.solo
	k.stuck = c.blocked
	c.pipe.push(k)
	c.sent++
}

// turn ends the handling of whatever happened to the connection: it takes on
// calls, writes, and sets its deadline.
func (c *conn) turn(now int64) {
	if c.state != connOpen {
		return
	}
	if c.pipe.n == 0 {
		c.emptied()
	}
	if c.room() > 0 && !c.yields() {
		c.fill(now, c.room())
	}
	c.push(now)
}

// push has what is unsent written at the end of the turn.
func (c *conn) push(now int64) {
	if !c.pipe.allSent() && !c.blocked {
		c.l.writeLater(c)
		return
	}
	c.rest(now)
}

// flush writes what is unsent and sets the deadline. It returns the time.
func (c *conn) flush(now int64) int64 {
	if c.state == connOpen && !c.pipe.allSent() && !c.blocked {
		now = c.write(now)
	}
	if c.state == connOpen {
		c.rest(now)
	}
	return now
}

// yields says whether the connection takes no more calls because its place
// among the loop's connections is due to another origin.
func (c *conn) yields() bool {
	return c.l.waiting.n > 0 && c.sent >= fairQuantum && !c.o.queued
}

// fairQuantum is how many requests a connection serves before it gives way to
// origins that wait for a connection.
const fairQuantum = 64

// rest sets the deadline for what the connection is waiting for, and puts it
// among the idle ones if it holds nothing.
func (c *conn) rest(now int64) {
	cfg := &c.l.e.cfg
	k := c.pipe.first()
	switch {
	case k == nil && c.lingers:
		if c.l.waiting.n > 0 {
			c.close(now, cause{})
		}
		return
	case k == nil:
		c.becomeIdle(now)
		return
	case c.stalled != 0:
		return
	case !c.pipe.wrote(0) || c.pipe.unsent == 0:
		c.deadline = max(c.lastWrite, c.headAt) + int64(cfg.ReadTimeout)
	default:
		c.deadline = max(c.headAt, k.written) + int64(cfg.Timeout) - k.connect - k.tls + c.paused
		if k.first != 0 {
			c.deadline = min(c.deadline, c.in.last+int64(cfg.ReadTimeout))
		}
	}
	c.arm()
}

// arm sees to it that the timer fires no later than the deadline. Moving the
// deadline back, as nearly every response does, costs nothing here: expire
// looks again.
func (c *conn) arm() {
	if c.timer.when == 0 || c.timer.when > c.deadline {
		c.l.wheel.add(&c.timer, c.deadline)
	}
}

// emptied ends what a connection was kept to until its pipeline is empty.
func (c *conn) emptied() {
	c.exclusive = false
	if c.draining {
		c.draining = false
		c.o.draining--
	}
	if c.bound > 0 && c.sent >= c.bound {
		c.o.depth.outlived(c.answers)
		c.bound = 0
	}
}

func (c *conn) becomeIdle(now int64) {
	o := c.o
	if c.l.waiting.n > 0 && (o.empty() || c.yields()) {
		c.close(now, cause{})
		return
	}
	c.l.unfavour(c)
	if c.idle < 0 {
		o.makeIdle(c)
		if s, ok := c.t.(*secure); ok {
			s.shed()
		}
		c.deadline = now + int64(c.l.e.cfg.IdleTimeout)
		c.arm()
	}
	if !o.empty() {
		c.l.mark(o)
	}
}

// expire is called by the wheel.
func (c *conn) expire(now int64) {
	switch {
	case c.state == connClosed || c.stalled != 0:
	case now < c.deadline:
		c.l.wheel.add(&c.timer, c.deadline)
	case c.state != connOpen:
		c.dialTimedOut(now)
	case c.pipe.n == 0:
		if c.lingers {
			c.l.lingered.Add(1)
		}
		c.close(now, cause{})
	default:
		c.timedOut(now)
	}
}

// timedOut closes the connection because the first in line took too long.
func (c *conn) timedOut(now int64) {
	cfg := &c.l.e.cfg
	k := c.pipe.first()
	w := cause{kind: Timeout}
	switch {
	case c.pipe.unsent == 0:
		w.message = "the peer took no more of the request for " + cfg.ReadTimeout.String()
	case k.first != 0 && now >= c.in.last+int64(cfg.ReadTimeout):
		w.message = "no byte of the response for " + cfg.ReadTimeout.String()
	case k.first == 0:
		w.message = "no response within " + cfg.Timeout.String()
	default:
		w.message = "response not complete within " + cfg.Timeout.String()
	}
	c.close(now, w)
}

// stall stops reading because the budget for kept bodies is spent. The time
// until resume counts against no time limit: the delay is ours.
func (c *conn) stall(now int64) {
	if c.stalled == 0 {
		c.stalled = now
		c.l.stalled = append(c.l.stalled, c)
	}
}

func (c *conn) resume(now int64) {
	pause := now - c.stalled
	c.stalled = 0
	c.paused += pause
	c.in.last += pause
	c.lastWrite += pause
}
