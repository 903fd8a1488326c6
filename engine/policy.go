package engine

import (
	"math/rand/v2"
	"time"
)

// A verdict is what becomes of a call whose attempt did not end in a complete
// response.
type verdict uint8

const (
	fail       verdict = iota // it ends with its error
	retry                     // it is tried again after a back-off, which costs it an attempt
	replay                    // it is sent again at once and at no charge
	replayOnce                // the same, which is granted once
)

// outcome is what is known when an attempt fails.
type outcome struct {
	kind       Kind
	idempotent bool
	wrote      bool // at least one byte of the request was written
	fault      bool // the request may have been the cause
	processed  bool // the server may have acted on it
	stale      bool // a kept connection died before a byte of any answer: the usual race
	moved      bool // it was already replayed once for that reason
	attempts   int  // so far, this one included
	retries    int  // Config.Retries
}

// decide is the whole retry policy. RFC 9110 section 9.2.2: "A client SHOULD
// NOT automatically retry a request with a non-idempotent method unless it has
// some means to know that the request semantics are actually idempotent ... or
// some means to detect that the original request was never applied."
func decide(o outcome) verdict {
	if !o.wrote && !o.fault {
		return replay // it never left
	}
	if !o.idempotent {
		if !o.processed && !o.fault {
			return replay
		}
		return fail
	}
	if !o.fault {
		return replay
	}
	if o.stale && !o.moved {
		return replayOnce
	}
	switch o.kind {
	case Connect, Closed, Timeout, Read, Write:
		if o.attempts <= o.retries {
			return retry
		}
	}
	return fail
}

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 10 * time.Second
)

// backoff is how long to wait before attempt number attempts+1: exponential,
// of which a random half, so that what failed together does not return
// together.
func backoff(attempts int, rnd *rand.Rand) time.Duration {
	d := backoffMost
	if shift := attempts - 1; shift < 7 {
		d = min(backoffFirst<<shift, backoffMost)
	}
	return d/2 + time.Duration(rnd.Int64N(int64(d/2)+1))
}
