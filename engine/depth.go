package engine

// A depth is the pipeline depth that an origin has earned, and the number of
// requests its connections are known to bear. Broken or wary servers lower it,
// clean answers raise it. It is pure arithmetic on what connections report.
type depth struct {
	most    int // the cap: Config.Pipeline or AutoPipelineMax
	current int // how many requests may be outstanding on one connection
	clean   int // persistent HTTP/1.1 answers since current changed

	alone int64 // smoothed time to first byte of requests written to an empty pipeline
	line  int64 // smoothed time that others spent written but not first in line

	// limit is how many requests a connection bears (nginx keepalive_requests),
	// 0 while unknown; seen is the count at which the last connection ended.
	limit, seen int
	opened      int // connections since the limit was learnt
}

const (
	// lineSlack is the time in line that is no reason against deeper pipelines.
	lineSlack = 1_000_000 // nanoseconds
	// retestEvery is how many connections respect a learnt limit before one
	// tries again whether it still holds.
	retestEvery = 16
)

func newDepth(c *Config) depth {
	d := depth{most: c.depthMax(), current: 1}
	if c.Pipeline != PipelineAuto {
		d.current = d.most
	}
	return d
}

// answered reports a persistent answer: one that earns depth if it is HTTP/1.1.
func (d *depth) answered(minor int) {
	if minor == 0 {
		d.current, d.clean = 1, 0
		return
	}
	if d.current == d.most {
		return
	}
	if d.clean++; d.clean < d.current {
		return
	}
	// Deepening pays while the answers of a pipeline come together. Where they
	// come one after the other, more depth is only more waiting.
	if d.current == 1 || d.line <= 2*d.alone+lineSlack {
		d.current = min(2*d.current, d.most)
	}
	d.clean = 0
}

// measured takes in the times of an answered request: how long it was written
// but not first in line, and how long it was first until its first byte.
func (d *depth) measured(inLine, toFirst int64) {
	const weight = 8
	if inLine <= 0 {
		d.alone += (toFirst - d.alone) / weight
	} else {
		d.line += (inLine - d.line) / weight
	}
}

// cut reports a close with requests unanswered behind the last answer.
func (d *depth) cut() {
	d.current, d.clean = max(1, d.current/2), 0
}

// announced reports that a connection ended with Connection: close at its n-th
// answer. The same count twice is a limit. It says whether that was expected.
func (d *depth) announced(n int) (expected bool) {
	if n == d.limit {
		return true
	}
	if n > 1 && n == d.seen {
		d.limit, d.opened = n, 0
	}
	if d.limit > n {
		d.limit = 0 // it ends earlier than we thought: learn again
	}
	d.seen = n
	return false
}

// outlived reports that a connection took n answers and stays open.
func (d *depth) outlived(n int) {
	if d.limit != 0 && n >= d.limit {
		d.limit, d.seen = 0, 0
	}
}

// bound is how many requests a new connection may be sent; 0 is no bound.
func (d *depth) bound() int {
	if d.limit == 0 {
		return 0
	}
	if d.opened++; d.opened%retestEvery == 0 {
		return 0
	}
	return d.limit
}
