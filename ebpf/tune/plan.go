package tune

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Diagnosis is what a load needs of a machine, and whether it can work.
type Diagnosis struct {
	Load    Load     `json:"load"`
	Machine *Machine `json:"machine"`
	Advice  []Advice `json:"knobs"`
	Limits  []Limit  `json:"limits"`
	Facts   []Fact   `json:"facts"`
}

// Advice is what to do about one knob.
type Advice struct {
	Name       string     `json:"name"`
	Scope      Scope      `json:"scope"`
	Confidence Confidence `json:"confidence"`
	Value      string     `json:"value"`
	Absent     bool       `json:"absent,omitempty"` // this kernel or namespace does not show it
	Want       string     `json:"want,omitempty"`   // "": the value will do
	Leave      bool       `json:"leave,omitempty"`  // the advice is to leave it, whatever the load
	Case       string     `json:"case,omitempty"`   // why, for this load
	Why        string     `json:"why"`
	Risk       string     `json:"risk"`
	// Elsewhere: it is to be changed in the initial namespace, not in this one.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Limit is a row of the preflight: what the load needs, and what there is.
type Limit struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Needs float64 `json:"needs"`
	Has   float64 `json:"has"` // -1: there is no limit
	OK    bool    `json:"ok"`
	// Certain: a load beyond it fails; else it may, in the worst case.
	Certain bool     `json:"certain"`
	Says    string   `json:"says"`
	Fixes   []string `json:"fixes,omitempty"`
}

// Advice is one or the other of the fixes, as a sentence without its end.
func (l Limit) Advice() string {
	switch n := len(l.Fixes); n {
	case 0:
		return ""
	case 1:
		return l.Fixes[0]
	default:
		return strings.Join(l.Fixes[:n-1], ", ") + ", or " + l.Fixes[n-1]
	}
}

// Fact is something of the machine that no knob changes.
type Fact struct {
	Name string `json:"name"`
	Says string `json:"says"`
	OK   bool   `json:"ok"`
}

// Well says that nothing would hold the load back.
func (d *Diagnosis) Well() bool { return len(d.Hindrances()) == 0 }

// Diagnose says what a load needs of a machine.
func Diagnose(l Load, m *Machine) *Diagnosis {
	l = l.Complete()
	d := &Diagnosis{Load: l, Machine: m, Limits: Preflight(l, m), Facts: facts(l, m)}
	for i := range Knobs {
		d.Advice = append(d.Advice, advise(&Knobs[i], l, m))
	}
	return d
}

// After is the diagnosis once changes are made, and servers that asked for a
// longer queue than they got are started again.
func (d *Diagnosis) After(changes []Change) *Diagnosis {
	m := d.Machine
	for _, c := range changes {
		if c.Name == somaxconn {
			m = m.restarted(c)
		}
		m = m.with(c.Name, c.To)
	}
	return Diagnose(d.Load, m)
}

// restarted is the machine with the queues of those servers as long as they can be.
func (m *Machine) restarted(c Change) *Machine {
	n := *m
	n.Listeners = slices.Clone(m.Listeners)
	for i := range n.Listeners {
		l := &n.Listeners[i]
		if l.Drops = 0; int(l.Backlog) >= m.number(somaxconn, 0) {
			l.Backlog = uint32(n.with(somaxconn, c.To).number(somaxconn, 0))
		}
	}
	return &n
}

// Hindrances are the names of what would hold the load back.
func (d *Diagnosis) Hindrances() (names []string) {
	for _, l := range d.Limits {
		if !l.OK {
			names = append(names, l.Name)
		}
	}
	for _, a := range d.Advice {
		if a.Want != "" {
			names = append(names, a.Name)
		}
	}
	for _, f := range d.Facts {
		if !f.OK {
			names = append(names, f.Name)
		}
	}
	return names
}

func advise(k *Knob, l Load, m *Machine) Advice {
	a := Advice{Name: k.Name, Scope: k.Scope, Confidence: k.Confidence, Leave: k.Leave, Why: k.Why, Risk: k.Risk}
	value, ok := m.Sysctls[k.Name]
	a.Value, a.Absent = value, !ok
	if !ok || k.Leave {
		return a
	}
	need := k.Need(l, m)
	a.Want, a.Case = need.Want, need.Why
	if same(a.Want, a.Value) {
		a.Want = ""
	}
	a.Elsewhere = a.Want != "" && k.Scope == Host && !m.Initial
	return a
}

