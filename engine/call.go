package engine

import (
	"net/netip"
	"time"
)

// A call is one request on its way through the engine: the request, what is
// sent for it, where it is, and the Result it will end in. Calls are reused,
// with their buffers; there are never more than the run's credits.
//
// Owner: whoever holds it. It passes from the feeder to a loop, to the sink's
// goroutine and back, by message.
//
// Thousands are in flight at once, so what is touched of each counts, in cache
// lines: while a call waits for its answer it has no Result, and the fields
// stand in the order in which they are used.
type call struct {
	journey

	*Result               // what it ends in, from when its answer begins: see begin
	own     *ownMemory    // nil until it is needed
	done    chan struct{} // of Engine.Do: closed when the call has ended
	timer   timer         // runs deadline and retryAt
}

// ownMemory is what a call keeps for the next request.
type ownMemory struct {
	prepared        // of p, unless the caller prepared the request
	small    []byte // where a small body is kept
}

// journey is what a call begins afresh with each request.
type journey struct {
	request *Request
	p       *prepared
	part    *part     // the run it belongs to, on the loop it belongs to
	conn    *conn     // in callSent and callDialing
	peer    *endpoint // of the last attempt; nil if there was none

	// Instants, in nanoseconds since the engine's base; 0 is "not yet".
	accepted int64 // taken from the source
	written  int64 // the write that took its last byte
	first    int64 // first byte of its response

	waiting    int64  // since when nothing is being done for it
	queued     int64  // how long that was so far: see Times
	seq        uint64 // order of admission on the loop
	prev, next *call  // in its queue
	up, down   *call  // in part.calls
	attempts   int32
	state      callState
	solo       bool // must be alone on a connection
	moved      bool // was replayed free of charge after a kept connection died silently
	ghost      bool // its Result has been delivered; it only holds a place in a pipeline
	begun      bool // has its Result
	stuck      bool // waited for the peer to take what was written
	armed      bool // its timer was set

	deadline     int64 // of the request itself; 0 is none
	retryAt      int64 // end of the back-off
	connect, tls int64 // durations, see Times
	held, late   int64 // the same; late is -1 without a schedule
}

// An endpoint is who is at the other end of a connection, and how it is secured.
type endpoint struct {
	remote  netip.AddrPort
	secured *TLSInfo // nil if it is not TLS
}

// callState says where a call is.
//
//	callFree -> callQueued -> callDialing -> callSent -> callFree
//	               ^  \----------------------/  |
//	               +------- callBackoff <-------+
type callState uint8

const (
	callFree    callState = iota // in no loop: with the feeder, the sink, or unused
	callPaced                    // in the loop's backlog, waiting for its turn under Config.Rate
	callQueued                   // in its origin's queue
	callDialing                  // waiting for the connection that is being made for it
	callSent                     // in a connection's pipeline, written or about to be
	callBackoff                  // waiting to be tried again
)

// reset makes the call ready for another request of a part, keeping its
// buffers.
func (k *call) reset(p *part, now int64) {
	k.journey = journey{part: p, accepted: now, waiting: now, late: -1}
}

// memory returns what the call keeps for the next request.
func (k *call) memory() *ownMemory {
	if k.own == nil {
		k.own = new(ownMemory)
	}
	return k.own
}

// begin gives the call its Result, when there is something to put into it.
func (k *call) begin() {
	if k.begun {
		return
	}
	k.begun = true
	if k.Result == nil {
		k.Result = new(Result)
	}
	*k.Result = Result{Request: k.request, Response: Response{head: k.head[:0]}, call: k}
}

// takeQueueTime ends a wait that began at k.waiting.
func (k *call) takeQueueTime(now int64) {
	k.queued += now - k.waiting
	k.waiting = now
}

// complete fills in what the Result says about time. headAt is when the call
// became the first in line on its connection, start when it was accepted.
func (k *call) complete(start time.Time, now, headAt int64) {
	k.begin()
	k.Start = start
	k.Attempts = int(k.attempts)
	if k.peer != nil {
		k.Remote, k.TLS = k.peer.remote, k.peer.secured
	}
	t := &k.Time
	t.Total = time.Duration(now - k.accepted)
	t.Queued = time.Duration(k.queued)
	t.Connect, t.TLS = time.Duration(k.connect), time.Duration(k.tls)
	if k.written != 0 {
		t.Sent = time.Duration(k.written - k.accepted)
		if k.late >= 0 {
			t.Held, t.Late = time.Duration(k.held), time.Duration(k.late)
			if !k.stuck {
				t.Late += time.Duration(k.written - k.waiting)
			}
		}
	}
	if k.first != 0 {
		from := max(k.written, headAt)
		t.TTFB = time.Duration(max(k.first-from, 0))
	}
}

// callQueue is a FIFO of calls that can also lose any of them.
type callQueue struct {
	front, back *call
	n           int
}

func (q *callQueue) pushBack(k *call) {
	k.prev, k.next = q.back, nil
	if q.back != nil {
		q.back.next = k
	} else {
		q.front = k
	}
	q.back = k
	q.n++
}

func (q *callQueue) pushFront(k *call) {
	k.prev, k.next = nil, q.front
	if q.front != nil {
		q.front.prev = k
	} else {
		q.back = k
	}
	q.front = k
	q.n++
}

func (q *callQueue) remove(k *call) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		q.front = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		q.back = k.prev
	}
	k.prev, k.next = nil, nil
	q.n--
}

func (q *callQueue) popFront() *call {
	k := q.front
	q.remove(k)
	return k
}
