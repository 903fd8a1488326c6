package watch

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hotlap/ebpf"
)

// samples are a listener that overflowed, and a destination.
func samples() (total, delta ebpf.Sample) {
	listener := ebpf.Listener{
		Cookie: 7, Addr: netip.MustParseAddrPort("127.0.0.1:8080"), PID: 42, Queue: 65, Limit: 128, Peak: 129, PeakExact: true,
		Counts: ebpf.Counts{ebpf.ListenDrops: 312, ebpf.AcceptOverflows: 312, ebpf.AcceptOverflowConnections: 156},
	}
	destination := ebpf.Destination{
		Addr:          netip.MustParseAddrPort("[::1]:80"),
		Counts:        ebpf.Counts{ebpf.Connects: 1000, ebpf.PortsExhausted: 4, ebpf.PortSearches: 1000, ebpf.PortSearchNs: 2000000},
		PortSearchMax: 90 * time.Microsecond,
		TCP:           &ebpf.Evidence{MinRTT: 30 * time.Microsecond},
	}
	destination.ConnectLatency[20] = 1000
	total = ebpf.Sample{
		Elapsed: 10 * time.Second, Tier: ebpf.TierBPF, Unseen: []ebpf.Unseen{{What: "this", Why: "that"}},
		Total:     ebpf.Counts{ebpf.AcceptOverflows: 312, ebpf.Drops: 5, ebpf.RSTsIn: 0},
		Reasons:   ebpf.Reasons{ebpf.Drops: {"SOCKET_BACKLOG": 5}},
		Listeners: []ebpf.Listener{listener}, Destinations: []ebpf.Destination{destination},
		Namespace: ebpf.Counts{"ListenOverflows": 312, "InSegs": 9999}, Lost: ebpf.Counts{"faults": 3, "retransmits": 2},
	}
	before := total
	before.Elapsed, before.Total, before.Reasons, before.Listeners, before.Destinations = 8*time.Second, nil, nil, nil, nil
	return total, ebpf.Sub(total, before)
}

func TestTable(t *testing.T) {
	table := Table(samples())
	for _, row := range []string{
		"tier bpf 10s",
		"its BPF programs not measured",
		"127.0.0.1:8080 pid 42 ##########.......... 65/128 129 156.0 312 156",
		"[::1]:80 500.0 80µs 80µs - 4 - - 30µs",
		"search for a local port: mean 2µs, longest 90µs",
		"accept overflows 156.0 312",
		"drops 2.5 5\nSOCKET_BACKLOG 2.5 5",
		"ListenOverflows 0.0 312 namespace",
		"Not seen: this\n(that)",
		"Not recorded, as the map was full: 3 in faults",
		"Not recorded, as the kernel did not run the BPF programs for them: 2 retransmits in the namespace, whatever their ports",
	} {
		if !strings.Contains(squeeze(table), row) {
			t.Errorf("no %q in:\n%s", row, table)
		}
	}
	for _, row := range []string{"rsts in", "InSegs", "Nothing went wrong"} {
		if strings.Contains(table, row) {
			t.Errorf("%q is in:\n%s", row, table)
		}
	}
	healthy := ebpf.Sample{Tier: ebpf.TierProc, Elapsed: time.Second, Total: ebpf.Counts{}}
	if table := Table(healthy, healthy); !strings.Contains(table, "Nothing went wrong that this tier sees.") {
		t.Errorf("nothing went wrong, and it says:\n%s", table)
	}
}

// squeeze makes one blank of many, and takes those at line ends away.
func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestBar(t *testing.T) {
	for _, test := range []struct {
		queue, limit uint32
		full         int
	}{{0, 128, 0}, {1, 4096, 1}, {64, 127, 10}, {129, 128, 20}, {500, 128, 20}, {1, 0, 20}} {
		if full := strings.Count(bar(test.queue, test.limit), "#"); full != test.full {
			t.Errorf("%d of %d: %d of %d are full, want %d", test.queue, test.limit, full, barWidth, test.full)
		}
	}
}

func TestMetrics(t *testing.T) {
	total, _ := samples()
	text := Metrics(total)
	for _, line := range []string{
		"# TYPE hotlap_accept_overflows_total counter\nhotlap_accept_overflows_total 312\n",
		`hotlap_drops_by_reason_total{reason="SOCKET_BACKLOG"} 5`,
		`hotlap_accept_queue{listener="127.0.0.1:8080",cookie="7"} 65`,
		`hotlap_listener_accept_overflows_total{listener="127.0.0.1:8080",cookie="7"} 312`,
		`hotlap_destination_ports_exhausted_total{destination="[::1]:80"} 4`,
		`hotlap_connect_seconds{destination="[::1]:80",quantile="0.99"} 8e-05`,
		`hotlap_kernel_namespace_total{counter="ListenOverflows"} 312`,
		"hotlap_rsts_in_total 0\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in:\n%s", line, text)
		}
	}
	if strings.Contains(text, "syn_drops") {
		t.Error("what is not known is there")
	}
	types := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			if types[name] {
				t.Errorf("the lines of %s are not together", name)
			}
			types[name] = true
		}
	}
}

func TestServe(t *testing.T) {
	o, err := ebpf.Open(ebpf.Options{Most: ebpf.TierProc})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, l, o) }()
	response, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !strings.Contains(string(body), `hotlap_info{tier="proc"} 1`) {
		t.Errorf("%v %s", err, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCheckRow(t *testing.T) {
	right := ebpf.Figure{Name: "rsts_in", Source: "receive_reset", Value: 10, Want: 10}
	wrong := ebpf.Figure{Name: "OutRsts", Source: "/proc", Value: 9, Want: 10}
	for _, test := range []struct {
		check ebpf.Check
		want  string
	}{
		{ebpf.Check{Fault: "f", Provoked: 10, Observed: []ebpf.Figure{right}}, "ok f 10 rsts_in 10 (receive_reset) none\n"},
		{ebpf.Check{Fault: "f", Provoked: 10, Observed: []ebpf.Figure{right}, SameSource: true}, "ok f 10 rsts_in 10 (receive_reset) same source\n"},
		{ebpf.Check{Fault: "f", Provoked: 10, Observed: []ebpf.Figure{right}, Kernel: []ebpf.Figure{wrong}}, "FAIL f 10 rsts_in 10 (receive_reset) OutRsts 9, not 10 (/proc)\n"},
		{ebpf.Check{Fault: "f", Provoked: 10}, "FAIL f 10 not known none\n"},
		{ebpf.Check{Fault: "f", Provoked: 10, Observed: []ebpf.Figure{right}, Missed: 1}, "ok f 10 rsts_in 10 (receive_reset) none\nprovoked 2 times: the kernel counted all, and did not run the BPF programs for all\n"},
		{ebpf.Check{Fault: "f", Err: io.ErrUnexpectedEOF}, "FAIL f 0 not known none\nunexpected EOF\n"},
	} {
		if got := squeeze(CheckRow(test.check)) + "\n"; got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
