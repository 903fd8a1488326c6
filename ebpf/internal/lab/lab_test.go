package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/need"
	"hotlap/ebpf/internal/procfs"
)

// namespace makes one that ends with the test.
func namespace(t *testing.T) *Namespace {
	t.Helper()
	need.Root(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	return ns
}

// counters opens the namespace's counters.
func counters(t *testing.T, ns *Namespace) *procfs.Reader {
	t.Helper()
	var r *procfs.Reader
	err := ns.Do(func() (err error) {
		r, err = procfs.Open()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t *testing.T, r *procfs.Reader) *procfs.Counters {
	t.Helper()
	var c procfs.Counters
	if err := r.Read(&c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// settle reads the counters until each has moved by at least n: softirqs may be
// working on the last packets yet.
func settle(t *testing.T, r *procfs.Reader, before *procfs.Counters, n uint64, counters ...procfs.Counter) (d procfs.Counters) {
	t.Helper()
	_ = await(func() (bool, error) {
		d = procfs.Sub(read(t, r), before)
		for _, k := range counters {
			if got, _ := d.Get(k); got < n {
				return false, nil
			}
		}
		return true, nil
	}) // the caller judges the figures, whether they came in time or not
	return d
}

// check runs an injector: what it provoked is what the kernel's own counters
// then say, exactly.
func check(t *testing.T, counters []procfs.Counter, r *procfs.Reader, inject func() (*Provoked, error)) *Provoked {
	t.Helper()
	before := read(t, r)
	p, err := inject()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if p.Events == 0 || p.Connections == 0 || p.Connections > p.Events {
		t.Errorf("provoked %d events at %d connections", p.Events, p.Connections)
	}
	d := settle(t, r, before, p.Events, counters...)
	for _, k := range counters {
		if n, ok := d.Get(k); !ok || n != p.Events {
			t.Errorf("%v: %d (present: %v), provoked %d", k, n, ok, p.Events)
		}
	}
	return p
}

// nstat and ss, run in the namespace, see the same figures.
func TestAgreesWithTools(t *testing.T) {
	nstat, ss := need.Tool(t, "nstat"), need.Tool(t, "ss")
	ns := namespace(t)
	r := counters(t, ns)
	p := check(t, []procfs.Counter{procfs.ListenDrops}, r, func() (*Provoked, error) {
		return ns.AcceptOverflow(Overflow{Listen: ipv4, Dial: ipv4, Backlog: 3, Refused: 7})
	})
	ours := read(t, r)
	var theirs struct{ Kernel map[string]uint64 }
	if err := json.Unmarshal(output(t, ns, nstat, "--json", "-asz"), &theirs); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for k := range procfs.Counter(procfs.NumCounters) {
		n, ok := ours.Get(k)
		name := strings.ReplaceAll(k.String(), ".", "")
		for _, name := range []string{name, "Tcp" + name, "TcpExt" + name} {
			if want, has := theirs.Kernel[name]; has {
				compared++
				if n != want || !ok {
					t.Errorf("%s: %d %v, nstat says %d", name, n, ok, want)
				}
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d counters were found in nstat's", compared)
	}
	want := fmt.Sprintf("LISTEN 4 3 %v 0.0.0.0:*", p.At)
	if got := strings.Join(strings.Fields(string(output(t, ns, ss, "-Hltn"))), " "); got != want {
		t.Errorf("ss says %q, want %q", got, want)
	}
}

// output runs a program in the namespace: it is forked from the thread there.
func output(t *testing.T, ns *Namespace, name string, arguments ...string) (out []byte) {
	t.Helper()
	err := ns.Do(func() (err error) {
		out, err = exec.Command(name, arguments...).Output()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// A namespace where the same happens is another world: nothing here moves, and
// no socket of it is seen. What sock_diag says of the listener that overflowed is
// what was provoked there, and of the one beside it, nothing.
func TestSecondNamespaceIsInvisible(t *testing.T) {
	here, there := namespace(t), namespace(t)
	rHere, rThere := counters(t, here), counters(t, there)
	before := read(t, rHere)
	p := check(t, []procfs.Counter{procfs.ListenOverflows}, rThere, func() (*Provoked, error) {
		return there.ReuseportOverflow(ipv4, 3, 10)
	})
	d := procfs.Sub(read(t, rHere), before)
	for k := range procfs.Counter(procfs.NumCounters) {
		if n, _ := d.Get(k); n != 0 && k.Scope() == procfs.Namespace {
			t.Errorf("here %v moved by %d", k, n)
		}
	}
	if all := listeners(t, here); len(all) != 0 {
		t.Errorf("listeners here: %+v", all)
	}
	all := listeners(t, there)
	if len(all) != 2 {
		t.Fatalf("listeners there: %+v", all)
	}
	for _, l := range all {
		queue, drops := uint32(0), uint64(0)
		if l.Cookie == p.Cookie {
			queue, drops = 4, p.Events
		}
		if l.Queue != queue || uint64(l.Memory.Drops) != drops {
			t.Errorf("a queue of %d and %d drops, want %d and %d", l.Queue, l.Memory.Drops, queue, drops)
		}
	}
}

// listeners asks from this thread, over a socket made in the namespace.
func listeners(t *testing.T, ns *Namespace) []diag.Listener {
	t.Helper()
	var c *diag.Client
	if err := ns.Do(func() (err error) {
		c, err = diag.Open()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Listeners(nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What an injector changed it puts back, also where it fails half way.
func TestSettingsArePutBack(t *testing.T) {
	ns := namespace(t)
	names := []string{"net.ipv4.tcp_syncookies", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_max_tw_buckets"}
	values := func() (all [3]string) {
		for i, name := range names {
			v, err := ns.Sysctl(name)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = v
		}
		return all
	}
	before := values()
	for _, inject := range []func() (*Provoked, error){
		func() (*Provoked, error) { return ns.SYNQueueFull(ipv4, false, 2, 2) },
		func() (*Provoked, error) { return ns.PortExhaustion(ipv4, 4, 2) },
		func() (*Provoked, error) { return ns.TimeWaitOverflow(ipv4, 1, 2) },
	} {
		p, err := inject()
		if err != nil {
			t.Fatal(err)
		}
		if values() == before {
			t.Error("nothing was set")
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if got := values(); got != before {
			t.Errorf("got %v, before %v", got, before)
		}
	}
	// An address that the namespace does not have: the listener fails, the setting
	// has been changed by then.
	if _, err := ns.SYNQueueFull(netip.MustParseAddr("192.0.2.1"), false, 2, 2); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("an address that is not there: %v", err)
	}
	if got := values(); got != before {
		t.Errorf("after a failure: got %v, before %v", got, before)
	}
}

// A setting of the namespace is not the host's, and the host's cannot be set.
func TestSysctl(t *testing.T) {
	const name = "net.ipv4.tcp_syn_retries"
	path := sysctlPath(name)
	host, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ns := namespace(t)
	if _, err := ns.SetSysctl(name, "3"); err != nil {
		t.Fatal(err)
	}
	if got, err := ns.Sysctl(name); got != "3" || err != nil {
		t.Errorf("there it is %q, %v", got, err)
	}
	if after, err := os.ReadFile(path); string(after) != string(host) || err != nil {
		t.Errorf("on the host it was %q and is %q, %v", host, after, err)
	}
	if _, err := ns.SetSysctl("kernel.pid_max", "4194304"); err == nil {
		t.Error("a setting of the whole machine was set")
	}
	if _, err := ns.SetSysctl("net.core.netdev_max_backlog", "1000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a setting that the namespace does not have: %v", err)
	}
}

// A pair reaches one another over both families; and when one namespace goes its
// end of the veth does, and with that the other end: nothing was left behind.
func TestPair(t *testing.T) {
	need.Root(t)
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, addresses := range [][2]netip.Addr{PairIPv4, PairIPv6} {
		l, err := b.Listen(netip.AddrPortFrom(addresses[1], 0), 1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Connect(l.Local())
		if err != nil {
			t.Fatalf("connect to %v: %v", l.Local(), err)
		}
		if c.Local().Addr() != addresses[0] || c.Peer() != l.Local() {
			t.Errorf("from %v to %v", c.Local(), c.Peer())
		}
		if err := errors.Join(c.Reset(), c.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.index(PairDevice); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := await(func() (bool, error) {
		_, err := a.index(PairDevice)
		return err != nil, nil
	}); err != nil {
		t.Error("the closed namespace is still there")
	}
}

// A slow server answers late, and nothing else happens.
func TestSlowServer(t *testing.T) {
	ns := namespace(t)
	r := counters(t, ns)
	before := read(t, r)
	const delay = 30 * time.Millisecond
	s, err := ns.SlowServer(ipv6, delay)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: ns.DialContext}}
	for range 3 {
		start := time.Now()
		response, err := client.Get("http://" + s.At.String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if took := time.Since(start); string(body) != "ok" || err != nil || took < delay {
			t.Errorf("%q, %v, after %v", body, err, took)
		}
	}
	client.CloseIdleConnections()
	if err := s.Close(); err != nil || s.Served() != 3 {
		t.Errorf("served %d, %v", s.Served(), err)
	}
	d := procfs.Sub(read(t, r), before)
	for _, k := range []procfs.Counter{procfs.ListenDrops, procfs.OutRsts, procfs.RetransSegs, procfs.TCPRcvQDrop, procfs.TCPBacklogDrop} {
		if n, ok := d.Get(k); n != 0 || !ok {
			t.Errorf("%v: %d %v", k, n, ok)
		}
	}
}
