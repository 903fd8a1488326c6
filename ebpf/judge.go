// Package ebpf says whether a run of load can be believed. Judge weighs what
// the client knows of itself; the observer of what the kernel did to its sockets
// will add its evidence to the same judgement.
package ebpf

import (
	"fmt"
	"time"
)

// Bound is what kept a run from going faster.
type Bound string

const (
	BoundPacer   Bound = "pacer"   // nothing: it went as fast as was asked
	BoundClient  Bound = "client"  // the sender, or the machine under it
	BoundPath    Bound = "path"    // the network between
	BoundServer  Bound = "server"  // the server
	BoundUnknown Bound = "unknown" // the evidence does not tell
)

// Valid is whether the figures of a run are those of what was tested.
type Valid string

const (
	ValidYes        Valid = "yes"
	ValidNo         Valid = "no"         // a finding spoils it
	ValidUnverified Valid = "unverified" // nothing speaks against it, and nobody watched the kernel
)

// Scope is how near to the run's own sockets evidence was taken. Only evidence
// of the socket scope may blame; the others support.
type Scope string

const (
	ScopeSocket    Scope = "socket" // of the run's own sockets, threads or requests
	ScopeNamespace Scope = "namespace"
	ScopeHost      Scope = "host"
)

// Certainty is how a finding came about.
type Certainty string

const (
	Measured Certainty = "measured"
	Inferred Certainty = "inferred"
)

// A Finding is one thing that happened in a run and what it rests on.
type Finding struct {
	Code     string    `json:"code"`              // such as "client_saturated"; stable
	Subject  string    `json:"subject"`           // whom it is about
	Count    int64     `json:"count,omitempty"`   // of events
	Affected int64     `json:"requests_affected"` // at least so many
	Evidence string    `json:"evidence"`          // the figures, in words
	Advice   string    `json:"advice,omitempty"`  // what to do
	Source   string    `json:"source"`            // where the figures were read
	Scope    Scope     `json:"scope"`
	Sure     Certainty `json:"certainty"`
	Spoils   bool      `json:"spoils"` // the run is not valid because of it
}

// A Verdict is the judgement on a run.
type Verdict struct {
	Bound    Bound     `json:"bound"`
	Valid    Valid     `json:"valid"`
	Why      string    `json:"why"` // of Valid and Bound, in a sentence
	Findings []Finding `json:"findings"`
}

// ClientFigures is what a run knows of its own client. What could not be read
// is negative.
type ClientFigures struct {
	Elapsed  time.Duration // of the measured part
	Requests int64         // in it
	Failed   int64         // of these, without a response, or with one that is not 2xx

	Open     bool    // requests had due times
	Asked    float64 // requests per second that were due
	Achieved float64 // of these, sent and answered
	Held     int64   // requests that were due while every connection was busy
	Unsent   int64   // due and never sent
	Late     int64   // sent more than LateAfter after they were due though a connection was free

	Busy      []float64     // of each loop: the share of the time in which it worked
	RunQueue  time.Duration // the process's threads waited for a CPU, summed up
	Throttled time.Duration // its cgroup was held back by its quota
	Steal     float64       // the share of the machine's CPU time that the hypervisor gave to others
	CPU       time.Duration // the process's user and system time
	CPUs      int           // it may run on

	Loopback   bool // every target is on this machine
	ServerCPUs bool // and may use the CPUs of the client
}

// Thresholds of the judgement.
const (
	// LateAfter is how late a request may be sent by the client's own fault.
	LateAfter = time.Millisecond
	// spoilsRequests is the share of requests a fault must touch to spoil a run.
	spoilsRequests = 0.001
	// saturated is the share of time from which a loop counts as having no rest.
	saturated = 0.95
	// starved is the share of the time for which the client's threads may wait
	// for a CPU, or its cgroup may hold it back; worthSaying is the share from
	// which that is said at all.
	starved     = 0.1
	worthSaying = 0.02
	// stolen is the share of CPU time that others may take from the machine.
	stolen = 0.05
	// rateKept is the share of the asked rate that has to be achieved.
	rateKept = 0.999
)

// Judge weighs the evidence: what bound the run, and whether it is valid. delta
// is what an observer saw of the measured part (Sub); the zero Sample says that
// nobody watched. It is pure.
func Judge(delta Sample, c ClientFigures) Verdict {
	v := Verdict{Valid: ValidUnverified, Findings: c.findings()}
	clientAtFault := false
	for _, f := range v.Findings {
		clientAtFault = clientAtFault || f.Spoils
	}
	kept := c.Open && c.Unsent == 0 && c.Achieved >= rateKept*c.Asked
	switch {
	case clientAtFault:
		v.Valid, v.Bound = ValidNo, BoundClient
		v.Why = "the client, or the machine under it, shaped the figures"
	case kept:
		v.Bound, v.Why = BoundPacer, "the asked rate was kept"
	case c.Loopback && c.Requests > 0:
		v.Bound, v.Why = BoundServer, "the client had time to spare and there is no network between"
	default:
		v.Bound, v.Why = BoundUnknown, "the client had time to spare; server and network are not told apart"
	}
	if v.Valid == ValidUnverified {
		v.Why += "; nobody watched the kernel's queues and drops"
	}
	return v
}

