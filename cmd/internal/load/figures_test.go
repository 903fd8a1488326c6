package load

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hotlap/ebpf"
)

func TestAddresses(t *testing.T) {
	peers := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080")}
	failed := map[string]int64{"connect": 1}
	for _, test := range []struct {
		name    string
		peers   []netip.AddrPort
		targets []string
		errors  map[string]int64
		want    string
	}{
		{"a name", peers, []string{"http://h:8080/"}, nil, "[127.0.0.1:8080]"},
		{"another, and nothing failed", peers, []string{"http://127.0.0.1:9/"}, nil, "[127.0.0.1:8080]"},
		{"one of two failed", peers, []string{"http://127.0.0.1:9/", "http://127.0.0.1:8080/{seq}"}, failed, "[127.0.0.1:8080 127.0.0.1:9]"},
		{"all failed", nil, []string{"http://127.0.0.1/x", "https://[::1]/", "http://name/", "::"}, failed, "[127.0.0.1:80 [::1]:443]"},
	} {
		r := Report{Peers: test.peers, Load: Load{Targets: test.targets}, Errors: test.errors}
		if got := fmt.Sprint(r.addresses()); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// Of a distribution as wide as usual one in a hundred is above the 99th percentile;
// where most are equal it may be none.
func TestAboveP99(t *testing.T) {
	h := newHistogram()
	for i := range 10_000 {
		record(h, time.Millisecond+time.Duration(i)*time.Microsecond, 1)
	}
	l := latencyOf(h)
	if n := l.aboveP99(); n < 50 || n > 100 {
		t.Errorf("%d of 10,000 are above p99", n)
	}
	same := newHistogram()
	for range 10_000 {
		record(same, 1000, 1)
	}
	if l = latencyOf(same); l.aboveP99() != 0 {
		t.Errorf("%d of 10,000 that are all the same are above p99", l.aboveP99())
	}
}

// A run that nobody watched is not verified, and its client's figures get there.
func TestReportIsJudged(t *testing.T) {
	r := Report{Seconds: 1, Requests: 1000, Responses: 1000, Load: Load{Loop: ClosedLoop, Local: true}, Client: Client{Busy: []float64{0.99}}}
	r.Judge()
	if r.Verdict.Valid != ebpf.ValidNo || r.Verdict.Bound != ebpf.BoundClient {
		t.Errorf("%+v", r.Verdict)
	}
	r.Client.Busy[0] = 0.5
	r.Judge()
	if r.Verdict.Valid != ebpf.ValidUnverified || r.Verdict.Bound != ebpf.BoundServer {
		t.Errorf("%+v", r.Verdict)
	}
}
