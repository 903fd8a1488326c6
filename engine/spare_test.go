package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// closer is a server that answers one request on each connection and closes it,
// and knows how the connections ended.
type closer struct {
	net.Listener
	connections, resets atomic.Int64
}

func newCloser(t *testing.T, address string) *closer {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &closer{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			go s.serve(c.(*net.TCPConn))
		}
	}()
	return s
}

func (s *closer) serve(c *net.TCPConn) {
	defer c.Close()
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		s.resets.Add(1)
		return
	}
	_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
	err = errors.Join(err, c.CloseWrite())
	if n, rerr := io.Copy(io.Discard, c); err != nil || rerr != nil || n > 0 { // the client's FIN, not an RST
		s.resets.Add(1)
	}
}

// Requests that have a connection each have one each, which ends with a FIN at
// either end, though most have a socket that had one before.
func TestSpares(t *testing.T) {
	const each, connections = 2000, 8
	e, err := New(Config{Connections: connections, PerHost: connections, Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	spare := func() (n [2]int) {
		said := make(chan [2]int)
		l := e.loops[0]
		l.post(func(int64) { said <- [2]int{len(l.spares.v4), len(l.spares.v6)} })
		return <-said
	}
	v4 := newCloser(t, "127.0.0.1:0")
	v6 := newCloser(t, "[::1]:0")
	for round := range int64(2) {
		for i, s := range []*closer{v4, v6} {
			stats, err := e.Run(t.Context(), closing(s.Addr().String(), each), SinkFunc(func([]*Result) error { return nil }))
			if err != nil || stats.Status[2] != each {
				t.Fatalf("%v, %+v", err, stats)
			}
			if n, r := s.connections.Load(), s.resets.Load(); n != each*(round+1) || r != 0 {
				t.Errorf("%d connections, %d of them reset, after %d requests", n, r, each*(round+1))
			}
			// Had none been used again there would be many.
			if n := spare(); n[i] < 1 || n[0]+n[1] > 2*connections {
				t.Errorf("%v spare sockets of IPv4 and IPv6", n)
			}
		}
	}
}

// closing is a source of so many requests that say Connection: close.
func closing(address string, left int) Source {
	return SourceFunc(func(_ context.Context, batch []*Request) (n int, err error) {
		for ; n < len(batch) && left > 0; n++ {
			left--
			batch[n] = &Request{URL: "http://" + address + "/", Header: []Field{{Name: "Connection", Value: "close"}}}
		}
		if left == 0 {
			err = io.EOF
		}
		return n, err
	})
}

// Only a socket whose connection is over at both ends is kept, and it keeps what
// was set.
func TestSparesKeep(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	for name, test := range map[string]struct {
		end  func(c *net.TCPConn) error
		kept bool
	}{
		"closed by the peer": {(*net.TCPConn).Close, true},
		"reset by the peer":  {func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, false},
		"open":               {func(*net.TCPConn) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s spares
			end := func() (fd int, kept bool) {
				e := endOf(t, l, test.end)
				return e.fd, s.keep(e)
			}
			fd, kept := end()
			for tries := 1; test.kept && !kept && tries < 100; tries++ { // its FIN was not acknowledged at once
				fd, kept = end()
			}
			if n := len(s.v4); kept != test.kept || n != map[bool]int{true: 1}[kept] {
				t.Fatalf("kept: %v, and there are %d", kept, n)
			}
			if !test.kept {
				return
			}
			if again := s.take(to.Addr(), true); again != fd {
				t.Fatalf("%d comes back for %d", again, fd)
			}
			if err := connectAgain(fd, to, false); err != nil {
				t.Fatal(err)
			}
			next, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer next.Close()
			if own := socketName(unix.SYS_GETSOCKNAME, fd); own.String() != next.RemoteAddr().String() {
				t.Errorf("it is %v here and %v there", own, next.RemoteAddr())
			}
			if on, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); on != 1 || err != nil {
				t.Errorf("TCP_NODELAY is %d, %v", on, err)
			}
		})
	}
}

// endOf is a connection to l that its other side ends like this.
func endOf(t *testing.T, l net.Listener, end func(*net.TCPConn) error) ended {
	to := l.Addr().(*net.TCPAddr).AddrPort()
	fd, err := new(locals).openSocket(to, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	if err := end(accepted.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	return ended{fd, true, to.Addr()}
}

// Without timestamps a new connection is told from an old one of the same ports by
// its numbers alone, and those of a spare are not above the old ones'.
func TestSparesWithoutTimestamps(t *testing.T) {
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		Missing(t, "root, for a network namespace")
	}
	if err := errors.Join(loopbackUp(), os.WriteFile("/proc/sys/net/ipv4/tcp_timestamps", []byte("0"), 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var s spares
	for range 10 {
		if e := endOf(t, l, (*net.TCPConn).Close); s.keep(e) {
			t.Fatal("a socket without timestamps is kept")
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