// Preflight computes whether a load can work, from what it needs and what there is.
func Preflight(l Load, m *Machine) []Limit {
	l = l.Complete()
	limits := []Limit{descriptorLimit(l, m), memoryLimit(l, m)}
	if _, _, known := m.portRange(); known && l.For != Serve {
		limits = append(limits, openPortsLimit(l, m))
		if l.NoKeepAlive {
			limits = append(limits, churnLimit(l, m))
		}
	}
	if most := m.number(conntrackMax, 0); m.number(conntrackCount, 0) > 0 {
		n := m.conntrackEntries(l)
		limits = append(limits, Limit{ // not certain: rules may leave this load out
			Name: "tracked connections", Unit: "entries", Needs: float64(n), Has: float64(most), OK: n <= most,
			Says:  fmt.Sprintf("the firewall has room for %s, this load may have %s", count(float64(most)), count(float64(n))),
			Fixes: []string{"raise " + conntrackMax, "do not track the load (notrack)"},
		})
	}
	limits = append(limits, queueLimits(l, m)...)
	for i := range limits {
		if limits[i].OK {
			limits[i].Fixes = nil
		}
	}
	return limits
}

func descriptorLimit(l Load, m *Machine) Limit {
	n, soft, hard := l.descriptors(), m.Files.Soft, m.Files.Hard
	r := Limit{Name: "descriptors", Unit: "files", Needs: float64(n), Has: float64(hard), OK: uint64(n) <= hard, Certain: true}
	r.Says = fmt.Sprintf("%s connections and %d for the rest; the limit is %s soft, %s hard", count(float64(l.Connections)), spareDescriptors, files(soft), files(hard))
	switch {
	case !r.OK:
		r.Fixes = []string{fmt.Sprintf("ulimit -n %d as root, or sudo prlimit --pid $$ --nofile=%d:%d", n, n, n), "fewer connections"}
	case uint64(n) > soft:
		// Go raises the soft limit by itself; a server may be of another making.
		r.Says += "; hotlap raises the soft one by itself, other programs do not"
		if l.For == Serve {
			r.OK, r.Certain, r.Has = false, false, float64(soft)
			r.Fixes = []string{fmt.Sprintf("ulimit -n %d", n)}
		}
	}
	return r
}

// files writes a limit; a hard one may be without an end.
func files(n uint64) string {
	if n >= math.MaxInt64 {
		return "none"
	}
	return count(float64(n))
}

func memoryLimit(l Load, m *Machine) Limit {
	n := l.memory()
	return Limit{
		Name: "memory", Unit: "bytes", Needs: float64(n), Has: float64(m.AvailableBytes),
		OK: n <= m.AvailableBytes, Certain: n > m.MemoryBytes,
		Says:  fmt.Sprintf("about %s for %s connections with little in their buffers; %s available", mebi(n), count(float64(l.Connections)), mebi(m.AvailableBytes)),
		Fixes: []string{"fewer connections", "less kept of answers"},
	}
}

// openPortsLimit: each open connection to a destination has a port of its own.
func openPortsLimit(l Load, m *Machine) Limit {
	p := PortsFor(l, m)
	return Limit{
		Name: "ports at once", Unit: "connections", Needs: float64(l.atOnce()), Has: float64(p.Open), OK: l.atOnce() <= p.Open, Certain: true,
		Says:  fmt.Sprintf("%s connections open to one destination, %s ports%s", count(float64(l.atOnce())), count(float64(p.Usable)), l.fromSources()),
		Fixes: []string{"widen " + portRange, "add source addresses", "more destinations"},
	}
}

// churnLimit: ports / hold is how many connections a second there can be.
func churnLimit(l Load, m *Machine) Limit {
	p := PortsFor(l, m)
	r := Limit{
		Name: "new connections", Unit: "connections per second to one destination", Needs: l.churn(), Has: p.PerSecond,
		OK: p.PerSecond >= l.churn(), Certain: !l.Assumed,
	}
	switch {
	case p.Hold == 0:
		r.Has, r.OK = -1, true
		r.Says = "the server closes first, so no port of ours waits: no limit"
		return r
	case p.Overflows:
		r.Has, r.OK = -1, true
		r.Says = fmt.Sprintf("we close first, but %s %s is reached before the ports are used up, and then connections end without TIME_WAIT: no limit, and old segments may end in new connections",
			maxTWBuckets, m.Sysctls[maxTWBuckets])
		return r
	}
	where := "a remote host"
	if l.Loopback {
		where = "a loopback address"
	}
	r.Says = fmt.Sprintf("we close first, and keep the port: to %s with tcp_tw_reuse %s: %s%s / %s = %s/s; %s",
		where, m.Sysctls[twReuse], count(float64(p.Usable)), l.fromSources(), seconds(p.Hold), count(p.PerSecond), l.asked())
	if r.OK {
		return r
	}
	if knobs := churnKnobs(l, m); knobs != "" {
		r.Fixes = append(r.Fixes, knobs)
	}
	r.Fixes = append(r.Fixes, "add source addresses", "keep connections alive", "let the server close first")
	return r
}

// churnKnobs says which knobs help a load that makes more connections than there
// are ports for: all of them together, and how far if that is not far enough.
func churnKnobs(l Load, m *Machine) string {
	var do []string
	if needTimestamps(l, m).Want != "" {
		do = append(do, "set tcp_timestamps=1")
	}
	if needReuse(l, m).Want != "" {
		do = append(do, "set tcp_tw_reuse=1")
	}
	wide, reserved, _ := wider(l, m)
	if wide != "" {
		do = append(do, "widen ip_local_port_range")
	}
	after := reusing(l, m).with(portRange, wide).with(reservedPorts, reserved)
	text := strings.Join(do, " and ")
	if text != "" && !suffices(l, after) {
		text += fmt.Sprintf(" (which gives %s/s)", count(PortsFor(l, after).PerSecond))
	}
	return text
}

