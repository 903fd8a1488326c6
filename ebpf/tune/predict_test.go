package tune

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// What the preflight predicts is compared with what then happens, with plain
// sockets in namespaces of the test's own.

// A course is where a client in one namespace connects to a server in another, or
// in its own.
type course struct {
	testing.TB
	client, server *lab.Namespace
	to             netip.AddrPort
	listener       *lab.Socket
	from           []netip.Addr // source addresses, in turn; none: the kernel's choice
	next           int
}

var localhost = netip.MustParseAddr("127.0.0.1")

// overLoopback serves and connects in one namespace.
func overLoopback(t testing.TB) *course {
	t.Helper()
	w := newWorld(t)
	return (&course{TB: t, client: w.ns, server: w.ns}).listen(localhost, 1024)
}

// overVeth serves in another namespace: no address of it is a loopback address.
func overVeth(t testing.TB) *course {
	t.Helper()
	need.Root(t)
	a, b, err := lab.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return (&course{TB: t, client: a, server: b}).listen(lab.PairIPv4[1], 1024)
}

func (c *course) listen(on netip.Addr, backlog int) *course {
	c.Helper()
	// Not a port of those that clients use in these tests.
	l, err := c.server.Listen(netip.AddrPortFrom(on, 9), backlog)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { l.Close() })
	c.listener, c.to = l, l.Local()
	return c
}

// hundredPorts leaves the client ports 40000 to 40099.
func (c *course) hundredPorts(settings ...string) *course {
	c.Helper()
	for _, s := range append(settings, portRange+"=40000 40099") {
		name, value, _ := strings.Cut(s, "=")
		if _, err := c.client.SetSysctl(name, value); err != nil {
			c.Fatal(err)
		}
	}
	return c
}

func (c *course) machine() (m *Machine) {
	c.Helper()
	if err := c.client.Do(func() error {
		m = ReadMachine()
		return nil
	}); err != nil {
		c.Fatal(err)
	}
	return m
}

// limit is a row of the preflight.
func (c *course) limit(l Load, name string) Limit {
	c.Helper()
	for _, r := range Preflight(l, c.machine()) {
		if strings.HasPrefix(r.Name, name) {
			c.Log(r.Says)
			return r
		}
	}
	c.Fatalf("no limit %q", name)
	return Limit{}
}

// connect connects from the next source address. The error is connect(2)'s.
func (c *course) connect() (*lab.Socket, error) {
	if len(c.from) == 0 {
		return c.client.Connect(c.to)
	}
	c.next++
	return c.client.ConnectFrom(c.from[c.next%len(c.from)], c.to)
}

// once makes a connection and closes both ends, one of them first.
func (c *course) once(serverFirst bool) error {
	client, err := c.connect()
	if err != nil {
		return err
	}
	server, err := c.listener.Accept()
	if err != nil {
		return err
	}
	first, second := client, server
	if serverFirst {
		first, second = server, client
	}
	if err := first.Close(); err != nil {
		return err
	}
	if n, err := second.Read(make([]byte, 1)); n != 0 || err != nil {
		return fmt.Errorf("no end: %d bytes, %w", n, err)
	}
	return second.Close()
}

// churn makes so many connections as fast as it can, and waits a little where no
// port is free. It gives the time to the last one's beginning, and how many tries
// found no port.
func (c *course) churn(n int, serverFirst bool) (took time.Duration, failures int) {
	c.Helper()
	start := time.Now()
	for made := 0; made < n; {
		took = time.Since(start)
		err := c.once(serverFirst)
		switch {
		case err == nil:
			made++
		case errors.Is(err, unix.EADDRNOTAVAIL):
			failures++
			time.Sleep(2 * time.Millisecond)
		default:
			c.Fatal(err)
		}
		if took > 100*time.Second {
			c.Fatalf("%d connections of %d in %v", made, n, took)
		}
	}
	return took, failures
}

// ceiling measures how many connections per second there can be for ever, where
// so many ports are in use: from the first one to the first after each was used
// `rounds` times.
func (c *course) ceiling(ports, rounds int) (perSecond float64) {
	c.Helper()
	took, failures := c.churn(rounds*ports+1, false)
	if failures == 0 {
		c.Error("there was always a port")
	}
	return float64(rounds*ports) / took.Seconds()
}

