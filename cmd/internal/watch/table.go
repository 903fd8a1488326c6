// Package watch shows what an observer sees: as a table for people, as metrics
// for Prometheus, and the rows of the self-test.
package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hotlap/ebpf"
)

// Table shows a view: what was seen since the start, and in the last interval.
func Table(total, delta ebpf.Sample) string {
	v := view{total: total, delta: delta}
	v.head()
	v.listeners()
	v.destinations()
	v.faults()
	v.kernel()
	v.unseen()
	return v.String()
}

type view struct {
	strings.Builder
	total, delta ebpf.Sample
}

func (v *view) line(format string, args ...any) { fmt.Fprintf(v, format+"\n", args...) }

func (v *view) head() {
	v.line("hotlap watch  tier %s  %s", v.total.Tier, v.total.Elapsed.Round(time.Second))
	cost := fmt.Sprintf("observer %.2f %% of a CPU", 100*v.delta.Cost.CPU.Seconds()/v.delta.Elapsed.Seconds())
	switch {
	case v.delta.Cost.BPF != nil:
		cost += fmt.Sprintf(", its BPF programs %.2f %%", 100*v.delta.Cost.BPF.Seconds()/v.delta.Elapsed.Seconds())
	case v.total.Tier == ebpf.TierBPF:
		cost += ", its BPF programs not measured (--run-stats)"
	}
	v.line("cost: %s", cost)
}

const barWidth = 20

// bar is how full a queue is.
func bar(queue, limit uint32) string {
	full := int(min(queue, limit+1)) * barWidth / int(limit+1)
	if queue > 0 && full == 0 {
		full = 1
	}
	return strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
}

func (v *view) listeners() {
	if len(v.total.Listeners) == 0 {
		return
	}
	v.line("")
	v.line("%-32s %-*s %13s %9s %10s %9s %11s", "ACCEPT QUEUES", barWidth, "", "now/limit", "peak", "refused/s", "refused", "connections")
	for i, l := range v.total.Listeners {
		name := ""
		switch {
		case l.Closed && l.Counts[ebpf.ListenDrops] == 0:
			continue
		case l.Closed:
			name = "closed"
		case l.PID != 0:
			name = fmt.Sprintf("pid %d", l.PID)
		}
		v.listener(name, l, v.delta.Listeners[i])
	}
	for i, l := range v.total.Shared {
		v.listener("together", l, v.delta.Shared[i])
	}
	v.line("(peaks with >= are sampled 20 times a second; refused are segments)")
}

func (v *view) listener(name string, l, delta ebpf.Listener) {
	peak := fmt.Sprint(l.Peak)
	if !l.PeakExact {
		peak = ">= " + peak
	}
	v.line("%-32s %s %13s %9s %10s %9s %11s", fmt.Sprint(l.Addr, " ", name), bar(l.Queue, l.Limit), fmt.Sprintf("%d/%d", l.Queue, l.Limit), peak,
		v.rate(delta.Counts, ebpf.ListenDrops), count(l.Counts, ebpf.ListenDrops), count(l.Counts, ebpf.AcceptOverflowConnections))
}

// maxRows bounds what a table shows.
const maxRows = 20

func (v *view) destinations() {
	if len(v.total.Destinations) == 0 {
		return
	}
	v.line("")
	v.line("%-32s %10s %8s %8s %7s %8s %10s %7s %8s", "DESTINATIONS", "connects/s", "p50", "p99", "failed", "no port", "sent again", "RST in", "min RTT")
	for i, d := range v.total.Destinations {
		if i == maxRows {
			v.line("... and %d more", len(v.total.Destinations)-maxRows)
			break
		}
		p50, p99, rtt := "-", "-", "-"
		if d.ConnectLatency.Count() > 0 {
			p50, p99 = d.ConnectLatency.Quantile(0.5).String(), d.ConnectLatency.Quantile(0.99).String()
		}
		if d.TCP != nil && d.TCP.MinRTT > 0 {
			rtt = d.TCP.MinRTT.String()
		}
		again := "-"
		if syn, known := d.Counts.Get(ebpf.SYNRetransmits); known {
			again = fmt.Sprint(syn + d.Counts[ebpf.Retransmits])
		}
		v.line("%-32s %10s %8s %8s %7s %8s %10s %7s %8s", d.Addr, v.rate(v.delta.Destinations[i].Counts, ebpf.Connects), p50, p99,
			count(d.Counts, ebpf.ConnectFailures), count(d.Counts, ebpf.PortsExhausted), again, count(d.Counts, ebpf.RSTsIn), rtt)
		if searches := d.Counts[ebpf.PortSearches]; searches > 0 {
			mean := time.Duration(d.Counts[ebpf.PortSearchNs] / searches)
			v.line("  search for a local port: mean %v, longest %v", mean, d.PortSearchMax)
		}
	}
}

// faults are what went wrong, by reason where there is one.
func (v *view) faults() {
	v.line("")
	any := false
	for _, k := range ebpf.Faults {
		if v.total.Total[k] == 0 {
			continue
		}
		if !any {
			v.line("%-32s %12s %12s", "WHAT WENT WRONG", "per second", "total")
			any = true
		}
		v.line("%-32s %12s %12d", strings.ReplaceAll(string(k), "_", " "), v.rate(v.delta.Total, k), v.total.Total[k])
		for _, reason := range slices.Sorted(maps.Keys(v.total.Reasons[k])) {
			v.line("  %-30s %12s %12d", reason, v.perSecond(v.delta.Reasons[k][reason]), v.total.Reasons[k][reason])
		}
	}
	if !any {
		v.line("Nothing went wrong that this tier sees.")
	}
}

// kernel are the kernel's own counters that moved.
func (v *view) kernel() {
	header := false
	show := func(scope string, total, delta ebpf.Counts, counters []ebpf.Counter) {
		for _, k := range counters {
			if total[k] == 0 {
				continue
			}
			if !header {
				v.line("")
				v.line("%-32s %12s %12s", "KERNEL COUNTERS", "per second", "total")
				header = true
			}
			v.line("%-32s %12s %12d  %s", k, v.rate(delta, k), total[k], scope)
		}
	}
	show("namespace", v.total.Namespace, v.delta.Namespace, ebpf.KernelFaults)
	show("host", v.total.Host, v.delta.Host, slices.Sorted(maps.Keys(v.total.Host)))
}

func (v *view) unseen() {
	for _, u := range v.total.Unseen {
		v.line("")
		v.line("Not seen: %s\n  (%s)", u.What, u.Why)
	}
	for _, k := range slices.Sorted(maps.Keys(v.total.Lost)) {
		switch n := v.total.Lost[k]; k {
		case "examples": // there are enough, and none are shown here
		case ebpf.Retransmits:
			v.line("Not recorded, as the kernel did not run the BPF programs for them: %d retransmits in the namespace, whatever their ports", n)
		default:
			v.line("Not recorded, as the map was full: %d in %s", n, k)
		}
	}
}

func (v *view) perSecond(n uint64) string {
	return fmt.Sprintf("%.1f", float64(n)/v.delta.Elapsed.Seconds())
}

// rate is a counter of the interval, - where it is not known.
func (v *view) rate(c ebpf.Counts, k ebpf.Counter) string {
	if n, known := c.Get(k); known {
		return v.perSecond(n)
	}
	return "-"
}

func count(c ebpf.Counts, k ebpf.Counter) string {
	if n, known := c.Get(k); known {
		return fmt.Sprint(n)
	}
	return "-"
}
