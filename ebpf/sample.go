package ebpf

import (
	"net/netip"
	"time"
)

// Tier is how much an observer sees.
type Tier string

// The tiers, from the one that sees most.
const (
	TierBPF  Tier = "bpf"  // BPF programs, sock_diag and the kernel's counters: needs CAP_BPF and CAP_PERFMON
	TierDiag Tier = "diag" // sock_diag and the kernel's counters: needs no privilege
	TierProc Tier = "proc" // the kernel's counters
)

// A Sample is all that was seen since Open, or, from Sub, between two Samples.
type Sample struct {
	At      time.Time     `json:"at"`
	Elapsed time.Duration `json:"elapsed_ns"` // since Open, or between the two
	Tier    Tier          `json:"tier"`
	Unseen  []Unseen      `json:"unseen"` // what is not known, and why

	Total        Counts        `json:"total"` // of all sockets in scope, with those that are closed
	Reasons      Reasons       `json:"reasons"`
	Listeners    []Listener    `json:"listeners"`    // by address
	Shared       []Listener    `json:"shared"`       // sums of the Listeners that share an address (SO_REUSEPORT)
	Servers      []Server      `json:"servers"`      // by address
	Destinations []Destination `json:"destinations"` // by address

	Namespace Counts `json:"namespace"` // the kernel's counters of the network namespace, by the kernel's names
	Host      Counts `json:"host"`      // those of the whole machine
	Gauges    Counts `json:"gauges"`    // present values, of both

	// Lost is what the observer could not record, by the map that was full.
	// Retransmits are those of the namespace, whatever the ports, for which the kernel
	// did not run the BPF programs.
	Lost     Counts    `json:"lost"`
	Examples []Example `json:"examples,omitempty"`

	// SYNTimeouts are when after a connect its SYN is sent again, by the settings
	// of the namespace at Open; after the last the connect fails. A connect that took
	// a little longer than one of them lost as many SYNs. Empty: not known.
	SYNTimeouts []time.Duration `json:"syn_timeouts_ns,omitempty"`

	Cost Cost `json:"cost"`
}

// Unseen is something that an observer does not see.
type Unseen struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Listener is a listening socket. Sockets that share a port by SO_REUSEPORT
// are one each.
type Listener struct {
	Cookie uint64         `json:"cookie"` // the kernel's number for the socket; 0 in Shared
	Addr   netip.AddrPort `json:"addr"`
	Netns  uint32         `json:"netns"` // inode
	PID    int            `json:"pid,omitempty"`
	Cgroup uint64         `json:"cgroup,omitempty"` // id
	Closed bool           `json:"closed,omitempty"`

	// The accept queue: connections that wait to be accepted.
	Queue     uint32 `json:"queue"`
	Limit     uint32 `json:"limit"`      // Limit + 1 fit
	Peak      uint32 `json:"peak"`       // since Open
	PeakExact bool   `json:"peak_exact"` // else it is "at least": looked at 20 times a second

	Counts  Counts  `json:"counts"`
	Reasons Reasons `json:"reasons,omitempty"`
}

// Server is the connections of a port that is listened on.
type Server struct {
	Addr    netip.AddrPort `json:"addr"`
	Netns   uint32         `json:"netns"`
	Counts  Counts         `json:"counts"`
	Reasons Reasons        `json:"reasons,omitempty"`
}

// Destination is the connections that clients in scope have to one address.
type Destination struct {
	Addr           netip.AddrPort `json:"addr"`
	Netns          uint32         `json:"netns"`
	Counts         Counts         `json:"counts"`
	Reasons        Reasons        `json:"reasons,omitempty"`
	ConnectLatency Histogram      `json:"connect_latency_us"`
	PortSearchMax  time.Duration  `json:"port_search_max_ns,omitempty"` // since Open; deep mode
	TCP            *Evidence      `json:"tcp,omitempty"`                // nil: not known, or not just now (Read)
}

// Evidence is what the TCP_INFO of a client's sockets says of a destination.
type Evidence struct {
	Open           int           `json:"open"`       // sockets, at the time of the sample
	Closed         uint64        `json:"closed"`     // connections since Open, in TierBPF
	MinRTT         time.Duration `json:"min_rtt_ns"` // the shortest round trip since Open: the network's part; 0: none
	Busy           time.Duration `json:"busy_ns"`    // all sockets' time with data to send, summed up
	ReceiveLimited time.Duration `json:"receive_limited_ns"`
	SendLimited    time.Duration `json:"send_limited_ns"` // of Busy: held up by the peer's receive window, by the own send buffer
	Clean          int           `json:"clean"`           // open, established sockets that never retransmitted
	Duplicates     uint64        `json:"duplicates"`      // segments that the peer got twice, as it said (DSACK): sent again for nothing
}

// Example is one fault of those that were counted.
type Example struct {
	At     time.Time      `json:"at"`
	What   Counter        `json:"what"`
	Reason string         `json:"reason,omitempty"`
	Addr   netip.AddrPort `json:"addr"` // of the listener, server or destination
	Peer   uint16         `json:"peer_port,omitempty"`
	PID    int            `json:"pid,omitempty"` // that called connect
}

// Cost is what the observer took.
type Cost struct {
	Setup time.Duration `json:"setup_ns"` // CPU time of Open: most of it goes into loading BPF programs
	CPU   time.Duration `json:"cpu_ns"`   // of its thread, since Open
	// Of its BPF programs. Nil: not known, ask with Options.RunStats.
	BPFRuns *uint64        `json:"bpf_runs,omitempty"`
	BPF     *time.Duration `json:"bpf_ns,omitempty"`
}
