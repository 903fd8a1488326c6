package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"hotlap/ebpf/internal/procfs"
)

// Provoked is what an injector did, and keeps open what it did it with.
type Provoked struct {
	// Events is how many times the fault happened: segments, or errors that the
	// application saw, as the injector says.
	Events uint64
	// Connections is how many connections they happened to.
	Connections uint64
	// At is where: the listener's or the destination's address; Cookie is that of
	// the socket it happened at, or 0.
	At     netip.AddrPort
	Cookie uint64

	undo []func() error
}

// Close closes the sockets, takes gates away and puts settings back, the last
// first.
func (p *Provoked) Close() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	p.undo = nil
	return errors.Join(errs...)
}

// keep is how an injector builds a Provoked: what it makes on the way is closed
// by Provoked.Close, or by end where the injector fails.
func (p *Provoked) keep(s *Socket) *Socket {
	p.undo = append(p.undo, s.Close)
	return s
}

// abort keeps a connection that ends with an RST, so that it leaves no TIME_WAIT.
func (p *Provoked) abort(s *Socket) *Socket {
	p.undo = append(p.undo, func() error { return errors.Join(s.Reset(), s.Close()) })
	return s
}

// end is deferred by injectors.
func (p *Provoked) end(fault string, result **Provoked, err *error) {
	if *err != nil {
		*result, *err = nil, fmt.Errorf("lab: %s: %w", fault, errors.Join(*err, p.Close()))
	}
}

// set changes a setting until Close.
func (p *Provoked) set(ns *Namespace, name, value string) error {
	old, err := ns.SetSysctl(name, value)
	if err == nil {
		p.undo = append(p.undo, func() error {
			_, err := ns.SetSysctl(name, old)
			return err
		})
	}
	return err
}

// gate puts up a gate until Close.
func (p *Provoked) gate(ns *Namespace, m Match, pass, lose int64) (*Gate, error) {
	g, err := ns.Gate("lo", m)
	if err != nil {
		return nil, err
	}
	p.undo = append(p.undo, g.Close)
	return g, g.Set(pass, lose)
}

// listen listens until Close, and says that it is there that it happens.
func (p *Provoked) listen(ns *Namespace, on netip.Addr, backlog int) (*Socket, error) {
	l, err := ns.Listen(netip.AddrPortFrom(on, 0), backlog)
	if err != nil {
		return nil, err
	}
	p.keep(l)
	p.At = l.Local()
	p.Cookie, err = l.Cookie()
	return l, err
}

// pair makes a connection without delays of small segments: both ends are aborted at
// Close, the client's first.
func (p *Provoked) pair(ns *Namespace, l *Socket, to netip.AddrPort) (client, server *Socket, err error) {
	if client, err = ns.Connect(to); err != nil {
		return nil, nil, err
	}
	if server, err = l.Accept(); err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	p.keep(server)
	p.abort(client)
	return client, server, errors.Join(client.NoDelay(), server.NoDelay())
}

// start begins n connections. What their SYNs come to is the injector's to say.
func start(ns *Namespace, to netip.AddrPort, n int) (all []*Socket, err error) {
	for range n {
		s, err := ns.Start(to)
		if err != nil {
			return all, errors.Join(err, closeAll(all))
		}
		all = append(all, s)
	}
	return all, nil
}

func closeAll(all []*Socket) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// giveUp closes connections that were begun and not answered, and says how many
// SYNs they sent.
func giveUp(all []*Socket) (syns uint64, err error) {
	var errs []error
	for _, s := range all {
		info, err := s.Info()
		if err == nil {
			syns += uint64(info.Segs_out)
		}
		errs = append(errs, err, s.Close())
	}
	return syns, errors.Join(errs...)
}

// Fault is an injector with the figures that a self-test uses.
type Fault struct {
	Name string
	// Counters are those of the kernel that count the same events, each by itself.
	// None: the kernel has no counter of it.
	Counters []procfs.Counter
	// Packets: it needs a gate (CAP_BPF, which no user namespace gives).
	// Stuck: it needs userfaultfd for the kernel's own page faults (CAP_SYS_PTRACE).
	Packets, Stuck bool
	Inject         func(*Namespace) (*Provoked, error)
}

var (
	ipv4  = netip.MustParseAddr("127.0.0.1")
	ipv6  = netip.MustParseAddr("::1")
	any6  = netip.MustParseAddr("::")
	mixed = netip.MustParseAddr("::ffff:127.0.0.1")
)

