package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hotlap/ebpf"
	"hotlap/engine"
)

// watched is a run in which much went wrong.
func watched() *Kernel {
	overflowed := ebpf.Listener{
		Cookie: 7, Addr: netip.MustParseAddrPort("127.0.0.1:8080"), Limit: 128, Peak: 129, PeakExact: true,
		Counts: ebpf.Counts{ebpf.ListenDrops: 1314, ebpf.AcceptOverflows: 1312, ebpf.AcceptOverflowConnections: 656, ebpf.SYNDrops: 2},
	}
	busy := ebpf.Listener{Cookie: 8, Addr: netip.MustParseAddrPort("[::1]:8080"), Limit: 4096, Peak: 17, Counts: ebpf.Counts{ebpf.ListenDrops: 0}}
	idle := ebpf.Listener{Cookie: 9, Addr: netip.MustParseAddrPort("[::]:8081"), Limit: 4096}
	var latency ebpf.Histogram
	latency[12], latency[40] = 8900, 100 // up to 20 us, and 2560 us
	runs, spent := uint64(1050), 1234567*time.Nanosecond
	return &Kernel{
		Sample: ebpf.Sample{
			Elapsed: 5 * time.Second, Tier: ebpf.TierBPF,
			Unseen: []ebpf.Unseen{{What: "what BPF program send_reset counts", Why: "the kernel\nhas no such tracepoint"}},
			Total: ebpf.Counts{
				ebpf.ListenDrops: 1314, ebpf.AcceptOverflows: 1312, ebpf.SYNDrops: 2, ebpf.Drops: 5, ebpf.BacklogDrops: 5,
				ebpf.Retransmits: 0, ebpf.RSTsIn: 10, ebpf.Connects: 9000,
			},
			Reasons:   ebpf.Reasons{ebpf.Drops: {"SOCKET_BACKLOG": 5}, ebpf.RSTsIn: {"ESTABLISHED": 9, "SYN_SENT": 1}},
			Listeners: []ebpf.Listener{overflowed, busy, idle}, Shared: []ebpf.Listener{},
			Destinations: []ebpf.Destination{{
				Addr: netip.MustParseAddrPort("127.0.0.1:8080"), ConnectLatency: latency, PortSearchMax: 70 * time.Microsecond,
				Counts: ebpf.Counts{ebpf.PortSearches: 1000, ebpf.PortSearchNs: 1830000},
			}},
			Namespace: ebpf.Counts{"ListenOverflows": 1312, "TCPBacklogDrop": 5, "InSegs": 77, "RetransSegs": 0}, Host: ebpf.Counts{"softnet.time_squeeze": 3},
			Lost: ebpf.Counts{"faults": 3, "examples": 9, "retransmits": 2},
			Cost: ebpf.Cost{Setup: 60 * time.Millisecond, CPU: 12 * time.Millisecond, BPFRuns: &runs, BPF: &spent},
		},
		Ports: []uint16{8080, 8081}, Events: []KernelEvent{{At: 1, Length: 1, Counts: ebpf.Counts{ebpf.AcceptOverflows: 1312}}},
	}
}

