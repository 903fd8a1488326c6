package engine

import (
	"iter"
	"net/netip"
	"time"

	"hotlap/httpcodec"
)

// Times are the parts of a request's life. Total runs from Start (the moment
// the engine took the request from its source) to the last byte of the body,
// or to the error. The parts need not add up to Total: earlier failed attempts
// and the reading of the body are in Total alone.
type Times struct {
	// Queued is the time in which nothing was done for the request, summed over
	// all attempts: waiting for its turn under a rate, for a connection, for
	// the end of a back-off, or, already written, behind others in a pipeline.
	Queued time.Duration
	// Connect is the time the last attempt spent resolving and connecting, 0
	// when it used a connection that was already open.
	Connect time.Duration
	// TLS is the time the last attempt spent in the TLS handshake, after Connect;
	// 0 as for Connect, and without TLS.
	TLS time.Duration
	// Sent runs from Start to the write that took the request's last byte, in
	// the last attempt; 0 if it was never written in full. Total - Sent is what
	// the connection and the server took, a pipeline's wait included.
	Sent time.Duration
	// Held is, of a request of a Scheduled source, the time from Start until there
	// was a place for it: until then MaxInFlight requests were under way.
	Held time.Duration
	// Late is, of a request of a Scheduled source, how much later the engine was
	// than it could have been: from Start or the end of Held to when it took the
	// request, and from when it gave it to a connection to the write that took its
	// last byte; the latter not where the peer's window was full.
	Late time.Duration
	// TTFB runs, in the last attempt, from the moment the request was written
	// in full and first in line on its connection to the first byte of its
	// final response; 0 if no byte came.
	TTFB time.Duration
	// Total is the whole, all attempts and waits included.
	Total time.Duration
}

// Response is an HTTP response as it was received, and how it came about.
type Response struct {
	Status    int    // 0 if no response head arrived
	Body      []byte // what was kept of the body; see Config.KeepBody and Config.MaxBody
	Bytes     int64  // length of the body as received, kept or not; transfer coding removed
	Truncated bool   // the body was longer than Config.MaxBody, the rest was not kept
	Attempts  int    // how often it was sent or its connection tried; 0 if never
	Start     time.Time
	Time      Times
	Remote    netip.AddrPort // the peer of the last attempt; invalid if there was none
	TLS       *TLSInfo       // of the connection; nil without TLS

	head []byte // the final response head, if Config.KeepHead
}

// TLSInfo says how a connection is secured. It is shared and never changes.
type TLSInfo struct {
	Version     uint16 // such as tls.VersionTLS13; tls.VersionName names it
	CipherSuite uint16 // tls.CipherSuiteName names it
	Resumed     bool   // by a session of an earlier connection
}

// Head returns the final response head as it was received, from the status line
// to the empty line; nil unless Config.KeepHead is set. It lives as long as the
// Response does.
func (r *Response) Head() []byte { return r.head }

// Fields yields the response's header fields in the order received, names as
// received; empty unless Config.KeepHead is set. The slices live as long as
// the Response does.
func (r *Response) Fields() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(r.head) == 0 {
			return
		}
		var h httpcodec.Head
		limits := httpcodec.DefaultLimits
		limits.HeadBytes = len(r.head)
		if n, err := h.ParseResponse(r.head, &limits); n == 0 || err != nil {
			return
		}
		for _, f := range h.Fields {
			if !yield(f.Name.Of(r.head), f.Value.Of(r.head)) {
				return
			}
		}
	}
}

// Header returns the first value of the named field (any case), or "".
func (r *Response) Header(name string) string {
	for n, v := range r.Fields() {
		if httpcodec.EqualFold(n, name) {
			return string(v)
		}
	}
	return ""
}

// Result is the one end of one request: a response, or Err, or a Status with
// an Err when the head arrived and the body failed.
//
// A Result given to a Sink, and all its slices, may be used until Put returns;
// Clone what must live longer.
type Result struct {
	Request *Request
	Response
	Err *Error // nil if the response is complete

	call *call // whose part this is
}

// Clone returns a copy of the response that shares no memory with the engine.
func (r *Response) Clone() *Response {
	c := *r
	c.Body = append([]byte(nil), r.Body...)
	c.head = append([]byte(nil), r.head...)
	return &c
}
