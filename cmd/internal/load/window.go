package load

import (
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hotlap/ebpf"
	"hotlap/engine"
)

// Times are recorded in nanoseconds, to three digits, up to an hour.
const (
	longest = time.Hour
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), digits) }

func record(h *hdrhistogram.Histogram, d time.Duration, n int64) {
	_ = h.RecordValues(inRange(d), n)
}

func inRange(d time.Duration) int64 { return int64(min(max(d, 0), longest)) }

// A window is what one loop, or all, measured in one second, or in all.
type window struct {
	from, to time.Duration // since the start of the run
	counts
	times
	taken int64 // requests the loop had sent by its end
}

// counts are what a window counts.
type counts struct {
	responses, nonOK, bytes int64
	inTime                  int64 // responses that came before the sending ended
	unanswered, unsent      int64
	held, late              int64
	statuses                [1000]int64
	errors                  [engine.NumKinds]int64
}

// times are the distributions of a window.
type times struct {
	response *hdrhistogram.Histogram // from due, or taken
	service  *hdrhistogram.Histogram // from written
	nonOK    *hdrhistogram.Histogram // from written
	lag      *hdrhistogram.Histogram // nil in a closed loop
}

func newWindow(open bool) *window {
	w := &window{times: times{response: newHistogram(), service: newHistogram(), nonOK: newHistogram()}}
	if open {
		w.lag = newHistogram()
	}
	return w
}

func (w *window) histograms() []*hdrhistogram.Histogram {
	all := []*hdrhistogram.Histogram{w.response, w.service, w.times.nonOK}
	if w.lag != nil {
		all = append(all, w.lag)
	}
	return all
}

// add measures n results that are alike. inTime says that they came before the
// sending ended.
func (w *window) add(r *engine.Result, n int64, inTime bool) {
	t := &r.Time
	if r.Err != nil {
		w.addError(r, n)
		return
	}
	w.responses += n
	if inTime {
		w.inTime += n
	}
	w.bytes += n * r.Bytes
	w.statuses[uint(r.Status)%uint(len(w.statuses))] += n
	service := t.Total - t.Sent
	if r.Status/100 == 2 {
		record(w.response, t.Total, n)
		record(w.service, service, n)
	} else {
		w.counts.nonOK += n
		record(w.times.nonOK, service, n)
	}
	if w.lag == nil {
		return
	}
	record(w.lag, t.Late, n)
	if t.Late > ebpf.LateAfter {
		w.late += n
	}
	if t.Held > 0 {
		w.held += n
	}
}

// addError counts a request that got no response. Who waited in vain, or is
// still waiting, has waited at least so long: leaving that out would flatter.
func (w *window) addError(r *engine.Result, n int64) {
	switch r.Err.Kind {
	case engine.Canceled:
		w.unanswered += n
	case engine.Timeout:
		w.errors[r.Err.Kind] += n
	default:
		w.errors[r.Err.Kind] += n
		return
	}
	record(w.response, r.Time.Total, n)
}

// addUnsent counts requests that were due and never sent.
func (w *window) addUnsent(age time.Duration, n int64) {
	w.unsent += n
	record(w.response, age, n)
}

// merge adds what another window has.
func (w *window) merge(o *window) {
	w.responses += o.responses
	w.counts.nonOK += o.counts.nonOK
	w.bytes += o.bytes
	w.inTime += o.inTime
	w.unanswered += o.unanswered
	w.unsent += o.unsent
	w.held += o.held
	w.late += o.late
	for i, n := range o.statuses {
		w.statuses[i] += n
	}
	for i, n := range o.errors {
		w.errors[i] += n
	}
	theirs := o.histograms()
	for i, h := range w.histograms() {
		runtime.Gosched() // the loops have only so many CPUs
		if h.Merge(theirs[i]) != 0 {
			panic("load: internal error: histograms of different shapes")
		}
	}
}

func (w *window) reset(from, to time.Duration) {
	w.from, w.to, w.counts, w.taken = from, to, counts{}, 0
	for _, h := range w.histograms() {
		h.Reset()
	}
}

func (c *counts) failed() (n int64) {
	for _, e := range c.errors {
		n += e
	}
	return n
}
