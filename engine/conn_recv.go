package engine

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hotlap/httpcodec"
)

// readable reads what the socket has. With edge-triggered events a read that
// does not fill the buffer has drained it, unless the event said that the peer
// is gone too: that gave its only event, so read on to the end. A read that
// fills the buffer puts the connection on the loop's ready list, since no
// new edge will come, and lets the others have their turn.
func (c *conn) readable() {
	l := c.l
	for c.state == connOpen {
		if c.mustStall() {
			c.stall(l.now())
			return
		}
		held := copy(l.rbuf, c.in.partial)
		n, err := c.t.read(l.rbuf[held:])
		now := l.now()
		switch {
		case n > 0:
			c.in.last = now
			c.received(now, l.rbuf[:held+n])
			switch {
			case c.state == connOpen && c.lingers && c.gone:
				c.close(now, cause{}) // the FIN is announced, and nothing else is waited for
				return
			case c.state != connOpen || c.gone:
			case held+n == len(l.rbuf):
				l.makeReady(c)
				return
			default:
				return
			}
		case err == nil:
			c.ended(now)
			return
		case err == unix.EAGAIN:
			return
		case err != unix.EINTR:
			c.broken(now, err)
			return
		}
	}
}

// mustStall says whether reading has to wait for the sink to consume bodies.
// Where nothing that a sink does would help, one connection of the loop goes
// on, so that at least one body always proceeds.
func (c *conn) mustStall() bool {
	l := c.l
	if !l.e.cfg.KeepBody || !l.e.budget.spent() {
		return false
	}
	l.stalling.Store(true) // before asking again: whoever frees looks here after
	if !l.e.budget.spent() {
		return false
	}
	if l.e.budget.stuck() && (l.favoured == nil || l.favoured == c) {
		l.favoured = c
		return false
	}
	return true
}

// received takes in bytes: the rest of one response, whole ones, the beginning
// of another.
func (c *conn) received(now int64, b []byte) {
	for {
		k := c.pipe.first()
		switch {
		case k == nil || !c.pipe.wrote(0):
			// A response to nothing. Whatever it means, this connection cannot
			// be trusted to match answers to requests.
			if len(b) > 0 {
				c.close(now, cause{kind: Protocol, message: "response bytes that answer no request", unasked: true})
			}
			c.keepPartial(nil)
			return
		case len(b) == 0:
			c.keepPartial(nil)
			return
		case c.in.inBody:
			n := c.takeBody(now, k, b)
			b = b[n:]
		default:
			n := c.takeHead(now, k, b)
			if n == 0 {
				if c.state == connOpen {
					c.keepPartial(b)
				}
				return
			}
			b = b[n:]
		}
		if c.state != connOpen {
			return
		}
	}
}

// keepPartial keeps the beginning of a head until more of it comes.
func (c *conn) keepPartial(b []byte) {
	in := &c.in
	if len(b) == 0 {
		if in.partial != nil {
			c.l.buffers.put(in.partial)
			in.partial = nil
		}
		return
	}
	if cap(in.partial) < len(b) {
		old := in.partial
		in.partial = c.l.buffers.get(len(b))
		if old != nil {
			c.l.buffers.put(old)
		}
	}
	in.partial = append(in.partial[:0], b...)
}

// headFacts is what the engine needs to know of a response head. It depends
// on the bytes of the head alone, so it is remembered with them: see headMemo.
type headFacts struct {
	status, minor int
	framing       httpcodec.Framing
	persistent    bool
	closes        bool // says Connection: close
	keepAliveMax  int
}

// A headMemo remembers the last head of an origin. Servers send the same head
// again and again, and comparing is several times cheaper than parsing: a head
// ends at its empty line, so equal bytes are the same head. BenchmarkHeadMemo
// shows the gain.
type headMemo struct {
	bytes []byte
	facts headFacts
}

// headMemoMost is the longest head that is remembered.
const headMemoMost = 1 << 10

// parseHead returns the facts of the head at the start of b, good until the
// next one is parsed, and its length; 0 if more bytes are needed.
func (c *conn) parseHead(k *call, b []byte) (f *headFacts, n int, err error) {
	memo := &c.o.memo
	if n = len(memo.bytes); n > 0 && len(b) >= n && !k.p.head && bytes.Equal(b[:n], memo.bytes) {
		return &memo.facts, n, nil
	}
	h := &c.l.head
	n, err = h.ParseResponse(b, &c.l.limits)
	if n == 0 || err != nil {
		return nil, 0, err
	}
	f = &c.l.facts
	*f = headFacts{
		status: h.Status, minor: h.Minor,
		persistent: h.Persistent(), closes: h.Close(), keepAliveMax: h.KeepAliveMax(),
	}
	f.framing, err = h.ResponseFraming(k.p.head)
	if err != nil {
		return nil, 0, err
	}
	if n <= headMemoMost && !k.p.head && f.status >= 200 {
		memo.bytes = append(memo.bytes[:0], b[:n]...)
		memo.facts = *f
	}
	return f, n, nil
}

// takeHead takes a response head from the start of b, and with it a body that
// is all there. It returns how many bytes that is; 0 if the head is not
// complete, or not acceptable, which closes the connection.
func (c *conn) takeHead(now int64, k *call, b []byte) int {
	if k.first == 0 {
		k.first = now
	}
	f, n, err := c.parseHead(k, b)
	switch {
	case err != nil:
		c.malformed(now, err)
		return 0
	case n == 0:
		if len(b) > c.l.e.cfg.MaxHead {
			c.malformed(now, httpcodec.ErrHeadTooLarge)
		}
		return 0
	case f.status == 101:
		c.malformed(now, errUnaskedSwitch)
		return 0
	case f.status < 200:
		if c.in.interim++; c.in.interim > MaxInterim {
			c.malformed(now, errInterim)
			return 0
		}
		k.first = 0
		return n
	}
	return c.beginBody(now, k, f, b, n)
}

