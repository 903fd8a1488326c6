package ebpf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/procfs"
	"hotlap/ebpf/internal/prog"
)

// sample puts together what there is to see; all, with TCP_INFO as it is now.
func (w *watcher) sample(all bool) (Sample, error) {
	w.readCounters()
	c := collection{w: w, servers: map[place]*Server{}, destinations: map[place]*Destination{}, listeners: map[uint64]*Listener{}}
	c.Sample = Sample{
		At: time.Now(), Elapsed: time.Since(w.start), Tier: w.tier(), Unseen: w.allUnseen(),
		Total: w.allZero(), Reasons: Reasons{}, Lost: Counts{},
		Namespace: Counts{}, Host: Counts{}, Gauges: Counts{}, SYNTimeouts: w.synTimeouts,
	}
	c.kernel()
	c.queues()
	moved, err := c.programs()
	if err != nil {
		return Sample{}, err
	}
	w.readEvidence(moved, all)
	c.tcp()
	c.rows()
	c.affected()
	c.Cost.Setup, c.Cost.CPU = w.setup, threadCPU()-w.setup
	return c.Sample, nil
}

// A collection is a Sample that is being made.
type collection struct {
	Sample
	w            *watcher
	listeners    map[uint64]*Listener
	servers      map[place]*Server
	destinations map[place]*Destination
}

// kernel takes the kernel's own counters.
func (c *collection) kernel() {
	d := procfs.Sub(&c.w.now, &c.w.base)
	for k := procfs.Counter(0); int(k) < procfs.NumCounters; k++ {
		n, known := d.Get(k)
		switch name := Counter(k.String()); {
		case !known:
		case k.Gauge():
			c.Gauges[name] = n
		case k.Scope() == procfs.Host:
			c.Host[name] = n
		default:
			c.Namespace[name] = n
		}
	}
}

// queues takes the listeners in scope.
func (c *collection) queues() {
	unowned := map[uint32]int{}
	for cookie, k := range c.w.queues.listeners {
		if !k.scoped {
			continue
		}
		l := k.Listener
		l.Reasons = Reasons{}
		l.Counts = c.w.zeros(ofListeners)
		l.Counts[ListenDrops], l.Counts[AcceptOverflows], l.Counts[SYNDrops] = k.refused.all, k.refused.overflow, k.refused.other
		for _, counter := range []Counter{ListenDrops, AcceptOverflows, SYNDrops} {
			c.Total[counter] += l.Counts[counter]
		}
		c.listeners[cookie] = &l
		if k.PID == 0 && !k.Closed && !k.sought {
			unowned[k.inode] = 0
		}
	}
	if len(unowned) == 0 {
		return
	}
	ownersOf(unowned)
	for cookie, l := range c.listeners {
		k := c.w.queues.listeners[cookie]
		if pid, sought := unowned[k.inode]; sought {
			k.PID, k.sought, l.PID = pid, true, pid
		}
	}
}

// kinds are the counters of the programs' kinds of faults.
var kinds = [prog.Kinds]Counter{
	prog.Drop: Drops, prog.ConnectFailed: ConnectFailures, prog.PortsExhausted: PortsExhausted, prog.PortTaken: PortsTaken,
	prog.RetransData: Retransmits, prog.RetransDataSockets: RetransmitSockets, prog.FirstUnanswered: FirstUnanswered,
	prog.RetransSYN: SYNRetransmits, prog.Unanswered: ConnectsUnanswered,
	prog.RetransSYNACK: SYNACKRetransmits, prog.RetransSYNACKSockets: SYNACKRetransmitSockets,
	prog.RSTOut: RSTsOut, prog.RSTIn: RSTsIn,
}

// dropCounters are the counters that the kernel's reasons for drops belong to.
var dropCounters = map[string]Counter{
	"SOCKET_BACKLOG": BacklogDrops,
	"SOCKET_RCVBUFF": ReceiveBufferDrops,
	"PROTO_MEM":      ReceiveBufferDrops,
}

