package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// names is a resolver that has the answers, or not.
type names struct {
	addrs []netip.Addr
	err   error
	hang  bool
	asked atomic.Int64
}

func (n *names) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.asked.Add(1)
	if n.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.addrs, n.err
}

func addrs(ss ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func (s *talkServer) named(host, target string) *engine.Request {
	return &engine.Request{URL: fmt.Sprintf("http://%s:%d%s", host, s.addr().Port(), target)}
}

// closedOn fails the test if somebody listens on addr at the server's port:
// then it proves nothing.
func (s *talkServer) closedOn(addr string) {
	c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), s.addr().Port()).String())
	if err == nil {
		c.Close()
		s.t.Skipf("another process listens on %s", c.RemoteAddr())
	}
}

// A name's addresses are tried in turn, within one attempt.
func TestDialNextAddress(t *testing.T) {
	for _, second := range []string{"127.0.0.2", "::1"} {
		t.Run(second, func(t *testing.T) {
			if second == "::1" && !haveIPv6() {
				missing(t, "IPv6 on loopback")
			}
			srv := listenOn(t, net.JoinHostPort(second, "0"))
			srv.closedOn("127.0.0.3")
			dns := &names{addrs: addrs("127.0.0.3", second)}
			e := talk(t, engine.Config{Resolver: dns, KeepBody: true})
			end := e.ask(srv.named("two.test", "/x"))[0]
			c := srv.accept()
			c.expect("GET /x")
			c.send(ok("found"))
			end.want(200, "found")
			end.wantAttempts(1)
			if end.r.Remote != srv.addr() {
				t.Errorf("remote is %v, want %v", end.r.Remote, srv.addr())
			}
		})
	}
}

func haveIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// No address accepts: connect, after each retry.
func TestDialAllRefused(t *testing.T) {
	for _, retries := range []int{0, 2} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			srv := listenOn(t, "127.0.0.2:0")
			srv.closedOn("127.0.0.3")
			srv.closedOn("127.0.0.4")
			e := talk(t, engine.Config{Resolver: &names{addrs: addrs("127.0.0.3", "127.0.0.4")}, Retries: retries})
			end := e.ask(srv.named("none.test", "/"))[0]
			end.wantError(engine.PhaseConnect, engine.Connect)
			end.wantAttempts(1 + retries)
			if !errors.Is(end.r.Err, unix.ECONNREFUSED) {
				t.Errorf("%v does not wrap ECONNREFUSED", end.r.Err)
			}
		})
	}
}

// Nothing of a POST was sent where nobody accepted.
func TestDialRefusedNonIdempotent(t *testing.T) {
	srv := listenOn(t, "127.0.0.2:0")
	srv.closedOn("127.0.0.3")
	e := talk(t, engine.Config{Resolver: &names{addrs: addrs("127.0.0.3")}})
	r := srv.named("none.test", "/")
	r.Method, r.Body = "POST", []byte("x")
	e.ask(r)[0].wantError(engine.PhaseConnect, engine.Connect)
}

// A name that does not resolve, in each of the ways it may not.
func TestResolverFails(t *testing.T) {
	noSuchHost := &net.DNSError{Err: "no such host", Name: "dead.test", IsNotFound: true}
	for name, dns := range map[string]*names{
		"error":      {err: noSuchHost},
		"no address": {},
	} {
		t.Run(name, func(t *testing.T) {
			e := talk(t, engine.Config{Resolver: dns})
			ends := e.ask(&engine.Request{URL: "http://dead.test/1"}, &engine.Request{URL: "http://dead.test/2"})
			for _, end := range ends {
				end.wantError(engine.PhaseDNS, engine.DNS)
			}
			if de := (*net.DNSError)(nil); dns.err != nil && !errors.As(ends[0].r.Err, &de) {
				t.Errorf("%v does not wrap the resolver's error", ends[0].r.Err)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		e := talk(t, engine.Config{Resolver: &names{hang: true}, ConnectTimeout: 300 * time.Millisecond})
		e.ask(&engine.Request{URL: "http://slow.test/"})[0].wantError(engine.PhaseDNS, engine.Timeout, engine.DNS)
	})
}

// A resolver that hangs holds up nobody else, and not the end either.
func TestResolverHangs(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	dns := &names{hang: true}
	e := talk(t, engine.Config{Resolver: dns, KeepBody: true})
	stuck := e.ask(srv.named("slow.test", "/stuck"))[0]
	other := e.ask(srv.request("GET", "/other"))[0]
	c := srv.accept()
	c.expect("GET /other")
	c.send(ok("other"))
	other.want(200, "other")
	e.cancel()
	e.awaitRun(context.Canceled)
	stuck.wantError(engine.PhaseDNS, engine.Canceled)
	e.finish(context.Canceled)
}

// An answer of the resolver serves for its lifetime, every connection of it.
func TestResolverIsCached(t *testing.T) {
	srv := listen(t)
	dns := &names{addrs: addrs("127.0.0.1")}
	e := talk(t, engine.Config{Resolver: dns, DNSTTL: time.Hour, KeepBody: true})
	for range 5 {
		end := e.ask(srv.named("once.test", "/"))[0]
		c := srv.accept()
		c.expect("GET /")
		c.send(ok("x", "Connection: close"))
		end.want(200, "x")
		c.fin()
	}
	if n := dns.asked.Load(); n != 1 {
		t.Errorf("the resolver was asked %d times, want once", n)
	}
}

// A host that neither accepts nor refuses: the connect timeout ends it.
func TestConnectTimeout(t *testing.T) {
	addr := blackhole(t)
	e := talk(t, engine.Config{ConnectTimeout: 500 * time.Millisecond})
	end := e.ask(&engine.Request{URL: fmt.Sprintf("http://%s/", addr)})[0]
	end.wantError(engine.PhaseConnect, engine.Timeout)
	end.wantAttempts(1)
}

// A deadline ends its request in the middle of a connect too, and a cancel.
func TestConnectInterrupted(t *testing.T) {
	cleanAfter(t)
	addr := blackhole(t)
	e := talk(t, engine.Config{ConnectTimeout: time.Hour, Timeout: time.Hour})
	end := e.ask(&engine.Request{URL: fmt.Sprintf("http://%s/1", addr), Timeout: 500 * time.Millisecond})[0]
	if r := end.wait(); r.Err == nil || r.Err.Kind != engine.Timeout {
		t.Errorf("%v, want timeout", r.Err)
	}
	end = e.ask(&engine.Request{URL: fmt.Sprintf("http://%s/2", addr)})[0]
	e.cancel()
	e.awaitRun(context.Canceled)
	end.wantCanceled()
}

// blackhole is a listener whose backlog is full: further SYNs are dropped.
func blackhole(t testing.TB) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for until := time.Now().Add(patience); time.Now().Before(until); runtime.Gosched() {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if info.Unacked > info.Sacked { // of a listener: its accept queue and the limit of that
			return addr
		}
	}
	t.Fatal("the accept queue does not fill up")
	return ""
}
