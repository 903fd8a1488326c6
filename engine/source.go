package engine

import (
	"context"
	"time"
)

// A Source supplies the requests of a run, in batches.
//
// Next fills batch from its start with the requests that are ready and says
// how many. It waits only while there is none, returns early when ctx ends,
// and never waits to fill a batch. At the end it returns io.EOF (n may be
// above 0); any other error stops the run, which then returns it. The requests
// belong to the engine until their results come back through the Sink.
//
// One goroutine calls Next, never two at a time.
type Source interface {
	Next(ctx context.Context, batch []*Request) (n int, err error)
}

// A Sink takes the results of a run, in batches, in order of completion. Put
// may block: the engine then stops reading, and so does the source. The
// results are valid until Put returns. An error stops the run, which returns
// it.
//
// One goroutine calls Put, never two at a time.
type Sink interface {
	Put(results []*Result) error
}

// A LoopSource is a Source whose parts are asked on the event loops
// themselves, which saves a hand-over between goroutines. OnLoop is called
// once per loop at the start of the run; the Source it returns is called by
// that loop alone, must not block, and may return 0, nil only at its end
// (with io.EOF).
type LoopSource interface {
	Source
	OnLoop(loop, loops int) Source
}

// A Scheduled source is a part of a LoopSource whose requests have times at
// which they are due: an open loop. It is asked with NextDue, not Next, when a
// request is due and Config.MaxInFlight leaves a place for it. What is due
// meanwhile is the source's to count: the engine holds no more than it sends.
//
// A request's Start is when it was due, however late it is taken, and so its
// Times run from there: see also Times.Held and Times.Late.
type Scheduled interface {
	Source
	// Begin is called once, before NextDue, with the start of the run.
	Begin(at time.Time)
	// NextDue fills batch and due from their start with requests that are due at
	// now, in order, and says how many; batch and due are equally long. Times are
	// since the start of the run. Where it fills less than the whole it says when
	// the next request will be due. At the end it returns io.EOF.
	NextDue(now time.Duration, batch []*Request, due []time.Duration) (n int, next time.Duration, err error)
}

// A LoopSink is a Sink whose parts are given results on the event loops
// themselves: see LoopSource. Put must not block.
type LoopSink interface {
	Sink
	OnLoop(loop, loops int) Sink
}

// SourceFunc makes a Source of a function.
type SourceFunc func(ctx context.Context, batch []*Request) (int, error)

// Next calls f.
func (f SourceFunc) Next(ctx context.Context, batch []*Request) (int, error) { return f(ctx, batch) }

// SinkFunc makes a Sink of a function.
type SinkFunc func(results []*Result) error

// Put calls f.
func (f SinkFunc) Put(results []*Result) error { return f(results) }
