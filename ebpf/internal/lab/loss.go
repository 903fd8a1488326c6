package lab

import (
	"fmt"
	"net/netip"
)

// LostSYNs loses the first SYN of n connections, which then are made. Events
// are the SYNs that came beyond the first of each connection (after 1 s).
func (ns *Namespace) LostSYNs(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("SYNs lost", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	gate, err := p.gate(ns, Match{ToPort: p.At.Port(), Mask: SYN | ACK, Flags: SYN}, 0, int64(n))
	if err != nil {
		return nil, err
	}
	p.Cookie = 0 // it happens at the clients
	if err := p.connectAll(ns, l, n); err != nil {
		return nil, err
	}
	return p, p.countRepeats(gate, n)
}

// countRepeats: what the gate saw beyond one packet of each connection is Events.
func (p *Provoked) countRepeats(gate *Gate, n int) error {
	passed, lost, err := gate.Counts()
	p.Events = passed + lost - uint64(n)
	return err
}

// connectAll connects n times at once and waits until all are in the queue.
func (p *Provoked) connectAll(ns *Namespace, l *Socket, n int) error {
	clients, err := start(ns, p.At, n)
	if err != nil {
		return err
	}
	for _, c := range clients {
		p.abort(c)
	}
	for _, c := range clients {
		if err := c.Connected(); err != nil {
			return err
		}
	}
	p.Connections = uint64(n)
	return awaitQueue(l, n)
}

// SYNACKRetransmits loses the ACK that ends the handshake of n connections: the
// server sends its SYN-ACK again (after 1 s). Events are the SYN-ACKs that came
// beyond the first of each connection.
func (ns *Namespace) SYNACKRetransmits(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("SYN-ACKs sent again", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	arrived, err := p.gate(ns, Match{FromPort: p.At.Port(), Mask: SYN | ACK, Flags: SYN | ACK}, Forever, 0)
	if err != nil {
		return nil, err
	}
	_, err = p.gate(ns, Match{ToPort: p.At.Port(), Mask: SYN | RST | ACK, Flags: ACK, Empty: true}, 0, int64(n))
	if err != nil {
		return nil, err
	}
	if err := p.connectAll(ns, l, n); err != nil {
		return nil, err
	}
	return p, p.countRepeats(arrived, n)
}

// LostData loses the first segment with data on each of n connections, which
// then arrives. Events are the segments that came again.
func (ns *Namespace) LostData(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("data lost", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	gate, err := p.gate(ns, Match{ToPort: p.At.Port(), Payload: true}, 0, 0)
	if err != nil {
		return nil, err
	}
	for i := range n {
		client, server, err := p.pair(ns, l, p.At)
		if err != nil {
			return nil, err
		}
		if err := gate.Set(0, 1); err != nil {
			return nil, err
		}
		if _, err := client.Write([]byte("x")); err != nil {
			return nil, err
		}
		if got, err := server.Read(make([]byte, 8)); err != nil || got != 1 {
			return nil, fmt.Errorf("connection %d: read %d bytes: %w", i, got, err)
		}
		// The retransmit has arrived. It is acknowledged before the next begins.
		if err := client.acknowledged(); err != nil {
			return nil, err
		}
	}
	p.Connections, p.Cookie = uint64(n), 0
	return p, p.countRepeats(gate, n)
}

// acknowledged waits until all that was sent is.
func (s *Socket) acknowledged() error {
	return await(func() (bool, error) {
		info, err := s.Info()
		return err == nil && info.Unacked == 0 && info.Notsent_bytes == 0, err
	})
}
