package tune

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names of the sysctls that decide about local ports.
const (
	portRange     = "net.ipv4.ip_local_port_range"
	reservedPorts = "net.ipv4.ip_local_reserved_ports"
	twReuse       = "net.ipv4.tcp_tw_reuse"
	twReuseDelay  = "net.ipv4.tcp_tw_reuse_delay"
	timestamps    = "net.ipv4.tcp_timestamps"
	maxTWBuckets  = "net.ipv4.tcp_max_tw_buckets"
)

// Ports is what the local ports allow, to one destination.
type Ports struct {
	// Usable are those of one source address that connect(2) may choose from.
	Usable int `json:"usable"`
	// Open is how many connections can be open at once.
	Open int `json:"open"`
	// Hold is how long a port is kept after a connection's end; 0 is not at all.
	Hold time.Duration `json:"hold_ns"`
	// PerSecond is how many connections per second can be made for ever: 0 is
	// without a limit from ports.
	PerSecond float64 `json:"per_second"`
	// Overflows: tcp_max_tw_buckets is reached before the ports are used up, and
	// the kernel then closes connections without TIME_WAIT.
	Overflows bool `json:"overflows_tw_buckets"`
}

// PortsFor computes what the local ports of a machine allow a load.
func PortsFor(l Load, m *Machine) Ports {
	p := Ports{Usable: m.usablePorts(), Hold: hold(l, m)}
	p.Open = p.Usable * l.Sources
	p.Overflows = p.Hold > 0 && p.Open*l.Destinations > m.number(maxTWBuckets, 1<<30)
	if p.Hold > 0 && !p.Overflows {
		p.PerSecond = float64(p.Open) / p.Hold.Seconds()
	}
	return p
}

// hold is how long a port that a connection has used is kept from the next to
// the same destination.
func hold(l Load, m *Machine) time.Duration {
	if !l.waits() {
		return 0
	}
	reuse := m.number(twReuse, 0)
	if m.number(timestamps, 1) == 0 || reuse == 0 || reuse == 2 && !l.Loopback {
		return timeWait
	}
	// Before Linux 6.13 there is no such setting, and it is a second of the clock.
	return time.Duration(m.number(twReuseDelay, 1000)) * time.Millisecond
}

// usablePorts are the ports of the range, less those that are reserved, and
// those that a listener has: connect(2) does not share them, whatever the address.
func (m *Machine) usablePorts() int {
	low, high, ok := m.portRange()
	if !ok {
		return 0
	}
	var out portSet
	out.parse(m.Sysctls[reservedPorts])
	for _, l := range m.Listeners {
		out[l.Address.Port()] = true
	}
	n := 0
	for p := low; p <= high; p++ {
		if !out[p] {
			n++
		}
	}
	// Of an odd range __inet_hash_connect looks at all ports but one, and which one
	// depends on where it begins.
	if size := high - low + 1; n > 1 && size > 1 && size%2 == 1 {
		n--
	}
	return n
}

// portRange reads ip_local_port_range.
func (m *Machine) portRange() (low, high int, ok bool) {
	r := m.numbers(portRange)
	if len(r) != 2 || r[0] < 1 || r[1] > 65535 || r[0] > r[1] {
		return 0, 0, false
	}
	return r[0], r[1], true
}

// with is the machine with a sysctl changed.
func (m *Machine) with(name, value string) *Machine {
	if value == "" {
		return m
	}
	c := *m
	c.Sysctls = make(map[string]string, len(m.Sysctls)+1)
	for k, v := range m.Sysctls {
		c.Sysctls[k] = v
	}
	c.Sysctls[name] = value
	return &c
}

// A portSet is a set of ports.
type portSet [1 << 16]bool

// parse adds a list as ip_local_reserved_ports has it: 8080,9000-9010.
func (s *portSet) parse(list string) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		for ; err1 == nil && err2 == nil && a <= b; a++ {
			s[a] = true
		}
	}
}

// String is the list as the kernel writes it.
func (s *portSet) String() string {
	var b strings.Builder
	for p := 0; p < len(s); p++ {
		if !s[p] {
			continue
		}
		first := p
		for p+1 < len(s) && s[p+1] {
			p++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if first == p {
			fmt.Fprintf(&b, "%d", p)
		} else {
			fmt.Fprintf(&b, "%d-%d", first, p)
		}
	}
	return b.String()
}