func (c *course) near(what string, predicted, measured float64) {
	c.Helper()
	c.Logf("%s: predicted %.4g, measured %.4g", what, predicted, measured)
	if math.Abs(predicted-measured) > 0.15*measured {
		c.Errorf("%s: predicted %.4g, measured %.4g: more than 15 %% apart", what, predicted, measured)
	}
}

// predictChurn compares the rate of connections that so many ports allow with
// what is predicted: a load above it fails, and its ceiling is the one that was
// predicted.
func (c *course) predictChurn(l Load, ports, rounds int) {
	c.Helper()
	l.For, l.Rate, l.NoKeepAlive = Bench, 500, true
	r := c.limit(l, "new connections")
	if r.OK || !r.Certain {
		c.Errorf("it would do: %+v", r)
	}
	c.near("connections per second", r.Has, c.ceiling(ports, rounds))
}

// A port is held for the minute of TIME_WAIT.
func TestPredictChurnWithoutReuse(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("TIME_WAIT takes a minute")
	}
	overVeth(t).hundredPorts().predictChurn(Load{}, 100, 1)
}

// A port is held for a second. This is not for a time when all experiments run: a
// CPU that is late by tenths of a second changes the result.
func TestPredictChurn(t *testing.T) {
	for _, c := range []struct {
		name   string
		course func(testing.TB) *course
		load   Load
		ports  int // of all source addresses
		set    []string
		from   []netip.Addr
	}{
		{name: "remote, tcp_tw_reuse 1", course: overVeth, ports: 100, set: []string{twReuse + "=1"}},
		{name: "loopback", course: overLoopback, load: Load{Loopback: true}, ports: 100},
		{name: "loopback, reserved ports", course: overLoopback, load: Load{Loopback: true},
			ports: 40, set: []string{reservedPorts + "=40010-40069"}},
		{name: "loopback, two source addresses", course: overLoopback, load: Load{Loopback: true, Sources: 2},
			ports: 200, from: []netip.Addr{localhost, netip.MustParseAddr("127.0.0.2")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := c.course(t).hundredPorts(c.set...)
			k.from = c.from
			k.predictChurn(c.load, c.ports, 5)
		})
	}
}

// Where the server closes first, and where TIME_WAIT overflows, no port is missed.
func TestPredictNoCeiling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		serverFirst bool
		set         []string
	}{
		{"the server closes first", true, nil},
		{"few TIME_WAIT buckets", false, []string{maxTWBuckets + "=20"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := overVeth(t).hundredPorts(c.set...)
			r := k.limit(Load{Rate: 500, NoKeepAlive: true, ServerCloses: c.serverFirst}, "new connections")
			if !r.OK || r.Has >= 0 {
				t.Errorf("there is a limit: %+v", r)
			}
			if _, failures := k.churn(1000, c.serverFirst); failures > 0 {
				t.Errorf("%d tries found no port", failures)
			}
		})
	}
}

// Connections at once: as many as ports, for each source address.
func TestPredictPortsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		from []netip.Addr
		set  []string
		fine int
		more int // than that can be, with luck
	}{
		{"100 ports", nil, nil, 100, 0},
		{"an odd number of ports", nil, []string{portRange + "=40000 40098"}, 98, 1},
		{"a listener among them", nil, []string{"listen=40050"}, 99, 0},
		{"two source addresses", []netip.Addr{localhost, netip.MustParseAddr("127.0.0.2")}, nil, 200, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := overLoopback(t).hundredPorts()
			for _, s := range c.set {
				name, value, _ := strings.Cut(s, "=")
				if name != "listen" {
					if _, err := k.client.SetSysctl(name, value); err != nil {
						t.Fatal(err)
					}
					continue
				}
				l, err := k.server.Listen(netip.MustParseAddrPort("127.0.0.7:"+value), 1)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			k.from = c.from
			l := Load{Loopback: true, Connections: c.fine, Sources: max(1, len(c.from))}
			if r := k.limit(l, "ports at once"); !r.OK || r.Has != float64(c.fine) {
				t.Errorf("%d connections: %+v", c.fine, r)
			}
			l.Connections++
			if r := k.limit(l, "ports at once"); r.OK || !r.Certain {
				t.Errorf("%d connections: %+v", l.Connections, r)
			}
			for n := 0; ; n++ {
				s, err := k.connect()
				if err != nil {
					if !errors.Is(err, unix.EADDRNOTAVAIL) || n < c.fine || n > c.fine+c.more {
						t.Errorf("%v after %d connections", err, n)
					}
					break
				}
				defer s.Close()
			}
		})
	}
}

