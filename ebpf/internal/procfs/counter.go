// Package procfs reads the counters that the kernel keeps of TCP, of receive
// queues, devices, queueing disciplines and connection tracking.
//
//  1. Open opens the files of the calling thread's network namespace. They stay
//     that namespace's, whatever thread reads them later.
//  2. Read reads them all into a Counters, in some 80 us and with a handful of
//     allocations (netlink's): it is polled.
//  3. Sub gives what happened between two readings.
//
// A counter that this kernel, or this namespace, does not have is absent, which
// is not the same as zero: Get says so.
package procfs

// Scope says whose events a counter counts.
type Scope uint8

const (
	Namespace Scope = iota + 1 // one network namespace
	Host                       // the machine, with all its namespaces
)

func (s Scope) String() string {
	switch s {
	case Namespace:
		return "namespace"
	case Host:
		return "host"
	}
	return "unknown scope"
}

// kind says how two readings of a counter are compared.
type kind uint8

const (
	total   kind = iota // counts up, 64 bits
	total32             // counts up, and starts again after 2^32 on each CPU
	gauge               // a present value
)

// Counter names a counter. Its String is the kernel's own name.
type Counter uint8

// The counters. Those without a comment are named by the kernel's
// Documentation/networking/snmp_counter.rst.
const (
	// Of /proc/net/snmp, group Tcp.
	ActiveOpens Counter = iota
	PassiveOpens
	AttemptFails // connections that ended before they were established
	EstabResets  // connections that ended from ESTABLISHED or CLOSE_WAIT at once
	CurrEstab
	InSegs
	OutSegs
	RetransSegs // of data, SYN and SYN-ACK
	TCPInErrs   // "InErrs" of group Tcp
	OutRsts
	TCPInCsumErrors // "InCsumErrors" of group Tcp

	// Of /proc/net/snmp, group Ip.
	IPInDiscards  // "InDiscards"
	IPOutDiscards // "OutDiscards"
	IPOutNoRoutes // "OutNoRoutes"

	// Of /proc/net/netstat, group TcpExt: a connection's beginning.
	ListenOverflows
	ListenDrops
	TCPReqQFullDrop
	TCPReqQFullDoCookies
	SyncookiesSent
	SyncookiesRecv
	SyncookiesFailed
	EmbryonicRsts
	TCPDeferAcceptDrop
	TCPMigrateReqFailure

	// Its retransmits.
	TCPSynRetrans // SYN and SYN-ACK
	TCPFastRetrans
	TCPSlowStartRetrans
	TCPLostRetransmit
	TCPTimeouts
	TCPLossProbes
	TCPSpuriousRTOs
	TCPRetransFail

	// Its receiving side.
	TCPBacklogDrop
	TCPRcvQDrop
	TCPZeroWindowDrop
	PruneCalled
	RcvPruned
	OfoPruned
	TCPRcvCollapsed
	TCPOFODrop
	TCPToZeroWindowAdv
	TCPMemoryPressures
	PFMemallocDrop
	BeyondWindow

	// Its end.
	TCPTimeWaitOverflow
	TW
	TWRecycled
	TCPAbortOnData
	TCPAbortOnClose
	TCPAbortOnMemory
	TCPAbortOnTimeout
	TCPAbortOnLinger
	TCPAbortFailed

	// Of /proc/net/sockstat. Orphans and sockets allocated are the machine's.
	TCPInUse     // "TCP: inuse", sockets
	TCPTimeWait  // "TCP: tw", sockets
	TCPOrphans   // "TCP: orphan", sockets
	TCPAllocated // "TCP: alloc", sockets
	TCPMemory    // "TCP: mem", pages

	// Of /proc/net/softnet_stat: the receive queues of all CPUs.
	SoftnetDropped     // packets that found net.core.netdev_max_backlog reached
	SoftnetTimeSqueeze // rounds that ended with packets left: budget or time was up
	SoftnetFlowLimit   // packets dropped by the flow limit

	// Of /proc/net/dev: the devices of the namespace, together.
	DeviceRxErrors
	DeviceRxDropped
	DeviceRxFIFO
	DeviceTxErrors
	DeviceTxDropped
	DeviceTxFIFO

	// Of rtnetlink: the queueing disciplines of the namespace, together.
	QdiscDrops
	QdiscRequeues
	QdiscOverlimits

	// Of /proc/net/stat/nf_conntrack.
	ConntrackEntries
	ConntrackInsertFailed
	ConntrackDrop
	ConntrackEarlyDrop

	NumCounters = int(iota)
)

// source is where a counter is read.
type source uint8

const (
	fromSNMP source = iota
	fromNetstat
	fromSockstat
	fromSoftnet
	fromDevices
	fromConntrack
	numFiles
	fromQdiscs = numFiles // the only one that is not a file
)

