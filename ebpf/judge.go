// Package ebpf says whether a run of load can be believed. An Observer sees what
// the kernel does to sockets while the run goes on; Judge weighs that, and what
// the client knows of itself.
//
// How Judge goes, without the kernel:
//
//  1. The client's own figures become findings (judge_client.go), then what
//     happened to the sockets of the run's targets: those that listen
//     (judge_listeners.go) and those of connections (judge_connections.go). The
//     counters of the namespace and the machine support (judge_support.go).
//  2. A finding that touches enough requests spoils the run.
//  3. What spoiled it most says what bound it; if nothing did, the client's rest,
//     the network's round trip and the schedule say it.
//  4. A run that nothing spoiled is valid only if all that could have was watched.
package ebpf

import (
	"fmt"
	"net/netip"
	"time"

	"hotlap/ebpf/internal/procfs"
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
	ValidYes        Valid = "yes"        // nothing spoils it, and all that could was watched
	ValidNo         Valid = "no"         // a finding spoils it
	ValidUnverified Valid = "unverified" // nothing is known to spoil it, and not all was watched
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
	Code    string `json:"code"`            // such as "client_saturated"; stable, see judge_*.go
	Subject string `json:"subject"`         // whom it is about
	Count   int64  `json:"count,omitempty"` // of events
	// Affected is how many requests it touched: at least one for each connection,
	// or where segments were counted, one for each segment.
	Affected int64     `json:"requests_affected"`
	Evidence string    `json:"evidence"`         // the figures, in words
	Advice   string    `json:"advice,omitempty"` // what to do
	Source   string    `json:"source"`           // where the figures were read
	Scope    Scope     `json:"scope"`
	Sure     Certainty `json:"certainty"`
	Spoils   bool      `json:"spoils"` // the run is not valid because of it

	blames Bound // what bound the run, if this spoils it
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

	// Lingered are connections that the server did not close within a second of the
	// last response, though it was asked to: each took a place until then.
	Lingered int64

	P99      time.Duration // of the response times; 0: not known
	AboveP99 int64         // requests that took longer than P99
	// FirstByte is the median time from a request written to the first byte of
	// its response; 0: not known.
	FirstByte time.Duration

	Busy      []float64     // of each loop: the share of the time in which it worked
	RunQueue  time.Duration // the threads that did the loops' work waited for a CPU, summed up
	Throttled time.Duration // its cgroup was held back by its quota
	Steal     float64       // the share of the machine's CPU time that the hypervisor gave to others
	CPU       time.Duration // the process's user and system time
	CPUs      int           // it may run on

	// Targets are the addresses that were connected to. Sockets of others are no
	// concern of the run. MoreTargets: there were others, too many to know.
	Targets     []netip.AddrPort
	MoreTargets bool
	Connections int // open at once, at most

	Loopback   bool // every target is on this machine
	ServerCPUs bool // and may use the CPUs of the client
}

// Thresholds of the judgement.
const (
	// LateAfter is how late a request may be sent by the client's own fault.
	LateAfter = time.Millisecond
	// spoilsRequests is the share of requests a fault must touch to spoil a run;
	// spoilsSlowest is the share of those that took longer than the 99th percentile.
	spoilsRequests = 0.001
	spoilsSlowest  = 0.1
	// saturated is the share of time from which a loop counts as having no rest.
	saturated = 0.95
	// starved is the share of their time for which the client's loops may wait
	// for a CPU, its cgroup may hold it back, or its connections may wait for room
	// to send; worthSaying is the share from which that is said at all.
	starved     = 0.1
	worthSaying = 0.02
	// stolen is the share of CPU time that others may take from the machine.
	stolen = 0.05
	// rateKept is the share of the asked rate that has to be achieved.
	rateKept = 0.999
	// mostlyPath is the share of the time to the first byte from which it is the
	// network's, if it goes into the round trip.
	mostlyPath = 0.5
	// quietAfter is how many retransmits established connections must have been
	// spared, if the path had lost as many of their segments as of SYNs, before
	// the path is believed to lose none.
	quietAfter = 5
)

// Judge weighs the evidence: what bound the run, and whether it is valid. delta
// is what an observer saw of the measured part (Sub); the zero Sample says that
// nobody watched. It is pure.
func Judge(delta Sample, c ClientFigures) Verdict {
	v := Verdict{Valid: ValidYes, Findings: c.findings()}
	v.Findings = append(v.Findings, kernelFindings(&delta, &c)...)
	spoiled := worst(v.Findings)
	v.Bound, v.Why = c.bound(&delta, spoiled)
	if spoiled != nil {
		v.Valid = ValidNo
	} else if blind := c.unwatched(&delta); blind != "" {
		v.Valid = ValidUnverified
		v.Why += "; " + blind
	}
	return v
}

// worst is the finding that says what bound a spoiled run: the one that touched
// most requests, and the first of equals, which is the client's. But where nearly all
// connects were refused a client is busy because they are. It is nil if none spoils.
func worst(all []Finding) (w *Finding) {
	for i := range all {
		f := &all[i]
		if f.Spoils && (w == nil || f.Affected > w.Affected || f.Code == connectsRefused && 10*f.Affected >= 9*w.Affected) {
			w = f
		}
	}
	return w
}

