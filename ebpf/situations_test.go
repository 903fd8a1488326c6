package ebpf

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
)

// times10 is how many requests go well for one that does not, so that it is ten
// times what spoils a run.
const times10 = 1/(10*spoilsRequests) - 1

// with provokes a fault of the lab, and makes it ten times what spoils the run.
func with(inject func(*lab.Namespace) (*lab.Provoked, error), requests func(*lab.Provoked) uint64) func(*stage) error {
	return func(s *stage) error {
		at, err := s.serves(0) // while there is a port for it
		if err != nil {
			return err
		}
		p, err := inject(s.ns)
		if err != nil {
			return err
		}
		s.end = append(s.end, p.Close)
		s.Targets = append(s.Targets, p.At)
		s.Requests += int64(requests(p))
		return s.do(load{at: at, requests: int(requests(p)) * times10})
	}
}

func connections(p *lab.Provoked) uint64 { return p.Connections }
func events(p *lab.Provoked) uint64      { return p.Events }

func situations() []situation {
	type ns = *lab.Namespace
	type provoked = *lab.Provoked
	overflow := []Counter{AcceptOverflows, AcceptOverflowConnections, ListenDrops, ConnectsUnanswered, SYNACKRetransmitSockets}
	server := func(name, code string, inject func(ns) (provoked, error), requests func(provoked) uint64, take ...Counter) situation {
		return situation{name: name, provoke: with(inject, requests), bound: BoundServer, valid: ValidNo, spoils: []string{code}, take: take}
	}
	blaming := func(bound Bound, s situation) situation {
		s.bound = bound
		return s
	}
	listing := func(code string, s situation) situation {
		s.lists = []string{code}
		return s
	}
	harmless := func(name string, inject func(ns) (provoked, error), lists ...string) situation {
		return situation{name: name, provoke: with(inject, connections), bound: BoundServer, valid: ValidYes, lists: lists}
	}
	return []situation{
		{name: "clean", provoke: func(s *stage) error { return s.serve(load{requests: 1000}, 0) }, bound: BoundServer, valid: ValidYes},
		{name: "slow server", provoke: func(s *stage) error { return s.serve(load{requests: 30}, 20*time.Millisecond) }, bound: BoundServer, valid: ValidYes},
		{name: "rate kept", provoke: func(s *stage) error { return s.serve(load{requests: 100, rate: 5 * time.Millisecond}, 0) }, bound: BoundPacer, valid: ValidYes},
		{
			name: "saturated client", provoke: func(s *stage) error { return s.serve(load{requests: 50, work: true}, 0) },
			bound: BoundClient, valid: ValidNo, spoils: []string{"client_saturated"},
			takeTo: func(_ *Sample, c *ClientFigures) { c.Busy, c.CPU = []float64{0.5}, 0 },
		},

		server("accept queue overflow", "accept_overflow", func(ns ns) (provoked, error) {
			return ns.AcceptOverflow(lab.Overflow{Listen: loopback, Dial: loopback, Backlog: 4, Refused: 15})
		}, connections, overflow...),
		server("accept queue overflow of one of two", "accept_overflow", func(ns ns) (provoked, error) {
			return ns.ReuseportOverflow(loopback, 4, 15)
		}, connections, overflow...),
		server("SYN queue full", "syn_drops", func(ns ns) (provoked, error) {
			// It is full because SYN-ACKs are lost: those are not sent again.
			if _, err := ns.SetSysctl("net.ipv4.tcp_synack_retries", "0"); err != nil {
				return nil, err
			}
			return ns.SYNQueueFull(loopback, false, 4, 15)
		}, connections, SYNDrops, ListenDrops, ConnectsUnanswered),
		listing("receive_queue_pruned", server("stuck server", "backlog_drops", func(ns ns) (provoked, error) { return ns.BacklogDrops(loopback) }, events, BacklogDrops, Drops)),
		listing("receive_queue_pruned", server("server without room", "receive_buffer_drops", func(ns ns) (provoked, error) { return ns.ReceiveBufferDrops(loopback, 10) }, events, ReceiveBufferDrops, Drops)),
		server("refused", "connects_refused", func(ns ns) (provoked, error) { return ns.Refused(loopback, 10) }, connections, ConnectFailures, RSTsIn),
		server("reset", "resets", func(ns ns) (provoked, error) { return ns.Resets(loopback, 10) }, connections, RSTsIn),
		blaming(BoundPath, server("SYNs lost", "connects_unanswered", func(ns ns) (provoked, error) { return ns.LostSYNs(loopback, 5) }, connections, ConnectsUnanswered)),
		blaming(BoundPath, server("handshakes lost", "synack_retransmits", func(ns ns) (provoked, error) { return ns.SYNACKRetransmits(loopback, 5) }, connections, SYNACKRetransmitSockets)),
		blaming(BoundPath, server("data lost", "retransmits", func(ns ns) (provoked, error) { return ns.LostData(loopback, 5) }, events, Retransmits)),
		blaming(BoundClient, server("no local ports", "ports_exhausted", func(ns ns) (provoked, error) { return ns.PortExhaustion(loopback, 20, 15) }, connections, PortsExhausted)),

		blaming(BoundClient, server("ports taken", "ports_taken", func(ns ns) (provoked, error) { return ns.PortsTaken(loopback, 10) }, connections, PortsTaken)),
		listing("receive_queue_pruned", blaming(BoundClient, server("stuck client", "client_backlog_drops", func(ns ns) (provoked, error) { return ns.ClientBacklogDrops(loopback) }, events, BacklogDrops, Drops))),
		listing("receive_queue_pruned", blaming(BoundClient, server("client without room", "client_receive_buffer_drops", func(ns ns) (provoked, error) { return ns.ClientReceiveBufferDrops(loopback, 10) }, events, ReceiveBufferDrops, Drops))),

		{
			name: "small send buffer", provoke: bufferFull, bound: BoundClient, valid: ValidNo, spoils: []string{"send_limited"}, may: "receive_limited",
			takeTo: func(d *Sample, _ *ClientFigures) {
				for i := range d.Destinations {
					d.Destinations[i].TCP.SendLimited = 0
				}
			},
		},
		{name: "server that does not read", provoke: heldUp, bound: BoundServer, valid: ValidYes, lists: []string{"receive_limited"}},
		harmless("TIME_WAIT buckets exhausted", func(ns ns) (provoked, error) { return ns.TimeWaitOverflow(loopback, 3, 15) }, "time_wait_overflow"),
		harmless("receive queue collapsed", func(ns ns) (provoked, error) { return ns.ReceiveCollapse(loopback, 5) }, "receive_queue_pruned"),
		{name: "queueing discipline drops", provoke: beside(func(ns ns) (provoked, error) { return ns.QdiscDrops(loopback, 10) }), bound: BoundServer, valid: ValidYes, lists: []string{"qdisc_drops"}},
		{name: "accept queue overflow of another", provoke: beside(func(ns ns) (provoked, error) {
			return ns.AcceptOverflow(lab.Overflow{Listen: loopback, Dial: loopback, Backlog: 4, Refused: 15})
		}), bound: BoundServer, valid: ValidYes},

		{
			name: "full queue of a remote server", remote: true, provoke: fullQueueThere, bound: BoundServer, valid: ValidNo,
			spoils: []string{"connects_unanswered"}, lists: []string{"requests_failed", "round_trip"}, take: []Counter{ConnectsUnanswered},
		},
		{
			name: "nobody there", remote: true, provoke: nobodyThere, bound: BoundPath, valid: ValidNo,
			spoils: []string{"connects_failed"}, lists: []string{"requests_failed", "round_trip"}, take: []Counter{ConnectFailures},
		},
		{name: "acknowledgements lost", remote: true, provoke: acknowledgementsLost, bound: BoundServer, valid: ValidYes, lists: []string{"round_trip", "round_trip"}},
		{
			name: "lossy path", remote: true, provoke: lossyPath, bound: BoundPath, valid: ValidNo,
			spoils: []string{"connects_unanswered", "retransmits"}, lists: []string{"round_trip"}, take: []Counter{ConnectsUnanswered, Retransmits},
		},
	}
}

