// Package load generates load and measures what comes back: the core of
// hotlap bench.
//
// How a run goes:
//
//  1. Each loop of the engine has a part, which is its source and its sink. In a
//     closed loop it gives requests as fast as they are taken; in an open loop
//     Arrivals says when each is due.
//  2. A part measures each result in the window of the second in which it ended.
//  3. The collector, a goroutine, takes the windows and makes of them the series
//     and the whole.
//  4. When the time is over nothing new is sent; what is in flight is awaited.
//     What got no answer, or was never sent, is measured by its age.
//  5. What the kernel did meanwhile is the observer's to say (Options.Kernel).
//  6. The client's own figures and what was observed are weighed: was it the client?
package load

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"hotlap/cmd/internal/observe"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
	"hotlap/engine"
)

// Options say what load to make.
type Options struct {
	From, To float64       // requests per second, of which to which; 0, 0: a closed loop
	Poisson  bool          // arrivals at random, not evenly
	WarmUp   time.Duration // before anything is counted
	Duration time.Duration // of the measured part; 0: until Count
	Count    int64         // requests in all; 0: until Duration
	Timeout  time.Duration // how long is waited for what is in flight at the end
	Loops    int           // of the engine

	Kernel *observe.Watch // sees the measured part; nil: nobody does
}

// Open says that requests have due times.
func (o *Options) Open() bool { return o.To > 0 || o.From > 0 }

// share is how many requests one loop sends at most.
func (o *Options) share(loop int) int64 {
	if o.Count == 0 {
		return math.MaxInt64
	}
	share := o.Count / int64(o.Loops)
	if int64(loop) < o.Count%int64(o.Loops) {
		share++
	}
	return share
}

// A Run is a run of load. Make it with New, do it with Do.
type Run struct {
	running
	engine   *engine.Engine
	before   probe           // when the measured part began
	after    probe           // when the sending ended
	ctx      context.Context // of what is in flight
	observed *report.Kernel
	cancel   context.CancelFunc
}

// running is what the parts share.
type running struct {
	Options
	end       time.Duration // nothing that is due later is sent, or counts
	stopAt    atomic.Int64  // when the sending ended, since the start
	stopped   atomic.Bool
	collector *collector
	parts     []*part
	timed     []*timed // of an open loop
	started   time.Time
}

// New prepares a run of targets on an engine, whose MaxInFlight has to be as
// many requests as its connections take: what waits, waits in the schedule.
// second, if not nil, is called with each second's distributions; they are reset
// after.
func New(e *engine.Engine, targets *Targets, o Options, second func(*Distributions)) *Run {
	r := &Run{engine: e}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.Options, r.end = o, math.MaxInt64
	if o.Duration > 0 {
		r.end = o.WarmUp + o.Duration
	}
	r.stopAt.Store(int64(r.end))
	r.collector = newCollector(&o, &r.stopAt, func(w *window, s *Second) {
		if second != nil {
			second(&Distributions{w.response, w.service, time.Duration(s.At * 1e9)})
		}
	})
	for i := range o.Loops {
		p := &part{run: &r.running, index: i, left: o.share(i)}
		p.turn = turn{targets: targets, at: i % targets.Len()}
		var arrivals *Arrivals
		if o.Open() {
			arrivals = NewArrivals(o.From, o.To, o.WarmUp, o.Duration, o.Poisson, i, o.Loops)
			r.timed = append(r.timed, &timed{p, arrivals})
		}
		p.window = r.collector.first(i, arrivals)
		r.parts = append(r.parts, p)
	}
	return r
}

// Stop ends the sending. What is in flight may still be answered.
func (r *Run) Stop() {
	if !r.stopped.Swap(true) {
		r.stopAt.Store(min(r.stopAt.Load(), int64(time.Since(r.started))))
		r.after.take(r.engine)
	}
}

// Abandon ends the run at once: what is in flight is unanswered.
func (r *Run) Abandon() { r.cancel() }

// Elapsed is since the measured part began; negative before.
func (r *Run) Elapsed() time.Duration { return time.Since(r.started) - r.WarmUp }

