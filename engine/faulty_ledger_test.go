package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"hotlap/engine"
)

// An ask is one request to the faulty server, and what became of it.
type ask struct {
	engine.Request
	id     int
	answer *answer
	size   int
	ends   int // results received; must be 1
	failed bool
}

func (a *ask) idempotent() bool { return a.Method != "POST" && a.Method != "PATCH" }

// The bounds the runs give the engine: small, so that they are reached.
const (
	maxHead = 8 << 10
	maxBody = 32 << 10
)

// A ledger is the Source and the Sink of a run. It asks for n answers, and
// holds every result against the answer asked for.
type ledger struct {
	t       testing.TB
	server  netip.AddrPort
	retries int
	choose  func(r *rand.Rand) *answer
	split   int // ask for answers written in two parts, split at every byte up to this
	post    int // one request in so many is a POST; 0 none
	maxPost int // largest body of a POST
	// anyone are the kinds that a request may end with for no fault of its own,
	// after it was tried as often as it may be.
	anyone []engine.Kind

	r     *rand.Rand
	n     int
	asks  []*ask
	wrong int
}

// newLedger makes a ledger of n requests to srv for answers of any of the
// lists. Each stream is another course of the same seed.
func newLedger(t testing.TB, srv *faultyServer, stream uint64, n int, lists ...[]answer) *ledger {
	return &ledger{t: t, server: srv.addr(), n: n, choose: oneOf(lists), maxPost: 300,
		r: rand.New(rand.NewPCG(srv.seed, 1<<63|stream))}
}

// oneOf chooses a list, then an answer of it: some lists are long.
func oneOf(lists [][]answer) func(r *rand.Rand) *answer {
	return func(r *rand.Rand) *answer {
		l := lists[r.IntN(len(lists))]
		return &l[r.IntN(len(l))]
	}
}

// ledgerConfig keeps what a ledger looks at, within small bounds.
func ledgerConfig(depth int) engine.Config {
	return engine.Config{Connections: 32, PerHost: 32, Pipeline: depth,
		KeepBody: true, KeepHead: true, MaxBody: maxBody, MaxHead: maxHead}
}

// Next gives a random number of requests, so that pipelines fill unevenly.
func (l *ledger) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	n := min(len(batch), 1+l.r.IntN(64), l.n-len(l.asks))
	for i := range n {
		batch[i] = l.ask()
	}
	if len(l.asks) == l.n {
		return n, io.EOF
	}
	return n, nil
}

func (l *ledger) ask() *engine.Request {
	a := &ask{id: len(l.asks), answer: l.choose(l.r), size: l.r.IntN(200)}
	switch l.r.IntN(50) {
	case 0:
		a.size = 0
	case 1:
		a.size = l.r.IntN(3 * maxBody)
	}
	a.Tag = a
	a.Method = a.answer.method
	if a.Method == "" {
		a.Method = []string{"GET", "GET", "GET", "PUT", "DELETE", "OPTIONS"}[l.r.IntN(6)]
		if l.post > 0 && l.r.IntN(l.post) == 0 {
			a.Method = []string{"POST", "POST", "PATCH"}[l.r.IntN(3)]
		}
	}
	switch a.Method {
	case "PUT":
		a.Body = make([]byte, l.r.IntN(300))
	case "POST", "PATCH":
		a.Body = make([]byte, l.r.IntN(1+l.r.IntN(1+l.maxPost)))
	}
	a.URL = fmt.Sprintf("http://%s/%d/%s/%d", l.server, a.id, a.answer.name, a.size)
	if l.split > 0 {
		a.size = l.r.IntN(40)
		a.URL = fmt.Sprintf("http://%s/%d/%s/%d?split=%d", l.server, a.id, a.answer.name, a.size, 1+a.id%l.split)
	}
	l.asks = append(l.asks, a)
	return &a.Request
}

func (l *ledger) Put(results []*engine.Result) error {
	for _, r := range results {
		a := r.Request.Tag.(*ask)
		a.ends++
		a.failed = r.Err != nil
		if err := l.judge(a, r); err != nil {
			l.report("%s %s: %v (status %d, attempts %d, end %v)", a.Method, a.URL, err, r.Status, r.Attempts, r.Err)
		}
	}
	return nil
}

// report shows the first failures of a run: the rest are mostly their echo.
func (l *ledger) report(format string, args ...any) {
	if l.wrong++; l.wrong <= 10 {
		l.t.Errorf(format, args...)
	}
}

