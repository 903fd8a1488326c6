package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dialing is what a connection knows while it is being made: for which call,
// and which addresses are left to try.
type dialing struct {
	pinned      *call // its first call; nil if that was abandoned meanwhile
	startedAt   int64
	connectedAt int64 // 0 while it is not
	addrs       []netip.Addr
	tried       int
	races       []attempt // under way besides the latest one
	dialErr     error     // of the last address
}

// An attempt is to connect to one of a name's addresses.
type attempt struct {
	fd     int
	t      transport
	remote netip.AddrPort
}

// nextAddressAfter is how long an address has before the next one is tried
// beside it (RFC 8305 section 8: "Connection Attempt Delay").
const nextAddressAfter = 250 * time.Millisecond

// dial begins a connection for k. A name's addresses are tried in turn within
// this one attempt.
func (o *origin) dial(now int64, k *call) {
	c := o.l.newConn(o)
	k.takeQueueTime(now)
	k.attempts++
	k.state, k.conn = callDialing, c
	c.pinned, c.startedAt = k, now
	c.deadline = now + int64(min(o.l.e.cfg.ConnectTimeout, o.l.e.cfg.Timeout))
	c.arm()
	cfg := &o.l.e.cfg
	if cfg.UnixSocket != "" {
		c.resolved(now, []netip.Addr{{}}, nil)
		return
	}
	if addrs, ok := cfg.Resolve[o.to]; ok {
		c.resolved(now, addrs, nil)
		return
	}
	addrs, err, known := o.l.e.names.lookup(o.to.Host, func(addrs []netip.Addr, err error) {
		c.l.post(func(now int64) { c.resolved(now, addrs, err) })
	})
	if known {
		c.resolved(now, addrs, err)
	}
}

// resolved takes the resolver's answer.
func (c *conn) resolved(now int64, addrs []netip.Addr, err error) {
	if c.state != connResolving {
		return // timed out meanwhile
	}
	if err == nil && c.l.e.cfg.UnixSocket == "" {
		addrs, err = c.l.e.cfg.allowed(addrs)
	}
	if err != nil {
		c.dialFailed(now, cause{kind: DNS, err: err, message: fmt.Sprintf("host %s: %s", c.o.to.Host, resolverSays(err))})
		return
	}
	c.addrs, c.state = addrs, connConnecting
	c.tryNext(now)
}

// resolverSays is the answer in an error of the resolver, which names the host,
// and a server that may not be the one that was asked.
func resolverSays(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Err
	}
	return err.Error()
}

// tryNext begins to connect to the next address, beside those that are under
// way. The one after it follows when this one has failed, or has not answered
// for a while; where time is short, for an equal share of what is left.
func (c *conn) tryNext(now int64) {
	by := c.connectBy()
	if c.t != nil {
		c.races = append(c.races, attempt{c.fd, c.t, c.remote})
		c.t = nil
	}
	for c.tried < len(c.addrs) {
		left := len(c.addrs) - c.tried
		if a := c.addrs[c.tried]; a.IsValid() {
			c.remote = netip.AddrPortFrom(a, c.o.to.Port)
		}
		c.tried++
		if c.dialErr = c.l.net.connect(c, c.remote); c.dialErr == nil {
			c.deadline = by
			if left > 1 {
				c.deadline = now + min(int64(nextAddressAfter), (by-now)/int64(left))
			}
			c.arm()
			if c.remote.Addr().IsLoopback() && c.l.net.connected(c) {
				c.connected(c.l.now())
			}
			return
		}
	}
	if last := len(c.races) - 1; last >= 0 { // the others go on
		c.swap(last)
		c.races = c.races[:last]
		c.deadline = by
		c.arm()
		return
	}
	c.dialFailed(now, cause{kind: Connect, err: c.dialErr, message: c.dialMessage()})
}

// connectBy is when the connection has to be made.
func (c *conn) connectBy() int64 {
	return c.startedAt + int64(min(c.l.e.cfg.ConnectTimeout, c.l.e.cfg.Timeout))
}

// swap makes attempt i the one that the connection's fields are about.
func (c *conn) swap(i int) {
	r := &c.races[i]
	c.fd, r.fd = r.fd, c.fd
	c.t, r.t = r.t, c.t
	c.remote, r.remote = r.remote, c.remote
}

// dropRaces gives up all attempts but the current one.
func (c *conn) dropRaces() {
	for len(c.races) > 0 {
		c.swap(0)
		c.l.releaseSocket(c)
		c.swap(0)
		c.races = c.races[1:]
	}
	c.races = nil
}

func (c *conn) dialMessage() string {
	msg := "connect to " + c.peer() + ": " + c.dialErr.Error()
	if len(c.addrs) > 1 {
		msg += fmt.Sprintf(" (the last of %d addresses of %s)", len(c.addrs), c.o.to.Host)
	}
	switch c.dialErr {
	case unix.EMFILE:
		msg += "; raise the limit with ulimit -n, or use fewer connections"
	case unix.EADDRNOTAVAIL:
		msg += "; no local port is left: keep connections alive or widen net.ipv4.ip_local_port_range"
	}
	return msg
}