// findings are those that the client's own figures show.
func (c *ClientFigures) findings() []Finding {
	list := []Finding{}
	add := func(f Finding) {
		if f.Sure == "" {
			f.Sure = Measured
		}
		list = append(list, f)
	}
	for i, busy := range c.Busy {
		if busy >= saturated {
			add(Finding{
				Code: "client_saturated", Subject: fmt.Sprintf("loop %d", i), Affected: c.Requests / int64(len(c.Busy)), Spoils: true,
				Evidence: fmt.Sprintf("busy for %.1f %% of the time", 100*busy),
				Advice:   "the figures show how fast the client is: give it more loops (--loops), more CPU, or ask for a rate (-R)",
				Source:   "the loop's own clock", Scope: ScopeSocket,
			})
		}
	}
	if cores := max(1, min(len(c.Busy), c.CPUs)); len(list) == 0 && ratio(c.CPU, c.Elapsed) >= saturated*float64(cores) {
		add(Finding{
			Code: "client_saturated", Subject: "client", Affected: c.Requests, Spoils: true,
			Evidence: fmt.Sprintf("it used %v of CPU in %v, and its loops can use %d", c.CPU.Round(time.Millisecond), c.Elapsed.Round(time.Millisecond), cores),
			Advice:   "the figures show how fast the client is: give it more CPU, or ask for a rate (-R)",
			Source:   "getrusage", Scope: ScopeSocket,
		})
	}
	if c.Failed > 0 {
		add(Finding{
			Code: "requests_failed", Subject: "requests", Count: c.Failed, Affected: c.Failed,
			Evidence: fmt.Sprintf("%d of %d requests got no response, or one that is not 2xx", c.Failed, c.Requests),
			Advice:   "look at the errors and statuses before you trust the times of the rest",
			Source:   "responses", Scope: ScopeSocket,
		})
	}
	if share := ratio(c.RunQueue, c.Elapsed); share >= worthSaying {
		add(Finding{
			Code: "client_waited_for_cpu", Subject: "client", Affected: int64(min(share, 1) * float64(c.Requests)), Spoils: share >= starved,
			Evidence: fmt.Sprintf("its threads were ready and waited for a CPU for %v in %v", c.RunQueue.Round(time.Millisecond), c.Elapsed.Round(time.Millisecond)),
			Advice:   "leave the client CPUs of its own (taskset, cpuset), or run fewer other programs",
			Source:   "/proc/self/task/*/schedstat", Scope: ScopeSocket,
		})
	}
	if share := ratio(c.Throttled, c.Elapsed); share >= worthSaying {
		add(Finding{
			Code: "client_throttled", Subject: "client's cgroup", Affected: int64(min(share, 1) * float64(c.Requests)), Spoils: share >= starved,
			Evidence: fmt.Sprintf("held back for %v by its CPU quota", c.Throttled.Round(time.Millisecond)),
			Advice:   "raise cpu.max of the cgroup",
			Source:   "cpu.stat", Scope: ScopeSocket,
		})
	}
	if c.Steal >= stolen {
		add(Finding{
			Code: "cpu_stolen", Subject: "machine", Affected: c.Requests,
			Evidence: fmt.Sprintf("the hypervisor gave %.1f %% of the CPU time to others", 100*c.Steal),
			Advice:   "compare only runs taken side by side, or use a machine of your own",
			Source:   "/proc/stat", Scope: ScopeHost,
		})
	}
	if c.Late > 0 {
		add(Finding{
			Code: "sent_late", Subject: "client", Count: c.Late, Affected: c.Late, Spoils: touches(c.Late, c.Requests),
			Evidence: fmt.Sprintf("%d requests were sent more than %v after they were due though a connection was free", c.Late, LateAfter),
			Advice:   "ask for a lower rate, or give the client more CPU",
			Source:   "schedule", Scope: ScopeSocket,
		})
	}
	if c.Held > 0 || c.Unsent > 0 {
		add(Finding{
			Code: "connections_busy", Subject: "connections", Count: c.Held + c.Unsent, Affected: c.Held + c.Unsent,
			Evidence: fmt.Sprintf("%d requests were due while every connection waited for an answer, %d of them were never sent", c.Held+c.Unsent, c.Unsent),
			Advice:   "the wait is in the response time; more connections (-c) or pipelining (-p) would let them go in time",
			Source:   "schedule", Scope: ScopeSocket,
		})
	}
	if c.ServerCPUs {
		add(Finding{
			Code: "server_shares_cpus", Subject: "server", Affected: c.Requests, Sure: Inferred,
			Evidence: fmt.Sprintf("a target is on this machine and may use the %d CPUs of the client", c.CPUs),
			Advice:   "pin client and server to CPUs of their own (taskset) before you compare figures",
			Source:   "sched_getaffinity", Scope: ScopeHost,
		})
	}
	return list
}

// touches says whether so many requests are enough to spoil a run.
func touches(n, of int64) bool { return n > 0 && float64(n) >= spoilsRequests*float64(of) }

func ratio(a, b time.Duration) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}