// beside is a healthy run, next to a fault that is none of its own.
func beside(inject func(*lab.Namespace) (*lab.Provoked, error)) func(*stage) error {
	return func(s *stage) error {
		if err := s.serve(load{requests: 1000}, 0); err != nil {
			return err
		}
		p, err := inject(s.ns)
		if err == nil {
			s.end = append(s.end, p.Close)
		}
		return err
	}
}

// bufferFull is a connection that its own send buffer holds up, for as long as all
// the rest takes.
func bufferFull(s *stage) error {
	began := time.Now()
	if err := s.serve(load{requests: 100}, 0); err != nil {
		return err
	}
	p, err := s.ns.SendBufferFull(s.on, func(held time.Duration) bool { return held >= 300*time.Millisecond && 2*held >= time.Since(began) })
	if err != nil {
		return err
	}
	s.end = append(s.end, p.Close)
	s.Targets, s.Requests = append(s.Targets, p.At), s.Requests+1
	return nil
}

// heldUp is a connection to a server that does not read what is sent.
func heldUp(s *stage) error {
	if err := s.serve(load{requests: 100}, 0); err != nil {
		return err
	}
	l, err := s.ns.Listen(netip.AddrPortFrom(s.on, 0), 1)
	if err != nil {
		return err
	}
	s.end = append(s.end, l.Close)
	client, err := s.ns.Connect(l.Local())
	if err != nil {
		return err
	}
	server, err := l.Accept()
	if err != nil {
		return errors.Join(err, client.Close())
	}
	s.Targets, s.Requests = append(s.Targets, l.Local()), s.Requests+1
	sent, err := fillWindow(client, 300*time.Millisecond)
	for b := make([]byte, 1<<16); err == nil && sent > 0; {
		var n int
		n, err = server.Read(b)
		sent -= n
	}
	return errors.Join(err, client.Close(), server.Close()) // which tells its totals
}

