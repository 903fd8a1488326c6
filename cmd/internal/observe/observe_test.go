package observe

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
	"hotlap/ebpf/tune"
)

// A full server accepts nobody, and its accept queue is full.
type full struct {
	t      *testing.T
	socket int
	addr   unix.SockaddrInet4
}

// fill makes a server with a queue for limit + 1 connections, and as many connections.
func fill(t *testing.T, limit int) *full {
	t.Helper()
	s := &full{t: t, addr: unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}}
	s.socket = socket(t)
	t.Cleanup(func() { unix.Close(s.socket) })
	if err := unix.Bind(s.socket, &s.addr); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(s.socket, limit); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.addr.Port = bound.(*unix.SockaddrInet4).Port
	for range limit + 1 {
		client := s.connect()
		t.Cleanup(func() { unix.Close(client) })
	}
	s.await("the queue is full", func() bool {
		info, err := unix.GetsockoptTCPInfo(s.socket, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Unacked) == limit+1 // of a listener: its accept queue
	})
	return s
}

// await waits for what softirqs have yet to do.
func (s *full) await(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); runtime.Gosched() {
		if time.Now().After(deadline) {
			s.t.Fatalf("it never came to it that %s", what)
		}
	}
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func (s *full) connect() (client int) {
	s.t.Helper()
	client = socket(s.t)
	if err := unix.Connect(client, &s.addr); err != nil && err != unix.EINPROGRESS {
		s.t.Fatal(err)
	}
	return client
}

// refuse has one SYN refused. The client would send it again in a second, and ends
// before.
func (s *full) refuse() {
	s.t.Helper()
	before := s.drops()
	client := s.connect()
	s.await("the SYN is refused", func() bool { return s.drops() > before })
	if err := unix.Close(client); err != nil {
		s.t.Fatal(err)
	}
}

// drops is how many SYNs the listener has refused.
func (s *full) drops() uint32 {
	s.t.Helper()
	var memory [9]uint32 // SK_MEMINFO_VARS of linux/sock_diag.h; the last is sk_drops
	size := uint32(unsafe.Sizeof(memory))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.socket), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&memory)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		s.t.Fatal(errno)
	}
	return memory[8]
}

func (s *full) port() uint16 { return uint16(s.addr.Port) }

func watch(t *testing.T, o Options, options ebpf.Options) *Watch {
	t.Helper()
	before := goleak.IgnoreCurrent()
	w, err := open(o, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		goleak.VerifyNone(t, before)
	})
	return w
}

// What a server on this machine refuses is seen without any privilege: in the
// measured part, and in its second.
func TestAcceptQueueOverflows(t *testing.T) {
	server := fill(t, 3)
	w := watch(t, Options{Mode: Auto, Ports: []uint16{server.port()}}, ebpf.Options{Most: ebpf.TierDiag})
	ticks := make(chan time.Time)
	w.ticks = ticks
	server.refuse() // in the warm-up
	w.Begin()
	server.refuse()
	server.refuse()
	ticks <- time.Time{}
	ticks <- time.Time{} // taken when the first has been read
	server.refuse()
	k := w.End()
	if n := k.Total[ebpf.AcceptOverflows]; n != 3 || k.Tier != ebpf.TierDiag {
		t.Errorf("tier %s: %d overflows in the measured part, want 3", k.Tier, n)
	}
	if len(k.Listeners) != 1 || k.Listeners[0].Addr != netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.port()) || k.Listeners[0].Peak != 4 {
		t.Errorf("listeners %+v", k.Listeners)
	}
	var counts []uint64
	at := -1.0
	for _, e := range k.Events {
		counts = append(counts, e.Counts[ebpf.AcceptOverflows])
		if e.At < at || e.Length < 0 {
			t.Errorf("an event at %v s, of %v s, after one at %v s", e.At, e.Length, at)
		}
		at = e.At
	}
	if !slices.Equal(counts, []uint64{2, 1}) {
		t.Errorf("overflows by second: %v, want 2 and then 1", counts)
	}
	if !slices.ContainsFunc(k.Unseen, func(u ebpf.Unseen) bool { return strings.HasPrefix(u.What, "drops by reason") }) {
		t.Errorf("it does not say what tier diag does not see: %v", k.Unseen)
	}
}

// Without ports it is this process that is observed, and what that leaves out
// is said.
func TestScopeOfThisProcess(t *testing.T) {
	server := fill(t, 0)
	w := watch(t, Options{Mode: Auto}, ebpf.Options{Most: ebpf.TierDiag})
	w.Begin()
	server.refuse()
	k := w.End()
	last := k.Unseen[len(k.Unseen)-1]
	if k.Ports != nil || !strings.HasPrefix(last.What, "accept queues of servers") {
		t.Errorf("ports %v, unseen last: %v", k.Ports, last)
	}
	if k.Total[ebpf.AcceptOverflows] != 1 { // the server is this process
		t.Errorf("%v", k.Total)
	}
}