func TestKernelText(t *testing.T) {
	s := NewCollector().Summarize(engine.Stats{}, Done)
	s.Kernel = watched()
	var b strings.Builder
	if err := s.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), "\nkernel")
	const want = `kernel     observed: tier bpf, ports 8080, 8081
           accept queue of 127.0.0.1:8080: peak 129, limit 128; overflowed: 1,312 segments refused, of 656 connections; 2 SYNs refused for another cause
           accept queue of [::1]:8080: peak at least 17 (sampled), limit 4,096
           backlog drops: 5
           drops: 5 (SOCKET_BACKLOG 5)
           rsts in: 10 (ESTABLISHED 9, SYN_SENT 1)
           connects to 127.0.0.1:8080: 9,000, p50 20µs, p99 2.56ms
           search for a local port: to 127.0.0.1:8080: mean 1.83µs, longest 70µs
           in its network namespace, others included: ListenOverflows 1,312, TCPBacklogDrop 5
           on the machine: softnet.time_squeeze 3
           not seen: what BPF program send_reset counts (the kernel has no such tracepoint)
           not recorded: 3 in faults, which was full
           not recorded: 2 retransmits in its network namespace, others included: the kernel did not run the BPF programs for them
           observer: 12ms of CPU in 5s, its BPF programs 1.23ms in 1,050 runs
`
	if got := "kernel" + got; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestKernelTextWhereLittleIsToBeTold(t *testing.T) {
	for want, k := range map[string]*Kernel{
		"": nil,
		"observed: tier bpf, connections of this process; nothing went wrong at these sockets that it sees\n" +
			"observer: 1ms of CPU in 2s, its BPF programs not measured (--run-stats)\n": {
			Sample: ebpf.Sample{Tier: ebpf.TierBPF, Elapsed: 2 * time.Second, Cost: ebpf.Cost{CPU: time.Millisecond}},
		},
		"observed: tier proc, port 80; nothing went wrong at these sockets that it sees\nnot seen: this (that)\nobserver: 1ms of CPU in 2s\n": {
			Sample: ebpf.Sample{
				Tier: ebpf.TierProc, Elapsed: 2 * time.Second, Cost: ebpf.Cost{CPU: time.Millisecond},
				Unseen: []ebpf.Unseen{{What: "this", Why: "that"}},
			},
			Ports: []uint16{80},
		},
		"observed: nothing\nnot seen: the whole run (why)\n": {Sample: ebpf.Sample{Unseen: []ebpf.Unseen{{What: "the whole run", Why: "why"}}}},
	} {
		got := ""
		for _, f := range k.Facts() {
			got += f.Name + ": " + f.Value + "\n"
		}
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

func TestKernelTextIsBounded(t *testing.T) {
	k := watched()
	k.Listeners = slices.Repeat(k.Listeners[:1], 50)
	k.Destinations = slices.Repeat(k.Destinations, 50)
	if n := len(k.Facts()); n > 41 || !slices.Contains(k.Facts(), Fact{"accept queues", "40 more"}) {
		t.Errorf("%d lines: %v", n, k.Facts())
	}
}

// The keys are those of a Sample and the run's own; what was written is read.
func TestKernelJSON(t *testing.T) {
	text, err := json.Marshal(watched())
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"tier", "unseen", "total", "reasons", "listeners", "shared", "servers", "destinations", "namespace", "host", "gauges", "lost", "cost", "ports", "events"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no key %q in %v", key, slices.Sorted(maps.Keys(keys)))
		}
	}
	if event := fmt.Sprint(keys["events"]); event != "[map[counts:map[accept_overflows:1312] length_s:1 t_s:1]]" {
		t.Errorf("events are %s", event)
	}
	var k Kernel
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&k, watched()) {
		t.Errorf("read\n%+v, want\n%+v", &k, watched())
	}
}

// The observer's CPU time is not the client's: what the wait at the end took of
// it is no part of the sending.
func TestKernelCPU(t *testing.T) {
	k := watched()
	for of, want := range map[time.Duration]time.Duration{5 * time.Second: 12 * time.Millisecond, 2500 * time.Millisecond: 6 * time.Millisecond, time.Minute: 12 * time.Millisecond} {
		if got := k.CPU(of); got != want {
			t.Errorf("%v in %v, want %v", got, of, want)
		}
	}
	if k = nil; k.CPU(time.Second) != 0 {
		t.Error("nobody took time")
	}
}

func TestToldFaults(t *testing.T) {
	for want, counts := range map[string]ebpf.Counts{
		"[{accept overflows 1,312}]":              {ebpf.AcceptOverflows: 1312, ebpf.ListenDrops: 1312},
		"[{accept overflows 2} {listen drops 3}]": {ebpf.AcceptOverflows: 2, ebpf.ListenDrops: 3},
		"[{receive buffer drops 5}]":              {ebpf.Drops: 5, ebpf.ReceiveBufferDrops: 5},
		"[{drops 5}]":                             {ebpf.Drops: 5},
		"[{retransmits 1} {rsts in 2}]":           {ebpf.Retransmits: 1, ebpf.RSTsIn: 2},
	} {
		e := KernelEvent{Counts: counts}
		if got := fmt.Sprint(e.Told()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