// peer names what the connection is made to.
func (c *conn) peer() string {
	name := c.o.to.String()
	switch {
	case c.l.e.cfg.UnixSocket != "":
		return "unix socket " + c.l.e.cfg.UnixSocket
	case c.remote.IsValid():
		name = c.remote.String()
	}
	if c.o.proxy != nil {
		return "proxy " + name
	}
	return name
}

// connectDone is called when the connect(2) that was under way has ended.
func (c *conn) connectDone(now int64) {
	if err := c.l.net.connectError(c); err != nil {
		c.dialErr = err
		c.l.releaseSocket(c)
		c.tryNext(now)
		return
	}
	c.connected(now)
}

// connected goes on with a socket that is connected.
func (c *conn) connected(now int64) {
	c.connectedAt = now
	c.dropRaces()
	if c.o.secure || c.o.proxy.tunnels(c.o.secure) {
		c.handshake(now)
		return
	}
	c.opened(now)
}

// dialTimes are how long it took to connect, and then to secure the connection.
func (c *conn) dialTimes(now int64) (connect, tls int64) {
	if c.connectedAt == 0 || !c.o.secure || c.dialPhase() == PhaseProxy {
		return now - c.startedAt, 0
	}
	return c.connectedAt - c.startedAt, now - c.connectedAt
}

// dialPhase is how far the connection has come.
func (c *conn) dialPhase() Phase {
	switch c.state {
	case connResolving:
		return PhaseDNS
	case connHandshaking:
		if s := c.t.(*secure); s.tunneled.Load() == 0 {
			return PhaseProxy
		}
		return PhaseTLS
	}
	return PhaseConnect
}

// opened begins the life of a connection: with its pinned call alone if the
// origin has earned no depth yet.
func (c *conn) opened(now int64) {
	c.state = connOpen
	c.lastWrite, c.in.last, c.headAt = now, now, now
	c.bound = c.o.depth.bound()
	c.l.e.connects.Add(1)
	if k := c.pinned; k != nil {
		c.pinned = nil
		k.connect, k.tls = c.dialTimes(now)
		c.admit(k, now)
		c.push(now)
		c.l.mark(c.o) // others may have connections of their own yet
		return
	}
	c.turn(now)
}

// dialTimedOut is called when the time for the current address is over.
func (c *conn) dialTimedOut(now int64) {
	limit := min(c.l.e.cfg.ConnectTimeout, c.l.e.cfg.Timeout)
	switch c.state {
	case connResolving:
		c.dialFailed(now, cause{kind: DNS, message: fmt.Sprintf("host %s: the resolver gave no answer within %s", c.o.to.Host, limit)})
	case connHandshaking:
		what := "TLS handshake with " + c.o.host
		if c.dialPhase() == PhaseProxy {
			what = fmt.Sprintf("proxy %s: tunnel to %s", c.o.proxy, c.o.host)
		}
		c.dialFailed(now, cause{kind: Timeout, message: what + ": not complete within " + limit.String()})
	default:
		if c.tried < len(c.addrs) && now < c.connectBy() {
			c.tryNext(now)
		} else {
			c.dialFailed(now, cause{kind: Timeout, message: fmt.Sprintf("connect to %s: no answer within %s", c.peer(), limit)})
		}
	}
}

// dialFailed ends a connection that never was, and the attempt of its call.
func (c *conn) dialFailed(now int64, w cause) {
	phase := c.dialPhase()
	k := c.pinned
	c.pinned = nil
	connect, tls := c.dialTimes(now)
	c.close(now, w)
	if k == nil {
		return
	}
	k.conn, k.peer = nil, &endpoint{remote: c.remote}
	k.connect, k.tls = connect, tls
	v := decide(outcome{
		kind: w.kind, idempotent: k.p.idempotent, fault: true,
		attempts: int(k.attempts), retries: c.l.e.cfg.Retries,
	})
	if v == retry {
		c.l.again(k, now, v, nil)
		return
	}
	c.l.fail(k, now, &Error{Kind: w.kind, Phase: phase, Message: w.message, Err: w.err})
}

// socket is a raw non-blocking TCP socket: the plain transport.
//
// Its system calls never wait, so the scheduler need not hear of them: an
// announced one costs more, and on one CPU it makes the runtime's monitor
// thread take the processor away from the loop thousands of times a second.
// BenchmarkSocketWrite shows the difference.
type socket struct {
	fd   int
	held bool // the handshake's last ACK waits for the first write: see openSocket
}

func (s *socket) read(b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (*socket) flush() error    { return nil }
func (*socket) truncated() bool { return false }

func (s *socket) write(b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	if s.held {
		// What comes back is acknowledged at once, as ever: a server that hears
		// nothing for some milliseconds sends its answer again (RFC 8985 section 7).
		s.held = false
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
	return int(n), nil
}

// network is what a loop needs of the kernel besides reading and writing. Tests
// script it.
type network interface {
	connect(c *conn, to netip.AddrPort) error // begins; the outcome is an event
	connected(c *conn) bool                   // it has ended well already, as it mostly has within a machine
	connectError(c *conn) error               // SO_ERROR of a connect that ended
	release(c *conn)                          // gives up the socket
	wakeAt(at int64)                          // has onTimer called then
	wake()                                    // has onMail called; from any goroutine
}