func TestModes(t *testing.T) {
	if w, err := Open(Options{Mode: Off}); w != nil || err != nil {
		t.Errorf("off: %v, %v", w, err)
	}
	for _, mode := range []Mode{On, Deep} {
		before := goleak.IgnoreCurrent()
		_, err := open(Options{Mode: mode}, ebpf.Options{Most: ebpf.TierDiag})
		if err == nil || !strings.Contains(err.Error(), "--observe="+string(mode)) || !strings.Contains(err.Error(), "tier diag was asked for") {
			t.Errorf("%s without BPF programs: %v", mode, err)
		}
		goleak.VerifyNone(t, before)
	}
}

func TestNobodyWatches(t *testing.T) {
	var w *Watch
	w.Begin()
	if k := w.End(); k != nil {
		t.Errorf("it saw %v", k)
	}
	w.Close()
}

// A run that is interrupted in its warm-up has no measured part.
func TestEndBeforeBegin(t *testing.T) {
	server := fill(t, 0)
	w := watch(t, Options{Mode: Auto, Ports: []uint16{server.port()}}, ebpf.Options{Most: ebpf.TierDiag})
	server.refuse()
	k := w.End()
	if k.Total[ebpf.AcceptOverflows] != 0 || k.Elapsed != 0 || len(k.Events) != 0 {
		t.Errorf("it saw %v in %v", k.Total, k.Elapsed)
	}
	w.Begin() // too late
	if w.begun {
		t.Error("it began after its end")
	}
}

func TestUnreadable(t *testing.T) {
	w := watch(t, Options{Mode: Auto}, ebpf.Options{Most: ebpf.TierProc})
	w.failed = ebpf.ErrClosed
	k := w.End()
	if k.Tier != "" || len(k.Unseen) != 1 || k.Unseen[0].Why != ebpf.ErrClosed.Error() {
		t.Errorf("%+v", k)
	}
}

// A setting that somebody changes during the run is told, with its second.
func TestSettingsThatChange(t *testing.T) {
	w := watch(t, Options{Mode: Auto}, ebpf.Options{Most: ebpf.TierProc})
	ticks := make(chan time.Time)
	w.ticks = ticks
	drifts := [][]tune.Drift{nil, {{Name: "net.core.somaxconn", From: "128", To: "4096"}}, nil}
	w.settings = func(time.Time) (d []tune.Drift) {
		d, drifts = drifts[0], drifts[1:]
		return d
	}
	w.Begin()
	ticks <- time.Time{}
	ticks <- time.Time{}
	k := w.End()
	if len(k.Changes) != 1 || k.Changes[0].Name != "net.core.somaxconn" || k.Changes[0].From != "128" || k.Changes[0].To != "4096" || k.Changes[0].At < 0 {
		t.Errorf("%+v", k.Changes)
	}
	if !slices.ContainsFunc(k.Facts(), func(f report.Fact) bool {
		return f.Name == "setting changed" && strings.HasPrefix(f.Value, "net.core.somaxconn from 128 to 4096")
	}) {
		t.Errorf("%v", k.Facts())
	}
}

func TestEventsAreBounded(t *testing.T) {
	w := &Watch{settings: func(time.Time) []tune.Drift { return nil }}
	second := func(i int, n uint64) ebpf.Sample {
		return ebpf.Sample{Elapsed: time.Duration(i) * time.Second, Total: ebpf.Counts{ebpf.Retransmits: n, ebpf.RSTsIn: 0}}
	}
	w.first = second(10, 0)
	w.last = w.first
	w.took(second(11, 5))
	w.took(second(12, 5))
	for i := range maxEvents + 1 {
		w.took(second(13+i, 6+uint64(i)))
	}
	if len(w.events) != maxEvents || w.leftOut != 2 {
		t.Errorf("%d events, %d left out", len(w.events), w.leftOut)
	}
	for i, want := range []report.KernelEvent{{At: 0, Length: 1, Counts: ebpf.Counts{ebpf.Retransmits: 5}}, {At: 2, Length: 1, Counts: ebpf.Counts{ebpf.Retransmits: 1}}} {
		if e := w.events[i]; e.At != want.At || e.Length != want.Length || len(e.Counts) != 1 || e.Counts[ebpf.Retransmits] != want.Counts[ebpf.Retransmits] {
			t.Errorf("event %d is %v, want %v", i, e, want)
		}
	}
}