// programs takes what the BPF programs counted, of which moved are the connects,
// and the sockets that they have the final totals of.
func (c *collection) programs() (moved uint64, err error) {
	w := c.w
	if w.programs == nil {
		return 0, nil
	}
	counted, err := w.programs.Read()
	if err != nil {
		return 0, err
	}
	for _, t := range counted.Traffic {
		moved += t.Connects + t.Closed
	}
	for kind, n := range counted.Totals {
		c.count(c.Total, kinds[kind], n)
	}
	for fault, n := range counted.Faults {
		c.fault(fault, n)
	}
	for who, t := range counted.Traffic {
		c.traffic(who, t)
	}
	for cookie, peak := range counted.Peaks {
		if k := w.queues.listeners[cookie]; k != nil && !w.missing(prog.DataReady) {
			k.Peak, k.PeakExact = max(k.Peak, peak), true
		}
		if l := c.listeners[cookie]; l != nil {
			l.Peak, l.PeakExact = max(l.Peak, peak), true
		}
	}
	for what, n := range counted.Lost {
		c.Lost[Counter(what)] = n
	}
	c.missedRetransmits(counted.Retransmitted)
	if err := c.examples(); err != nil {
		return 0, err
	}
	if w.runStats == nil {
		return moved, nil
	}
	runs, spent, err := w.programs.RunTime()
	c.Cost.BPFRuns, c.Cost.BPF = &runs, &spent
	return moved, err
}

// missedRetransmits says how many segments the kernel counted as sent again without
// running the programs for them. Its counters are those since the programs were
// attached, and were read before the programs': of what happens meanwhile nothing is missed.
func (c *collection) missedRetransmits(seen uint64) {
	w := c.w
	if w.options.AllNetns || w.missing(prog.RetransmitSkb) || w.missing(prog.RetransmitSynack) {
		return
	}
	// On older kernels a retransmit that fails at once does not reach the programs.
	seen += c.Namespace[Counter(procfs.TCPRetransFail.String())]
	if sent := c.Namespace[Counter(procfs.RetransSegs.String())]; sent > seen {
		c.Lost[Retransmits] = sent - seen
	}
}

// count adds to a counter if all that it comes from is there.
func (c *collection) count(to Counts, k Counter, n uint64) {
	if c.w.known[k] {
		to[k] += n
	}
}

// fault takes one fault of one subject. The totals have it already, all but
// those of a drop's reason.
func (c *collection) fault(f prog.Fault, n uint64) {
	counter := kinds[f.Kind]
	counts, reasons := c.rowOf(f.Who)
	c.count(counts, counter, n)
	if f.Code != "" {
		c.Reasons.add(counter, f.Code, n)
		reasons.add(counter, f.Code, n)
	}
	if special, ok := dropCounters[f.Code]; ok && f.Kind == prog.Drop {
		c.count(counts, special, n)
		c.count(c.Total, special, n)
	}
}

// traffic takes the connects to one destination.
func (c *collection) traffic(who prog.Subject, t prog.Traffic) {
	add := func(to Counts) {
		c.count(to, Connects, t.Connects)
		c.count(to, ConnectsEstablished, t.Established)
		c.count(to, PortSearches, t.Searches)
		c.count(to, PortSearchNs, uint64(t.SearchTime))
	}
	add(c.Total)
	if who.Role != prog.Client {
		return // those that the full map had no room for
	}
	d := c.destination(place{who.Netns, who.Addr})
	add(d.Counts)
	d.ConnectLatency = t.Latency
	d.PortSearchMax = t.SearchMax
	if !c.w.missing(prog.SetState) {
		d.TCP = &Evidence{Closed: t.Closed, MinRTT: t.MinRTT, Busy: t.Busy, ReceiveLimited: t.Receive, SendLimited: t.Send, Duplicates: t.Duplicates}
	}
}

// tcp adds what TCP_INFO says of the sockets that are open. Without it, the
// totals of those that are closed would look like those of all.
func (c *collection) tcp() {
	if c.w.evidence.open == nil {
		for _, d := range c.destinations {
			d.TCP = nil
		}
	}
	for addr, open := range c.w.evidence.open {
		d := c.destination(place{c.w.netns, addr})
		e := *open
		if d.TCP != nil { // of those that are closed
			e.Closed = d.TCP.Closed
			e.MinRTT = shorter(e.MinRTT, d.TCP.MinRTT)
			e.Busy += d.TCP.Busy
			e.ReceiveLimited += d.TCP.ReceiveLimited
			e.SendLimited += d.TCP.SendLimited
			e.Duplicates += d.TCP.Duplicates
		}
		d.TCP = &e
	}
}