// fillWindow sends until the other end's window has been full for so long.
func fillWindow(c *lab.Socket, held time.Duration) (sent int, err error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		info, err := c.Info()
		switch {
		case err != nil:
			return sent, err
		case time.Duration(info.Rwnd_limited)*time.Microsecond >= held:
			return sent, nil
		case time.Now().After(deadline):
			return sent, errors.New("the receive window was never full")
		case info.Notsent_bytes == 0 && info.Unacked == 0: // there is room: the send buffer holds nothing up
			n, err := c.Write(make([]byte, 16<<10))
			if sent += n; err != nil {
				return sent, err
			}
		}
	}
}

// fullQueueThere is a server in another namespace that answers its four connections,
// and takes no more.
func fullQueueThere(s *stage) error {
	const backlog, refused = 4, 10
	l, err := s.server.Listen(netip.AddrPortFrom(s.on, 0), backlog)
	if err != nil {
		return err
	}
	answered := make(chan error)
	go func() { answered <- answer(l, s.Connections) }()
	s.end = append(s.end, l.Close, func() error { return <-answered })
	if err := s.do(load{at: l.Local(), requests: refused * times10}); err != nil {
		return err
	}
	for range backlog + 1 {
		c, err := s.ns.Connect(l.Local())
		if err != nil {
			return err
		}
		s.end = append(s.end, c.Close)
	}
	for range refused {
		c, err := s.ns.Start(l.Local())
		if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	s.Requests += refused
	s.Failed += refused
	return nil
}

// nobodyThere are connects to an address that no machine of the network has.
func nobodyThere(s *stage) error {
	const failed = 10
	at, err := s.serves(0)
	if err != nil {
		return err
	}
	if err := s.do(load{at: at, requests: failed * times10}); err != nil {
		return err
	}
	// One question to the network, and no long wait for the answer.
	for setting, value := range map[string]string{"mcast_solicit": "1", "retrans_time_ms": "20"} {
		if _, err := s.ns.SetSysctl("net.ipv4.neigh."+lab.PairDevice+"."+setting, value); err != nil {
			return err
		}
	}
	nobody := netip.AddrPortFrom(s.on.Next(), at.Port())
	for range failed {
		if c, err := s.ns.Connect(nobody); err == nil {
			return errors.Join(errors.New("somebody answers"), c.Close())
		} else if err != unix.EHOSTUNREACH {
			return err
		}
	}
	s.Targets, s.Requests, s.Failed = append(s.Targets, nobody), s.Requests+failed, s.Failed+failed
	return nil
}

// answer accepts so many connections and answers their requests, until their
// clients close them.
func answer(l *lab.Socket, connections int) (err error) {
	ended := make(chan error, connections)
	accepted := 0
	for ; accepted < connections; accepted++ {
		var c *lab.Socket
		if c, err = l.Accept(); err != nil {
			break
		}
		go func() { ended <- answerAll(c) }()
	}
	for range accepted {
		err = errors.Join(err, <-ended)
	}
	return err
}

func answerAll(c *lab.Socket) error {
	for b := make([]byte, 512); ; {
		n, err := c.Read(b)
		if err == nil && n > 0 {
			_, err = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		}
		if err != nil || n == 0 {
			return errors.Join(err, c.Close())
		}
	}
}

// acknowledgementsLost are those of requests that did arrive: they are sent again
// for nothing.
func acknowledgementsLost(s *stage) error {
	const lost = 5
	// The server is slower than the round trip, whatever else the machine does.
	if err := s.serve(load{requests: lost * times10}, 5*time.Millisecond); err != nil {
		return err
	}
	at, err := s.serves(500 * time.Millisecond) // the client does not wait so long for an ACK
	if err != nil {
		return err
	}
	var client *lab.Socket
	for range 10 { // one of their handshakes took no longer than a round trip has to
		if client, err = s.ns.Connect(at); err != nil {
			return err
		}
		s.end = append(s.end, client.Close)
	}
	acks, err := s.ns.Gate(lab.PairDevice, lab.Match{FromPort: at.Port(), Empty: true})
	if err != nil {
		return err
	}
	s.end = append(s.end, acks.Close)
	for range lost {
		if err := acks.Set(0, 1); err != nil {
			return err
		}
		if err := ask(client); err != nil {
			return err
		}
	}
	s.Targets, s.Requests = append(s.Targets, at), s.Requests+lost
	return nil
}

// lossyPath loses first SYNs, and requests, on their way to a server in another
// namespace.
func lossyPath(s *stage) error {
	const lost = 10
	at, err := s.serves(0)
	if err != nil {
		return err
	}
	if err := s.do(load{at: at, requests: lost * (times10 - 1)}); err != nil {
		return err
	}
	gate := func(m lab.Match) (*lab.Gate, error) {
		g, err := s.server.Gate(lab.PairDevice, m)
		if err == nil {
			s.end = append(s.end, g.Close)
		}
		return g, err
	}
	data, err := gate(lab.Match{ToPort: at.Port(), Payload: true})
	if err != nil {
		return err
	}
	syns, err := gate(lab.Match{ToPort: at.Port(), Mask: lab.SYN | lab.ACK, Flags: lab.SYN})
	if err != nil {
		return err
	}
	if err := syns.Set(0, lost); err != nil {
		return err
	}
	var clients []*lab.Socket
	for range lost {
		c, err := s.ns.Start(at)
		if err != nil {
			return err
		}
		clients = append(clients, c)
		s.end = append(s.end, c.Close)
	}
	for _, c := range clients {
		if err := c.Connected(); err != nil {
			return err
		}
		if err := data.Set(0, 1); err != nil {
			return err
		}
		if err := ask(c); err != nil {
			return err
		}
	}
	s.Requests += 2 * lost
	return nil
}
