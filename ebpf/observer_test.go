package ebpf

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// observeAs makes this test program an observer: it opens what the variable
// says, prints one Sample, and waits for the end of its input.
const observeAs = "HOTLAP_TEST_OBSERVE"

func TestMain(m *testing.M) {
	if options := os.Getenv(observeAs); options != "" {
		if err := observe(options); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func observe(text string) error {
	var options Options
	if err := json.Unmarshal([]byte(text), &options); err != nil {
		return err
	}
	o, err := Open(options)
	if err != nil {
		return err
	}
	defer o.Close()
	s, err := o.Read()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	if err.Error() != "EOF" {
		return err
	}
	return nil
}

// start runs an observer as another process and returns its first Sample.
func start(t *testing.T, options Options, as *syscall.SysProcAttr) (*exec.Cmd, Sample) {
	t.Helper()
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), observeAs+"="+string(text))
	cmd.SysProcAttr = as
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // killed in some tests
	})
	var s Sample
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return cmd, s
}

func TestPrivileges(t *testing.T) {
	need.Root(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, test := range []struct {
		name    string
		caps    []uintptr
		options Options
		tier    Tier
		unseen  string // in the reasons, "" where all is seen
	}{
		{"BPF and PERFMON", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{}, TierBPF, ""},
		{"deep without NET_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{Deep: true}, TierBPF, "CAP_NET_ADMIN"},
		{"run-time statistics without SYS_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, Options{RunStats: true}, TierBPF, "CAP_SYS_ADMIN"},
		{"none", nil, Options{}, TierDiag, "CAP_BPF and CAP_PERFMON"},
		{"PERFMON alone", []uintptr{unix.CAP_PERFMON}, Options{}, TierDiag, "CAP_BPF and CAP_PERFMON"},
		{"no BPF wanted", nil, Options{Most: TierProc}, TierProc, "asked for"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, s := start(t, test.options, &syscall.SysProcAttr{Credential: nobody, AmbientCaps: test.caps})
			if s.Tier != test.tier {
				t.Errorf("tier %s, want %s: %v", s.Tier, test.tier, s.Unseen)
			}
			said := fmt.Sprint(s.Unseen)
			if !strings.Contains(said, test.unseen) || (test.unseen == "" && len(s.Unseen) > 0) {
				t.Errorf("not seen: %v, want %q", s.Unseen, test.unseen)
			}
			for counter, tier := range map[Counter]Tier{RSTsIn: TierBPF, AcceptOverflows: TierDiag} {
				_, known := s.Total.Get(counter)
				if want := tier == s.Tier || s.Tier == TierBPF; known != want {
					t.Errorf("in tier %s %s is known: %v", s.Tier, counter, known)
				}
			}
			if _, known := s.Namespace.Get("ListenOverflows"); !known {
				t.Error("the kernel's counters are not known")
			}
		})
	}
}

// BPF programs are loaded under these names.
var programNames = []string{"set_state", "kfree_skb", "retransmit_skb", "receive_reset", "port_search", "data_ready", "destroy_sock"}

// loaded are the ids of such programs, from all observers of the machine.
func loaded(t *testing.T) (ids []ebpf.ProgramID) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := p.Info()
		p.Close()
		if err == nil && slices.Contains(programNames, info.Name) {
			ids = append(ids, id)
		}
	}
}

func TestNothingIsLeftAfterKill(t *testing.T) {
	need.Root(t)
	before := loaded(t)
	cmd, s := start(t, Options{Deep: true}, nil)
	if s.Tier != TierBPF {
		t.Fatalf("tier %s: %v", s.Tier, s.Unseen)
	}
	added := func() (n int) {
		for _, id := range loaded(t) {
			if !slices.Contains(before, id) {
				n++
			}
		}
		return n
	}
	if n := added(); n < len(programNames) {
		t.Fatalf("the observer runs %d of %d programs", n, len(programNames))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The kernel frees programs after a grace period.
	for deadline := time.Now().Add(10 * time.Second); added() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d programs are still loaded", added())
		}
	}
}

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
			exhausted, err := ns.PortExhaustion(dial, 5, 4)
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
	if err := errors.Join(<-written, client.Close(), server.Close()); err != nil {
		t.Fatal(err)
	}
	closed := *evidence(func(e *Evidence) bool { return e.Closed == 1 })
	if closed.Open != 0 || closed.ReceiveLimited < open.ReceiveLimited || closed.ReceiveLimited > closed.Busy || closed.Busy > 30*time.Second || closed.MinRTT <= 0 {
		t.Errorf("closed: %+v, and when it was open %+v", closed, open)
	}
}

func TestPortsInScope(t *testing.T) {
	need.Root(t)
	ns, file := namespace(t)
	wanted, err := ns.Listen(netip.AddrPortFrom(loopback, 0), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer wanted.Close()
	o := observed(t, Options{Netns: file, Ports: []uint16{wanted.Local().Port()}})
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

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Ports: make([]uint16, 17)}, "at most 16"},
		{Options{Ports: []uint16{0}}, "port 0"},
		{Options{PID: -1}, "no process"},
		{Options{PID: 1 << 30}, "no such file"},
		{Options{AllNetns: true, Netns: "/x"}, "exclude each other"},
		{Options{Most: "kprobe"}, "bpf, diag and proc"},
		{Options{Netns: "/nowhere"}, "network namespace"},
	} {
		if _, err := Open(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %q", test.options, err, test.want)
		}
	}
}

func TestReadAfterClose(t *testing.T) {
	o, err := Open(Options{Most: TierProc})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	if _, err := o.Read(); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want %v", err, ErrClosed)
	}
}
