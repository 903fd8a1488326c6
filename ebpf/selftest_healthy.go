package ebpf

import (
	"errors"
	"net/netip"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/procfs"
	"hotlap/ebpf/internal/prog"
)

// healthyConnections are made, used and closed where nothing goes wrong.
const healthyConnections = 50

// healthy are the rows in which nothing goes wrong.
func healthy() []check {
	use := func(ns *lab.Namespace) (*provoked, error) { return useConnections(ns, healthyConnections) }
	return []check{
		{
			name: "nothing: a healthy run", inject: use, observe: seeNothing,
			programs: []string{prog.KfreeSkb, prog.SetState, prog.RetransmitSkb, prog.RetransmitSynack, prog.SendReset, prog.ReceiveReset},
		},
		{
			name: "connections made and closed", inject: use, observe: seeConnections, counters: []procfs.Counter{procfs.ActiveOpens},
			programs: []string{prog.SetState},
		},
		{
			name: "local ports searched for", inject: use, deep: true, observe: seeTotal(prog.PortSearch, PortSearches),
			programs: []string{prog.SetState, prog.PortSearch},
		},
		{
			name: "an accept queue that filled for a moment", inject: fillQueue, deep: true, observe: seePeak,
			programs: []string{prog.DataReady},
		},
	}
}

// useConnections makes n connections, one after the other: a byte there, a byte
// back, and the client closes first.
func useConnections(ns *lab.Namespace, n int) (*provoked, error) {
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		return nil, err
	}
	for range n {
		if err := useConnection(ns, l); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return &provoked{events: uint64(n), connections: uint64(n), at: l.Local(), close: l.Close}, nil
}

func useConnection(ns *lab.Namespace, l *lab.Socket) error {
	client, err := ns.Connect(l.Local())
	if err != nil {
		return err
	}
	server, err := l.Accept()
	if err != nil {
		return errors.Join(err, client.Close())
	}
	var b [1]byte
	for _, way := range [][2]*lab.Socket{{client, server}, {server, client}} {
		_, writeErr := way[0].Write(b[:])
		_, readErr := way[1].Read(b[:])
		err = errors.Join(err, writeErr, readErr)
	}
	err = errors.Join(err, client.Close())
	_, endErr := server.Read(b[:]) // its end
	return errors.Join(err, endErr, server.Close())
}

// peak is how many connections wait at once in fillQueue.
const peak = 7

// fillQueue lets connections wait, and takes them all before anybody polls again.
func fillQueue(ns *lab.Namespace) (*provoked, error) {
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 2*peak)
	if err != nil {
		return nil, err
	}
	open := []*lab.Socket{l}
	p := &provoked{events: peak, connections: peak, at: l.Local(), close: func() (err error) {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
		return err
	}}
	for range peak {
		client, err := ns.Connect(l.Local())
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		open = append(open, client)
	}
	for range peak {
		server, err := l.Accept()
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		open = append(open, server)
	}
	p.cookie, err = l.Cookie()
	return p, err
}

// sources are where the Faults are counted.
var sources = map[Counter]string{
	ListenDrops: "sock_diag", AcceptOverflows: "sock_diag", SYNDrops: "sock_diag",
	Drops: prog.KfreeSkb, BacklogDrops: prog.KfreeSkb, ReceiveBufferDrops: prog.KfreeSkb,
	Retransmits: prog.RetransmitSkb, SYNRetransmits: prog.RetransmitSkb, SYNACKRetransmits: prog.RetransmitSynack,
	RSTsOut: prog.SendReset, RSTsIn: prog.ReceiveReset,
	ConnectFailures: prog.SetState, PortsExhausted: prog.SetState, PortsTaken: prog.SetState,
}

func seeNothing(s *Sample, _ *provoked) []Figure {
	var list [][]Figure
	for _, k := range Faults {
		list = append(list, figure(s.Total, k, sources[k], 0))
	}
	for _, k := range KernelFaults {
		if _, known := s.Namespace.Get(k); known { // not every kernel has each
			list = append(list, figure(s.Namespace, k, "/proc", 0))
		}
	}
	return all(list...)
}

func seeConnections(s *Sample, p *provoked) []Figure {
	list := all(figure(s.Total, Connects, prog.SetState, p.events), figure(s.Total, ConnectsEstablished, prog.SetState, p.events))
	for _, d := range s.Destinations {
		if d.Addr == p.at && d.TCP != nil && list != nil {
			return append(list,
				Figure{"connects in the histogram", prog.SetState, d.ConnectLatency.Count(), p.events},
				Figure{"sockets closed", prog.SetState, d.TCP.Closed, p.events})
		}
	}
	return nil
}

func seePeak(s *Sample, p *provoked) []Figure {
	for _, l := range s.Listeners {
		if l.Cookie == p.cookie && l.PeakExact {
			return []Figure{{"peak", prog.DataReady, uint64(l.Peak), p.events}}
		}
	}
	return nil
}