// Faults are all faults that can be provoked in one namespace.
func Faults() []Fault {
	type n = *Namespace
	type p = *Provoked
	overflow := func(listen, dial netip.Addr) func(n) (p, error) {
		return func(ns n) (p, error) {
			return ns.AcceptOverflow(Overflow{Listen: listen, Dial: dial, Backlog: 4, Refused: 15})
		}
	}
	listen := []procfs.Counter{procfs.ListenOverflows, procfs.ListenDrops}
	return []Fault{
		{Name: "accept queue overflow", Counters: listen, Inject: overflow(ipv4, ipv4)},
		{Name: "accept queue overflow, IPv6", Counters: listen, Inject: overflow(ipv6, ipv6)},
		{Name: "accept queue overflow, IPv4 at a dual-stack listener", Counters: listen, Inject: overflow(any6, ipv4)},
		{Name: "accept queue overflow, mapped IPv4", Counters: listen, Inject: overflow(ipv4, mixed)},
		{Name: "accept queue overflow, one of two SO_REUSEPORT listeners", Counters: listen,
			Inject: func(ns n) (p, error) { return ns.ReuseportOverflow(ipv4, 4, 15) }},
		{Name: "accept queue overflow at the final ACK", Counters: listen, Packets: true,
			Inject: func(ns n) (p, error) { return ns.FinalACKOverflow(ipv4, 4, 20) }},
		{Name: "SYN queue full, cookies off", Counters: []procfs.Counter{procfs.TCPReqQFullDrop, procfs.ListenDrops}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.SYNQueueFull(ipv4, false, 4, 15) }},
		{Name: "SYN queue full, cookies sent", Counters: []procfs.Counter{procfs.TCPReqQFullDoCookies, procfs.SyncookiesSent}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.SYNQueueFull(ipv4, true, 4, 15) }},
		{Name: "socket backlog drops behind a stuck reader", Counters: []procfs.Counter{procfs.TCPBacklogDrop}, Packets: true, Stuck: true,
			Inject: func(ns n) (p, error) { return ns.BacklogDrops(ipv4) }},
		{Name: "receive buffer full", Counters: []procfs.Counter{procfs.TCPRcvQDrop, procfs.RcvPruned}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.ReceiveBufferDrops(ipv4, 10) }},
		{Name: "client's socket backlog drops behind a stuck reader", Counters: []procfs.Counter{procfs.TCPBacklogDrop}, Packets: true, Stuck: true,
			Inject: func(ns n) (p, error) { return ns.ClientBacklogDrops(ipv4) }},
		{Name: "client's receive buffer full", Counters: []procfs.Counter{procfs.TCPRcvQDrop, procfs.RcvPruned}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.ClientReceiveBufferDrops(ipv4, 10) }},
		{Name: "connection refused", Counters: []procfs.Counter{procfs.OutRsts, procfs.AttemptFails},
			Inject: func(ns n) (p, error) { return ns.Refused(ipv4, 10) }},
		{Name: "connection reset by the server", Counters: []procfs.Counter{procfs.OutRsts},
			Inject: func(ns n) (p, error) { return ns.Resets(ipv4, 10) }},
		{Name: "SYNs lost", Counters: []procfs.Counter{procfs.TCPSynRetrans, procfs.RetransSegs}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.LostSYNs(ipv4, 5) }},
		{Name: "SYN-ACKs sent again", Counters: []procfs.Counter{procfs.TCPSynRetrans, procfs.RetransSegs}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.SYNACKRetransmits(ipv4, 5) }},
		{Name: "data lost", Counters: []procfs.Counter{procfs.RetransSegs}, Packets: true,
			Inject: func(ns n) (p, error) { return ns.LostData(ipv4, 5) }},
		{Name: "local ports exhausted", Inject: func(ns n) (p, error) { return ns.PortExhaustion(ipv4, 20, 15) }},
		{Name: "connects from a port in use", Inject: func(ns n) (p, error) { return ns.PortsTaken(ipv4, 10) }},
		{Name: "TIME_WAIT buckets exhausted", Counters: []procfs.Counter{procfs.TCPTimeWaitOverflow},
			Inject: func(ns n) (p, error) { return ns.TimeWaitOverflow(ipv4, 3, 15) }},
	}
}