func (c *ClientFigures) bound(d *Sample, spoiled *Finding) (Bound, string) {
	kept := c.Open && c.Requests > 0 && c.Unsent == 0 && c.Achieved >= rateKept*c.Asked
	switch {
	case spoiled != nil && spoiled.blames == BoundClient:
		return BoundClient, "the client, or the machine under it, shaped the figures"
	case spoiled != nil:
		return spoiled.blames, spoiled.Subject + ": " + spoiled.Evidence
	case kept:
		return BoundPacer, "the asked rate was kept"
	case c.Loopback && c.Requests > 0:
		return BoundServer, "the client had time to spare and there is no network between"
	}
	switch rtt := c.roundTrip(d); {
	case c.Requests == 0:
		return BoundUnknown, "no request was measured"
	case rtt == 0:
		return BoundUnknown, "the client had time to spare; server and network are not told apart"
	case float64(rtt) >= mostlyPath*float64(c.FirstByte):
		return BoundPath, fmt.Sprintf("the client had time to spare, and %v of the %v to the first byte is the network's round trip", rtt, c.FirstByte)
	default:
		return BoundServer, fmt.Sprintf("the client had time to spare, and the network's round trip is only %v of the %v to the first byte", rtt, c.FirstByte)
	}
}

// roundTrip is the longest of the targets' shortest round trips, 0 if it, or
// what to compare it with, is not known.
func (c *ClientFigures) roundTrip(d *Sample) (rtt time.Duration) {
	if c.FirstByte <= 0 || c.Requests == 0 {
		return 0
	}
	for i := range d.Destinations {
		if t := &d.Destinations[i]; t.TCP != nil && c.isTarget(t.Addr) {
			rtt = max(rtt, t.TCP.MinRTT)
		}
	}
	return rtt
}

// necessary are the counters that a run cannot be valid without.
var necessary = []Counter{
	AcceptOverflows, SYNDrops, BacklogDrops, ReceiveBufferDrops, Retransmits, SYNACKRetransmitSockets,
	RSTsIn, ConnectFailures, ConnectsUnanswered, PortsExhausted, PortsTaken,
}

// wider are counters of the whole namespace that count what one of sockets does: where
// they are zero that is too.
var wider = map[Counter][]procfs.Counter{
	BacklogDrops:       list(procfs.TCPBacklogDrop),
	ReceiveBufferDrops: list(procfs.TCPRcvQDrop, procfs.TCPOFODrop),
}

func ruledOut(d *Sample, k Counter) bool {
	for _, wide := range wider[k] {
		if n, known := d.Namespace.Get(Counter(wide.String())); !known || n > 0 {
			return false
		}
	}
	return len(wider[k]) > 0
}

// unwatched says what of that which could spoil the run nobody watched, or that
// there was no run to watch; "" if all was.
func (c *ClientFigures) unwatched(d *Sample) string {
	switch {
	case c.Failed >= c.Requests:
		return "there are no times of good responses to judge"
	case d.Tier == "":
		return "nobody watched the kernel's queues and drops"
	case d.Tier != TierBPF:
		return fmt.Sprintf("the observer's tier %s does not see %s", d.Tier, programCounters)
	case c.MoreTargets:
		return "there were more addresses than are known"
	case len(c.Targets) == 0:
		return "no address is known whose connections to look at"
	}
	for _, k := range necessary {
		if _, known := d.Total.Get(k); !known && !ruledOut(d, k) {
			return fmt.Sprintf("the observer does not see %s on this kernel", k)
		}
	}
	for _, u := range d.Unseen {
		if u.What == unseenQueues {
			return fmt.Sprintf("the observer could not read %s: %s", u.What, u.Why)
		}
	}
	for what, n := range d.Lost {
		switch {
		case n == 0 || harmless[what]:
		case what != Retransmits:
			return "the observer could not record all"
		case c.spoiled(int64(n), 0):
			return "the observer missed retransmits that may have been the run's"
		}
	}
	for _, t := range c.Targets {
		if !saw(d, unmapped(t)) {
			return fmt.Sprintf("the observer saw no connection to %v", t)
		}
	}
	return ""
}

// harmless are the losses of an observer that no finding depends on.
var harmless = map[Counter]bool{"examples": true, "accept_peak": true}

func saw(d *Sample, at netip.AddrPort) bool {
	for i := range d.Destinations {
		if d.Destinations[i].Addr == at {
			return true
		}
	}
	return false
}

func (c *ClientFigures) isTarget(at netip.AddrPort) bool {
	for _, t := range c.Targets {
		if unmapped(t) == at {
			return true
		}
	}
	return false
}

// spoiled says whether so many requests are enough to spoil the run. Each took
// at least cost longer for it: if that is more than the 99th percentile, it is among
// the slowest. A cost of 0 is not known.
func (c *ClientFigures) spoiled(n int64, cost time.Duration) bool {
	return touches(n, c.Requests, spoilsRequests) ||
		c.P99 > 0 && cost > c.P99 && c.AboveP99 > 0 && touches(n, c.AboveP99, spoilsSlowest)
}

func touches(n, of int64, share float64) bool { return n > 0 && float64(n) >= share*float64(of) }

func ratio(a, b time.Duration) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}
