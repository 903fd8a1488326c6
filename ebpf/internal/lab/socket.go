package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
)

// patience bounds every wait for something that is certain to happen soon: it
// is for a machine under load, and reached only when something is wrong.
const patience = 20 * time.Second

// Socket is a non-blocking TCP socket, without Go's poller between it and the
// kernel.
type Socket struct {
	fd int
}

// family is that of an address: a mapped one is for an IPv6 socket.
func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Socket makes a socket for addresses of the family of this one. A mapped IPv4
// address (::ffff:127.0.0.1) is for an IPv6 socket.
func (ns *Namespace) Socket(like netip.Addr) (s *Socket, err error) {
	err = ns.Do(func() error {
		fd, err := unix.Socket(family(like), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		s = &Socket{fd: fd}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: socket: %w", err)
	}
	return s, nil
}

// Listen listens on an address, on a port that the kernel picks if it is 0.
// The accept queue holds backlog + 1 connections. On [::] it takes IPv4 too.
func (ns *Namespace) Listen(on netip.AddrPort, backlog int) (*Socket, error) {
	return ns.listen(on, backlog, false, false)
}

// ListenV6Only is Listen of an IPv6 socket that takes no IPv4.
func (ns *Namespace) ListenV6Only(on netip.AddrPort, backlog int) (*Socket, error) {
	return ns.listen(on, backlog, false, true)
}

func (ns *Namespace) listen(on netip.AddrPort, backlog int, reuse, v6Only bool) (*Socket, error) {
	s, err := ns.Socket(on.Addr())
	if err != nil {
		return nil, err
	}
	if reuse {
		err = s.setInt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil && on.Addr().Is6() {
		err = s.setInt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, map[bool]int{true: 1}[v6Only])
	}
	if err == nil {
		err = unix.Bind(s.fd, sockaddr(on))
	}
	if err == nil {
		err = unix.Listen(s.fd, backlog)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("lab: listen on %v: %w", on, err)
	}
	return s, nil
}

// Start begins to connect and does not wait. What it returns is the connect(2)
// error, unwrapped: there is no socket then.
func (ns *Namespace) Start(to netip.AddrPort) (*Socket, error) {
	s, err := ns.Socket(to.Addr())
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(s.fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Connect connects. The error is the errno of the connection, unwrapped.
func (ns *Namespace) Connect(to netip.AddrPort) (*Socket, error) {
	s, err := ns.Start(to)
	if err != nil {
		return nil, err
	}
	if err := s.Connected(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ConnectWithData is Connect of a socket whose last ACK of the handshake waits for
// the first data, for 200 ms at most.
func (ns *Namespace) ConnectWithData(to netip.AddrPort) (*Socket, error) {
	s, err := ns.Socket(to.Addr())
	if err != nil {
		return nil, err
	}
	return s.connect(to, s.setInt(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0))
}

// ConnectFrom is Connect from an address of the namespace, with a port that the
// kernel chooses when it knows the destination: bind(2) alone would want one that
// is free for all.
func (ns *Namespace) ConnectFrom(from netip.Addr, to netip.AddrPort) (*Socket, error) {
	s, err := ns.Socket(to.Addr())
	if err != nil {
		return nil, err
	}
	if err = s.setInt(unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err == nil {
		err = unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(from, 0)))
	}
	return s.connect(to, err)
}

// connect connects a socket that was prepared, unless that failed.
func (s *Socket) connect(to netip.AddrPort, err error) (*Socket, error) {
	if err == nil {
		err = unix.Connect(s.fd, sockaddr(to))
	}
	if err == nil || err == unix.EINPROGRESS {
		err = s.Connected()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Again connects the socket anew when its connection is over at both ends.
func (s *Socket) Again(to netip.AddrPort) error {
	err := errors.Join(s.Shutdown(), await(func() (bool, error) { return !s.Peer().IsValid(), nil })) // its FIN is acknowledged
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none)); errno != 0 {
		err = errors.Join(err, errno)
	}
	_, err = s.connect(to, err)
	return err
}

// Connected waits until a connection that was begun is made or has failed.
func (s *Socket) Connected() error {
	if err := s.poll(unix.POLLOUT); err != nil {
		return err
	}
	return s.Err()
}

// Err takes the socket's pending error.
func (s *Socket) Err() error {
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

// poll waits for events on the socket. An error or hang-up ends it too.
func (s *Socket) poll(events int16) error {
	return await(func() (bool, error) {
		p := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
		n, err := unix.Poll(p, 100)
		if err == unix.EINTR {
			return false, nil
		}
		return n > 0, err
	})
}

// Accept waits for a connection and takes it from the queue.
func (s *Socket) Accept() (*Socket, error) {
	if err := s.poll(unix.POLLIN); err != nil {
		return nil, fmt.Errorf("lab: accept: %w", err)
	}
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("lab: accept: %w", err)
	}
	return &Socket{fd: fd}, nil
}

// Write writes all of b, waiting where it must.
func (s *Socket) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		m, err := unix.Write(s.fd, b[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.poll(unix.POLLOUT); err != nil {
				return n, err
			}
		default:
			return n, err
		}
	}
	return len(b), nil
}

// Read waits for bytes, the end (0, nil) or the connection's error.
func (s *Socket) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, b)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.poll(unix.POLLIN); err != nil {
				return 0, err
			}
		default:
			return max(n, 0), err
		}
	}
}

// Local and Peer are the socket's addresses.
func (s *Socket) Local() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func (s *Socket) Peer() netip.AddrPort {
	sa, err := unix.Getpeername(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

// Cookie is SO_COOKIE, by which an observer names the socket.
func (s *Socket) Cookie() (uint64, error) {
	return unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// Info is TCP_INFO.
func (s *Socket) Info() (*unix.TCPInfo, error) {
	return unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
}

// sockets is a snapshot of the namespace's sockets.
func (ns *Namespace) sockets(f diag.Filter) (all []diag.Socket, err error) {
	err = ns.Do(func() error {
		c, err := diag.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		all, err = c.Sockets(nil, f)
		return err
	})
	return all, err
}

// queue gives the length of a listener's accept queue: of such a socket
// tcpi_unacked is sk_ack_backlog.
func (s *Socket) queue() (uint32, error) {
	info, err := s.Info()
	if err != nil {
		return 0, err
	}
	return info.Unacked, nil
}

// Reset makes Close abort the connection with an RST, also where nothing is unread.
func (s *Socket) Reset() error {
	return unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

func (s *Socket) setInt(level, option, value int) error {
	if err := unix.SetsockoptInt(s.fd, level, option, value); err != nil {
		return fmt.Errorf("lab: setsockopt(%d, %d, %d): %w", level, option, value, err)
	}
	return nil
}

// await asks again and again until it is so, or patience has run out.
func await(so func() (bool, error)) error {
	for start := time.Now(); ; {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		if time.Since(start) > patience {
			return errTimeout
		}
		time.Sleep(100 * time.Microsecond)
	}
}
