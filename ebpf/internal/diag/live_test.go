package diag_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/lab"
	"hotlap/ebpf/internal/need"
)

// A world is a network namespace with a client for it, that is used from
// outside.
type world struct {
	testing.TB
	ns     *lab.Namespace
	client *diag.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	need.Root(t)
	ns, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	w := &world{TB: t, ns: ns}
	if err := ns.Do(func() (err error) {
		w.client, err = diag.Open()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.client.Close() })
	return w
}

// serve listens, connects so many times, and does not accept.
func (w *world) serve(on, dial string, connections int) (l *lab.Socket, clients []*lab.Socket) {
	w.Helper()
	l, err := w.ns.Listen(netip.AddrPortFrom(netip.MustParseAddr(on), 0), connections)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	for range connections {
		c, err := w.ns.Connect(netip.AddrPortFrom(netip.MustParseAddr(dial), l.Local().Port()))
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	return l, clients
}

func (w *world) cookie(s *lab.Socket) uint64 {
	w.Helper()
	cookie, err := s.Cookie()
	if err != nil {
		w.Fatal(err)
	}
	return cookie
}

// listener takes snapshots until its only listener has so many in its queue.
func (w *world) listener(queue uint32) diag.Listener {
	w.Helper()
	for start := time.Now(); ; {
		all, err := w.client.Listeners(nil)
		if err != nil || len(all) != 1 {
			w.Fatalf("%+v, %v", all, err)
		}
		if all[0].Queue == queue || time.Since(start) > 30*time.Second {
			return all[0]
		}
	}
}

func (w *world) sockets(f diag.Filter) []diag.Socket {
	w.Helper()
	all, err := w.client.Sockets(nil, f)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func TestListeners(t *testing.T) {
	for _, c := range []struct {
		on, dial string
		v6only   bool
	}{
		{"127.0.0.1", "127.0.0.1", false},
		{"::1", "::1", true}, // the kernel sets it when one address is bound
		{"::", "127.0.0.1", false},
		{"::", "::1", false},
		{"127.0.0.1", "::ffff:127.0.0.1", false},
	} {
		t.Run(c.on+" from "+c.dial, func(t *testing.T) {
			w := newWorld(t)
			l, _ := w.serve(c.on, c.dial, 2)
			got := w.listener(2)
			if got.Cookie != w.cookie(l) || got.Local != l.Local() || got.V6Only != c.v6only || got.Queue != 2 || got.Limit != 2 ||
				got.State != diag.Listen || !got.Memory.Known || got.Memory.Drops != 0 || int(got.UID) != os.Getuid() || got.Inode == 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The client's and the server's end, each by its port, and no other.
func TestSockets(t *testing.T) {
	w := newWorld(t)
	l, clients := w.serve("127.0.0.1", "127.0.0.1", 1)
	if _, err := clients[0].Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	port, localhost := l.Local().Port(), netip.MustParseAddr("127.0.0.1")
	server := diag.Filter{LocalPort: port, Peer: netip.MustParseAddr("::ffff:127.0.0.1")}
	got := w.sockets(server)
	for start := time.Now(); (len(got) != 1 || got[0].Receive != 5) && time.Since(start) < 30*time.Second; {
		got = w.sockets(server)
	}
	if len(got) != 1 || got[0].Receive != 5 || got[0].Memory.ReceiveBytes == 0 || got[0].Info.Data_segs_in != 1 ||
		got[0].State != diag.Established || got[0].Peer != clients[0].Local() {
		t.Errorf("server: %+v", got)
	}
	got = w.sockets(diag.Filter{States: []diag.State{diag.Established}, PeerPort: port, Peer: localhost})
	if len(got) != 1 || got[0].Cookie != w.cookie(clients[0]) || got[0].Info.Data_segs_out != 1 || got[0].Info.Min_rtt == 0 {
		t.Errorf("client: %+v", got)
	}
	for name, f := range map[string]diag.Filter{
		"another peer":  {PeerPort: port, Peer: netip.MustParseAddr("127.0.0.2")},
		"another state": {PeerPort: port, States: []diag.State{diag.SynSent}},
		"a listener":    {LocalPort: port, PeerPort: port},
	} {
		if got := w.sockets(f); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// More sockets than one answer holds, each exactly once.
func TestManySockets(t *testing.T) {
	const n = 300
	w := newWorld(t)
	l, clients := w.serve("127.0.0.1", "127.0.0.1", n)
	want := map[uint64]bool{}
	for _, c := range clients {
		want[w.cookie(c)] = true
	}
	got := w.sockets(diag.Filter{PeerPort: l.Local().Port()})
	for _, s := range got {
		delete(want, s.Cookie)
	}
	if len(got) != n || len(want) != 0 {
		t.Errorf("%d sockets, %d are missing", len(got), len(want))
	}
}

const unprivilegedVar = "HOTLAP_TEST_DIAG_UNPRIVILEGED"

// Without any privilege it is the same.
func TestUnprivileged(t *testing.T) {
	if port := os.Getenv(unprivilegedVar); port != "" {
		unprivileged(t, port)
		return
	}
	w := newWorld(t)
	l, _ := w.serve("127.0.0.1", "127.0.0.1", 1)
	w.listener(1)
	// The test program lies in a directory that only root may enter: it is run
	// through a descriptor that is open already.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestUnprivileged$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = []string{fmt.Sprintf("%s=%d", unprivilegedVar, l.Local().Port()), "PATH=/usr/bin", "GORACE=atexit_sleep_ms=0"}
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	err = w.ns.Do(func() error { // forked from the namespace's thread
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "--- PASS: TestUnprivileged") {
			err = errors.New("the test was not run")
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func unprivileged(t *testing.T, port string) {
	if os.Getuid() == 0 {
		t.Fatal("still root")
	}
	client, err := diag.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := client.Listeners(nil)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if s := all[0]; fmt.Sprint(s.Local.Port()) != port || s.Queue != 1 || !s.Memory.Known || s.UID != 0 {
		t.Errorf("root's listener: %+v", s)
	}
	sockets, err := client.Sockets(nil, diag.Filter{})
	if err != nil || len(sockets) != 2 || sockets[0].InfoBytes == 0 {
		t.Errorf("both ends of a connection: %+v, %v", sockets, err)
	}
}

// BenchmarkSockets takes snapshots of both ends of 1000 connections.
func BenchmarkSockets(b *testing.B) {
	const connections = 1000
	w := newWorld(b)
	w.serve("127.0.0.1", "127.0.0.1", connections)
	var all []diag.Socket
	var err error
	b.ReportAllocs()
	for b.Loop() {
		if all, err = w.client.Sockets(all[:0], diag.Filter{}); err != nil || len(all) != 2*connections {
			b.Fatalf("%d sockets, %v", len(all), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2*connections), "ns/socket")
}

func BenchmarkListeners(b *testing.B) {
	c, err := diag.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var all []diag.Listener
	b.ReportAllocs()
	for b.Loop() {
		if all, err = c.Listeners(all[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
