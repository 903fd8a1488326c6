package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ConnectRule sends connections to another place than the URL says, which
// keeps its name in Host and in the TLS handshake. An empty host or a port 0
// matches any, and as destination leaves it as it is.
type ConnectRule struct {
	Host   string
	Port   uint16
	ToHost string
	ToPort uint16
}

// HostPort is a host name in lower case, or an address, and a port.
type HostPort struct {
	Host string
	Port uint16
}

// String returns host:port.
func (h HostPort) String() string { return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))) }

// destination is where connections for a host are made to: the first rule that
// matches says it.
func (c *Config) destination(h HostPort) HostPort {
	for _, r := range c.ConnectTo {
		if r.Host != "" && !strings.EqualFold(r.Host, h.Host) || r.Port != 0 && r.Port != h.Port {
			continue
		}
		if r.ToHost != "" {
			h.Host = strings.ToLower(r.ToHost)
		}
		if r.ToPort != 0 {
			h.Port = r.ToPort
		}
		break
	}
	return h
}

// allowed keeps the addresses of the family that Config.IPVersion asks for.
func (c *Config) allowed(addrs []netip.Addr) ([]netip.Addr, error) {
	var kept []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.IsValid() && (c.IPVersion == 0 || a.Is4() == (c.IPVersion == 4)) {
			kept = append(kept, a)
		}
	}
	switch {
	case len(kept) > 0:
		return kept, nil
	case c.IPVersion == 0:
		return nil, errors.New("it has no address")
	}
	return nil, fmt.Errorf("it has no IPv%d address", c.IPVersion)
}

// locals are the addresses that connections are made from, in turn: ports are
// counted per address, so that with n of them n times as many connections to
// one destination can exist.
type locals struct {
	v4, v6 []netip.Prefix
	device string
	turns  [2]atomic.Uint64 // of v4 and v6
}

func newLocals(c *Config) *locals {
	l := &locals{device: c.Interface}
	for _, p := range c.Sources {
		if p = p.Masked(); p.Addr().Is4() {
			l.v4 = append(l.v4, p)
		} else {
			l.v6 = append(l.v6, p)
		}
	}
	return l
}

// next is the address to connect from to one of the family of to; not valid
// where the kernel is to choose.
func (l *locals) next(to netip.Addr) (netip.Addr, error) {
	own, turn := l.v6, &l.turns[1]
	if to.Is4() {
		own, turn = l.v4, &l.turns[0]
	}
	switch {
	case len(own) > 0:
	case len(l.v4)+len(l.v6) > 0:
		return netip.Addr{}, errors.New("no source address of its family was given")
	default:
		return netip.Addr{}, nil
	}
	n := turn.Add(1) - 1
	p := own[n%uint64(len(own))]
	return nth(p, n/uint64(len(own))), nil
}

// nth is address n of a prefix, which wraps around. Of an IPv4 network the
// first and the last are no hosts.
func nth(p netip.Prefix, n uint64) netip.Addr {
	a, free := p.Addr(), p.Addr().BitLen()-p.Bits()
	if free == 0 {
		return a
	}
	hosts, first := uint64(1)<<min(free, 63), uint64(0)
	if a.Is4() && free > 1 {
		hosts, first = hosts-2, 1
	}
	n = n%hosts + first
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	sum := new(big.Int).SetBytes(a.AsSlice())
	b := a.As16()
	sum.Add(sum, new(big.Int).SetUint64(n)).FillBytes(b[:])
	return netip.AddrFrom16(b)
}

