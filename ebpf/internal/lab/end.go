package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
)

// Refused connects n times to a port where nobody listens. Events are the
// connections refused: each is an RST out, and one in.
func (ns *Namespace) Refused(to netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("connection refused", &result, &err)
	// A socket that is bound and does not listen keeps the port from others.
	taken, err := ns.Socket(to)
	if err != nil {
		return nil, err
	}
	p.keep(taken)
	if err := unix.Bind(taken.fd, sockaddr(netip.AddrPortFrom(to, 0))); err != nil {
		return nil, err
	}
	p.At = taken.Local()
	for range n {
		s, err := ns.Connect(p.At)
		if err == nil {
			return nil, errors.Join(errors.New("a connection was made"), s.Close())
		}
		if err != unix.ECONNREFUSED {
			return nil, err
		}
		p.Events++
	}
	p.Connections = p.Events
	return p, nil
}

// Resets makes n connections that the server aborts. Events are those whose
// client saw ECONNRESET: each is an RST out, and one in.
func (ns *Namespace) Resets(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("connection reset", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	for range n {
		client, err := ns.Connect(p.At)
		if err != nil {
			return nil, err
		}
		p.keep(client)
		server, err := l.Accept()
		if err != nil {
			return nil, err
		}
		if err := errors.Join(server.Reset(), server.Close()); err != nil {
			return nil, err
		}
		if _, err := client.Read(make([]byte, 1)); err != unix.ECONNRESET {
			return nil, fmt.Errorf("read: %w, not ECONNRESET", err)
		}
		p.Events++
	}
	p.Connections, p.Cookie = p.Events, 0
	return p, nil
}

// PortExhaustion leaves the namespace so many local ports, connects with each,
// and tries again n times. Events are the EADDRNOTAVAIL that connect(2) gave.
func (ns *Namespace) PortExhaustion(on netip.Addr, ports, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("local ports exhausted", &result, &err)
	l, err := p.listen(ns, on, ports)
	if err != nil {
		return nil, err
	}
	first := uint16(40000)
	if port := p.At.Port(); port >= first {
		first = 20000 // the listener's own port is no client's
	}
	if err := p.set(ns, "net.ipv4.ip_local_port_range", fmt.Sprintf("%d %d", first, int(first)+ports-1)); err != nil {
		return nil, err
	}
	for range ports {
		if _, _, err := p.pair(ns, l, p.At); err != nil {
			return nil, err
		}
	}
	for range n {
		s, err := ns.Connect(p.At)
		if err == nil {
			return nil, errors.Join(errors.New("a port was left"), s.Close())
		}
		if err != unix.EADDRNOTAVAIL {
			return nil, err
		}
		p.Events++
	}
	p.Connections, p.Cookie = p.Events, 0
	return p, nil
}

// PortsTaken connects from a port, and then n times more from the same to the same
// place. Events are the EADDRNOTAVAIL that connect(2) gave.
func (ns *Namespace) PortsTaken(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("connects from a port in use", &result, &err)
	if _, err := p.listen(ns, on, 1); err != nil {
		return nil, err
	}
	first, err := ns.connectFromPort(netip.AddrPortFrom(on, 0), p.At)
	if err != nil {
		return nil, err
	}
	p.abort(first)
	for range n {
		s, err := ns.connectFromPort(first.Local(), p.At)
		if err == nil {
			return nil, errors.Join(errors.New("the port was free"), s.Close())
		}
		if err != unix.EADDRNOTAVAIL {
			return nil, err
		}
		p.Events++
	}
	p.Connections, p.Cookie = p.Events, 0
	return p, nil
}

// connectFromPort is Connect from an address and port, which others may use too.
func (ns *Namespace) connectFromPort(from, to netip.AddrPort) (*Socket, error) {
	s, err := ns.Socket(to.Addr())
	if err != nil {
		return nil, err
	}
	if err = s.setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(s.fd, sockaddr(from))
	}
	return s.connect(to, err)
}

// TimeWaitOverflow lets the namespace keep so many connections in TIME_WAIT and
// closes that many and n more from the client's side. Events are the closed
// connections that sock_diag does not show in TIME_WAIT: they were closed at once.
func (ns *Namespace) TimeWaitOverflow(on netip.Addr, buckets, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("TIME_WAIT buckets exhausted", &result, &err)
	if err := p.set(ns, "net.ipv4.tcp_max_tw_buckets", fmt.Sprint(buckets)); err != nil {
		return nil, err
	}
	l, err := p.listen(ns, on, buckets+n)
	if err != nil {
		return nil, err
	}
	for range buckets + n {
		client, err := ns.Connect(p.At)
		if err != nil {
			return nil, err
		}
		server, err := l.Accept()
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		// The client sends its FIN first, and so is the one that waits.
		err = unix.Shutdown(client.fd, unix.SHUT_WR)
		if err == nil {
			_, err = server.Read(make([]byte, 1))
		}
		err = errors.Join(err, server.Close())
		if err == nil {
			_, err = client.Read(make([]byte, 1))
		}
		if err = errors.Join(err, client.Close()); err != nil {
			return nil, err
		}
	}
	waiting, err := ns.sockets(diag.Filter{States: []diag.State{diag.TimeWait}, PeerPort: p.At.Port()})
	p.Events = uint64(buckets + n - len(waiting))
	p.Connections, p.Cookie = p.Events, 0
	return p, err
}
