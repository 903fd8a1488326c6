package load

import (
	"net/netip"
	"time"

	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
)

// ReportVersion is the version of the Report's keys: it changes when one of
// them goes or changes its meaning. Keys may be added without.
const ReportVersion = 1

// A Report is what a run of hotlap bench found; --json writes it. Times are in
// microseconds (_us) or seconds (_s), rates per second (_per_s).
//
// A request is counted by the time at which it was due (open loop) or taken
// (closed loop): those of the warm-up are left out of everything. Each counted
// request is one of: a response, one of the errors, unanswered, unsent.
type Report struct {
	Version int       `json:"version"`
	Tool    string    `json:"tool"`    // such as "hotlap 1.2"
	Command []string  `json:"command"` // the command line, without credentials
	Started time.Time `json:"started"` // of the measured part
	Ended   string    `json:"ended"`   // "done", "signal"
	Load    Load      `json:"load"`    // what was asked for

	Seconds    float64          `json:"duration_s"` // of the measured part, in which requests were sent
	Requests   int64            `json:"requests"`
	Responses  int64            `json:"responses"`  // complete, of any status
	NonOK      int64            `json:"non_2xx"`    // of these
	Errors     map[string]int64 `json:"errors"`     // by kind
	Unanswered int64            `json:"unanswered"` // in flight when the wait at the end was over
	Unsent     int64            `json:"unsent"`     // due and never sent
	Statuses   map[string]int64 `json:"statuses"`   // of the responses
	// ErrorExamples has the message of the first error of each kind.
	ErrorExamples map[string]string `json:"error_examples,omitempty"`
	Peers         []netip.AddrPort  `json:"peers"` // the first addresses that were connected to
	Bytes         Bytes             `json:"bytes"`
	Rates         Rates             `json:"rates"`

	// Of responses with a 2xx status. ResponseTime runs from when the request
	// was due; what got no answer is in it with the age it had reached. In a
	// closed loop a request is due when it is taken. ServiceTime runs from the
	// write that took the request's last byte. Nil where there were none.
	ResponseTime *Latency `json:"response_time_us"`
	ServiceTime  *Latency `json:"service_time_us"`
	NonOKTime    *Latency `json:"non_2xx_service_time_us,omitempty"` // of the other responses
	// ScheduleLag runs from due to written, of requests for which a connection
	// was free: how late the client itself was. Open loop only.
	ScheduleLag *Latency `json:"schedule_lag_us,omitempty"`

	Series []Second `json:"series"`
	Client Client   `json:"client"`
	// Kernel is what an observer saw of the measured part, and of the wait for
	// its last responses: see report.Kernel and ebpf.Sample for its keys, which
	// are tier, unseen, total, listeners, servers, destinations, namespace, host, events
	// (seconds of the same axis as series) and cost. Absent if nobody watched.
	Kernel      *report.Kernel `json:"kernel,omitempty"`
	Verdict     ebpf.Verdict   `json:"verdict"`
	Gates       []GateResult   `json:"gates,omitempty"` // of --assert; absent if they were not judged
	Environment Environment    `json:"environment"`
}

// Load is what was asked for.
type Load struct {
	Targets     []string `json:"targets"`      // the first ten, without credentials
	TargetCount int      `json:"target_count"` // of all
	Loop        string   `json:"loop"`         // "closed": as fast as it goes; "open": at a rate
	Rate        float64  `json:"rate_per_s"`   // 0 in a closed loop; of a ramp, where it ends
	RampFrom    float64  `json:"ramp_from"`    // where a ramp begins; else as Rate
	Arrivals    string   `json:"arrivals"`     // "constant" or "poisson"; "" in a closed loop
	Connections int      `json:"connections"`
	Pipeline    int      `json:"pipeline"`
	Loops       int      `json:"loops"`
	Duration    float64  `json:"duration_s"` // 0 if a count was given
	Count       int64    `json:"count"`      // 0 if a duration was given
	WarmUp      float64  `json:"warmup_s"`
	Timeout     float64  `json:"timeout_s"`
	KeepAlive   bool     `json:"keep_alive"`
	Local       bool     `json:"local"` // every server is on this machine
}

