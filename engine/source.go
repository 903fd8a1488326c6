package engine

import "context"

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
