package target

import (
	"bytes"
	"time"

	"github.com/panjf2000/gnet/v2"

	"hotlap/httpcodec"
)

// Bounds of a connection.
const (
	maxBody     = 1 << 20   // bytes of a request body that /echo shows
	maxBytes    = 1 << 30   // of /bytes and /chunked
	maxDelay    = time.Hour // of /delay
	sendAt      = 64 << 10  // bytes of answers that are sent without waiting for the end of the batch
	maxUnsent   = 1 << 20   // bytes the client has not taken: beyond it no request is served
	maxWaiting  = 4 << 20   // bytes of requests that wait behind such an answer
	unsentCheck = 2 * time.Millisecond
)

// conn is what the server knows of one connection.
//
// Owner: its event loop.
type conn struct {
	head     httpcodec.Head
	in       []byte // what the current request was parsed from, up to its head
	body     httpcodec.Body
	content  []byte // of the body, and the fields, for /echo
	headers  map[string][]string
	inBody   bool
	method   string
	target   string
	answered int

	out    []byte
	closes bool // no request is served after this one
	resets bool // and the close is an RST

	// What is left of a long body, and what the connection waits for.
	left  int64
	coded bool // left is sent chunked
	tail  []byte
	due   time.Time // of a delayed answer
	alarm *alarm
}

func newConn(c *clock) conn { return conn{alarm: &alarm{clock: c, index: -1}} }

// serve answers what requests have come, in order, and sends the answers in
// one write. It stops early where an answer has to wait.
func (k *conn) serve(c stream) gnet.Action {
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	used, action := 0, gnet.None
	for action == gnet.None && !k.waits(c) {
		if k.left > 0 {
			action = k.sendMore(c)
			continue
		}
		if k.closes {
			action = gnet.Close
			break
		}
		n, more := k.next(c, in[used:])
		used += n
		if k.in = nil; !more {
			break
		}
		if len(k.out) >= sendAt {
			action = k.send(c)
		}
	}
	if used > 0 { // gnet takes 0 for everything
		if _, err := c.Discard(used); err != nil {
			return gnet.Close
		}
	}
	if a := k.send(c); a != gnet.None {
		return a
	}
	if c.InboundBuffered() > maxWaiting {
		return gnet.Close
	}
	return action
}

// waits says whether the connection may not go on yet; it is woken when it is
// worth asking again.
func (k *conn) waits(c stream) bool {
	var d time.Duration
	switch {
	case !k.due.IsZero():
		if d = time.Until(k.due); d <= 0 {
			k.due = time.Time{}
			k.echoPath()
			return false
		}
	case c.OutboundBuffered() > maxUnsent:
		d = unsentCheck // gnet does not say when a client has taken what was sent
	default:
		return false
	}
	k.alarm.set(d, c)
	return true
}

func (k *conn) send(c stream) gnet.Action {
	if len(k.out) == 0 {
		return gnet.None
	}
	_, err := c.Write(k.out)
	if k.out = k.out[:0]; cap(k.out) > 2*sendAt {
		k.out = nil
	}
	if err != nil {
		return gnet.Close
	}
	return gnet.None
}

// next takes a request, or a piece of one, from in. more says whether to call
// it again.
func (k *conn) next(c stream, in []byte) (n int, more bool) {
	if len(in) == 0 {
		return 0, false
	}
	if k.inBody {
		return k.takeBody(c, in)
	}
	n, err := k.head.ParseRequest(in, nil)
	if err != nil {
		return 0, k.refuse(err)
	}
	if n == 0 {
		return 0, false
	}
	framing, err := k.head.RequestFraming()
	if err != nil {
		return 0, k.refuse(err)
	}
	k.in = in[:n]
	k.closes = !k.head.Persistent()
	if framing.Kind == httpcodec.NoBody || framing == (httpcodec.Framing{Kind: httpcodec.Length}) {
		k.answered++
		k.route(c, k.head.Method.Of(in), k.head.Target.Of(in))
		return n, true
	}
	k.method, k.target = string(k.head.Method.Of(in)), string(k.head.Target.Of(in))
	k.content, k.headers = k.content[:0], k.headerMap() // the head's bytes go with the read they came in
	if k.head.Expect100() {
		k.out = append(k.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	}
	k.body.Reset(framing)
	k.inBody = true
	return n, true
}

// takeBody takes a piece of a request body, and answers when it is complete.
func (k *conn) takeBody(c stream, in []byte) (int, bool) {
	data, n, done, err := k.body.Next(in)
	if err != nil {
		return n, k.refuse(err)
	}
	if room := maxBody - len(k.content); room > 0 {
		k.content = append(k.content, data[:min(room, len(data))]...)
	}
	if done {
		k.inBody = false
		k.answered++
		k.route(c, []byte(k.method), []byte(k.target))
		k.content, k.headers = nil, nil
	}
	return n, true
}

// refuse answers what is no request, after which nothing can be understood.
func (k *conn) refuse(fault error) bool {
	k.closes, k.inBody = true, false
	k.out = append(k.out, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "...)
	k.out = appendInt(k.out, len(fault.Error())+1)
	k.out = append(k.out, "\r\n\r\n"...)
	k.out = append(k.out, fault.Error()...)
	k.out = append(k.out, '\n')
	return true
}

// sendMore sends a part of a long body.
func (k *conn) sendMore(c stream) gnet.Action {
	n := int(min(k.left, sendAt))
	k.left -= int64(n)
	if k.coded {
		k.out = httpcodec.AppendChunk(k.out, pattern[:n])
	} else {
		k.out = append(k.out, pattern[:n]...)
	}
	if k.left == 0 {
		k.out = append(k.out, k.tail...)
		k.tail = nil
	}
	return k.send(c)
}

var pattern = bytes.Repeat([]byte("0123456789abcdef"), sendAt/16)