// Bytes are those of the counted responses' bodies.
type Bytes struct {
	Body int64 `json:"body"`
}

// Rates are per second of the measured part.
type Rates struct {
	// Responses is complete responses per second: in an open loop of all
	// requests that were due in the measured part, in a closed loop those that
	// came in it.
	Responses float64 `json:"responses_per_s"`
	Asked     float64 `json:"asked_per_s"`         // requests that were due; 0 in a closed loop
	Achieved  float64 `json:"achieved_over_asked"` // Responses / Asked; 0 in a closed loop
	Body      float64 `json:"body_bytes_per_s"`
}

// Latency is a distribution of times in microseconds.
type Latency struct {
	Count  int64   `json:"count"`
	Min    float64 `json:"min"`
	Mean   float64 `json:"mean"`
	StdDev float64 `json:"stddev"`
	P50    float64 `json:"p50"`
	P75    float64 `json:"p75"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p99_9"`
	P9999  float64 `json:"p99_99"`
	Max    float64 `json:"max"`
	// Curve is the whole distribution for a plot: percentile (0 to 100) and
	// value, at each halving of the distance to 100, in steps.
	Curve [][2]float64 `json:"curve"`
}

// A Second is what came in during one second of the measured part.
type Second struct {
	At        float64 `json:"t_s"`        // when it began
	Length    float64 `json:"length_s"`   // 1, but for the last
	Responses int64   `json:"responses"`  // complete, of any status
	NonOK     int64   `json:"non_2xx"`    // of these
	Errors    int64   `json:"errors"`     // requests that ended with an error
	Body      int64   `json:"body_bytes"` // of the responses
	Backlog   int64   `json:"backlog"`    // due and not sent, at its end

	Response *Brief `json:"response_time_us"` // nil if nothing came
	Service  *Brief `json:"service_time_us"`
}

// Brief is a short summary of a distribution, in microseconds.
type Brief struct {
	Min  float64 `json:"min"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Client is what the run cost and how the client fared. What could not be read
// is null.
type Client struct {
	User        float64   `json:"user_s"`             // of the process, with the observer's thread: kernel.cost
	System      float64   `json:"system_s"`           // and with what its BPF programs take in the client's own calls
	PerRequest  float64   `json:"cpu_per_request_us"` // without the observer's thread
	Spun        float64   `json:"spun_s"`             // of that time, polled because a request was due within microseconds
	Busy        []float64 `json:"loops_busy"`         // of each loop: the share of the time in which it worked, 0 to 1
	RunQueue    *float64  `json:"run_queue_delay_s"`  // the threads that did its work were ready and waited for a CPU, summed up
	Steal       *float64  `json:"steal"`              // share of the machine's CPU time that the hypervisor gave to others
	Throttled   *float64  `json:"throttled_s"`        // its cgroup was held back by its quota
	Late        int64     `json:"sent_late"`          // over 1 ms late though a connection was free
	Held        int64     `json:"held"`               // due while every connection was busy
	Lingered    int64     `json:"not_closed"`         // connections that the server did not close within a second, though asked to
	SharesCPUs  *bool     `json:"shares_cpus"`        // a target is on this machine and may use the client's CPUs
	Connections int64     `json:"connections_opened"`
	MaxRSS      int64     `json:"max_rss_bytes"`
}

// A GateResult is what became of an --assert.
type GateResult struct {
	Expression string   `json:"expression"`
	Value      *float64 `json:"value"` // microseconds, per second, count or share; null if there is no such figure
	Says       string   `json:"says"`  // the outcome in words
	Holds      bool     `json:"holds"`
}

// Environment is the machine and what of its settings matters for the figures.
type Environment struct {
	Kernel     string            `json:"kernel"`
	CPU        string            `json:"cpu"`
	CPUs       int               `json:"cpus"`         // of the machine
	AllowedCPU int               `json:"allowed_cpus"` // the process may run on
	Memory     int64             `json:"memory_bytes"`
	Go         string            `json:"go"`
	Sysctls    map[string]string `json:"sysctls"`
	NoFile     uint64            `json:"rlimit_nofile"`
}
