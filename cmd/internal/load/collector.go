package load

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A collector takes the windows of the loops, second by second, and makes of
// them the series and the whole. It works on a goroutine of its own, so that a
// loop only exchanges one window for another.
type collector struct {
	open   bool
	warmUp time.Duration
	stopAt *atomic.Int64 // when the sending ended, or has to, since the start
	due    []*Arrivals   // of each loop, to count what is due; nil in a closed loop
	counts []int64       // of these, up to the end of the last window
	sent   []int64       // by each loop, up to the end of the last window
	most   []int64       // requests of each loop

	mu     sync.Mutex
	ready  sync.Cond
	handed []handed
	free   []*window
	ended  bool
	series []Second
	done   sync.WaitGroup

	second  func(w *window, s *Second) // called with each second that is complete
	seconds map[int]*window            // not complete yet: some loops have not handed over theirs
	backlog map[int]int64
	behind  []int // of each loop, the second that it has not handed over yet
	whole   *window
}

type handed struct {
	loop, second int
	w            *window
}

func newCollector(o *Options, stopAt *atomic.Int64, second func(*window, *Second)) *collector {
	c := &collector{
		open: o.Open(), warmUp: o.WarmUp, stopAt: stopAt, second: second,
		seconds: make(map[int]*window), backlog: make(map[int]int64),
		behind: make([]int, o.Loops), whole: newWindow(o.Open()),
	}
	c.ready.L = &c.mu
	for i := range o.Loops {
		c.most = append(c.most, o.share(i))
		if c.open {
			c.due, c.counts, c.sent = append(c.due, nil), append(c.counts, 0), append(c.sent, 0)
		}
	}
	c.done.Go(c.run)
	return c
}

// first returns the first window of a loop.
func (c *collector) first(loop int, due *Arrivals) *window {
	if due != nil {
		c.due[loop] = due.Clone()
	}
	return c.fresh(0)
}

// next takes a loop's window and returns the one of the second that at is in.
func (c *collector) next(p *part, at time.Duration) *window {
	c.hand(p)
	return c.fresh(int((at - c.warmUp) / time.Second))
}

// fresh returns an empty window of a second.
func (c *collector) fresh(second int) *window {
	c.mu.Lock()
	var w *window
	if last := len(c.free) - 1; last >= 0 {
		w = c.free[last]
		c.free = c.free[:last]
	}
	c.mu.Unlock()
	if w == nil {
		w = newWindow(c.open)
	}
	from := c.warmUp + time.Duration(second)*time.Second
	w.reset(from, from+time.Second)
	return w
}

func (c *collector) hand(p *part) {
	w := p.window
	w.taken = p.taken
	c.mu.Lock()
	c.handed = append(c.handed, handed{p.index, int((w.from - c.warmUp) / time.Second), w})
	c.mu.Unlock()
	c.ready.Signal()
}

// finish returns the whole and the series, when every loop has handed over its
// last window.
func (c *collector) finish() (*window, []Second) {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.ready.Signal()
	c.done.Wait()
	return c.whole, c.series
}

func (c *collector) run() {
	for {
		c.mu.Lock()
		for len(c.handed) == 0 && !c.ended {
			c.ready.Wait()
		}
		batch, ended := c.handed, c.ended
		c.handed = nil
		c.mu.Unlock()
		for _, h := range batch {
			c.take(h)
		}
		if len(batch) == 0 && ended {
			break
		}
	}
	for i := range c.behind {
		c.behind[i] = maxSecond
	}
	c.complete()
}

const maxSecond = 1 << 40

// take adds a window to its second.
func (c *collector) take(h handed) {
	c.whole.merge(h.w)
	if c.open {
		// A loop has no window of a second in which nothing ended, where the
		// backlog is what matters most.
		for second := c.behind[h.loop]; second < h.second; second++ {
			c.count(h.loop, second)
		}
		c.sent[h.loop] = h.w.taken
		c.count(h.loop, h.second)
	}
	switch w := c.seconds[h.second]; {
	case h.second < len(c.series):
		c.amend(h)
		c.release(h.w)
	case w != nil:
		w.merge(h.w)
		c.release(h.w)
	default:
		c.seconds[h.second] = h.w
	}
	c.behind[h.loop] = h.second + 1
	c.complete()
}

// patience is how many seconds a loop may be behind the others before the
// series goes on without it: each second that waits holds its distributions.
const patience = 4

// amend adds the counts of a loop that was silent to a second that is in the
// series. Its distributions are in the whole only.
func (c *collector) amend(h handed) {
	late := h.w.summary(c.warmUp)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.series[h.second]
	s.Responses += late.Responses
	s.NonOK += late.NonOK
	s.Errors += late.Errors
	s.Body += late.Body
}

// count adds to the backlog what a loop had due by the end of a second, and not
// sent.
func (c *collector) count(loop, second int) {
	end := min(c.warmUp+time.Duration(second+1)*time.Second, time.Duration(c.stopAt.Load()))
	c.counts[loop] += c.due[loop].Skip(end, c.most[loop]-c.counts[loop])
	behind := max(c.counts[loop]-c.sent[loop], 0)
	if second >= len(c.series) {
		c.backlog[second] += behind
		return
	}
	c.mu.Lock()
	c.series[second].Backlog += behind
	c.mu.Unlock()
}

func (c *collector) release(w *window) {
	c.mu.Lock()
	c.free = append(c.free, w)
	c.mu.Unlock()
}

// length is how many seconds the series has in the end: those in which requests
// were sent, and those after in which something came.
func (c *collector) length() int {
	n := int((time.Duration(c.stopAt.Load()) - c.warmUp + time.Second - 1) / time.Second)
	for second := range c.seconds {
		n = max(n, second+1)
	}
	return n
}

// complete puts the seconds into the series that every loop is beyond. Seconds
// in which nothing ended are there too.
func (c *collector) complete() {
	last := slices.Max(c.behind)
	upTo := max(slices.Min(c.behind), last-patience)
	if last == maxSecond { // the end
		upTo = c.length()
	}
	for len(c.series) < upTo {
		i := len(c.series)
		w := c.seconds[i]
		if w == nil {
			w = c.fresh(i)
		}
		delete(c.seconds, i)
		s := w.summary(c.warmUp)
		s.Backlog = c.backlog[i]
		delete(c.backlog, i)
		c.second(w, &s)
		c.mu.Lock()
		c.series = append(c.series, s)
		c.mu.Unlock()
		c.release(w)
	}
}

// recent returns the last complete second, nil if there is none yet, and the
// responses of at most n seconds up to it.
func (c *collector) recent(n int) (*Second, []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.series) == 0 {
		return nil, nil
	}
	var rates []int64
	for _, s := range c.series[max(0, len(c.series)-n):] {
		rates = append(rates, s.Responses)
	}
	last := c.series[len(c.series)-1]
	return &last, rates
}