var (
	errUnaskedSwitch = errors.New("101 Switching Protocols, which was not asked for (RFC 9110 section 15.2.2)")
	errInterim       = fmt.Errorf("more than %d interim responses", MaxInterim)
)

// beginBody takes in the facts of a final head, of n bytes, and prepares for
// its body. It returns how many bytes of b were used.
func (c *conn) beginBody(now int64, k *call, f *headFacts, b []byte, n int) int {
	in := &c.in
	k.part.attach(k)
	k.Status = f.status
	if c.l.e.cfg.KeepHead && !k.ghost {
		k.head = append(k.head[:0], b[:n]...)
	}
	in.minor = f.minor
	in.closes = !f.persistent || f.framing.Kind == httpcodec.UntilClose
	if f.keepAliveMax >= 0 && !in.closes {
		c.bound = c.answers + 1 + f.keepAliveMax
	}
	if whole := f.framing; whole.Kind == httpcodec.Length && whole.Length <= int64(len(b)-n) && !c.keeps(k) {
		k.Bytes = whole.Length // nothing to decode, nothing to keep: most of a load's answers
		c.answered(now, k)
		return n + int(whole.Length)
	}
	in.body.Reset(f.framing)
	if in.body.Done() {
		c.answered(now, k)
		return n
	}
	in.inBody = true
	if f.framing.Kind == httpcodec.Length && c.keeps(k) {
		k.Body = c.l.roomFor(k, int(min(f.framing.Length, c.l.e.cfg.MaxBody, firstBuffer)))
	}
	return n
}

// keeps says whether bodies of k are kept.
func (c *conn) keeps(k *call) bool { return c.l.e.cfg.KeepBody && !k.ghost }

// takeBody takes body bytes from b and returns how many bytes of b were used.
func (c *conn) takeBody(now int64, k *call, b []byte) int {
	used := 0
	for {
		data, n, done, err := c.in.body.Next(b[used:])
		used += n
		if len(data) > 0 {
			k.Bytes += int64(len(data))
			if c.keeps(k) && !k.Truncated {
				c.l.keep(k, data)
			}
		}
		switch {
		case err != nil:
			c.malformed(now, err)
			return used
		case done:
			c.answered(now, k)
			return used
		case n == 0 || used == len(b):
			return used
		}
	}
}

// answered ends the first in line with its complete response.
func (c *conn) answered(now int64, k *call) {
	in := &c.in
	d := &c.o.depth
	c.answers++
	early := c.pipe.unsent == 0 // answered before the request was sent in full
	closes := in.closes || early || k.p.closes
	inLine := c.headAt - k.written
	if !early && k.first != 0 {
		d.measured(inLine, k.first-max(c.headAt, k.written))
	}
	c.pipe.pop()
	c.l.unfavour(c)
	c.l.finishOn(c, k, 0, now, nil)
	c.headAt, c.paused = now, 0
	in.inBody, in.interim = false, 0
	if !closes {
		d.answered(in.minor)
		return
	}
	if in.minor == 0 {
		d.answered(0)
	}
	if k.p.closes && !early && c.pipe.n == 0 && !in.body.UntilClose() {
		c.linger(now)
		return
	}
	c.close(now, cause{kind: Closed, announced: in.closes && in.minor > 0, complete: true, asked: k.p.closes,
		message: "the connection was closed behind an earlier response"})
}

// ended is called when the peer has sent its FIN and everything before it was read.
func (c *conn) ended(now int64) {
	k := c.pipe.first()
	switch {
	case c.lingers:
		c.close(now, cause{})
	case k != nil && c.in.inBody && c.in.body.UntilClose() && c.sockErr == nil && !c.t.truncated():
		c.answered(now, k)
	case c.sockErr != nil:
		c.broken(now, c.sockErr)
	case c.t.truncated() && c.in.inBody && c.in.body.UntilClose():
		c.close(now, cause{kind: Closed, message: "the peer closed the connection without close_notify: the body may be cut short " + c.progress()})
	default:
		c.close(now, cause{kind: Closed, message: "the peer closed the connection " + c.progress()})
	}
}

// progress says how much of a response had arrived, for messages.
func (c *conn) progress() string {
	k := c.pipe.first()
	switch {
	case k == nil || k.first == 0:
		return "before any byte of the response"
	case !c.in.inBody:
		return "in the middle of the response head"
	}
	return fmt.Sprintf("after %d bytes of the body", k.Bytes)
}

// broken is called when the socket has failed.
func (c *conn) broken(now int64, err error) {
	errno := unix.Errno(0)
	ofTLS := !errors.As(err, &errno) // such as an alert that says why the socket was closed
	if c.sockErr == nil || ofTLS {
		c.sockErr = err
	}
	err = c.sockErr
	w := cause{kind: Read, err: err, message: err.Error()}
	reset := err == unix.ECONNRESET || err == unix.EPIPE
	switch {
	case ofTLS:
		w.kind, w.message = TLS, tlsMessage("TLS connection to "+c.o.host, c.o.host, err)
	case c.pipe.n > 0 && c.pipe.unsent == 0:
		w.kind, w.message = Write, "the request was not taken in full: "+err.Error()
	case reset:
		w.kind, w.message = Closed, "the peer reset the connection "+c.progress()
	}
	c.close(now, w)
}

// malformed closes the connection because what was received is no response.
func (c *conn) malformed(now int64, err error) {
	w := cause{kind: Protocol, err: err, message: err.Error()}
	if e, ok := err.(httpcodec.Error); ok && e.TooLarge() {
		w.kind = TooLarge
	}
	c.close(now, w)
}