// bind makes a socket connect from one of the addresses. The port is left to
// connect(2): with IP_BIND_ADDRESS_NO_PORT it has to be free for the
// destination only, not for all.
func (l *locals) bind(fd int, to netip.Addr) error {
	if l.device != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, l.device); err != nil {
			return fmt.Errorf("bind to interface %s: %w", l.device, err)
		}
	}
	from, err := l.next(to)
	if err != nil || !from.IsValid() {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
		return fmt.Errorf("source address %s: %w", from, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// toItself says whether a socket is connected to itself: TCP's simultaneous
// open does that where the local port happens to be the one that is asked for,
// on this machine, and nobody listens there.
func toItself(fd int, remote netip.AddrPort) bool {
	return socketName(unix.SYS_GETSOCKNAME, fd) == netip.AddrPortFrom(remote.Addr().WithZone(""), remote.Port())
}

// socketName is getsockname(2) or getpeername(2) of a TCP socket, the zero
// AddrPort where that fails. It is one system call, where the packages' functions
// make two.
func socketName(call uintptr, fd int) netip.AddrPort {
	var a unix.RawSockaddrInet6 // the larger one
	size := uint32(unsafe.Sizeof(a))
	if _, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	port := (*[2]byte)(unsafe.Pointer(&a.Port))
	switch a.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&a)).Addr), binary.BigEndian.Uint16(port[:]))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), binary.BigEndian.Uint16(port[:]))
	}
	return netip.AddrPort{}
}

// openSocket begins to connect. Completion, and failure, is an EPOLLOUT event.
//
// hold has the handshake's last ACK wait for the request, which comes soon, and
// go with it: a segment less for each connection (tcp_rcv_synsent_state_process
// in net/ipv4/tcp_input.c), and a sixth of the CPU time of a request that has a
// connection of its own. Where nothing comes it is sent after 200 ms. See
// socket.write for its end.
func (l *locals) openSocket(to netip.AddrPort, hold bool) (fd int, err error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	return connecting(family, sockaddr(to), func(fd int) error {
		// Requests leave when they are written: the engine batches them itself.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if hold {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
		}
		return l.bind(fd, to.Addr())
	})
}

// any says whether the kernel chooses the address that sockets connect from.
func (l *locals) any() bool { return len(l.v4)+len(l.v6) == 0 && l.device == "" }

// connectAgain is openSocket with a spare.
func connectAgain(fd int, to netip.AddrPort, hold bool) error {
	if hold {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if err := unix.Connect(fd, sockaddr(to)); err != unix.EINPROGRESS {
		return err
	}
	return nil
}

// openUnix is openSocket for a unix socket. The kernel says EAGAIN where its
// accept queue is full.
func openUnix(path string) (fd int, err error) {
	return connecting(unix.AF_UNIX, &unix.SockaddrUnix{Name: path}, func(int) error { return nil })
}

func connecting(family int, to unix.Sockaddr, prepare func(fd int) error) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = prepare(fd); err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ResolverOf returns a Resolver that asks these DNS servers, in turn, instead
// of those of the system; one that gives no answer is followed by the next.
// /etc/hosts still comes first.
func ResolverOf(servers []netip.AddrPort) Resolver {
	if len(servers) == 0 {
		return defaultResolver
	}
	r := new(resolvers)
	for _, s := range servers {
		r.all = append(r.all, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialResolver(ctx, network, s.String())
		}})
	}
	return r
}

// dialResolver connects to a DNS server. net.Resolver goes on reading for seconds
// after nobody wants the answer: with the context the connection ends too.
func dialResolver(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	}
	return c, err
}

type resolvers struct {
	all  []*net.Resolver
	turn atomic.Uint32
}

func (r *resolvers) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	first := int(r.turn.Add(1) - 1)
	for i := range r.all {
		addrs, err = r.ask(ctx, r.all[(first+i)%len(r.all)], len(r.all)-i, network, host)
		var dns *net.DNSError
		if err == nil || errors.As(err, &dns) && dns.IsNotFound {
			break
		}
	}
	return addrs, err
}

// ask asks one of them, within an equal share of the time that is left.
func (r *resolvers) ask(ctx context.Context, one *net.Resolver, left int, network, host string) ([]netip.Addr, error) {
	if by, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(by)/time.Duration(left))
		defer cancel()
	}
	return one.LookupNetIP(ctx, network, host)
}
