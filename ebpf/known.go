package ebpf

import (
	"maps"
	"slices"

	"hotlap/ebpf/internal/procfs"
	"hotlap/ebpf/internal/prog"
)

// What a tier does not see, in words.
const (
	socketCounters  = "accept queues, drops of listeners, TCP_INFO"
	programCounters = "drops by reason, retransmits and RSTs by socket, connect latency and failures, exhausted ports"
)

// counts are the BPF programs that a counter comes from.
var counts = map[Counter][]string{
	Drops:                   {prog.KfreeSkb},
	BacklogDrops:            {prog.KfreeSkb},
	ReceiveBufferDrops:      {prog.KfreeSkb},
	Connects:                {prog.SetState},
	ConnectsEstablished:     {prog.SetState},
	ConnectFailures:         {prog.SetState},
	PortsExhausted:          {prog.SetState},
	PortsTaken:              {prog.SetState},
	Retransmits:             {prog.RetransmitSkb},
	RetransmitSockets:       {prog.RetransmitSkb, prog.SetState},
	FirstUnanswered:         {prog.RetransmitSkb, prog.SetState},
	SYNRetransmits:          {prog.RetransmitSkb},
	ConnectsUnanswered:      {prog.RetransmitSkb, prog.SetState},
	SYNACKRetransmits:       {prog.RetransmitSynack},
	SYNACKRetransmitSockets: {prog.RetransmitSynack},
	RSTsOut:                 {prog.SendReset},
	RSTsIn:                  {prog.ReceiveReset},
	PortSearches:            {prog.PortSearch, prog.SetState},
	PortSearchNs:            {prog.PortSearch, prog.SetState},
}

// deepOnly are not missed where deep mode was not asked for.
var deepOnly = []string{prog.DataReady, prog.PortSearch}

// knowPrograms says which counters the programs that run give, and what those
// that do not leave in the dark.
func (w *watcher) knowPrograms(p *prog.Programs) {
	for counter, programs := range counts {
		known := !slices.ContainsFunc(programs, func(name string) bool { return p.Missing[name] != "" })
		if slices.Contains(programs, prog.KfreeSkb) && !p.HasSockets() {
			known = false // what is seen of them is not all, and not that at sockets
		}
		if known {
			w.know(counter)
		}
	}
	if p.Missing[prog.KfreeSkb] == "" {
		if !p.HasReasons() {
			w.miss("reasons of drops", "kernels before 5.17 do not tell")
		}
		if !p.HasSockets() {
			w.miss("drops at sockets: of backlogs and receive buffers", "kernels before 6.11 do not tell the socket")
		}
	}
	if p.Missing[prog.SendReset] == "" && !p.HasAllResets() {
		w.miss("RSTs out that no socket sends, and the reasons of others", "kernels before 6.10 do not tell")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Missing)) {
		if w.options.Deep || !slices.Contains(deepOnly, name) {
			w.miss("what BPF program "+name+" counts", p.Missing[name])
		}
	}
}

// Which counters the rows of each kind have. The total has all.
var (
	ofListeners    = []Counter{ListenDrops, AcceptOverflows, SYNDrops, SYNACKRetransmits, SYNACKRetransmitSockets, Drops}
	ofServers      = []Counter{Drops, BacklogDrops, ReceiveBufferDrops, Retransmits, RSTsOut, RSTsIn}
	ofDestinations = []Counter{
		Connects, ConnectsEstablished, ConnectFailures, PortsExhausted, PortsTaken, PortSearches, PortSearchNs,
		SYNRetransmits, ConnectsUnanswered, Retransmits, RetransmitSockets, FirstUnanswered, Drops, BacklogDrops, ReceiveBufferDrops, RSTsOut, RSTsIn,
	}
)

// zeros are the counters of a list that are known, at zero.
func (w *watcher) zeros(list []Counter) Counts {
	c := Counts{}
	for _, k := range list {
		if w.known[k] {
			c[k] = 0
		}
	}
	return c
}

// Faults are the counters of what went wrong, in an order to print them. In
// a healthy run all are zero.
var Faults = []Counter{
	AcceptOverflows, SYNDrops, ListenDrops, BacklogDrops, ReceiveBufferDrops, Drops,
	Retransmits, SYNRetransmits, SYNACKRetransmits, RSTsOut, RSTsIn,
	ConnectFailures, PortsExhausted, PortsTaken,
}

// KernelFaults are those of the kernel's counters of the namespace, by the
// kernel's names.
var KernelFaults = kernelNames(
	procfs.ListenOverflows, procfs.ListenDrops, procfs.TCPReqQFullDrop, procfs.TCPReqQFullDoCookies,
	procfs.TCPBacklogDrop, procfs.TCPRcvQDrop, procfs.PruneCalled, procfs.RcvPruned, procfs.OfoPruned, procfs.TCPRcvCollapsed,
	procfs.RetransSegs, procfs.TCPSynRetrans, procfs.TCPTimeouts, procfs.TCPTimeWaitOverflow,
	procfs.OutRsts, procfs.EstabResets, procfs.AttemptFails, procfs.TCPAbortOnData,
	procfs.DeviceRxDropped, procfs.DeviceTxDropped, procfs.QdiscDrops, procfs.ConntrackDrop, procfs.ConntrackInsertFailed, procfs.ConntrackEarlyDrop,
)

func kernelNames(counters ...procfs.Counter) (names []Counter) {
	for _, c := range counters {
		names = append(names, Counter(c.String()))
	}
	return names
}
