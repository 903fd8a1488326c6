// Package engine sends HTTP/1.1 requests: streams of them from a Source to a
// Sink with Run, single ones with Do. It pipelines, paces, retries and bounds;
// every request ends in exactly one Result.
//
// How a request travels:
//
//  1. The feeder, a goroutine of the run, asks the Source for a batch, compiles
//     each request to the bytes that will be sent, and posts them to a loop.
//  2. The pacer says when it is due; then it is in its origin's queue.
//  3. The origin gives it to a connection: an idle one, a new one, or the
//     shallowest pipeline.
//  4. The connection writes what its pipeline holds in one write(2), and
//     matches the responses to the calls by their order.
//  5. A complete response, or the policy's verdict on a failed attempt, ends
//     it. Its Result travels with others to the drain, a goroutine of the run,
//     which puts them into the Sink and gives the credits back to the feeder.
//
// Each loop is one goroutine which alone touches its connections, origins and
// timers; others reach it by message. All but loop.go, poll.go, dial.go and address.go run on
// bytes and a clock that is an argument.
package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/httpcodec"
)

// ErrClosed is returned by an Engine that was closed.
var ErrClosed = errors.New("engine: closed")

// An Engine owns event loops and the connections on them. Its methods may be
// called from several goroutines at once.
type Engine struct {
	cfg       Config
	defaults  []Field
	tail      []byte    // of a request that has the defaults and no body
	base      time.Time // of all instants
	wall      time.Time // base, without its monotonic part
	monotonic int64     // CLOCK_MONOTONIC at base
	loops     []*loop
	names     *nameCache
	budget    budget
	buffers   bufferPool
	tls       *tls.Config   // the origins' are made of it
	computing chan struct{} // bounds the handshakes that compute
	locals    *locals
	pacer     sharedPacer // Config.Rate
	proxies   *proxies    // nil without
	seed      maphash.Seed
	connects  atomic.Int64
	direct    *run          // carries the calls of Do
	asking    chan struct{} // bounds them

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	mu         sync.Mutex
	closed     bool
	runs       map[*run]bool
	past       Stats          // of the runs that ended
	active     sync.WaitGroup // calls of Run and Do
	polls      sync.WaitGroup
	handshakes sync.WaitGroup
}

// New checks cfg, starts the loops and returns the engine. Close it.
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	for i, l := range e.loops {
		if err := l.poller.open(); err != nil {
			for _, l := range e.loops[:i] {
				l.poller.close()
			}
			return nil, err
		}
	}
	for _, l := range e.loops {
		e.polls.Go(func() { l.run() })
	}
	return e, nil
}

// newEngine makes an engine whose loops have no descriptors yet.
func newEngine(cfg Config) (*Engine, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("engine: read CLOCK_MONOTONIC: %w", err)
	}
	e := &Engine{
		cfg: cfg, defaults: defaultFields(&cfg), base: time.Now(), monotonic: ts.Nano(),
		seed: maphash.MakeSeed(), runs: make(map[*run]bool), asking: make(chan struct{}, cfg.MaxInFlight),
	}
	var err error
	if e.tail, err = httpcodec.AppendFields(nil, e.defaults, -1); err != nil {
		return nil, fmt.Errorf("engine: Header: %w", err)
	}
	e.wall = e.base.Round(0)
	e.tls, e.computing = cfg.baseTLS(), make(chan struct{}, runtime.GOMAXPROCS(0))
	e.locals, e.pacer.p = newLocals(&cfg), newPacer(cfg.Rate)
	if cfg.Proxy != nil {
		e.proxies = &proxies{choose: cfg.Proxy, known: make(map[string]*proxy)}
	}
	e.budget.most, e.budget.small = cfg.MaxMemory, smallBodies(&cfg)
	e.buffers.budget = &e.budget
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.names = newNameCache(e.ctx, &cfg)
	for i := range cfg.Loops {
		e.loops = append(e.loops, newLoop(e, i))
	}
	e.direct = e.newRun(context.Background(), nil, nil)
	for _, p := range e.direct.parts {
		p.direct = true
	}
	return e, nil
}

// MaxInFlight is how many requests a run of the engine has inside at once.
func (e *Engine) MaxInFlight() int { return e.cfg.MaxInFlight }

// now is the time since base, in nanoseconds; never 0.
func (e *Engine) now() int64 { return int64(time.Since(e.base)) | 1 }

// firstLoop is the first of the loops that serve an origin.
func (e *Engine) firstLoop(key string) int {
	if len(e.loops) == 1 {
		return 0
	}
	return int(maphash.String(e.seed, key) % uint64(len(e.loops)))
}

// loopFor picks the loop for a request: one of those that serve its origin. By
// chance: taking turns would send alternating origins to one loop each.
func (e *Engine) loopFor(p *prepared) int {
	n := len(e.loops)
	if n == 1 {
		return 0
	}
	serving := min(n, e.cfg.PerHost)
	return (e.firstLoop(p.key) + rand.IntN(serving)) % n
}

// Prepare compiles a request once, so that it can be sent many times, also at
// the same time: the way of a load generator. It must not be changed after.
// The error is what its Result would have carried.
func (e *Engine) Prepare(r *Request) error {
	p := new(prepared)
	if err := e.compile(r, p); err != nil {
		return err
	}
	r.prepared = p
	return nil
}

// enter counts a call of Run or Do, which Close waits for.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.active.Add(1)
	return nil
}

// Run sends what src supplies and gives sink the results, one for each
// request. It returns when the last result was consumed: with nil at the end
// of the source, else with the first error of source, sink or ctx. When it
// ends early, what is in flight ends as Canceled, through the sink unless that
// is what failed.
//
// A LoopSource together with a LoopSink is served on the loops.
func (e *Engine) Run(ctx context.Context, src Source, sink Sink) (Stats, error) {
	if err := e.enter(); err != nil {
		return Stats{}, err
	}
	defer e.active.Done()
	r := e.newRun(ctx, src, sink)
	start, connects := time.Now(), e.connects.Load()
	e.mu.Lock()
	e.runs[r] = true
	e.mu.Unlock()
	stopCtx := afterEnd(ctx, func() { r.end(ctx.Err()) })
	stopEngine := afterEnd(e.ctx, func() { r.end(ErrClosed) })

	loopSource, ok := src.(LoopSource)
	loopSink, ok2 := sink.(LoopSink)
	if ok && ok2 {
		r.onLoops(loopSource, loopSink)
	} else {
		var feeder sync.WaitGroup
		feeder.Go(r.feed)
		r.drain()
		feeder.Wait()
	}
	stopCtx()
	stopEngine()
	r.cancel()

	var s Stats
	r.addTo(&s)
	e.mu.Lock()
	delete(e.runs, r)
	r.addTo(&e.past)
	e.mu.Unlock()
	s.Elapsed, s.Connects = time.Since(start), e.connects.Load()-connects
	r.mu.Lock()
	defer r.mu.Unlock()
	return s, r.err
}

// afterEnd has f called when ctx ends. After stop it is not running any more.
func afterEnd(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	stopped := context.AfterFunc(ctx, func() { defer close(done); f() })
	return func() {
		if !stopped() {
			<-done
		}
	}
}

// Do sends one request and returns its response, which is the caller's. Where
// the response head arrived and the body failed, both are returned. Many
// goroutines may call it at once; their requests share connections.
func (e *Engine) Do(ctx context.Context, req *Request) (*Response, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.active.Done()
	select {
	case e.asking <- struct{}{}:
		defer func() { <-e.asking }()
	case <-ctx.Done():
		return nil, &Error{Kind: Canceled, Phase: PhaseQueue, Message: ctx.Err().Error(), Err: ctx.Err()}
	}
	k := new(call)
	k.reset(nil, e.now())
	k.done = make(chan struct{})
	e.direct.requests.Add(1)
	if err := e.fillIn(k, req, k.accepted); err != nil {
		e.direct.errors[err.Kind].Add(1)
		return nil, err
	}
	k.part = e.direct.parts[e.loopFor(k.p)]
	e.await(ctx, k)
	resp := k.Response.Clone()
	e.freeBodies([]*Result{k.Result})
	switch {
	case k.Err == nil:
		return resp, nil
	case resp.Status == 0:
		return nil, k.Err
	}
	return resp, k.Err
}

// await sends k and waits for its end, which the end of ctx brings about.
func (e *Engine) await(ctx context.Context, k *call) {
	l := k.part.l
	l.post(func(now int64) { k.part.enter([]*call{k}, now) })
	stop := ErrClosed
	select {
	case <-k.done:
		return
	case <-ctx.Done():
		stop = ctx.Err()
	case <-e.ctx.Done():
	}
	l.post(func(now int64) {
		if k.state != callFree {
			l.abandon(k, now, Canceled, stop.Error())
		}
	})
	<-k.done
	if k.Err != nil && k.Err.Kind == Canceled {
		k.Err.Err = stop
	}
}

// Stats returns what the engine has counted so far, all runs and calls of Do
// together.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.past
	for r := range e.runs {
		r.addTo(&s)
	}
	e.direct.addTo(&s)
	s.Connects, s.Elapsed = e.connects.Load(), time.Since(e.base)
	return s
}

// Close ends what is in flight as Canceled, waits for Run and Do to return,
// and closes all connections.
func (e *Engine) Close() error {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.active.Wait()
	if !again {
		for _, l := range e.loops {
			l.post(l.stop)
		}
	}
	e.polls.Wait()
	e.names.wg.Wait()
	e.handshakes.Wait()
	if !again {
		for _, l := range e.loops {
			l.poller.close()
		}
	}
	return nil
}