// files are relative to /proc/thread-self/net.
var files = [numFiles]string{
	fromSNMP:      "snmp",
	fromNetstat:   "netstat",
	fromSockstat:  "sockstat",
	fromSoftnet:   "softnet_stat",
	fromDevices:   "dev",
	fromConntrack: "stat/nf_conntrack",
}

// A definition is a counter's row in the table. The field is named as in its
// file; where that has numbered columns, column says which.
type definition struct {
	name   string
	from   source
	group  string
	field  string
	column int
	kind   kind
	scope  Scope
}

var definitions = [NumCounters]definition{
	CurrEstab:       {name: "CurrEstab", from: fromSNMP, group: "Tcp", kind: gauge},
	TCPInErrs:       {name: "Tcp.InErrs", from: fromSNMP, group: "Tcp", field: "InErrs"},
	TCPInCsumErrors: {name: "Tcp.InCsumErrors", from: fromSNMP, group: "Tcp", field: "InCsumErrors"},
	IPInDiscards:    {name: "Ip.InDiscards", from: fromSNMP, group: "Ip", field: "InDiscards"},
	IPOutDiscards:   {name: "Ip.OutDiscards", from: fromSNMP, group: "Ip", field: "OutDiscards"},
	IPOutNoRoutes:   {name: "Ip.OutNoRoutes", from: fromSNMP, group: "Ip", field: "OutNoRoutes"},

	TCPInUse:     {name: "sockstat.TCP.inuse", from: fromSockstat, group: "TCP", field: "inuse", kind: gauge},
	TCPTimeWait:  {name: "sockstat.TCP.tw", from: fromSockstat, group: "TCP", field: "tw", kind: gauge},
	TCPOrphans:   {name: "sockstat.TCP.orphan", from: fromSockstat, group: "TCP", field: "orphan", kind: gauge, scope: Host},
	TCPAllocated: {name: "sockstat.TCP.alloc", from: fromSockstat, group: "TCP", field: "alloc", kind: gauge, scope: Host},
	TCPMemory:    {name: "sockstat.TCP.mem", from: fromSockstat, group: "TCP", field: "mem", kind: gauge, scope: Host},

	SoftnetDropped:     {name: "softnet.dropped", from: fromSoftnet, column: 1, kind: total32, scope: Host},
	SoftnetTimeSqueeze: {name: "softnet.time_squeeze", from: fromSoftnet, column: 2, kind: total32, scope: Host},
	SoftnetFlowLimit:   {name: "softnet.flow_limit_count", from: fromSoftnet, column: 10, kind: total32, scope: Host},

	DeviceRxErrors:  {name: "dev.rx.errs", from: fromDevices, column: 2},
	DeviceRxDropped: {name: "dev.rx.drop", from: fromDevices, column: 3},
	DeviceRxFIFO:    {name: "dev.rx.fifo", from: fromDevices, column: 4},
	DeviceTxErrors:  {name: "dev.tx.errs", from: fromDevices, column: 10},
	DeviceTxDropped: {name: "dev.tx.drop", from: fromDevices, column: 11},
	DeviceTxFIFO:    {name: "dev.tx.fifo", from: fromDevices, column: 12},

	QdiscDrops:      {name: "qdisc.drops", from: fromQdiscs, kind: total32},
	QdiscRequeues:   {name: "qdisc.requeues", from: fromQdiscs, kind: total32},
	QdiscOverlimits: {name: "qdisc.overlimits", from: fromQdiscs, kind: total32},

	ConntrackEntries:      {name: "nf_conntrack.entries", from: fromConntrack, field: "entries", kind: gauge},
	ConntrackInsertFailed: {name: "nf_conntrack.insert_failed", from: fromConntrack, field: "insert_failed", kind: total32},
	ConntrackDrop:         {name: "nf_conntrack.drop", from: fromConntrack, field: "drop", kind: total32},
	ConntrackEarlyDrop:    {name: "nf_conntrack.early_drop", from: fromConntrack, field: "early_drop", kind: total32},
}