// Start sets the clock. It is called right before Do.
func (r *Run) Start() {
	if r.WarmUp == 0 {
		r.Kernel.Begin() // takes milliseconds, in which requests would be due
	}
	r.started = time.Now()
}

// Do runs, and fills in the report what was measured: all but Load, Command,
// Gates and Environment.
func (r *Run) Do(ctx context.Context) (*Report, error) {
	defer r.cancel()
	defer context.AfterFunc(ctx, r.cancel)()
	for _, p := range r.parts {
		p.started = r.started
	}
	warm := time.AfterFunc(r.WarmUp, func() {
		r.before.take(r.engine)
		r.Kernel.Begin()
	})
	if r.WarmUp == 0 {
		warm.Stop()
		r.before.take(r.engine)
	}
	if r.Duration > 0 {
		defer time.AfterFunc(r.end, r.Stop).Stop()
		defer time.AfterFunc(r.end+r.Timeout, r.cancel).Stop()
	}
	stats, err := r.engine.Run(r.ctx, source{r}, sink{r})
	if r.ctx.Err() != nil {
		err = nil // our own doing
	}
	took := time.Since(r.started)
	warm.Stop()
	r.after.take(r.engine)
	r.observed = r.Kernel.End()
	r.stopAt.Store(min(r.stopAt.Load(), int64(took)))
	for _, p := range r.timed {
		p.leave(took)
	}
	for _, p := range r.parts {
		r.collector.hand(p)
	}
	whole, series := r.collector.finish()
	return r.report(whole, series, stats), err
}

func (r *Run) report(whole *window, series []Second, stats engine.Stats) *Report {
	report := &Report{
		Version: ReportVersion, Started: r.started.Add(r.WarmUp), Ended: Done, Series: series, Kernel: r.observed,
		Seconds: max(0, (time.Duration(r.stopAt.Load()) - r.WarmUp).Seconds()),
	}
	if report.Seconds == 0 { // it ended in the warm-up
		report.Series = []Second{}
	} else if last := len(series) - 1; last >= 0 { // it is not a whole one
		s := &series[last]
		s.Length = min(1, max(0.001, time.Since(r.started).Seconds()-r.WarmUp.Seconds()-s.At))
	}
	whole.fill(report)
	report.ErrorExamples, report.Peers = r.notes()
	r.before.fill(report, &r.after, stats, r.Kernel.Thread())
	return report
}

// notes are those of all loops.
func (r *Run) notes() (examples map[string]string, peers []netip.AddrPort) {
	examples, peers = map[string]string{}, []netip.AddrPort{}
	for _, p := range r.parts {
		for kind, message := range p.examples {
			if name := engine.Kind(kind).String(); message != "" && examples[name] == "" {
				examples[name] = message
			}
		}
		for _, peer := range p.peers {
			if !slices.Contains(peers, peer) && len(peers) < peersMost {
				peers = append(peers, peer)
			}
		}
	}
	return examples, peers
}

// Judge weighs the report: it is called when all else is filled in.
func (r *Report) Judge() { r.Verdict = ebpf.Judge(r.Kernel.Seen(), r.figures()) }

func seconds(s float64) time.Duration { return time.Duration(s * 1e9) }

// Names of Load.Loop.
const (
	ClosedLoop = "closed"
	OpenLoop   = "open"
)

// source and sink are the run as the engine sees it.
type source struct{ *Run }

func (s source) OnLoop(loop, _ int) engine.Source {
	if s.timed != nil {
		return s.timed[loop]
	}
	return s.parts[loop]
}

// Next is for a run whose source is not asked on the loops, which this never is.
func (s source) Next(context.Context, []*engine.Request) (int, error) {
	panic("load: internal error: the source was not asked on a loop")
}

type sink struct{ *Run }

func (s sink) OnLoop(loop, _ int) engine.Sink { return s.parts[loop] }

func (s sink) Put([]*engine.Result) error {
	panic("load: internal error: the sink was not asked on a loop")
}
