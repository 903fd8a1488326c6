package tune

import (
	"fmt"
	"math/bits"
)

// What loads need of the knobs. All is computed from a Load and a Machine.

// The range that is asked for: above what servers usually listen at, and what
// one listens at in it is reserved.
const widestLow, widestHigh = 10240, 65535

// suffices says that local ports carry the load's churn, as far as is known.
func suffices(l Load, m *Machine) bool {
	p := PortsFor(l, m)
	_, _, known := m.portRange()
	return !known || p.Hold == 0 || p.Overflows || p.PerSecond >= l.churn()
}

func needReuse(l Load, m *Machine) Need {
	value := m.number(twReuse, 0)
	switch {
	case !l.waits():
		return Need{Why: "no port of ours waits in TIME_WAIT under this load"}
	case value == 1 || value == 2 && l.Loopback:
		return Need{Why: "it reuses ports already"}
	case suffices(l, m):
		return Need{Why: "there are ports enough without"}
	}
	return Need{Want: "1"}
}

func needTimestamps(l Load, m *Machine) Need {
	if m.number(timestamps, 1) == 0 && l.waits() && !suffices(l, m) {
		return Need{Want: "1", Why: "ports in TIME_WAIT are reused only for connections with timestamps"}
	}
	return Need{}
}

// reusing is the machine with what needReuse and needTimestamps ask for.
func reusing(l Load, m *Machine) *Machine {
	return m.with(twReuse, needReuse(l, m).Want).with(timestamps, needTimestamps(l, m).Want)
}

func needRange(l Load, m *Machine) Need {
	wide, _, why := wider(l, m)
	return Need{wide, why}
}

func needReserved(l Load, m *Machine) Need {
	_, reserved, _ := wider(l, m)
	if reserved == "" {
		return Need{}
	}
	return Need{reserved, "these are in the wider range, and in use by servers here"}
}

// wider gives the range of ports that a load needs, and the list of those that
// then have to be reserved: "" where the present ones will do.
func wider(l Load, m *Machine) (wide, reserved, why string) {
	low, high, ok := m.portRange()
	if !ok || l.For == Serve {
		return "", "", "a server's connections all have its own port"
	}
	p := PortsFor(l, m)
	switch {
	case l.atOnce() > p.Open:
		why = fmt.Sprintf("%s connections at once to one destination need as many ports; there are %s", count(float64(l.atOnce())), count(float64(p.Open)))
	case !suffices(l, reusing(l, m)):
		why = "every port it adds is one more connection in the time for which ports are held"
	default:
		return "", "", "there are ports enough"
	}
	if low <= widestLow && high >= widestHigh {
		return "", "", why + "; it is as wide as it should be"
	}
	newLow, newHigh := min(low, widestLow), max(high, widestHigh)
	var old, all portSet
	old.parse(m.Sysctls[reservedPorts])
	all = old
	for _, port := range m.serverPorts() {
		if (port < low || port > high) && port >= newLow && port <= newHigh {
			all[port] = true
		}
	}
	if all != old {
		if reserved = all.String(); len(reserved) >= writeBytes {
			return "", "", "left: the list of ports to be reserved is longer than the kernel takes at once"
		}
	}
	return fmt.Sprintf("%d\t%d", newLow, newHigh), reserved, why
}

// Kubernetes gives these out, unless told otherwise (--service-node-port-range).
const firstNodePort, lastNodePort = 30000, 32767

// serverPorts are those that must not become a client's: a server that is
// restarted would find its own taken.
func (m *Machine) serverPorts() (all []int) {
	for _, l := range m.Listeners {
		all = append(all, int(l.Address.Port()))
	}
	for _, p := range m.UDPPorts {
		all = append(all, int(p))
	}
	for p := firstNodePort; m.NodePorts && p <= lastNodePort; p++ {
		all = append(all, p)
	}
	return all
}

const somaxconn = "net.core.somaxconn"

// burstQueue is an accept queue for bursts, in connections.
const burstQueue = 16384

func needSomaxconn(l Load, m *Machine) Need {
	value := m.number(somaxconn, 128)
	switch {
	case !l.servedHere():
		return Need{Why: "the server is elsewhere: it is that machine's that counts"}
	case l.Connections <= value+1:
		return Need{Why: fmt.Sprintf("%s connections fit into a queue of %s, should all come at once", count(float64(l.Connections)), count(float64(value)))}
	}
	return Need{Want: fmt.Sprint(max(burstQueue, powerOfTwo(l.Connections)))}
}

