package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
)

// Overflow says what AcceptOverflow does.
type Overflow struct {
	Listen  netip.Addr // [::] takes IPv4 too
	Dial    netip.Addr // a mapped address is dialled from an IPv6 socket
	Backlog int
	Refused int // connections too many
}

// AcceptOverflow fills a listener's accept queue and connects some more times.
// Events are the SYNs of these, first ones and retransmits: each is refused.
func (ns *Namespace) AcceptOverflow(o Overflow) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("accept queue overflow", &result, &err)
	l, err := p.listen(ns, o.Listen, o.Backlog)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(o.Dial, l.Local().Port())
	return p, p.overflow(ns, l, to, o.Backlog, o.Refused)
}

// overflow fills l's queue with backlog + 1 connections, then begins more.
func (p *Provoked) overflow(ns *Namespace, l *Socket, to netip.AddrPort, backlog, refused int) error {
	for range backlog + 1 {
		c, err := ns.Connect(to)
		if err != nil {
			return err
		}
		p.abort(c)
	}
	if err := awaitQueue(l, backlog+1); err != nil {
		return err
	}
	more, err := start(ns, to, refused)
	if err != nil {
		return err
	}
	p.Connections = uint64(refused)
	p.Events, err = giveUp(more)
	return err
}

// awaitQueue waits until the last handshakes are done on the listener's side.
func awaitQueue(l *Socket, n int) error {
	err := await(func() (bool, error) {
		queue, err := l.queue()
		return int(queue) == n, err
	})
	if err != nil {
		return fmt.Errorf("accept queue of %d: %w", n, err)
	}
	return nil
}

// ReuseportOverflow does the same to one of two listeners on the same port: the
// other has room, and is never chosen. Cookie is the one's that overflows.
func (ns *Namespace) ReuseportOverflow(on netip.Addr, backlog, refused int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("accept queue overflow of a SO_REUSEPORT listener", &result, &err)
	idle, err := ns.listen(netip.AddrPortFrom(on, 0), 128, true, false)
	if err != nil {
		return nil, err
	}
	p.keep(idle)
	// All connections are for the second that listened.
	second := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1}}
	choose := &unix.SockFprog{Len: 1, Filter: &second[0]}
	if err := unix.SetsockoptSockFprog(idle.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, choose); err != nil {
		return nil, fmt.Errorf("SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	l, err := ns.listen(idle.Local(), backlog, true, false)
	if err != nil {
		return nil, err
	}
	p.keep(l)
	p.At = l.Local()
	if p.Cookie, err = l.Cookie(); err != nil {
		return nil, err
	}
	return p, p.overflow(ns, l, p.At, backlog, refused)
}

// FinalACKOverflow makes the accept queue overflow where a SYN was taken and its
// final ACK finds no room. The handshakes' ACKs are held back, so that all
// connections are half open; then each sends one byte, whose segment serves as
// the ACK. Events are the segments that found no room.
func (ns *Namespace) FinalACKOverflow(on netip.Addr, backlog, connections int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("accept queue overflow at the final ACK", &result, &err)
	if err := p.calm(ns); err != nil {
		return nil, err
	}
	// The SYN queue has the accept queue's limit, so that is lowered afterwards.
	l, err := p.listen(ns, on, connections+1)
	if err != nil {
		return nil, err
	}
	port := p.At.Port()
	if _, err := p.gate(ns, Match{ToPort: port, Mask: SYN | RST | ACK, Flags: ACK, Empty: true}, 0, Forever); err != nil {
		return nil, err
	}
	data, err := p.gate(ns, Match{ToPort: port, Payload: true}, int64(connections), Forever)
	if err != nil {
		return nil, err
	}
	var clients []*Socket
	for range connections {
		c, err := ns.Connect(p.At)
		if err != nil {
			return nil, err
		}
		clients = append(clients, p.abort(c))
	}
	if err := unix.Listen(l.fd, backlog); err != nil {
		return nil, err
	}
	for _, c := range clients {
		if _, err := c.Write([]byte{'x'}); err != nil {
			return nil, err
		}
	}
	passed, err := data.awaitPassed(connections)
	if err != nil {
		return nil, err
	}
	if err := awaitQueue(l, backlog+1); err != nil {
		return nil, err
	}
	p.Events = passed - uint64(backlog+1)
	p.Connections = uint64(connections - (backlog + 1))
	return p, nil
}

// awaitPassed waits until n packets have come through.
func (g *Gate) awaitPassed(n int) (passed uint64, err error) {
	err = await(func() (ok bool, err error) {
		passed, _, err = g.Counts()
		return passed >= uint64(n), err
	})
	if err != nil {
		return passed, fmt.Errorf("%d packets of %d passed the gate: %w", passed, n, err)
	}
	return passed, nil
}

// SYNQueueFull lets nobody finish a handshake (the SYN-ACKs are lost) until the
// SYN queue is full, and begins some more connections. Events are the SYNs of
// those that sock_diag does not show in the queue: they were dropped, or with
// cookies answered with one.
func (ns *Namespace) SYNQueueFull(on netip.Addr, cookies bool, backlog, more int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("SYN queue full", &result, &err)
	setting := map[bool]string{false: "0", true: "1"}[cookies]
	if err := p.set(ns, "net.ipv4.tcp_syncookies", setting); err != nil {
		return nil, err
	}
	if _, err := p.listen(ns, on, backlog); err != nil {
		return nil, err
	}
	arrived, err := p.gate(ns, Match{ToPort: p.At.Port(), Mask: SYN | ACK, Flags: SYN}, Forever, 0)
	if err != nil {
		return nil, err
	}
	if _, err := p.gate(ns, Match{FromPort: p.At.Port(), Mask: SYN | ACK, Flags: SYN | ACK}, 0, Forever); err != nil {
		return nil, err
	}
	all, err := start(ns, p.At, backlog+more)
	if err != nil {
		return nil, err
	}
	if _, err := arrived.awaitPassed(len(all)); err != nil {
		return nil, errors.Join(err, closeAll(all))
	}
	queued, err := ns.halfOpen(p.At.Port())
	if err != nil {
		return nil, errors.Join(err, closeAll(all))
	}
	var rest []*Socket
	for _, s := range all {
		if queued[s.Local().Port()] {
			p.keep(s)
		} else {
			rest = append(rest, s)
		}
	}
	p.Connections = uint64(len(rest))
	p.Events, err = giveUp(rest)
	return p, err
}

// halfOpen gives the client ports of the connections to a port that are in its
// SYN queue. That holds as many as the backlog, or one more: kernels differ.
func (ns *Namespace) halfOpen(port uint16) (clients map[uint16]bool, err error) {
	all, err := ns.sockets(diag.Filter{States: []diag.State{diag.SynRecv}, LocalPort: port})
	clients = map[uint16]bool{}
	for _, s := range all {
		clients[s.Peer.Port()] = true
	}
	return clients, err
}