// rowOf finds the row of a subject.
func (c *collection) rowOf(who prog.Subject) (Counts, Reasons) {
	at := place{who.Netns, who.Addr}
	switch who.Role {
	case prog.Listener:
		l := c.listeners[who.Cookie]
		if l == nil { // closed before it was polled, or in another namespace
			l = &Listener{Cookie: who.Cookie, Addr: who.Addr, Netns: who.Netns, Closed: who.Netns == c.w.netns, Counts: c.w.zeros(ofListeners), Reasons: Reasons{}}
			for _, polled := range []Counter{ListenDrops, AcceptOverflows, SYNDrops} {
				delete(l.Counts, polled)
			}
			c.listeners[who.Cookie] = l
		}
		return l.Counts, l.Reasons
	case prog.Server:
		s := c.servers[at]
		if s == nil {
			s = &Server{Addr: at.addr, Netns: at.netns, Counts: c.w.zeros(ofServers), Reasons: Reasons{}}
			c.servers[at] = s
		}
		return s.Counts, s.Reasons
	case prog.Client:
		d := c.destination(at)
		return d.Counts, d.Reasons
	}
	return Counts{}, Reasons{}
}

func (c *collection) destination(at place) *Destination {
	d := c.destinations[at]
	if d == nil {
		d = &Destination{Addr: at.addr, Netns: at.netns, Counts: c.w.zeros(ofDestinations), Reasons: Reasons{}}
		c.destinations[at] = d
	}
	return d
}

// rows puts the rows in order.
func (c *collection) rows() {
	c.Listeners, c.Servers, c.Destinations = []Listener{}, []Server{}, []Destination{}
	for _, l := range c.listeners {
		c.Listeners = append(c.Listeners, *l)
	}
	for _, s := range c.servers {
		c.Servers = append(c.Servers, *s)
	}
	for _, d := range c.destinations {
		c.Destinations = append(c.Destinations, *d)
	}
	slices.SortFunc(c.Listeners, func(a, b Listener) int {
		return cmp.Or(byPlace(a.Netns, b.Netns, a.Addr, b.Addr), cmp.Compare(a.Cookie, b.Cookie))
	})
	slices.SortFunc(c.Servers, func(a, b Server) int { return byPlace(a.Netns, b.Netns, a.Addr, b.Addr) })
	slices.SortFunc(c.Destinations, func(a, b Destination) int { return byPlace(a.Netns, b.Netns, a.Addr, b.Addr) })
}

func byPlace(netnsA, netnsB uint32, a, b netip.AddrPort) int {
	return cmp.Or(cmp.Compare(netnsA, netnsB), a.Compare(b))
}

// maxExamples bounds the examples that are kept: the first ones.
const maxExamples = 256

func (c *collection) examples() error {
	w := c.w
	list, err := w.programs.Examples(4096) // the ring holds fewer
	if err != nil {
		return err
	}
	for _, e := range list {
		if len(w.examples) < maxExamples {
			w.examples = append(w.examples, Example{
				At: w.start.Add(e.At - w.startTime), What: kinds[e.Fault.Kind], Reason: e.Fault.Code,
				Addr: e.Fault.Who.Addr, Peer: e.Peer, PID: int(e.PID),
			})
		}
	}
	c.Examples = slices.Clone(w.examples)
	return nil
}

func (w *watcher) missing(program string) bool { return w.programs.Missing[program] != "" }

const unseenQueues = "accept queues since the last reading"

// allUnseen is what is not seen at all, and what could not be read just now.
func (w *watcher) allUnseen() []Unseen {
	list := append([]Unseen{}, w.unseen...)
	for i, what := range [...]string{unseenQueues, "the kernel's counters since the last reading", "TCP_INFO since the last reading"} {
		if w.failed[i] != nil {
			list = append(list, Unseen{what, w.failed[i].Error()})
		}
	}
	if pid := w.options.PID; pid != 0 && unix.Kill(pid, 0) == unix.ESRCH {
		list = append(list, Unseen{fmt.Sprintf("process %d", pid), "it has ended"})
	}
	return list
}

// allZero are all counters that are known, at zero.
func (w *watcher) allZero() Counts {
	c := Counts{}
	for k := range w.known {
		c[k] = 0
	}
	return c
}
