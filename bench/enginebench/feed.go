package main

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hotlap/bench/sample"
	"hotlap/engine"
)

// A feed gives the same prepared request until its count is reached or until
// it is stopped: one part per loop, each with its share of the count.
type feed struct {
	req     *engine.Request
	count   int64
	stopped *atomic.Bool
}

func newFeed(req *engine.Request, count int64) *feed {
	return &feed{req: req, count: count, stopped: new(atomic.Bool)}
}

func (f *feed) stop() { f.stopped.Store(true) }

// OnLoop returns the part of one loop.
func (f *feed) OnLoop(loop, loops int) engine.Source {
	share := f.count / int64(loops)
	if int64(loop) < f.count%int64(loops) {
		share++
	}
	return &feed{req: f.req, count: share, stopped: f.stopped}
}

// Next fills the batch. It looks at no clock: a timer sets stopped.
func (f *feed) Next(_ context.Context, batch []*engine.Request) (int, error) {
	if f.stopped.Load() {
		return 0, io.EOF
	}
	n := int(min(int64(len(batch)), f.count))
	for i := range batch[:n] {
		batch[i] = f.req
	}
	f.count -= int64(n)
	if f.count == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Latencies are recorded in microseconds, to three digits, up to the engine's
// default Timeout and a margin; one histogram per loop, merged at the end.
const maxLatencyUs = 60_000_000

type latencies struct{ parts []*loopLatencies }

type loopLatencies struct{ h *hdrhistogram.Histogram }

func newLatencies(loops int) *latencies {
	l := &latencies{}
	for range loops {
		l.parts = append(l.parts, &loopLatencies{hdrhistogram.New(1, maxLatencyUs, 3)})
	}
	return l
}

// OnLoop returns the part of one loop.
func (l *latencies) OnLoop(loop, _ int) engine.Sink { return l.parts[loop] }

// Put is for the run that hands results over: there is one sink then.
func (l *latencies) Put(results []*engine.Result) error { return l.parts[0].Put(results) }

func (l *loopLatencies) Put(results []*engine.Result) error {
	for _, r := range results {
		if r.Err != nil {
			return r.Err // a benchmark of failing requests measures nothing
		}
		if r.Status != 200 {
			return errors.New("a response was not 200")
		}
		if err := l.h.RecordValue(r.Time.Total.Microseconds()); err != nil {
			return err
		}
	}
	return nil
}

// summarize puts the percentiles of all loops into s.
func (l *latencies) summarize(s *sample.Sample) error {
	all := l.parts[0].h
	for _, p := range l.parts[1:] {
		if dropped := all.Merge(p.h); dropped > 0 {
			return errors.New("internal error: histograms of different shapes")
		}
	}
	if all.TotalCount() != s.Requests {
		return errors.New("not every response was recorded")
	}
	s.P50us = float64(all.ValueAtQuantile(50))
	s.P99us = float64(all.ValueAtQuantile(99))
	s.MaxUs = float64(all.Max())
	return nil
}
