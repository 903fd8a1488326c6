// Package diag takes snapshots of TCP sockets from the kernel, over sock_diag(7).
//
//  1. Open opens a client for the calling thread's network namespace. It needs no
//     privilege, and stays that namespace's, whatever thread uses it later.
//  2. Listeners gives the listening sockets with their accept queues and drops.
//  3. Sockets gives the others, with TCP_INFO and the state of their memory.
//
// The kernel walks its table without stopping the world, so a socket that moves
// meanwhile may be seen twice: it is returned once. One that came or went
// meanwhile may be missing.
package diag

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/netlink"
)

// Socket is a TCP socket at the time of the snapshot.
type Socket struct {
	// Cookie is the kernel's number for the socket; no other socket ever has it.
	// Under a multipath TCP socket (what Go's net.Listen makes) lie TCP sockets
	// with cookies of their own: SO_COOKIE of its descriptor is none of them, the
	// inode is the same.
	Cookie uint64
	// Local and Peer are as the socket has them: an IPv6 socket that serves IPv4
	// has IPv4 addresses in their mapped form.
	Local, Peer netip.AddrPort
	// Inode is that of the file, by which /proc/PID/fd names it; 0 without one.
	Inode uint32
	UID   uint32
	// Cgroup is the id of its cgroup, 0 where the kernel does not say (< 5.9).
	Cgroup uint64
	// Interface is the index of the one it is bound to, or 0.
	Interface uint32
	State     State
	// Receive is the bytes that wait for the application, Send those that are
	// not yet acknowledged. Of a listener see Listener.
	Receive, Send uint32
	Memory        Memory
	// Info is TCP_INFO as far as this kernel fills it in; of a listener it is
	// not asked for.
	Info unix.TCPInfo
	// InfoBytes is how much of Info the kernel has filled in: 0 is nothing.
	InfoBytes int
}

// Memory is SK_MEMINFO: how a socket's buffers stand.
type Memory struct {
	Known          bool
	ReceiveBytes   uint32 // memory in the receive queue (sk_rmem_alloc)
	ReceiveLimit   uint32 // sk_rcvbuf
	SendBytes      uint32 // memory in the send queue (sk_wmem_queued)
	SendLimit      uint32 // sk_sndbuf
	BacklogBytes   uint32 // memory that waits while the application holds the socket's lock
	Drops          uint32 // segments dropped at this socket since it was made (sk_drops)
	TransmitBytes  uint32 // memory handed to the device (sk_wmem_alloc)
	ForwardBytes   uint32 // memory reserved and not used (sk_forward_alloc)
	OptionMemBytes uint32 // sk_omem_alloc
}

// Listener is a socket in LISTEN.
type Listener struct {
	Socket
	// Queue is the number of connections that wait to be accepted, Limit the
	// number beyond which more are refused: Limit + 1 fit.
	Queue, Limit uint32
	// V6Only is IPV6_V6ONLY: an IPv6 listener without it takes IPv4 too.
	V6Only bool
}

// State is a TCP state, by the kernel's numbers (include/net/tcp_states.h).
type State uint8

const (
	Established State = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	NewSynRecv
)

var stateNames = [...]string{"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
	"TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"}

func (s State) String() string {
	if int(s) < len(stateNames) && s != 0 {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Filter chooses sockets. What is zero chooses all, and all that is set must hold.
type Filter struct {
	// States: none means all but LISTEN, SYN_RECV and TIME_WAIT, of which the
	// kernel keeps too little to fill a Socket.
	States []State
	// LocalPort and PeerPort are compared by the kernel.
	LocalPort, PeerPort uint16
	// Peer is compared here: an IPv4 address matches its mapped form too.
	Peer netip.Addr
}

// Client asks for snapshots. One goroutine uses it at a time.
type Client struct {
	conn *netlink.Conn
	seen map[uint64]struct{}
}

// Open opens a client for the calling thread's network namespace.
func Open() (*Client, error) {
	conn, err := netlink.Open(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	return &Client{conn: conn, seen: map[uint64]struct{}{}}, nil
}

// Close closes the client.
func (c *Client) Close() error { return c.conn.Close() }

// Listeners appends the listening sockets to dst, which it returns.
func (c *Client) Listeners(dst []Listener) ([]Listener, error) {
	ask := request{states: 1 << Listen}
	err := c.dump(ask, func(s *Socket, v6only bool) {
		// The kernel reports a listener's queue where others have their bytes.
		dst = append(dst, Listener{Socket: *s, Queue: s.Receive, Limit: s.Send, V6Only: v6only})
	})
	return dst, err
}

// Sockets appends the sockets that f chooses to dst, which it returns. It costs
// some 3 us for each (BenchmarkSockets), so it is for now and then. Those that the
// kernel passes over, by state or port, cost much less.
func (c *Client) Sockets(dst []Socket, f Filter) ([]Socket, error) {
	ask := request{info: true, states: defaultStates, localPort: f.LocalPort, peerPort: f.PeerPort}
	if len(f.States) > 0 {
		ask.states = 0
		for _, s := range f.States {
			ask.states |= 1 << s
		}
	}
	peer := f.Peer.Unmap()
	err := c.dump(ask, func(s *Socket, _ bool) {
		if !peer.IsValid() || s.Peer.Addr().Unmap().WithZone("") == peer.WithZone("") {
			dst = append(dst, *s)
		}
	})
	return dst, err
}

const defaultStates = 1<<Established | 1<<SynSent | 1<<FinWait1 | 1<<FinWait2 | 1<<Close | 1<<CloseWait | 1<<LastAck | 1<<Closing

// dump asks for IPv4 and then IPv6 sockets, and calls each once for each. A
// kernel without IPv6, or without the module of sock_diag, says ENOENT.
func (c *Client) dump(ask request, each func(s *Socket, v6only bool)) error {
	clear(c.seen)
	var s Socket
	message := func(_ uint16, body []byte) error {
		v6only, err := parse(&s, body)
		if err != nil {
			return err
		}
		if _, twice := c.seen[s.Cookie]; twice {
			return nil
		}
		c.seen[s.Cookie] = struct{}{}
		each(&s, v6only)
		return nil
	}
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		ask.family = family
		var body [requestBytes]byte
		ask.put(&body)
		switch err := c.conn.Dump(unix.SOCK_DIAG_BY_FAMILY, body[:], message); {
		case err == nil, errors.Is(err, netlink.ErrInterrupted):
			// sock_diag's dumps are never a snapshot of one instant; that this one
			// was found out makes it no different.
		case errors.Is(err, unix.ENOENT) && family == unix.AF_INET6:
		case errors.Is(err, unix.ENOENT):
			return fmt.Errorf("sock_diag: this kernel has no tcp_diag (modprobe tcp_diag): %w", err)
		default:
			return fmt.Errorf("sock_diag: %w", err)
		}
	}
	return nil
}
