package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hotlap/ebpf"
)

// A Kernel is what the kernel did to a run's sockets, as an observer saw it:
// "kernel" in the reports of bench and fetch. Its keys are those of a Sample
// (tier, unseen, total, listeners, destinations, cost ...), as hotlap watch --json
// writes them, of the measured part alone; peaks of accept queues and shortest
// round trips are since the observer was opened, which is before a warm-up.
// A tier of "" says that the run went unobserved, and unseen why.
type Kernel struct {
	ebpf.Sample
	// Ports say whose sockets were observed: those of connections to one of
	// these ports, from whichever process, and of who listens there. None: the
	// connections of this process.
	Ports []uint16 `json:"ports,omitempty"`
	// Events are the seconds in which something went wrong, in order.
	Events        []KernelEvent `json:"events"`
	EventsLeftOut int           `json:"events_left_out,omitempty"` // seconds that there was no room for
	// Changes are those that anybody made to the kernel's settings meanwhile.
	Changes []SettingChange `json:"setting_changes,omitempty"`
}

// A SettingChange is a setting of the kernel that had another value than a
// second before.
type SettingChange struct {
	At   float64 `json:"t_s"`  // when it was noticed, on the axis of events
	Name string  `json:"name"` // of the sysctl
	From string  `json:"from"`
	To   string  `json:"to"`
}

// A KernelEvent is what went wrong in one second of the measured part, or of the
// wait for the last responses after it.
type KernelEvent struct {
	At     float64     `json:"t_s"`      // when it began
	Length float64     `json:"length_s"` // about 1; of the last, what there was
	Counts ebpf.Counts `json:"counts"`   // of ebpf.Faults, those that are not zero
}

// Seen is the sample of the measured part; the zero Sample if nobody watched.
func (k *Kernel) Seen() ebpf.Sample {
	if k == nil {
		return ebpf.Sample{}
	}
	return k.Sample
}

// CPU is what the observer's thread took of so much of the time that it watched.
func (k *Kernel) CPU(of time.Duration) time.Duration {
	if k == nil || k.Elapsed <= 0 {
		return 0
	}
	return time.Duration(float64(k.Cost.CPU) * min(1, float64(of)/float64(k.Elapsed)))
}

// A Fact is a line about something.
type Fact struct{ Name, Value string }

// maxFacts bounds the lines of each kind.
const maxFacts = 10

// Facts tell the kernel part to people: only what there is to tell, none if
// nobody watched.
func (k *Kernel) Facts() []Fact {
	if k == nil {
		return nil
	}
	f := facts{}
	f.queues(k)
	f.faults(k)
	f.connects(k)
	f.searches(k)
	for _, c := range k.Changes {
		f.add("setting changed", "%s from %s to %s, within the second before %.0f s", c.Name, c.From, c.To, c.At)
	}
	f.counters("in its network namespace, others included", k.Namespace, ebpf.KernelFaults)
	f.counters("on the machine", k.Host, slices.Sorted(maps.Keys(k.Host)))
	went := ""
	if !slices.ContainsFunc(ebpf.Faults, func(c ebpf.Counter) bool { return k.Total[c] > 0 }) {
		went = "; nothing went wrong at these sockets that it sees"
	}
	for _, u := range k.Unseen {
		f.add("not seen", "%s (%s)", u.What, strings.Join(strings.Fields(u.Why), " "))
	}
	for _, name := range slices.Sorted(maps.Keys(k.Lost)) {
		switch n := k.Lost[name]; {
		case n == 0 || name == "examples": // of these there are enough
		case name == ebpf.Retransmits:
			f.add("not recorded", "%s retransmits in its network namespace, others included: the kernel did not run the BPF programs for them", Count(int64(n)))
		default:
			f.add("not recorded", "%s in %s, which was full", Count(int64(n)), name)
		}
	}
	if k.Tier == "" {
		return append([]Fact{{"observed", "nothing"}}, f...)
	}
	f.cost(k)
	return append([]Fact{{"observed", fmt.Sprintf("tier %s, %s%s", k.Tier, k.scope(), went)}}, f...)
}

// scope says whose sockets were observed.
func (k *Kernel) scope() string {
	if len(k.Ports) == 0 {
		return "connections of this process"
	}
	ports := make([]string, min(len(k.Ports), maxFacts))
	for i := range ports {
		ports[i] = fmt.Sprint(k.Ports[i])
	}
	if more := len(k.Ports) - len(ports); more > 0 {
		ports = append(ports, fmt.Sprintf("%d more", more))
	}
	if len(ports) == 1 {
		return "port " + ports[0]
	}
	return "ports " + strings.Join(ports, ", ")
}

type facts []Fact

func (f *facts) add(name, format string, args ...any) {
	*f = append(*f, Fact{name, fmt.Sprintf(format, args...)})
}

