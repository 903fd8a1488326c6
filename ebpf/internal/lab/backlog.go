package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// inFlight is the congestion window that filling a socket's backlog needs, in
// segments: many small ones, each with a packet's overhead, so that the backlog's
// memory is full long before the window is.
const inFlight = 160

// BacklogDrops sends to a server that is stuck in recv(2), holding its socket's
// lock, more segments than the socket's backlog takes. Events are the segments
// that did not get into it: the application can read the others.
func (ns *Namespace) BacklogDrops(on netip.Addr) (*Provoked, error) {
	return ns.backlogDrops(on, toServer)
}

// ClientBacklogDrops does the same to a client.
func (ns *Namespace) ClientBacklogDrops(on netip.Addr) (*Provoked, error) {
	return ns.backlogDrops(on, toClient)
}

// A way is which end of a connection segments go to.
type way bool

const (
	toServer way = false
	toClient way = true
)

// ends are who sends and who receives, and what segments of data between them are.
func (w way) ends(client, server *Socket) (sender, receiver *Socket, data Match) {
	port := client.Local().Port()
	if w == toClient {
		return server, client, Match{ToPort: port, Payload: true}
	}
	return client, server, Match{FromPort: port, Payload: true}
}

func (ns *Namespace) backlogDrops(on netip.Addr, w way) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("socket backlog drops", &result, &err)
	sender, receiver, data, err := p.warm(ns, on, w)
	if err != nil {
		return nil, err
	}
	// The backlog's limit: twice the receive buffer, half the send buffer and
	// 64 KiB, in packets' memory and not in payload.
	err = errors.Join(
		receiver.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10),
		receiver.setInt(unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	if err != nil {
		return nil, err
	}
	gate, err := p.gate(ns, data, Forever, 0)
	if err != nil {
		return nil, err
	}
	if err := deliver(sender, gate, 1, 1); err != nil {
		return nil, err
	}
	if err := receiver.poll(unix.POLLIN); err != nil {
		return nil, err
	}
	stuck, err := stick(receiver)
	if err != nil {
		return nil, err
	}
	const n = inFlight - 10
	err = deliver(sender, gate, n, 1)
	// Once recv(2) has returned the backlog has been worked off.
	if err = errors.Join(err, stuck.release()); err != nil {
		return nil, err
	}
	kept, err := receiver.drain()
	p.Events, p.Connections = uint64(n-kept), 1
	return p, err
}

// warm makes a connection on which one end's congestion window is at least inFlight.
func (p *Provoked) warm(ns *Namespace, on netip.Addr, w way) (sender, receiver *Socket, data Match, err error) {
	if err := p.calm(ns); err != nil {
		return nil, nil, data, err
	}
	// With it small writes may be put together into one segment.
	if err := p.set(ns, "net.ipv4.tcp_autocorking", "0"); err != nil {
		return nil, nil, data, err
	}
	l, err := p.listen(ns, on, 1)
	if err != nil {
		return nil, nil, data, err
	}
	client, server, err := p.pair(ns, l, p.At)
	if err != nil {
		return nil, nil, data, err
	}
	sender, receiver, data = w.ends(client, server)
	if p.Cookie, err = receiver.Cookie(); err != nil {
		return nil, nil, data, err
	}
	// A pacing algorithm would hold segments back.
	if err := unix.SetsockoptString(sender.fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); err != nil {
		return nil, nil, data, fmt.Errorf("TCP_CONGESTION reno: %w", err)
	}
	buf := make([]byte, 1<<16)
	for range 100 {
		info, err := sender.Info()
		if err != nil {
			return nil, nil, data, err
		}
		if info.Snd_cwnd >= inFlight {
			return sender, receiver, data, nil
		}
		if err := sender.segments(int(info.Snd_cwnd), 1); err != nil {
			return nil, nil, data, err
		}
		for n := int(info.Snd_cwnd); n > 0; {
			m, err := receiver.Read(buf)
			if err != nil {
				return nil, nil, data, err
			}
			n -= m
		}
		if err := sender.acknowledged(); err != nil {
			return nil, nil, data, err
		}
	}
	return nil, nil, data, fmt.Errorf("the congestion window did not grow to %d segments", inFlight)
}

// drain reads what is there, and does not wait for more.
func (s *Socket) drain() (n int, err error) {
	buf := make([]byte, 1<<16)
	for {
		m, err := unix.Read(s.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN || m == 0 && err == nil:
			return n, nil
		case err != nil:
			return n, err
		}
		n += max(m, 0)
	}
}