// Those whose field is their name: the table adds nothing to it.
var (
	tcpNames = map[Counter]string{
		ActiveOpens: "ActiveOpens", PassiveOpens: "PassiveOpens", AttemptFails: "AttemptFails",
		EstabResets: "EstabResets", InSegs: "InSegs", OutSegs: "OutSegs",
		RetransSegs: "RetransSegs", OutRsts: "OutRsts",
	}
	tcpExtNames = map[Counter]string{
		ListenOverflows: "ListenOverflows", ListenDrops: "ListenDrops",
		TCPReqQFullDrop: "TCPReqQFullDrop", TCPReqQFullDoCookies: "TCPReqQFullDoCookies",
		SyncookiesSent: "SyncookiesSent", SyncookiesRecv: "SyncookiesRecv", SyncookiesFailed: "SyncookiesFailed",
		EmbryonicRsts: "EmbryonicRsts", TCPDeferAcceptDrop: "TCPDeferAcceptDrop", TCPMigrateReqFailure: "TCPMigrateReqFailure",
		TCPSynRetrans: "TCPSynRetrans", TCPFastRetrans: "TCPFastRetrans", TCPSlowStartRetrans: "TCPSlowStartRetrans",
		TCPLostRetransmit: "TCPLostRetransmit", TCPTimeouts: "TCPTimeouts", TCPLossProbes: "TCPLossProbes",
		TCPSpuriousRTOs: "TCPSpuriousRTOs", TCPRetransFail: "TCPRetransFail",
		TCPBacklogDrop: "TCPBacklogDrop", TCPRcvQDrop: "TCPRcvQDrop", TCPZeroWindowDrop: "TCPZeroWindowDrop",
		PruneCalled: "PruneCalled", RcvPruned: "RcvPruned", OfoPruned: "OfoPruned",
		TCPRcvCollapsed: "TCPRcvCollapsed", TCPOFODrop: "TCPOFODrop", TCPToZeroWindowAdv: "TCPToZeroWindowAdv",
		TCPMemoryPressures: "TCPMemoryPressures", PFMemallocDrop: "PFMemallocDrop", BeyondWindow: "BeyondWindow",
		TCPTimeWaitOverflow: "TCPTimeWaitOverflow", TW: "TW", TWRecycled: "TWRecycled",
		TCPAbortOnData: "TCPAbortOnData", TCPAbortOnClose: "TCPAbortOnClose", TCPAbortOnMemory: "TCPAbortOnMemory",
		TCPAbortOnTimeout: "TCPAbortOnTimeout", TCPAbortOnLinger: "TCPAbortOnLinger", TCPAbortFailed: "TCPAbortFailed",
	}
)

// byField finds the counters of the files that name their fields. A string made
// from bytes to look something up in a map is not allocated.
var byField [numFiles]map[string]map[string]Counter

func init() {
	for c, name := range tcpNames {
		definitions[c] = definition{name: name, from: fromSNMP, group: "Tcp"}
	}
	for c, name := range tcpExtNames {
		definitions[c] = definition{name: name, from: fromNetstat, group: "TcpExt"}
	}
	for f := range byField {
		byField[f] = map[string]map[string]Counter{}
	}
	for i := range definitions {
		d := &definitions[i]
		if d.scope == 0 {
			d.scope = Namespace
		}
		if d.field == "" {
			d.field = d.name
		}
		if d.from == fromQdiscs || d.column != 0 {
			continue
		}
		if byField[d.from][d.group] == nil {
			byField[d.from][d.group] = map[string]Counter{}
		}
		byField[d.from][d.group][d.field] = Counter(i)
	}
}

// String is the kernel's name of the counter. Where the kernel's own would be
// ambiguous its group or file goes before it: "Tcp.InErrs", "softnet.dropped".
func (c Counter) String() string { return definitions[c].name }

// Scope says whose events it counts.
func (c Counter) Scope() Scope { return definitions[c].scope }

// Gauge says that it is a present value and not a total.
func (c Counter) Gauge() bool { return definitions[c].kind == gauge }

// Counters is one reading of all counters, or the difference of two.
type Counters struct {
	value   [NumCounters]uint64
	present [NumCounters]bool
}

// Get returns a counter, and false where it is absent.
func (c *Counters) Get(k Counter) (uint64, bool) { return c.value[k], c.present[k] }

// Set gives a counter a value: for tests of what reads Counters.
func (c *Counters) Set(k Counter, v uint64) { c.value[k], c.present[k] = v, true }

func (c *Counters) add(k Counter, v uint64) { c.Set(k, c.value[k]+v) }

// Sub returns what happened between before and after: the difference of totals,
// the later value of gauges. A counter that either lacks is absent. A total
// that went down (a device or a namespace's part of the sum went away) is 0.
func Sub(after, before *Counters) Counters {
	var d Counters
	for i := range d.value {
		if d.present[i] = after.present[i] && before.present[i]; !d.present[i] {
			continue
		}
		switch a, b := after.value[i], before.value[i]; {
		case definitions[i].kind == gauge:
			d.value[i] = a
		case definitions[i].kind == total32:
			// A sum of 32-bit counters is exact modulo 2^32.
			if n := uint32(a - b); int32(n) >= 0 {
				d.value[i] = uint64(n)
			}
		case a > b:
			d.value[i] = a - b
		}
	}
	return d
}
