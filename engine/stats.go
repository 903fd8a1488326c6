package engine

import (
	"sync/atomic"
	"time"
)

// Stats counts what a run, or an engine, has done so far. Every request is
// counted once, in Responses or in Errors (a request whose head arrived and
// whose body failed is in Errors).
type Stats struct {
	Requests  int64           // taken from sources
	Responses int64           // ended with a complete response, whatever its status
	Status    [6]int64        // Responses by class: Status[2] counts 2xx
	Errors    [NumKinds]int64 // ended with an error, by kind
	Retries   int64           // further attempts that were charged to a request
	Replays   int64           // sent again at no charge: a close they could not have caused
	BytesIn   int64           // body bytes received
	Connects  int64           // connections opened (whole engine)
	InFlight  int64           // inside the engine now
	Elapsed   time.Duration   // since the start of the run
}

// Failed is the number of requests that ended with an error.
func (s *Stats) Failed() int64 {
	var n int64
	for _, e := range s.Errors {
		n += e
	}
	return n
}

// Busy is, of each loop, how long it did not wait since the engine was made. A
// loop that was always busy between two calls was the bottleneck, or nearly.
func (e *Engine) Busy() []time.Duration {
	busy := make([]time.Duration, len(e.loops))
	for i, l := range e.loops {
		busy[i] = time.Duration(l.busy.Load())
	}
	return busy
}

// Spun is how long the loops polled, instead of waiting, because a request of a
// Scheduled source was due within 20 us. It is CPU time, but none that the
// requests took.
func (e *Engine) Spun() (spun time.Duration) {
	for _, l := range e.loops {
		spun += time.Duration(l.spun.Load())
	}
	return spun
}

// Lingered is how many connections their peers did not close within a second of
// the last response, though they were asked to ("Connection: close"). Their places
// were taken until then.
func (e *Engine) Lingered() (n int64) {
	for _, l := range e.loops {
		n += l.lingered.Load()
	}
	return n
}

// tally counts on a loop, plainly; flush adds it to what others read.
type tally struct {
	responses, retries, replays, bytes int64
	status                             [6]int64
	errors                             [NumKinds]int64
	failed                             bool
}

func (t *tally) count(r *Result) {
	t.bytes += r.Bytes
	if r.Err != nil {
		t.errors[r.Err.Kind]++
		t.failed = true
		return
	}
	t.responses++
	if class := uint(r.Status / 100); class < 6 {
		t.status[class]++
	}
}

// counters are read while they are written.
type counters struct {
	requests, responses, retries, replays, bytes atomic.Int64
	status                                       [6]atomic.Int64
	errors                                       [NumKinds]atomic.Int64
}

func (t *tally) flush(c *counters) {
	move := func(to *atomic.Int64, from *int64) {
		if *from != 0 {
			to.Add(*from)
			*from = 0
		}
	}
	move(&c.responses, &t.responses)
	move(&c.bytes, &t.bytes)
	move(&c.retries, &t.retries)
	move(&c.replays, &t.replays)
	for i := range t.status {
		move(&c.status[i], &t.status[i])
	}
	if t.failed {
		t.failed = false
		for i := range t.errors {
			move(&c.errors[i], &t.errors[i])
		}
	}
}

// addTo adds what was counted to s.
func (c *counters) addTo(s *Stats) {
	var ended int64
	for i := range c.errors {
		n := c.errors[i].Load()
		s.Errors[i] += n
		ended += n
	}
	for i := range c.status {
		s.Status[i] += c.status[i].Load()
	}
	responses := c.responses.Load()
	ended += responses
	requests := c.requests.Load() // last: never fewer than have ended
	s.Responses += responses
	s.Requests += requests
	s.InFlight += requests - ended
	s.Retries += c.retries.Load()
	s.Replays += c.replays.Load()
	s.BytesIn += c.bytes.Load()
}
