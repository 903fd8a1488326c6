package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// inFlight is the congestion window that filling a socket's backlog needs: many
	// small segments, each with a packet's overhead, so that its memory is full long
	// before the window is.
	inFlight     = 160
	segmentBytes = 1000
)

// errDisturbed: with its counts nothing can be compared.
var errDisturbed = errors.New("the sender retransmitted meanwhile: the machine stood still; try again in a new namespace")

// calm keeps the namespace's senders from sending data again before it was
// certainly lost. Before Linux 6.11 there is only the second setting, and a
// sender waits no more than 0.2 s.
func (p *Provoked) calm(ns *Namespace) error {
	err := p.set(ns, "net.ipv4.tcp_rto_min_us", "30000000")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.set(ns, "net.ipv4.tcp_early_retrans", "0"))
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

// segments sends n segments of size bytes.
func (s *Socket) segments(n, size int) error {
	b := make([]byte, size)
	for range n {
		if _, err := s.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// deliver sends n segments and waits until each has reached TCP on the other
// side. The gate keeps whatever follows (retransmits) from it.
func deliver(client *Socket, gate *Gate, n, size int) error {
	before, err := client.Info()
	if err != nil {
		return err
	}
	passed, _, err := gate.Counts()
	if err != nil {
		return err
	}
	if err := gate.Set(int64(n), Forever); err != nil {
		return err
	}
	if err := client.segments(n, size); err != nil {
		return err
	}
	if _, err := gate.awaitPassed(int(passed) + n); err != nil {
		return err
	}
	after, err := client.Info()
	if err == nil && after.Total_retrans != before.Total_retrans {
		return errDisturbed
	}
	return err
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

// ReceiveBufferDrops makes the receive buffers of n connections too small, while
// nobody reads, and fills each until a segment is dropped. Events are the segments
// that arrived and cannot be read: one for each connection, because the kernel then
// closes the window (since 6.6), and what comes after that is dropped for another
// reason (BeyondWindow).
func (ns *Namespace) ReceiveBufferDrops(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("receive buffer full", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	p.Cookie = 0 // it happens at the connections
	for range n {
		if err := p.fillReceiveBuffer(ns, l); err != nil {
			return nil, err
		}
		p.Events++
		p.Connections++
	}
	return p, nil
}

// fillReceiveBuffer sends one segment after the other until one is not kept.
func (p *Provoked) fillReceiveBuffer(ns *Namespace, l *Socket) error {
	client, server, err := p.pair(ns, l, p.At)
	if err != nil {
		return err
	}
	gate, err := p.gate(ns, Match{FromPort: client.Local().Port(), Payload: true}, 0, Forever)
	if err != nil {
		return err
	}
	// The kernel makes it the least size that it allows.
	if err := server.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return err
	}
	const most = 60 // KiB: what the window that was offered first takes
	for kept := 1; kept <= most; kept++ {
		before, err := server.Info()
		if err != nil {
			return err
		}
		if err := deliver(client, gate, 1, segmentBytes); err != nil {
			return err
		}
		// A segment counts as come in once TCP holds the socket's lock for it, and
		// TCP_INFO takes that lock: what it counts has been dealt with.
		if err := await(func() (bool, error) {
			after, err := server.Info()
			return err == nil && after.Segs_in > before.Segs_in, err
		}); err != nil {
			return err
		}
		readable, err := unix.IoctlGetInt(server.fd, unix.TIOCINQ)
		if err != nil {
			return err
		}
		if readable < kept*segmentBytes {
			return nil
		}
		if err := client.acknowledged(); err != nil {
			return err
		}
	}
	return fmt.Errorf("a buffer of the least size kept %d segments", most)
}

// ReceiveCollapse makes the receive buffers of n connections smaller than the
// memory of the small segments in them, and sends one more: the kernel puts what
// is there together, and keeps it all. Events are the connections whose queue came
// to hold more bytes in less memory.
func (ns *Namespace) ReceiveCollapse(on netip.Addr, n int) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("receive queue collapsed", &result, &err)
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	p.Cookie = 0 // it happens at the connections
	for range n {
		if err := p.collapse(ns, l); err != nil {
			return nil, err
		}
		p.Events++
		p.Connections++
	}
	return p, nil
}

func (p *Provoked) collapse(ns *Namespace, l *Socket) error {
	client, server, err := p.pair(ns, l, p.At)
	if err != nil {
		return err
	}
	const small, most = 8, 64
	sent := 0
	send := func() (memory uint32, err error) {
		if _, err := client.Write([]byte{0}); err != nil {
			return 0, err
		}
		sent++
		return server.awaitReadable(sent)
	}
	var before uint32
	for range small {
		if before, err = send(); err != nil {
			return err
		}
	}
	// The kernel doubles it: three quarters of what is in use.
	if err := server.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, int(before)*3/8); err != nil {
		return err
	}
	// A segment may still fit in memory that is the socket's already.
	for range most {
		after, err := send()
		if err != nil {
			return err
		}
		if after < before {
			return nil
		}
		before = after
	}
	return fmt.Errorf("%d bytes of memory in a buffer of %d were never put together", before, before*3/4)
}

// awaitReadable waits until so many bytes can be read, and says how much memory
// the receive queue takes (SK_MEMINFO_RMEM_ALLOC).
func (s *Socket) awaitReadable(bytes int) (memory uint32, err error) {
	err = await(func() (bool, error) {
		n, err := unix.IoctlGetInt(s.fd, unix.TIOCINQ)
		return n == bytes, err
	})
	if err != nil {
		return 0, fmt.Errorf("%d bytes that can be read: %w", bytes, err)
	}
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
	return uint32(n), err
}

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
