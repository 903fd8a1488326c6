package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
	"hotlap/ebpf/internal/prog"
)

// observed opens an observer of a namespace.
func observed(t *testing.T, options Options) *Observer {
	t.Helper()
	o, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func namespace(t *testing.T) (*lab.Namespace, string) {
	t.Helper()
	ns, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	file, err := fileOf(ns)
	if err != nil {
		t.Fatal(err)
	}
	return ns, file
}

func read(t *testing.T, o *Observer) Sample {
	t.Helper()
	s, err := o.Read()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnotherNamespaceIsInvisible(t *testing.T) {
	need.Root(t)
	mine, file := namespace(t)
	other, _ := namespace(t)
	o := observed(t, Options{Netns: file})
	p, err := other.Refused(loopback, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	q, err := mine.Refused(loopback, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	s := read(t, o)
	if n := s.Total[RSTsIn]; n != 3 {
		t.Errorf("%d RSTs in: 3 were mine, and 10 another namespace's", n)
	}
	if len(s.Destinations) != 1 || s.Destinations[0].Addr != q.At {
		t.Errorf("destinations %v, want %v alone", s.Destinations, q.At)
	}
	everywhere := observed(t, Options{AllNetns: true})
	p, err = other.Refused(loopback, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n := read(t, everywhere).Total[RSTsIn]; n < 10 {
		t.Errorf("all namespaces had %d RSTs in, of at least 10", n)
	}
}

// What befalls a client goes to its destination, whichever way it names that.
func TestDestinations(t *testing.T) {
	need.Root(t)
	for _, test := range []struct{ dial, want string }{
		{"127.0.0.1", "127.0.0.1"},
		{"::1", "::1"},
		{"::ffff:127.0.0.1", "127.0.0.1"},
	} {
		t.Run(test.dial, func(t *testing.T) {
			ns, file := namespace(t)
			o := observed(t, Options{Netns: file})
			dial := netip.MustParseAddr(test.dial)
			refused, err := ns.Refused(dial, 3)
			if err != nil {
				t.Fatal(err)
			}
			defer refused.Close()
			exhausted, err := ns.PortExhaustion(dial, 6, 4) // of an odd number the kernel leaves one out
			if err != nil {
				t.Fatal(err)
			}
			defer exhausted.Close()
			s := read(t, o)
			for _, of := range []struct {
				at   netip.AddrPort
				k    Counter
				want uint64
			}{{refused.At, ConnectFailures, 3}, {refused.At, RSTsIn, 3}, {exhausted.At, PortsExhausted, 4}} {
				at := netip.AddrPortFrom(netip.MustParseAddr(test.want), of.at.Port())
				found := false
				for _, d := range s.Destinations {
					if d.Addr == at {
						found = true
						if d.Counts[of.k] != of.want {
							t.Errorf("%v: %s is %d, want %d", at, of.k, d.Counts[of.k], of.want)
						}
					}
				}
				if !found {
					t.Errorf("no destination %v", at)
				}
			}
			for _, sv := range s.Servers {
				if sv.Addr == netip.AddrPortFrom(netip.MustParseAddr(test.want), refused.At.Port()) && sv.Counts[RSTsOut] != 3 {
					t.Errorf("server %v sent %d RSTs, want 3", sv.Addr, sv.Counts[RSTsOut])
				}
			}
			if s.Total[RSTsOut] != 3 || len(s.Servers) != 1 {
				t.Errorf("%d RSTs out, from %d servers: want 3 from one", s.Total[RSTsOut], len(s.Servers))
			}
		})
	}
}

// A peer that does not read holds the sender up, and its socket says so: while
// it is open and once it is closed.
func TestEvidence(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	client, err := ns.Connect(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const size, held = 16 << 20, 200 * time.Millisecond
	written := make(chan error)
	go func() {
		_, err := client.Write(make([]byte, size))
		written <- err
	}()
	evidence := func(enough func(*Evidence) bool) *Evidence {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(pollEvery) {
			s := read(t, o)
			if len(s.Destinations) == 1 && s.Destinations[0].TCP != nil && enough(s.Destinations[0].TCP) {
				return s.Destinations[0].TCP
			}
			if time.Now().After(deadline) {
				t.Fatalf("in the end: %+v", s.Destinations)
			}
		}
	}
	open := *evidence(func(e *Evidence) bool { return e.ReceiveLimited >= held })
	if open.Open != 1 || open.Closed != 0 || open.MinRTT <= 0 || open.Busy < open.ReceiveLimited {
		t.Errorf("open: %+v", open)
	}
	buffer := make([]byte, 1<<20)
	for n := 0; n < size; {
		m, err := server.Read(buffer)
		if err != nil || m == 0 {
			t.Fatal(m, err)
		}
		n += m
	}
	if err := errors.Join(<-written, server.Close(), client.Again(l.Local())); err != nil {
		t.Fatal(err)
	}
	// The kernel's times of the socket go on with what they were; its second connection sends nothing.
	again := *evidence(func(e *Evidence) bool { return e.Closed == 1 && e.Open == 1 })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(client.Close(), server.Close()); err != nil {
		t.Fatal(err)
	}
	closed := *evidence(func(e *Evidence) bool { return e.Closed == 2 })
	if closed.Open != 0 || closed.ReceiveLimited < open.ReceiveLimited || closed.ReceiveLimited > closed.Busy || closed.Busy > time.Since(began) || closed.MinRTT <= 0 {
		t.Errorf("closed: %+v, and when it was open %+v", closed, open)
	}
	const tick = 10 * time.Millisecond
	if more := closed.Busy - again.Busy; more < 0 || more > tick || closed.ReceiveLimited != again.ReceiveLimited || closed.SendLimited != again.SendLimited {
		t.Errorf("open again: %+v, and then closed %+v", again, closed)
	}
}

// A socket that is connected again after its connection ended, as the engine's are
// within a machine, is two connections.
func TestSocketConnectedAgain(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := ns.Connect(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 3; n++ {
		server, err := l.Accept()
		if err == nil {
			err = server.Close() // the first FIN is the server's
		}
		if err == nil && n < 3 {
			err = client.Again(l.Local())
		} else if err == nil {
			err = client.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(pollEvery) {
			d := read(t, o).Destinations
			if len(d) == 1 && d[0].Counts[Connects] == min(n+1, 3) && d[0].TCP != nil && d[0].TCP.Closed == n && d[0].TCP.MinRTT > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %d: %+v", n, d)
			}
		}
	}
}

// Connections that an accept queue had no room for when their last ACK came, with
// the request, are counted as such, and none of their segments twice.
func TestRefusedWithTheRequest(t *testing.T) {
	need.Root(t)
	const backlog, late, tries = 8, 4, 20
	for try := 1; ; try++ {
		ns, file := namespace(t)
		o := observed(t, Options{Netns: file})
		l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), backlog)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		connect := func(n int, how func(netip.AddrPort) (*lab.Socket, error)) (clients []*lab.Socket) {
			for range n {
				c, err := how(l.Local())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				clients = append(clients, c)
			}
			return clients
		}
		connect(backlog, ns.Connect)
		began := time.Now()
		clients := connect(late, ns.ConnectWithData)
		connect(1, ns.Connect)
		for n, err := uint32(0), error(nil); n <= backlog; n, err = l.Queue() { // until it is full
			if err != nil || time.Since(began) > 20*time.Second {
				t.Fatal(n, err)
			}
		}
		for _, c := range clients {
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(began) > 100*time.Millisecond && try < tries {
			continue // the kernel may have sent a last ACK before
		}
		for deadline := time.Now().Add(20 * time.Second); read(t, o).Total[FirstUnanswered] < late; time.Sleep(pollEvery) {
			if time.Now().After(deadline) {
				t.Fatalf("in the end: %+v", read(t, o).Total)
			}
		}
		s := read(t, o)
		row, to := s.Listeners[0].Counts, s.Destinations[0].Counts
		if row[AcceptOverflowConnections] != late || row[ListenDrops] != row[AcceptOverflows] || row[AcceptOverflows] < 2*late || row[AcceptOverflows] > s.Namespace["ListenDrops"] {
			t.Errorf("listener %v, kernel %v", row, s.Namespace["ListenDrops"])
		}
		if to[FirstUnanswered] != late || to[RetransmitSockets] != late || to[ConnectsUnanswered] != 0 {
			t.Errorf("destination %v", to)
		}
		return
	}
}

// Evidence is of the sockets that there are, or there is none; ReadAll always
// has it.
func TestReadAll(t *testing.T) {
	need.Root(t)
	for _, tier := range []Tier{TierBPF, TierDiag} {
		ns, file := namespace(t)
		o := observed(t, Options{Netns: file, Most: tier})
		l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for open := 1; open <= 3; open++ {
			client, err := ns.Connect(l.Local())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if s := read(t, o); tier == TierBPF && s.Destinations[0].TCP != nil && s.Destinations[0].TCP.Open != open {
				t.Errorf("%d sockets: Read says %+v", open, s.Destinations[0].TCP)
			}
			s, err := o.ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Destinations) != 1 || s.Destinations[0].TCP == nil || s.Destinations[0].TCP.Open != open || s.Destinations[0].TCP.MinRTT <= 0 {
				t.Errorf("%s, %d sockets: ReadAll says %+v", tier, open, s.Destinations)
			}
		}
	}
}

// What a connection was held up by is known too if it is aborted meanwhile.
func TestEvidenceOfAnAbort(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := ns.Connect(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	const held = 200 * time.Millisecond
	if _, err := fillWindow(client, held); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(client.Reset(), client.Close()); err != nil {
		t.Fatal(err)
	}
	s := read(t, o)
	if e := s.Destinations[0].TCP; e == nil || e.Closed != 1 || e.ReceiveLimited < held || e.ReceiveLimited > s.Elapsed || e.Busy < e.ReceiveLimited || e.SendLimited != 0 {
		t.Errorf("it was held for %v at least: %+v", held, e)
	}
}

// A segment whose ACK was lost is sent again, and arrives twice.
func TestEvidenceOfDuplicates(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := ns.Connect(l.Local())
	if err != nil {
		t.Fatal(err)
	}
	gate, err := ns.Gate("lo", lab.Match{FromPort: l.Local().Port(), Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	if err := gate.Set(0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if info, err := client.Info(); err != nil || info.Dsack_dups > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it was not sent again")
		}
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(client.Close(), server.Close()); err != nil { // an abort would forget it
		t.Fatal(err)
	}
	s := read(t, o)
	n := s.Total[Retransmits] + s.Lost[Retransmits]
	if e := s.Destinations[0].TCP; e == nil || e.Duplicates != 1 || n != 1 {
		t.Errorf("%d retransmits, %+v: want one, and that it arrived twice", n, e)
	}
}

// A process that has ended is not one to which nothing happens.
func TestProcessThatEnded(t *testing.T) {
	need.Root(t)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := observed(t, Options{PID: cmd.Process.Pid})
	ended := func() bool { return strings.Contains(fmt.Sprint(read(t, o).Unseen), "it has ended") }
	if ended() {
		t.Error("it is said to have ended, and has not")
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if !ended() {
		t.Error("it has ended, which is not said")
	}
}

// Any number of ports may be in scope.
func TestPortsInScope(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	wanted, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer wanted.Close()
	ports := []uint16{wanted.Local().Port()}
	for port := uint16(1); port <= 1000; port++ {
		ports = append(ports, port)
	}
	o := observed(t, Options{Netns: file, Ports: ports})
	p, err := ns.Refused(loopback, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := useConnection(ns, wanted); err != nil {
		t.Fatal(err)
	}
	s := read(t, o)
	if s.Total[RSTsIn] != 0 || s.Total[Connects] != 1 || len(s.Listeners) != 1 {
		t.Errorf("RSTs in %d, connects %d, %d listeners: want 0, 1, 1", s.Total[RSTsIn], s.Total[Connects], len(s.Listeners))
	}
}

// A socket that is connected again to a port out of scope is out of scope, and in it
// again later.
func TestAgainOutOfScope(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	var l [2]*lab.Socket
	for i := range l {
		var err error
		if l[i], err = ns.Listen(netip.AddrPortFrom(loopback, 0), 16); err != nil {
			t.Fatal(err)
		}
		defer l[i].Close()
	}
	o := observed(t, Options{Netns: file, Ports: []uint16{l[0].Local().Port()}})
	client, err := ns.Connect(l[0].Local())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range 4 {
		server, err := l[i%2].Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(server.Close(), client.Again(l[(i+1)%2].Local())); err != nil {
			t.Fatal(err)
		}
	}
	d := read(t, o).Destinations
	if len(d) != 1 || d[0].Counts[Connects] != 3 || d[0].Counts[ConnectsEstablished] != 3 || d[0].TCP == nil || d[0].TCP.Closed != 2 {
		t.Errorf("%+v: want 3 connects, and 2 of them closed", d)
	}
}

// Retransmits that are out of scope are not missed. Those that the kernel does not run
// the programs for are: so it is tried again.
func TestRetransmitsOutOfScope(t *testing.T) {
	need.Root(t)
	for try := 1; ; try++ {
		ns, file := namespace(t)
		o := observed(t, Options{Netns: file, Ports: []uint16{1}})
		p, err := ns.LostData(loopback, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		s := read(t, o)
		if s.Namespace["RetransSegs"] == 3 && s.Total[Retransmits] == 0 && s.Lost[Retransmits] == 0 {
			return
		}
		if try == maxTries {
			t.Fatalf("%d retransmits in the namespace, %d in scope, %d missed: want 3, 0, 0",
				s.Namespace["RetransSegs"], s.Total[Retransmits], s.Lost[Retransmits])
		}
	}
}

// What the kernel counts and the programs do not is missed, and what it failed to
// send is not.
func TestMissedRetransmits(t *testing.T) {
	for _, test := range []struct {
		sent, failed, seen, want uint64
		options                  Options
		missing                  map[string]string
	}{
		{sent: 5, seen: 5},
		{sent: 5, seen: 3, want: 2},
		{sent: 5, seen: 3, failed: 2},
		{sent: 5, seen: 5, failed: 2},
		{sent: 5, seen: 6}, // after the kernel's counters were read
		{sent: 5, options: Options{AllNetns: true}},
		{sent: 5, missing: map[string]string{prog.RetransmitSynack: "left out"}},
	} {
		c := collection{w: &watcher{options: test.options, programs: &prog.Programs{Missing: test.missing}}}
		c.Namespace, c.Lost = Counts{"RetransSegs": test.sent, "TCPRetransFail": test.failed}, Counts{}
		c.missedRetransmits(test.seen)
		if got := c.Lost[Retransmits]; got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// In the scope of a process are the connections it makes and those of the ports
// it listens on, and not those of others.
func TestProcessInScope(t *testing.T) {
	need.Root(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := observed(t, Options{PID: os.Getpid()})
	for _, family := range []string{"tcp4", "tcp6"} { // nobody listens on ::1
		to := strings.Replace(l.Addr().String(), "127.0.0.1", map[string]string{"tcp4": "127.0.0.1", "tcp6": "[::1]"}[family], 1)
		if c, err := net.Dial(family, to); err == nil {
			defer c.Close()
		}
	}
	s := read(t, o)
	if len(s.Listeners) != 1 || s.Listeners[0].Addr.String() != l.Addr().String() || s.Listeners[0].PID != os.Getpid() {
		t.Errorf("listeners %+v, want %v of process %d", s.Listeners, l.Addr(), os.Getpid())
	}
	if s.Total[Connects] != 2 || s.Total[ConnectFailures] != 1 || s.Reasons[ConnectFailures]["ECONNREFUSED"] != 1 {
		t.Errorf("%d connects, failures %v: want 2, and one refused", s.Total[Connects], s.Reasons[ConnectFailures])
	}
	_, other := start(t, Options{PID: os.Getppid()}, nil)
	if len(other.Listeners) != 0 {
		t.Errorf("the parent process listens on %v?", other.Listeners)
	}
}

// A listener that was closed before it was polled takes what it refused with it: none
// of it is put down to another one, nor is what that threw away without refusing.
func TestOnlyWhatAListenerRefusedIsItsOwn(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	l, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	runtime.LockOSThread() // it enters the namespace, and ends with this goroutine
	w, err := open(Options{Netns: file, Most: TierDiag})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	gone, err := ns.AcceptOverflow(lab.Overflow{Listen: loopback, Dial: loopback, Backlog: 4, Refused: 15})
	if err == nil {
		err = gone.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.sample(false); err != nil || s.Namespace["ListenOverflows"] < 15 { // it has not polled since
		t.Fatal(s.Namespace, err)
	}
	w.poll()
	const thrownAway = 3
	for range thrownAway {
		if err := ns.Do(func() error { return sendRST(l.Local()) }); err != nil {
			t.Fatal(err)
		}
	}
	if drops, err := ns.Drops(l); err != nil || drops != thrownAway {
		t.Fatalf("the kernel counts %d drops at the listener, of %d RSTs: %v", drops, thrownAway, err)
	}
	w.poll()
	s, err := w.sample(false)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Total; c[ListenDrops] != 0 || c[AcceptOverflows] != 0 || c[SYNDrops] != 0 {
		t.Errorf("%v: it refused nothing", c)
	}
}

// sendRST sends an RST to a listening port from one that has no connection to it.
func sendRST(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	addr := to.Addr().As4()
	segment := make([]byte, 12+20) // the pseudo-header of the checksum goes before it
	copy(segment, addr[:])
	copy(segment[4:], addr[:])
	segment[9], segment[11] = unix.IPPROTO_TCP, 20
	tcp := segment[12:]
	binary.BigEndian.PutUint16(tcp, 1)
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12], tcp[13] = 5<<4, 0x04 // 5 words; RST
	sum := uint32(0)
	for i := 0; i < len(segment); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(segment[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return unix.Sendto(fd, tcp, 0, &unix.SockaddrInet4{Addr: addr})
}

// On kernels that do not tell at which socket they drop a segment those drops are not
// known, which is said; they are not zero.
func TestOlderKernels(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file, mostArgs: map[string]uint32{prog.KfreeSkb: 3, prog.SendReset: 2}})
	p, err := ns.BacklogDrops(loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := read(t, o)
	for _, k := range []Counter{Drops, BacklogDrops, ReceiveBufferDrops} {
		if n, known := s.Total.Get(k); known {
			t.Errorf("%s is %d", k, n)
		}
	}
	if n := s.Namespace["TCPBacklogDrop"]; n != p.Events || n == 0 {
		t.Errorf("the namespace had %d, provoked %d", n, p.Events)
	}
	for _, version := range []string{"6.10", "6.11"} {
		if !strings.Contains(fmt.Sprint(s.Unseen), version) {
			t.Errorf("it is not said what kernels before %s do not tell: %v", version, s.Unseen)
		}
	}
}

// A port may be listened on by several sockets: what each refused goes to it, with
// the connections that came to it.
func TestListenersBesideEachOther(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	const backlog, refused = 2, 5
	wide, err := ns.AcceptOverflow(lab.Overflow{Listen: netip.IPv4Unspecified(), Dial: loopback, Backlog: backlog, Refused: refused})
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	s := read(t, o)
	near, err := ns.ListenV6Only(netip.AddrPortFrom(netip.IPv6Unspecified(), wide.At.Port()), backlog)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	for range backlog + 1 {
		c, err := ns.Connect(netip.AddrPortFrom(netip.IPv6Loopback(), wide.At.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	const more = 2
	for range more {
		c, err := ns.Start(netip.AddrPortFrom(netip.IPv6Loopback(), wide.At.Port()))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(pollEvery) {
		s = read(t, o)
		if s.Total[AcceptOverflows] == s.Namespace["ListenOverflows"] && s.Total[AcceptOverflowConnections] >= refused+more || time.Now().After(deadline) {
			break
		}
	}
	for _, l := range s.Listeners {
		want := uint64(refused)
		if l.Addr.Addr().Is6() {
			want = more
		}
		if n := l.Counts[AcceptOverflowConnections]; n != want {
			t.Errorf("%v: %d connections, want %d: %v", l.Addr, n, want, l.Counts)
		}
	}
	if n := s.Total[AcceptOverflowConnections]; n != refused+more || len(s.Listeners) != 2 {
		t.Errorf("in all %d connections at %d listeners, want %d at 2", n, len(s.Listeners), refused+more)
	}
}

// More destinations than the map has room for are counted, and missed by name.
func TestFullMapIsSaid(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	const destinations = 300
	for port := uint16(1); port <= destinations; port++ {
		if _, err := ns.Connect(netip.AddrPortFrom(loopback, port)); err != unix.ECONNREFUSED {
			t.Fatalf("port %d: %v", port, err)
		}
	}
	s := read(t, o)
	if s.Total[Connects] != destinations || s.Total[ConnectFailures] != destinations {
		t.Errorf("%d connects, %d failures: want %d", s.Total[Connects], s.Total[ConnectFailures], destinations)
	}
	if s.Lost["traffic"] == 0 {
		t.Errorf("nothing is said to be lost: %v", s.Lost)
	}
}

// An example tells more of a fault than its count.
func TestExamples(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	o := observed(t, Options{Netns: file})
	p, err := ns.Refused(loopback, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := read(t, o)
	seen := 0
	for _, e := range s.Examples {
		if e.What != ConnectFailures {
			continue
		}
		seen++
		if e.Reason != "ECONNREFUSED" || e.Addr != p.At || e.PID != os.Getpid() || e.Peer == 0 || s.At.Sub(e.At) > 10*time.Second || e.At.After(s.At) {
			t.Errorf("%+v", e)
		}
	}
	if seen != 2 {
		t.Errorf("%d examples of 2 connects refused: %+v", seen, s.Examples)
	}
}