func (l Load) fromSources() string {
	if l.Sources == 1 {
		return ""
	}
	return fmt.Sprintf(" x %d source addresses", l.Sources)
}

// queueLimits are about the accept queues of the server that is meant, and of any
// that has refused connections.
func queueLimits(l Load, m *Machine) (limits []Limit) {
	if !l.servedHere() {
		return nil
	}
	for _, s := range m.Listeners {
		meant := l.Port != 0 && s.Address.Port() == l.Port
		if !meant && (l.Port != 0 || s.Drops == 0) {
			continue
		}
		room := int(s.Backlog) + 1
		r := Limit{
			Name: "accept queue of " + s.Address.String(), Unit: "connections", Needs: float64(l.Connections), Has: float64(room), OK: l.Connections <= room,
			Says: fmt.Sprintf("%s connections at once, should it not accept meanwhile; its queue holds %s", count(float64(l.Connections)), count(float64(room))),
		}
		if !meant {
			r.Needs, r.OK = 0, false
			r.Says = fmt.Sprintf("it has refused %s SYNs since it began; its queue holds %s", count(float64(s.Drops)), count(float64(room)))
		}
		if !r.OK {
			if most := m.number(somaxconn, 0); int(s.Backlog) >= most {
				r.Fixes = append(r.Fixes, "raise "+somaxconn+" and start the server again")
			} else {
				r.Fixes = append(r.Fixes, fmt.Sprintf("raise the server's own backlog: it asked for %d, somaxconn is %d", s.Backlog, most))
			}
		}
		limits = append(limits, r)
	}
	return limits
}

// muchSteal is the share of CPU time beyond which somebody else's load is felt.
// Nothing here helps against it, so it is no reason for a load not to be fine.
const muchSteal = 0.10

func facts(l Load, m *Machine) []Fact {
	cpus := fmt.Sprintf("%d online, %d for us", m.CPUs, m.AllowedCPUs)
	if m.CPUQuota > 0 {
		cpus += fmt.Sprintf(", of which the cgroup's quota lets %.1f run", m.CPUQuota)
	}
	if l.Loopback {
		cpus += ". Client and server share them: where each runs has the largest effect there is (6 us a request on one CPU, up to 60 us on two idle ones): measure with taskset"
	}
	steal := fmt.Sprintf("%.1f %% of CPU time since boot went to other machines of the host", 100*m.Steal)
	if m.Steal >= muchSteal {
		steal += ": expect noise in all that is measured here"
	}
	all := []Fact{{"CPUs", cpus, m.CPUQuota == 0 || m.CPUQuota >= 1}, {"steal", steal, true}}
	slow := slices.Contains([]string{"hpet", "acpi_pm", "pit", "jiffies"}, m.Clocksource)
	clock := m.Clocksource
	if slow {
		clock += ": reading the time is slow with it, and each request does; tsc or the hypervisor's clock is not"
	}
	all = append(all, Fact{"clocksource", clock, !slow})
	if pressure := m.numbers("net.ipv4.tcp_mem"); len(pressure) == 3 {
		all = append(all, Fact{"TCP memory", fmt.Sprintf("%s pages of all sockets; pressure begins at %s", count(float64(m.TCPPages)), count(float64(pressure[1]))), m.TCPPages < int64(pressure[1])})
	}
	if len(m.Listeners) > 0 {
		all = append(all, Fact{"listeners", backlogs(m.Listeners), true})
	}
	var qdiscs []string
	for device, kind := range m.Qdiscs {
		qdiscs = append(qdiscs, device+" "+kind)
	}
	slices.Sort(qdiscs)
	return append(all, Fact{"congestion control", strings.Join(append([]string{m.Sysctls["net.ipv4.tcp_congestion_control"]}, qdiscs...), ", "), true})
}

// listedListeners is how many listeners are named in a sentence.
const listedListeners = 12

// backlogs says how long the queues of servers here are.
func backlogs(all []Listener) string {
	var parts []string
	for _, l := range all[:min(len(all), listedListeners)] {
		parts = append(parts, fmt.Sprintf("%s %s", l.Address, count(float64(l.Backlog))))
	}
	slices.Sort(parts)
	if more := len(all) - listedListeners; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return "backlogs: " + strings.Join(parts, ", ")
}

// count writes a number with its thousands apart, and a small one's first decimal.
func count(n float64) string {
	if n < 10 {
		return strconv.FormatFloat(math.Floor(10*n)/10, 'g', -1, 64)
	}
	s := fmt.Sprintf("%.0f", math.Floor(n))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mebi(n int64) string { return count(float64(n>>20)) + " MiB" }

func seconds(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
