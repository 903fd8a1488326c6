package load

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/ebpf"
)

// watched runs a load against a URL under an observer of its port, and judges it.
func watched(t *testing.T, url string, connections, depth int, o Options) (*Report, ebpf.Verdict) {
	t.Helper()
	at := netip.MustParseAddrPort(strings.TrimPrefix(url, "http://"))
	observer, err := ebpf.Open(ebpf.Options{Ports: []uint16{at.Port()}})
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	before, err := observer.Read()
	if err != nil {
		t.Fatal(err)
	}
	r := bench(t, url, connections, depth, o)
	after, err := observer.Read()
	if err != nil {
		t.Fatal(err)
	}
	r.Load.Local, r.Load.Connections, r.Load.Targets = true, connections, []string{url}
	return r, ebpf.Judge(ebpf.Sub(after, before), r.figures())
}

// A run of the engine where nothing goes wrong: nothing is found at its sockets.
func TestHealthyRunIsCleanToTheKernel(t *testing.T) {
	needRoot(t)
	busy := []string{"client_saturated", "client_waited_for_cpu", "client_throttled"} // the machine's, not the kernel's
	for name, run := range map[string]struct {
		connections, depth int
		close              bool
	}{
		"keep-alive":               {connections: 16, depth: 1},
		"pipelines":                {connections: 4, depth: 16},
		"a connection per request": {connections: 16, depth: 1, close: true},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if run.close {
					w.Header().Set("Connection", "close")
				}
			})
			_, v := watched(t, url, run.connections, run.depth, Options{Count: 5000})
			blamed := slices.ContainsFunc(v.Findings, func(f ebpf.Finding) bool { return f.Spoils && slices.Contains(busy, f.Code) })
			if v.Valid == ebpf.ValidUnverified || v.Valid == ebpf.ValidNo && !blamed {
				t.Errorf("valid: %s (%s)", v.Valid, v.Why)
			}
			for _, f := range v.Findings {
				if f.Spoils && !slices.Contains(busy, f.Code) {
					t.Errorf("spoiled by %+v", f)
				}
			}
		})
	}
}

// A server that is not there is found, though nothing was ever connected to it.
func TestRefusedRunIsNotValid(t *testing.T) {
	needRoot(t)
	// A socket that is bound and does not listen keeps the port from others.
	taken, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(taken)
	if err := unix.Bind(taken, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(taken)
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	r, v := watched(t, url, 4, 1, Options{Count: 20})
	if r.Responses != 0 || v.Valid != ebpf.ValidNo {
		t.Errorf("%d responses, valid: %s (%s)", r.Responses, v.Valid, v.Why)
	}
	if !slices.ContainsFunc(v.Findings, func(f ebpf.Finding) bool { return f.Code == "connects_refused" && f.Spoils }) {
		t.Errorf("%+v", v.Findings)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	const missing = "this test needs root: run the tests as root"
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}