func (l *ledger) judge(a *ask, r *engine.Result) error {
	if a.ends > 1 {
		return fmt.Errorf("result number %d", a.ends)
	}
	if err := l.judgeOwner(a, r); err != nil {
		return err
	}
	if r.Err != nil {
		return l.judgeError(a, r)
	}
	return l.judgeResponse(a, r)
}

// judgeOwner looks for the gravest failure: another request's answer.
func (l *ledger) judgeOwner(a *ask, r *engine.Result) error {
	if id := r.Header("X-Id"); id != "" && id != strconv.Itoa(a.id) {
		return fmt.Errorf("got the response of request %s", id)
	}
	if want := bodyOf(a.id, len(r.Body)); a.answer.permits == nil && !bytes.Equal(r.Body, want) {
		return fmt.Errorf("got a body not its own: %.60q", r.Body)
	}
	return nil
}

func (l *ledger) judgeResponse(a *ask, r *engine.Result) error {
	want := a.size
	if a.answer.nobody {
		want = 0
	}
	switch {
	case a.answer.permits != nil:
		return fmt.Errorf("succeeded, want %v", a.answer.permits)
	case r.Status != a.answer.status:
		return fmt.Errorf("want status %d", a.answer.status)
	case r.Header("X-Id") == "":
		return fmt.Errorf("the head was not kept")
	case r.Bytes != int64(want) || len(r.Body) != min(want, maxBody) || r.Truncated != (want > maxBody):
		return fmt.Errorf("%d bytes, %d kept, truncated %v; want %d", r.Bytes, len(r.Body), r.Truncated, want)
	case r.Remote != l.server:
		return fmt.Errorf("answered by %v", r.Remote)
	case r.Attempts < 1 || !a.idempotent() && r.Attempts != 1:
		return fmt.Errorf("%d attempts", r.Attempts)
	}
	return judgeTimes(r)
}

func judgeTimes(r *engine.Result) error {
	t := r.Time
	if r.Start.IsZero() || t.Queued < 0 || t.Connect < 0 || t.TTFB < 0 ||
		t.Queued > t.Total || t.Connect > t.Total || t.TTFB > t.Total {
		return fmt.Errorf("times do not fit: start %v, %+v", r.Start, t)
	}
	return nil
}

func (l *ledger) judgeError(a *ask, r *engine.Result) error {
	own := slices.Contains(a.answer.permits, r.Err.Kind)
	if !own && !slices.Contains(l.anyone, r.Err.Kind) {
		return fmt.Errorf("want %v", a.answer.permits)
	}
	// A request that got an answer of its own fault got a definite one.
	if (r.Err.Phase == engine.PhaseBody) != (r.Status != 0) {
		return fmt.Errorf("phase and status do not agree")
	}
	if own && !slices.Contains(l.anyone, r.Err.Kind) && r.Status != a.answer.status && a.answer.after == hang {
		return fmt.Errorf("want status %d", a.answer.status)
	}
	retried := slices.Contains(dyingKinds, r.Err.Kind) || r.Err.Kind == engine.Timeout
	switch {
	case !a.idempotent() && r.Attempts != 1:
		return fmt.Errorf("a %s was attempted %d times", a.Method, r.Attempts)
	case a.idempotent() && retried && r.Attempts <= l.retries:
		return fmt.Errorf("given up before the %d retries", l.retries)
	case r.Attempts < 1:
		return fmt.Errorf("%d attempts", r.Attempts)
	}
	return judgeTimes(r)
}

// settle checks, after the run, that every request ended exactly once and that
// the engine counted what the sink saw.
func (l *ledger) settle(s engine.Stats) {
	l.t.Helper()
	failed := 0
	for _, a := range l.asks {
		if a.ends != 1 {
			l.report("%s %s: %d results", a.Method, a.URL, a.ends)
		}
		if a.failed {
			failed++
		}
	}
	if len(l.asks) != l.n {
		l.t.Errorf("the source was asked for %d of %d requests", len(l.asks), l.n)
	}
	if s.Requests != int64(l.n) || s.Failed() != int64(failed) || s.Responses != int64(l.n-failed) || s.InFlight != 0 {
		l.t.Errorf("stats: %+v; want %d requests, %d failed, none in flight", s, l.n, failed)
	}
	if l.wrong > 10 {
		l.t.Errorf("... and %d more", l.wrong-10)
	}
}
