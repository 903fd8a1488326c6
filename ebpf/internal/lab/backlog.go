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

// BacklogDrops sends to a receiver that is stuck in recv(2), holding its socket's
// lock, more segments than the socket's backlog takes. Events are the segments
// that did not get into it: the application can read the others.
func (ns *Namespace) BacklogDrops(on netip.Addr) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("socket backlog drops", &result, &err)
	client, server, err := p.warm(ns, on)
	if err != nil {
		return nil, err
	}
	// The backlog's limit: twice the receive buffer, half the send buffer and
	// 64 KiB, in packets' memory and not in payload.
	err = errors.Join(
		server.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10),
		server.setInt(unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	if err != nil {
		return nil, err
	}
	gate, err := p.gate(ns, Match{ToPort: p.At.Port(), Payload: true}, Forever, 0)
	if err != nil {
		return nil, err
	}
	if err := deliver(client, gate, 1, 1); err != nil {
		return nil, err
	}
	if err := server.poll(unix.POLLIN); err != nil {
		return nil, err
	}
	stuck, err := stick(server)
	if err != nil {
		return nil, err
	}
	const n = inFlight - 10
	err = deliver(client, gate, n, 1)
	// Once recv(2) has returned the backlog has been worked off.
	if err = errors.Join(err, stuck.release()); err != nil {
		return nil, err
	}
	kept, err := server.drain()
	p.Events, p.Connections = uint64(n-kept), 1
	return p, err
}

// warm makes a connection whose congestion window is at least inFlight.
func (p *Provoked) warm(ns *Namespace, on netip.Addr) (client, server *Socket, err error) {
	if err := p.calm(ns); err != nil {
		return nil, nil, err
	}
	// With it small writes may be put together into one segment.
	if err := p.set(ns, "net.ipv4.tcp_autocorking", "0"); err != nil {
		return nil, nil, err
	}
	l, err := p.listen(ns, on, 1)
	if err != nil {
		return nil, nil, err
	}
	if client, server, err = p.pair(ns, l, p.At); err != nil {
		return nil, nil, err
	}
	if p.Cookie, err = server.Cookie(); err != nil {
		return nil, nil, err
	}
	// A pacing algorithm would hold segments back.
	if err := unix.SetsockoptString(client.fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); err != nil {
		return nil, nil, fmt.Errorf("TCP_CONGESTION reno: %w", err)
	}
	buf := make([]byte, 1<<16)
	for range 100 {
		info, err := client.Info()
		if err != nil {
			return nil, nil, err
		}
		if info.Snd_cwnd >= inFlight {
			return client, server, nil
		}
		if err := client.segments(int(info.Snd_cwnd), 1); err != nil {
			return nil, nil, err
		}
		for n := int(info.Snd_cwnd); n > 0; {
			m, err := server.Read(buf)
			if err != nil {
				return nil, nil, err
			}
			n -= m
		}
		if err := client.acknowledged(); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("the congestion window did not grow to %d segments", inFlight)
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
