// Package report counts what a run did and tells it at the end: as a few lines
// for people, as JSON for programs.
package report

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// Histograms count in microseconds, to three digits, up to an hour; what took
// longer is counted as an hour.
const (
	longestMicros = int64(time.Hour / time.Microsecond)
	digits        = 3
)

// A Collector counts results as they are written. Add is for one goroutine;
// Summarize is called after the last Add.
type Collector struct {
	requests  int64
	failing   int64
	truncated int64
	statuses  [1000]int64
	errors    [engine.NumKinds]int64
	bytes     int64
	latency   *hdrhistogram.Histogram // of complete responses: written to answered
	total     *hdrhistogram.Histogram // taken from the input to answered
}

// NewCollector makes a Collector.
func NewCollector() *Collector {
	return &Collector{
		latency: hdrhistogram.New(1, longestMicros, digits),
		total:   hdrhistogram.New(1, longestMicros, digits),
	}
}

// Add counts results.
func (c *Collector) Add(results []*engine.Result) {
	c.requests += int64(len(results))
	for _, r := range results {
		c.add(r)
	}
}

func (c *Collector) add(r *engine.Result) {
	c.bytes += r.Bytes
	if r.Truncated {
		c.truncated++
	}
	if status := uint(r.Status); r.Status != 0 && status < uint(len(c.statuses)) {
		c.statuses[status]++
	}
	if r.Err != nil || r.Status >= 400 {
		c.failing++
	}
	if r.Err != nil {
		c.errors[r.Err.Kind]++
		return
	}
	record(c.latency, r.Time.Total-r.Time.Sent)
	record(c.total, r.Time.Total)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 0), longestMicros)) // in range
}

// Failing is how many requests got no complete response, or a status of 400 or
// more.
func (c *Collector) Failing() int64 { return c.failing }

// A Summary is what --summary writes. Its keys are documented; keys may be
// added, not changed.
type Summary struct {
	Requests    int64            `json:"requests"`             // results, one for each request taken from the input
	Responses   int64            `json:"responses"`            // of these, complete responses of any status
	Errors      int64            `json:"errors"`               // of these, ended with an error
	Statuses    map[string]int64 `json:"statuses"`             // final statuses received, also where the body then failed
	ErrorKinds  map[string]int64 `json:"error_kinds"`          // errors by kind
	Truncated   int64            `json:"truncated"`            // bodies longer than --max-body
	Retries     int64            `json:"retries"`              // attempts after the first that were charged to a request
	Replays     int64            `json:"replays"`              // requests sent again after a close that they had no part in
	Connections int64            `json:"connections"`          // opened
	Bytes       int64            `json:"bytes"`                // of bodies, as received
	Seconds     float64          `json:"duration_s"`           // of the run
	Rate        float64          `json:"requests_per_s"`       // requests / duration_s
	Latency     *Latency         `json:"latency_us,omitempty"` // of complete responses, from written to answered
	Total       *Latency         `json:"total_us,omitempty"`   // of complete responses, from taken from the input to answered
	CPU         float64          `json:"cpu_s"`                // user and system time of this process, with its observer: kernel.cost
	PeakMemory  int64            `json:"max_rss_bytes"`        // most memory that was resident
	Ended       string           `json:"ended"`                // "done", "signal", "input", "output"
	Kernel      *Kernel          `json:"kernel,omitempty"`     // what an observer saw; absent if nobody watched
}

// Latency has percentiles, in microseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  int64   `json:"p50"`
	P90  int64   `json:"p90"`
	P99  int64   `json:"p99"`
	P999 int64   `json:"p99_9"`
	Max  int64   `json:"max"`
}

// How a run ended.
const (
	Done   = "done"   // the input was read to its end
	Signal = "signal" // SIGINT or SIGTERM
	Input  = "input"  // the input could not be read on, or had a bad line and --strict
	Output = "output" // the output could not be written
)

// Summarize adds what the engine and the kernel have counted.
func (c *Collector) Summarize(s engine.Stats, ended string) *Summary {
	sum := &Summary{
		Requests: c.requests, Truncated: c.truncated, Bytes: c.bytes,
		Retries: s.Retries, Replays: s.Replays, Connections: s.Connects,
		Seconds: s.Elapsed.Seconds(), Ended: ended,
		Statuses: map[string]int64{}, ErrorKinds: map[string]int64{},
		Latency: latency(c.latency), Total: latency(c.total),
	}
	for status, n := range c.statuses {
		if n > 0 {
			sum.Statuses[statusName(status)] = n
		}
	}
	for kind, n := range c.errors {
		if n > 0 {
			sum.ErrorKinds[engine.Kind(kind).String()] = n
			sum.Errors += n
		}
	}
	sum.Responses = sum.Requests - sum.Errors
	if sum.Seconds > 0 {
		sum.Rate = float64(sum.Requests) / sum.Seconds
	}
	sum.CPU, sum.PeakMemory = usage()
	return sum
}

// latency reads a histogram; nil if it is empty.
func latency(h *hdrhistogram.Histogram) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	return &Latency{
		Mean: h.Mean(), Max: h.Max(),
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9),
	}
}

// usage is the CPU time of this process and the most memory it had.
func usage() (seconds float64, rss int64) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, u.Maxrss << 10
}