// queues are the accept queues that held something, or refused it.
func (f *facts) queues(k *Kernel) {
	told := 0
	tell := func(list []ebpf.Listener, together string) {
		for i := range list {
			l := &list[i]
			refused := l.Counts[ebpf.ListenDrops]
			if l.Peak == 0 && refused == 0 {
				continue
			}
			if told++; told > maxFacts {
				continue
			}
			text := fmt.Sprintf("peak at least %s (sampled), limit %s", Count(int64(l.Peak)), Count(int64(l.Limit)))
			if l.PeakExact {
				text = fmt.Sprintf("peak %s, limit %s", Count(int64(l.Peak)), Count(int64(l.Limit)))
			}
			if n := l.Counts[ebpf.AcceptOverflows]; n > 0 {
				text += fmt.Sprintf("; overflowed: %s segments refused", Count(int64(n)))
				if of, known := l.Counts.Get(ebpf.AcceptOverflowConnections); known {
					text += fmt.Sprintf(", of %s connections", Count(int64(of)))
				}
			}
			if n := l.Counts[ebpf.SYNDrops]; n > 0 {
				text += fmt.Sprintf("; %s SYNs refused for another cause", Count(int64(n)))
			}
			f.add("accept queue of "+l.Addr.String()+together, "%s", text)
		}
	}
	tell(k.Listeners, "")
	tell(k.Shared, ", together")
	if told > maxFacts {
		f.add("accept queues", "%d more", told-maxFacts)
	}
}

// toldByQueues are faults that the lines of accept queues tell.
var toldByQueues = []ebpf.Counter{ebpf.AcceptOverflows, ebpf.SYNDrops, ebpf.ListenDrops}

func (f *facts) faults(k *Kernel) {
	for _, fault := range ebpf.Faults {
		n := k.Total[fault]
		if n == 0 || slices.Contains(toldByQueues, fault) && len(k.Listeners) > 0 {
			continue
		}
		text := Count(int64(n))
		if reasons := k.Reasons[fault]; len(reasons) > 0 {
			text += " (" + ByCount(signed(reasons)) + ")"
		}
		f.add(spelled(fault), "%s", text)
	}
}

// spelled is a counter in words.
func spelled(c ebpf.Counter) string { return strings.ReplaceAll(string(c), "_", " ") }

// connects are how long those took that were made, by the kernel's clock.
func (f *facts) connects(k *Kernel) {
	told := 0
	for i := range k.Destinations {
		d := &k.Destinations[i]
		n := d.ConnectLatency.Count()
		if n == 0 || told == maxFacts {
			continue
		}
		told++
		f.add("connects to "+d.Addr.String(), "%s, p50 %v, p99 %v", Count(int64(n)), roundTo3(d.ConnectLatency.Quantile(0.5)), roundTo3(d.ConnectLatency.Quantile(0.99)))
	}
}

// searches are what deep mode adds.
func (f *facts) searches(k *Kernel) {
	told := 0
	for i := range k.Destinations {
		d := &k.Destinations[i]
		n := d.Counts[ebpf.PortSearches]
		if n == 0 || told == maxFacts {
			continue
		}
		told++
		mean := time.Duration(d.Counts[ebpf.PortSearchNs] / n)
		f.add("search for a local port", "to %s: mean %v, longest %v", d.Addr, mean, d.PortSearchMax)
	}
}

// counters are the kernel's own that moved. They are not of this run's sockets alone.
func (f *facts) counters(where string, all ebpf.Counts, wanted []ebpf.Counter) {
	moved := map[string]int64{}
	for _, c := range wanted {
		if n := all[c]; n > 0 {
			moved[string(c)] = int64(n)
		}
	}
	if len(moved) > 0 {
		f.add(where, "%s", ByCount(moved))
	}
}

func (f *facts) cost(k *Kernel) {
	text := fmt.Sprintf("%s of CPU in %s", roundTo3(k.Cost.CPU), roundTo3(k.Elapsed))
	switch {
	case k.Cost.BPF != nil:
		text += fmt.Sprintf(", its BPF programs %s in %s runs", roundTo3(*k.Cost.BPF), Count(int64(*k.Cost.BPFRuns)))
	case k.Tier == ebpf.TierBPF:
		text += ", its BPF programs not measured (--run-stats)"
	}
	f.add("observer", "%s", text)
}

func signed[K ~string](counts map[K]uint64) map[string]int64 {
	m := map[string]int64{}
	for k, n := range counts {
		m[string(k)] = int64(n)
	}
	return m
}

// Told are the faults of a second that have to be told: those that are no sum
// of others in it.
func (e *KernelEvent) Told() (list []Fact) {
	for _, fault := range ebpf.Faults {
		n := e.Counts[fault]
		switch {
		case n == 0,
			fault == ebpf.ListenDrops && n == e.Counts[ebpf.AcceptOverflows]+e.Counts[ebpf.SYNDrops],
			fault == ebpf.Drops && n == e.Counts[ebpf.BacklogDrops]+e.Counts[ebpf.ReceiveBufferDrops]:
			continue
		}
		list = append(list, Fact{spelled(fault), Count(int64(n))})
	}
	return list
}