func needSYNBacklog(l Load, m *Machine) Need {
	value := m.number("net.ipv4.tcp_max_syn_backlog", 128)
	switch {
	case !l.servedHere():
		return Need{Why: "the server is elsewhere"}
	case m.number("net.ipv4.tcp_syncookies", 1) != 0:
		return Need{Why: "no effect while tcp_syncookies is on: a full queue is answered with cookies"}
	case l.Connections <= value:
		return Need{Why: "all handshakes fit, should they begin at once"}
	}
	return Need{Want: fmt.Sprint(powerOfTwo(l.Connections)), Why: "with cookies off, SYNs beyond it are dropped"}
}

func needNoSlowStart(l Load, m *Machine) Need {
	switch algorithm := m.Sysctls["net.ipv4.tcp_congestion_control"]; {
	case algorithm == "bbr":
		return Need{Why: "no effect under bbr"}
	case l.For != Serve:
		return Need{Why: "requests fit into the first window: it is the server's side that gains"}
	case l.NoKeepAlive:
		return Need{Why: "a connection that serves one request is never idle"}
	}
	if m.number("net.ipv4.tcp_slow_start_after_idle", 1) == 0 {
		return Need{}
	}
	return Need{Want: "0"}
}

// manyConnections is where the buffers of connections begin to count.
const manyConnections = 50_000

func needSmallBuffers(name string, initial int) func(Load, *Machine) Need {
	return func(l Load, m *Machine) Need {
		b := m.numbers(name)
		if len(b) != 3 || l.Connections <= manyConnections || b[1] <= initial {
			return Need{Why: "its maximum stays; the value in the middle matters from " + count(manyConnections) + " connections on"}
		}
		return Need{Want: fmt.Sprintf("%d\t%d\t%d", min(b[0], initial), initial, b[2]), Why: "so that many connections begin small; each grows as it needs to"}
	}
}

// fewDrops is the share of packets dropped since boot below which it was an
// accident, such as a test of ours.
const fewDrops = 1e-4

func needDeviceBacklog(_ Load, m *Machine) Need {
	const want = 10000
	drops := fmt.Sprintf("%s packets of %s were dropped for it since boot", count(float64(m.SoftnetDrops)), count(float64(m.Packets)))
	switch {
	case float64(m.SoftnetDrops) <= fewDrops*float64(m.Packets):
		return Need{Why: drops}
	case m.number("net.core.netdev_max_backlog", 1000) >= want:
		return Need{Why: drops + ", and it is large already: give packets to more CPUs (RPS)"}
	}
	return Need{fmt.Sprint(want), drops}
}

func needConntrack(l Load, m *Machine) Need {
	entries, most := m.conntrackEntries(l), m.number(conntrackMax, 0)
	switch {
	case m.number(conntrackCount, 0) == 0:
		return Need{Why: "nothing is tracked here"}
	case entries <= most:
		return Need{Why: count(float64(entries)) + " entries fit"}
	}
	return Need{fmt.Sprint(powerOfTwo(entries)), fmt.Sprintf("this load has up to %s entries; beyond the limit packets are dropped", count(float64(entries)))}
}

const (
	conntrackMax   = "net.netfilter.nf_conntrack_max"
	conntrackCount = "net.netfilter.nf_conntrack_count"
	conntrackWait  = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
)

// conntrackEntries is how many entries there will be. One stays for a time after
// its connection's end, but a tuple never has two.
func (m *Machine) conntrackEntries(l Load) int {
	ended := 0
	if l.NoKeepAlive && l.Rate > 0 {
		ended = int(l.Rate * float64(m.number(conntrackWait, 120)))
		if l.For != Serve {
			ended = min(ended, m.usablePorts()*l.Sources*l.Destinations)
		}
	}
	return m.number(conntrackCount, 0) + l.Connections + ended
}

func needOpenFiles(l Load, m *Machine) Need {
	if need := l.descriptors(); need > m.number("fs.nr_open", 1<<20) {
		return Need{fmt.Sprint(powerOfTwo(need)), "no limit of a process can be above it"}
	}
	return Need{Why: "it is above what this load opens"}
}

func powerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }
