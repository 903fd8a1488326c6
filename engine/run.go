package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// A run is one stream of requests: a source, a sink, and the calls that carry
// requests from the one to the other. There are Config.MaxInFlight of them:
// each is a credit, and it comes back when the sink has consumed its result.
type run struct {
	e      *Engine
	source Source
	sink   Sink
	ctx    context.Context
	cancel context.CancelFunc
	parts  []*part // one per loop
	counters

	mu      sync.Mutex
	room    sync.Cond // the feeder waits for free calls
	some    sync.Cond // the drain waits for results
	free    []*call
	made    int       // calls that exist
	inside  int       // calls that were taken and not given back
	out     []*Result // to be put into the sink
	stopped bool      // the source is not asked for more
	ended   bool      // the feeder is gone: no call will be taken
	started int64     // when parts that are asked on their loops began
	parting int       // parts of this run that are still at work on their loops
	err     error     // why the run ends early
	broken  bool      // the sink failed: results go nowhere
}

// A part is what one loop has of a run.
//
// Owner: the loop.
type part struct {
	run      *run
	l        *loop
	calls    *call // the run's calls that are in this loop
	out      []*Result
	acc      tally
	canceled bool

	direct bool // of Engine.Do: every call has its own waiter

	// Of a run whose source and sink are asked on the loop:
	source  Source
	sink    Sink
	free    []*call
	results []*Result
	made    int
	most    int
	asked   []*Request
	ended   bool
	schedule
}

// feedBatch is how many requests a source is asked for at once.
const feedBatch = 256

func (e *Engine) newRun(ctx context.Context, src Source, sink Sink) *run {
	r := &run{e: e, source: src, sink: sink}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.room.L, r.some.L = &r.mu, &r.mu
	for _, l := range e.loops {
		r.parts = append(r.parts, &part{run: r, l: l})
	}
	return r
}

// link adds a call to the part's list.
func (p *part) link(k *call) {
	k.up, k.down = nil, p.calls
	if p.calls != nil {
		p.calls.up = k
	}
	p.calls = k
}

func (p *part) unlink(k *call) {
	if k.up != nil {
		k.up.down = k.down
	} else {
		p.calls = k.down
	}
	if k.down != nil {
		k.down.up = k.up
	}
	k.up, k.down = nil, nil
}

// feed asks the source and sends calls to the loops, until the source ends.
func (r *run) feed() {
	defer func() {
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.some.Signal()
	}()
	var requests [feedBatch]*Request
	calls := make([]*call, 0, feedBatch)
	byLoop := make([][]*call, len(r.parts))
	for {
		n := r.credit(feedBatch)
		if n == 0 {
			return
		}
		n, err := r.source.Next(r.ctx, requests[:n])
		now := r.e.now()
		calls = r.take(calls[:0], n)
		r.prepare(calls, requests[:n], byLoop, now)
		if err != nil {
			r.end(err)
			return
		}
	}
}

// credit waits for free calls and says how many there are, at most n; 0 when
// the run is to take no more.
func (r *run) credit(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		free := len(r.free) + r.e.cfg.MaxInFlight - r.made
		if r.stopped {
			return 0
		}
		if free > 0 {
			return min(n, free)
		}
		r.room.Wait()
	}
}

// take appends n free calls to dst.
func (r *run) take(dst []*call, n int) []*call {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside += n
	for ; n > 0; n-- {
		if last := len(r.free) - 1; last >= 0 {
			dst = append(dst, r.free[last])
			r.free = r.free[:last]
		} else {
			dst = append(dst, new(call))
			r.made++
		}
	}
	return dst
}

// prepare compiles requests and posts their calls to the loops; those that
// cannot be sent end here.
func (r *run) prepare(calls []*call, requests []*Request, byLoop [][]*call, now int64) {
	var refused []*Result
	r.requests.Add(int64(len(calls)))
	for i, k := range calls {
		k.reset(r.parts[0], now)
		if err := r.e.fillIn(k, requests[i], now); err != nil {
			refused = append(refused, r.refuse(k, err))
			continue
		}
		at := r.e.loopFor(k.p)
		k.part = r.parts[at]
		byLoop[at] = append(byLoop[at], k)
	}
	for i, p := range r.parts {
		if len(byLoop[i]) > 0 {
			batch := byLoop[i]
			byLoop[i] = nil
			p.l.post(func(now int64) { p.enter(batch, now) })
		}
	}
	if len(refused) > 0 {
		r.mu.Lock()
		r.out = append(r.out, refused...)
		r.mu.Unlock()
		r.some.Signal()
	}
}

func (r *run) refuse(k *call, err *Error) *Result {
	k.complete(r.e.wall.Add(time.Duration(k.accepted)), k.accepted, 0)
	k.Err = err
	r.errors[err.Kind].Add(1)
	return k.Result
}

// fillIn makes k the call for req.
func (e *Engine) fillIn(k *call, req *Request, now int64) *Error {
	k.request = req
	if req.Timeout > 0 {
		k.deadline = now + int64(min(req.Timeout, maxTime))
	}
	if req.prepared != nil {
		k.p = req.prepared
		return nil
	}
	k.p = &k.memory().prepared
	return e.compile(req, k.p)
}

// enter admits calls to the loop.
func (p *part) enter(calls []*call, now int64) {
	for _, k := range calls {
		p.l.admit(k)
		if p.canceled {
			p.l.abandon(k, now, Canceled, "the run was canceled")
		}
	}
	p.l.letGo(now)
}

// end says that no more is taken from the source, and why.
func (r *run) end(err error) {
	r.mu.Lock()
	early := r.err == nil && !errors.Is(err, io.EOF)
	if early {
		r.err = err
	}
	r.stopped = true
	r.mu.Unlock()
	r.room.Signal()
	if early {
		r.cancelAll()
	}
}

// cancelAll ends every call that is in a loop.
func (r *run) cancelAll() {
	r.cancel()
	for _, p := range r.parts {
		p.l.post(func(now int64) { p.l.cancel(p, now, "the run was canceled") })
	}
}

// hand is called by a loop with the results of its part.
func (r *run) hand(p *part) {
	p.acc.flush(&r.counters)
	r.mu.Lock()
	r.out = append(r.out, p.out...)
	r.mu.Unlock()
	r.some.Signal()
	p.out = p.out[:0]
}

// drain puts results into the sink until the last call has come back.
func (r *run) drain() {
	var batch []*Result
	for {
		r.mu.Lock()
		for len(r.out) == 0 {
			if r.ended && r.inside == 0 {
				r.mu.Unlock()
				return
			}
			r.some.Wait()
		}
		batch, r.out = r.out, batch[:0]
		broken := r.broken
		r.mu.Unlock()
		if !broken {
			if err := r.sink.Put(batch); err != nil {
				r.fault(err)
			}
		}
		r.recycle(batch)
	}
}

// fault is called when the sink has failed.
func (r *run) fault(err error) {
	r.mu.Lock()
	r.broken = true
	r.mu.Unlock()
	r.end(err)
}

// recycle gives calls back, and with them their credits and their bytes.
func (r *run) recycle(batch []*Result) {
	r.e.freeBodies(batch)
	r.mu.Lock()
	for _, res := range batch {
		r.free = append(r.free, res.call)
	}
	r.inside -= len(batch)
	r.mu.Unlock()
	r.room.Signal()
}

// freeBodies releases the bodies of consumed results, and wakes the loops that
// wait for the budget.
func (e *Engine) freeBodies(results []*Result) {
	if !e.cfg.KeepBody {
		return
	}
	var small int64
	freed := false
	for _, res := range results {
		switch cost := e.budget.cost(res.Body); {
		case cap(res.Body) > e.budget.small:
			e.budget.consumed(cost)
			e.buffers.put(res.Body)
			freed = true
		default:
			small += cost
		}
		res.Body = nil
	}
	if small > 0 {
		e.budget.consumed(small)
		freed = true
	}
	if !freed {
		return
	}
	for _, l := range e.loops {
		if l.stalling.Load() {
			l.post(l.unstall)
		}
	}
}

// put gives the part's results to its sink, on the loop.
func (p *part) put(now int64) {
	r := p.run
	p.acc.flush(&r.counters)
	wasFull := p.places() == 0
	if !p.broken() {
		if err := p.sink.Put(p.out); err != nil {
			r.fault(err)
		}
	}
	p.l.e.freeBodies(p.out)
	for _, res := range p.out {
		p.free = append(p.free, res.call)
		p.results = append(p.results, res)
		res.call.Result = nil
	}
	p.out = p.out[:0]
	if wasFull {
		p.roomAt = now
	}
}

// attach gives a call of the part its Result: of those the sink on this loop has
// consumed, the last, which is still in the CPU's cache.
func (p *part) attach(k *call) {
	if last := len(p.results) - 1; last >= 0 && k.Result == nil {
		k.Result = p.results[last]
		p.results = p.results[:last]
	}
	k.begin()
}

// answer wakes the callers of Do whose calls have ended.
func (p *part) answer() {
	p.acc.flush(&p.run.counters)
	for _, res := range p.out {
		close(res.call.done)
	}
	p.out = p.out[:0]
}

func (p *part) broken() bool { return p.canceled && p.run.sinkBroken() }

func (r *run) sinkBroken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// pull asks the part's source, on the loop, for as many requests as there are
// free calls.
func (p *part) pull(now int64) {
	for p.source != nil && !p.ended && !p.canceled {
		n := min(p.places(), feedBatch)
		if n == 0 {
			return
		}
		if p.timed != nil {
			if !p.pullDue(now, n) {
				break
			}
			continue
		}
		n, err := p.source.Next(p.run.ctx, p.asked[:n])
		p.run.requests.Add(int64(n))
		for _, req := range p.asked[:n] {
			p.start(req, now)
		}
		if err != nil || n == 0 {
			p.end(err)
		}
	}
	if p.source != nil && (p.ended || p.canceled) && p.calls == nil && len(p.out) == 0 {
		p.source = nil
		p.run.partEnded()
	}
}

// places is how many more requests the part may have under way.
func (p *part) places() int { return len(p.free) + p.most - p.made }

// end says that the source will be asked no more, and why.
func (p *part) end(err error) {
	p.ended = true
	if err != nil && !errors.Is(err, io.EOF) {
		p.run.end(err)
	}
}

// begin starts a part whose source and sink are asked on its loop.
func (p *part) begin(src Source, sink Sink, most int, now int64) {
	p.source, p.sink, p.most = src, sink, most
	p.asked = make([]*Request, feedBatch)
	if timed, ok := src.(Scheduled); ok {
		p.follow(timed)
	}
	p.pull(now)
}

func (r *run) partEnded() {
	r.mu.Lock()
	r.parting--
	r.mu.Unlock()
	r.some.Signal()
}

// onLoops runs with the source and the sink asked on the loops, until the last
// part has ended.
func (r *run) onLoops(src LoopSource, sink LoopSink) {
	n := len(r.parts)
	r.parting, r.started = n, r.e.now()
	for i, p := range r.parts {
		s, k, most := src.OnLoop(i, n), sink.OnLoop(i, n), max(1, int(int64(r.e.cfg.MaxInFlight)*int64(p.l.mostOpen)/int64(r.e.cfg.Connections)))
		p.l.post(func(now int64) { p.begin(s, k, most, now) })
	}
	r.mu.Lock()
	for r.parting > 0 {
		r.some.Wait()
	}
	r.mu.Unlock()
}

func (p *part) start(req *Request, now int64) { p.launch(p.newCall(now), req, now) }

func (p *part) newCall(accepted int64) *call {
	var k *call
	if last := len(p.free) - 1; last >= 0 {
		k = p.free[last]
		p.free = p.free[:last]
	} else {
		k = new(call)
		p.made++
	}
	k.reset(p, accepted)
	return k
}

// launch sends a call on its way.
func (p *part) launch(k *call, req *Request, now int64) {
	if err := p.l.e.fillIn(k, req, now); err != nil {
		p.link(k)
		p.l.fail(k, now, err)
		return
	}
	p.l.admit(k)
}
