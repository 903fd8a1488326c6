package ebpf

import "maps"

// Counter names a counter of the observer. Its text is what JSON and metrics call
// it, and does not change.
type Counter string

// The counters of sockets in scope.
const (
	// Of listening sockets.
	ListenDrops               Counter = "listen_drops"                // segments refused, for any cause
	AcceptOverflows           Counter = "accept_overflows"            // of these: segments refused because the accept queue was full
	AcceptOverflowConnections Counter = "accept_overflow_connections" // connections these belonged to, of clients in scope
	SYNDrops                  Counter = "syn_drops"                   // of the refused: for another cause, a full SYN queue above all
	SYNACKRetransmits         Counter = "synack_retransmits"          // segments
	SYNACKRetransmitSockets   Counter = "synack_retransmit_sockets"   // connections with at least one

	// Of connections.
	Drops              Counter = "drops"                // segments thrown away, for any reason
	BacklogDrops       Counter = "backlog_drops"        // of these: the socket's backlog was full
	ReceiveBufferDrops Counter = "receive_buffer_drops" // of these: its receive buffer, or TCP's memory, was full
	Retransmits        Counter = "retransmits"          // segments of data
	RetransmitSockets  Counter = "retransmit_sockets"   // client sockets with at least one
	RSTsOut            Counter = "rsts_out"
	RSTsIn             Counter = "rsts_in"

	// Of clients.
	Connects            Counter = "connects"             // begun
	ConnectsEstablished Counter = "connects_established" // in ConnectLatency
	ConnectFailures     Counter = "connect_failures"     // after a SYN was sent, by errno
	PortsExhausted      Counter = "ports_exhausted"      // connects that found no free local port
	PortsTaken          Counter = "ports_taken"          // connects from a bound port whose tuple was in use
	SYNRetransmits      Counter = "syn_retransmits"
	ConnectsUnanswered  Counter = "connects_unanswered"   // whose first SYN got no answer: it was sent again, or the connect given up
	FirstUnanswered     Counter = "first_data_unanswered" // whose first SYN got one, but whose first data was sent again, as none was acknowledged
	PortSearches        Counter = "port_searches"         // for a free local port; deep mode
	PortSearchNs        Counter = "port_search_ns"        // spent in them, nanoseconds
)

// Counts are counters by name. A counter that is absent is not known: the tier,
// the kernel, or the scope does not show it. It is never shown as zero.
type Counts map[Counter]uint64

// Get returns a counter, and whether it is known.
func (c Counts) Get(k Counter) (uint64, bool) {
	n, known := c[k]
	return n, known
}

// minus returns what was counted after before. What went down was counted anew: 0.
func (c Counts) minus(before Counts) Counts {
	d := maps.Clone(c)
	for k, n := range c {
		d[k] = n - min(n, before[k])
	}
	return d
}

// Reasons break counters down: Reasons[Drops]["SOCKET_BACKLOG"]. Drops and RSTs
// out go by the kernel's reason, connect failures by errno, RSTs in by the state
// of the socket that got them.
type Reasons map[Counter]map[string]uint64

func (r Reasons) add(k Counter, reason string, n uint64) {
	if r[k] == nil {
		r[k] = map[string]uint64{}
	}
	r[k][reason] += n
}

// minus leaves out what did not happen.
func (r Reasons) minus(before Reasons) Reasons {
	d := Reasons{}
	for k, reasons := range r {
		for reason, n := range reasons {
			if was := before[k][reason]; n > was {
				d.add(k, reason, n-was)
			}
		}
	}
	return d
}
