package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"
)

// segmentBytes is the payload of a segment that soon fills a small buffer.
const segmentBytes = 1000

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

// ReceiveBufferDrops makes the receive buffers of n connections' servers too small, while
// nobody reads, and fills each until a segment is dropped. Events are the segments
// that arrived and cannot be read: one for each connection, because the kernel then
// closes the window (since 6.6), and what comes after that is dropped for another
// reason (BeyondWindow).
func (ns *Namespace) ReceiveBufferDrops(on netip.Addr, n int) (*Provoked, error) {
	return ns.receiveBufferDrops(on, n, toServer)
}

// ClientReceiveBufferDrops does the same to clients.
func (ns *Namespace) ClientReceiveBufferDrops(on netip.Addr, n int) (*Provoked, error) {
	return ns.receiveBufferDrops(on, n, toClient)
}

func (ns *Namespace) receiveBufferDrops(on netip.Addr, n int, w way) (result *Provoked, err error) {
	p := &Provoked{}
	defer p.end("receive buffer full", &result, &err)
	if err := p.calm(ns); err != nil {
		return nil, err
	}
	l, err := p.listen(ns, on, n)
	if err != nil {
		return nil, err
	}
	p.Cookie = 0 // it happens at the connections
	for range n {
		if err := p.fillReceiveBuffer(ns, l, w); err != nil {
			return nil, err
		}
		p.Events++
		p.Connections++
	}
	return p, nil
}

// fillReceiveBuffer sends one segment after the other until one is not kept.
func (p *Provoked) fillReceiveBuffer(ns *Namespace, l *Socket, w way) error {
	client, server, err := p.pair(ns, l, p.At)
	if err != nil {
		return err
	}
	sender, receiver, data := w.ends(client, server)
	gate, err := p.gate(ns, data, 0, Forever)
	if err != nil {
		return err
	}
	// The kernel makes it the least size that it allows.
	if err := receiver.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return err
	}
	const most = 60 // KiB: what the window that was offered first takes
	for kept := 1; kept <= most; kept++ {
		before, err := receiver.Info()
		if err != nil {
			return err
		}
		if err := deliver(sender, gate, 1, segmentBytes); err != nil {
			return err
		}
		// A segment counts as come in once TCP holds the socket's lock for it, and
		// TCP_INFO takes that lock: what it counts has been dealt with.
		if err := await(func() (bool, error) {
			after, err := receiver.Info()
			return err == nil && after.Segs_in > before.Segs_in, err
		}); err != nil {
			return err
		}
		readable, err := unix.IoctlGetInt(receiver.fd, unix.TIOCINQ)
		if err != nil {
			return err
		}
		if readable < kept*segmentBytes {
			return nil
		}
		if err := sender.acknowledged(); err != nil {
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