// A burst at a server that does not accept meanwhile.
func TestPredictAcceptQueue(t *testing.T) {
	for _, c := range []struct{ backlog, somaxconn, burst, fit int }{
		{40, 4096, 41, 41},
		{40, 4096, 60, 41},
		{100, 20, 60, 21},
	} {
		w := newWorld(t)
		w.set("net.core.somaxconn", fmt.Sprint(c.somaxconn))
		k := (&course{TB: t, client: w.ns, server: w.ns}).listen(localhost, c.backlog)
		r := k.limit(Load{Loopback: true, Connections: c.burst, Port: 9}, "accept queue")
		if r.OK != (c.burst <= c.fit) || r.Has != float64(c.fit) {
			t.Errorf("%+v: %+v", c, r)
		}
		if !r.OK && strings.Contains(strings.Join(r.Fixes, ""), "somaxconn and") != (c.backlog > c.somaxconn) {
			t.Errorf("%+v: %q", c, r.Fixes)
		}
		queue := func(waiting, drops int) {
			t.Helper()
			for start := time.Now(); ; {
				l := k.machine().Listeners[0]
				if int(l.Waiting) == waiting && int(l.Drops) >= drops {
					return
				}
				if time.Since(start) > 20*time.Second {
					t.Fatalf("%+v: %+v, want %d that wait and %d drops", c, l, waiting, drops)
				}
			}
		}
		for range c.fit {
			s, err := w.ns.Connect(k.to)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
		}
		queue(c.fit, 0)
		for range c.burst - c.fit {
			s, err := w.ns.Start(k.to)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
		}
		queue(c.fit, c.burst-c.fit)
	}
}

// A process opens connections until it may not: a process of its own, whose limit
// is 2000 files.
func TestPredictDescriptors(t *testing.T) {
	w := newWorld(t)
	k := (&course{TB: t, client: w.ns, server: w.ns}).listen(localhost, 4096)
	w.shell = "ulimit -n 2000"
	out, _, err := w.run(task{Do: "descriptors", To: k.to.String()})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var fine, tooMany bool
	var predicted, measured float64
	if _, err := fmt.Sscan(out, &fine, &tooMany, &predicted, &measured); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !fine || tooMany {
		t.Errorf("1900 connections would do: %v; 2000 would: %v", fine, tooMany)
	}
	if measured < 1900 || measured >= 2000 {
		t.Errorf("%v connections", measured)
	}
	k.near("connections of a process", predicted, measured)
}

// useUpDescriptors prints what is predicted of 1900 and of 2000 connections, the
// most that are, and how many there were.
func useUpDescriptors(to string) error {
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	m := ReadMachine()
	few, many := Preflight(Load{Connections: 1900}, m)[0], Preflight(Load{Connections: 2000}, m)[0]
	n := 0
	for ; err == nil && n < 5000; n++ {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())})
		}
	}
	if !errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%d connections: %w", n, err)
	}
	fmt.Println(few.OK, many.OK, many.Has-spareDescriptors, n-1)
	return nil
}

// A load that is fine: 60 connections kept alive, and 100 ports.
func TestPredictFine(t *testing.T) {
	k := overVeth(t).hundredPorts()
	l := Load{Rate: 5000, Connections: 60}
	for _, r := range Preflight(l, k.machine()) {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
	var clients, servers []*lab.Socket
	for range l.Connections {
		client, err := k.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := k.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		clients, servers = append(clients, client), append(servers, server)
	}
	b := make([]byte, 1)
	for i := range 5000 {
		at := i % len(clients)
		if _, err := clients[at].Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := servers[at].Read(b); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}
