package main

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/cmd/internal/load"
	"hotlap/cmd/internal/need"
	"hotlap/ebpf"
	"hotlap/engine"
)

// reportOf reads the report that bench has written to its standard output.
func reportOf(t *testing.T, p *process) *load.Report {
	t.Helper()
	r := &load.Report{}
	if text := p.stdout.rest(); json.Unmarshal([]byte(text), r) != nil {
		t.Fatalf("no report: %q", text)
	}
	if r.Kernel == nil {
		t.Fatal("there is no kernel part")
	}
	return r
}

// A server that another process has, and that accepts nobody, is seen to refuse
// connections: in its accept queue, and in the seconds in which it did.
func TestBenchSeesAFullAcceptQueue(t *testing.T) {
	const limit, connections = 1, 16
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, limit); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(bound.(*unix.SockaddrInet4).Port))
	p := start(t, "bench", "-c", "16", "-n", "16", "--timeout", "2s", "--connect-timeout", "2s", "--progress", "never", "--json", "-", "http://"+addr.String()+"/")
	r := reportOf(t, p)
	p.exits(exitFailed)
	refused := connections - limit - 1 // at least once each
	if n := r.Kernel.Total[ebpf.AcceptOverflows]; n < uint64(refused) {
		t.Errorf("%d segments refused, want %d at least", n, refused)
	}
	i := slices.IndexFunc(r.Kernel.Listeners, func(l ebpf.Listener) bool { return l.Addr == addr })
	if i < 0 || r.Kernel.Listeners[i].Peak != limit+1 || r.Kernel.Listeners[i].PID != os.Getpid() {
		t.Errorf("this is process %d; listeners %+v", os.Getpid(), r.Kernel.Listeners)
	}
	var inEvents uint64
	for _, e := range r.Kernel.Events {
		inEvents += e.Counts[ebpf.AcceptOverflows]
	}
	if inEvents != r.Kernel.Total[ebpf.AcceptOverflows] {
		t.Errorf("%d segments refused by second, %d in all", inEvents, r.Kernel.Total[ebpf.AcceptOverflows])
	}
}

// A run that is interrupted has a report of what was observed until then; so has
// one that is interrupted before anything is measured.
func TestInterruptedBenchIsObserved(t *testing.T) {
	mirror := startMirror(t)
	for _, warmUp := range []string{"1ms", "1h"} {
		p := start(t, "bench", "-d", "1h", "--warmup", warmUp, "-R", "50", "-c", "2", "--progress", "always", "--json", "-", "http://"+mirror+"/")
		p.stderr.line()
		p.signal(os.Interrupt)
		r := reportOf(t, p)
		p.exits(exitSIGINT)
		if r.Ended != load.Signal || r.Kernel.Tier == "" || (r.Kernel.Elapsed > 0) != (warmUp == "1ms") {
			t.Errorf("warm-up %s: ended by %q, tier %q, %v", warmUp, r.Ended, r.Kernel.Tier, r.Kernel.Elapsed)
		}
	}
}

// Nobody in particular has a tier of its own, and with two capabilities the same as root.
func TestTiersByPrivilege(t *testing.T) {
	need.Root(t)
	mirror := startMirror(t)
	path, err := exec.LookPath("hotlap")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path) // it lies where nobody else may look
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run := func(mode string, caps ...uintptr) *process {
		cmd := exec.Command("/proc/self/fd/3", "bench", "--observe", mode, "-n", "10", "-c", "1", "--progress", "never", "--json", "-", "http://"+mirror+"/")
		cmd.Args[0], cmd.ExtraFiles = "hotlap", []*os.File{f}
		cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
		return startCommand(t, cmd)
	}
	for _, test := range []struct {
		mode string
		caps []uintptr
		tier ebpf.Tier
		why  string // programs are not seen
	}{
		{mode: "auto", tier: ebpf.TierDiag, why: "CAP_BPF and CAP_PERFMON"},
		{mode: "auto", tier: ebpf.TierBPF, caps: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}},
		{mode: "on", tier: ebpf.TierBPF, caps: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}},
	} {
		p := run(test.mode, test.caps...)
		k := reportOf(t, p).Kernel
		p.exits(exitOK)
		if k.Tier != test.tier || (len(k.Unseen) > 0) != (test.why != "") || test.why != "" && !strings.Contains(k.Unseen[0].Why, test.why) {
			t.Errorf("%s with %d capabilities: tier %s, unseen %v", test.mode, len(test.caps), k.Tier, k.Unseen)
		}
		if said := p.stderr.rest(); said != "" {
			t.Errorf("%s: it says %q", test.mode, said)
		}
	}
	p := run("on")
	if said := p.stderr.rest(); !strings.Contains(said, "--observe=on needs BPF programs") || strings.Count(said, "\n") != 1 {
		t.Errorf("on, without privilege: %q", said)
	}
	p.exits(exitFailed)
}

func TestPortsToObserve(t *testing.T) {
	proxy := func(to string) func(*url.URL) (*url.URL, error) {
		return func(u *url.URL) (*url.URL, error) {
			if u.Hostname() == "direct" {
				return nil, nil
			}
			return url.Parse(to)
		}
	}
	for _, test := range []struct {
		what   string
		config engine.Config
		urls   []string
		want   []uint16
	}{
		{what: "no URL"},
		{what: "ports that are said, and that are not", urls: []string{"http://a:8080/x", "http://a:8080/y", "https://b/", "http://c"}, want: []uint16{80, 443, 8080}},
		{what: "a port that is yet to be filled in", urls: []string{"http://a:8080/", "http://a:{rand:1:9}/"}},
		{what: "holes elsewhere", urls: []string{"http://a:8080/{seq}?q={rand:1:9}"}, want: []uint16{8080}},
		{what: "another place", config: engine.Config{ConnectTo: []engine.ConnectRule{{Host: "a", ToPort: 9000}, {ToHost: "b"}}}, urls: []string{"http://a:8080/"}, want: []uint16{8080, 9000}},
		{what: "a proxy", config: engine.Config{Proxy: proxy("http://p:3128")}, urls: []string{"https://a/", "http://direct:81/"}, want: []uint16{81, 3128}},
		{what: "a proxy's own port", config: engine.Config{Proxy: proxy("socks5://p")}, urls: []string{"https://a/"}, want: []uint16{1080}},
	} {
		if got := portsOf(&test.config, slices.Values(test.urls)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}
