package tune

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// aMachine is one with the kernel's defaults, and these settings.
func aMachine(settings ...string) *Machine {
	m := &Machine{
		Kernel: "6.18", Initial: true, Files: FileLimit{1024, 524288},
		MemoryBytes: 8 << 30, AvailableBytes: 7 << 30, CPUs: 8, AllowedCPUs: 8, Clocksource: "tsc",
		Sysctls: map[string]string{
			reservedPorts: "", portRange: "32768\t60999", timestamps: "1", twReuse: "2", twReuseDelay: "1000",
			"net.ipv4.tcp_fin_timeout": "60", maxTWBuckets: "131072", "net.core.somaxconn": "4096",
			"net.ipv4.tcp_max_syn_backlog": "2048", "net.ipv4.tcp_syncookies": "1", "net.ipv4.tcp_abort_on_overflow": "0",
			"net.ipv4.tcp_slow_start_after_idle": "1", "net.ipv4.tcp_rmem": "4096\t131072\t6291456",
			"net.ipv4.tcp_wmem": "4096\t16384\t4194304", "net.ipv4.tcp_congestion_control": "cubic",
			"net.core.default_qdisc": "fq_codel", "net.core.netdev_max_backlog": "1000", "fs.nr_open": "1048576",
			"net.ipv4.tcp_mem": "100000\t200000\t300000",
		},
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		if value == "absent" {
			delete(m.Sysctls, name)
		} else {
			m.Sysctls[name] = value
		}
	}
	return m
}

func listening(m *Machine, ports ...uint16) *Machine {
	for _, p := range ports {
		m.Listeners = append(m.Listeners, Listener{Address: netip.AddrPortFrom(netip.IPv6Unspecified(), p), Backlog: 128})
	}
	return m
}

// What is wanted of which knobs: "name=value" of each, in order.
func TestAdvice(t *testing.T) {
	const wide = "net.ipv4.ip_local_port_range=10240\t65535"
	churn := Load{NoKeepAlive: true, Rate: 5000}
	with := func(l Load, change func(*Load)) Load {
		change(&l)
		return l
	}
	for _, c := range []struct {
		what string
		load Load
		m    *Machine
		want []string
	}{
		{"nothing is said", Load{}, aMachine(), nil},
		{"kept alive, at any rate", Load{Rate: 1e6}, aMachine(), nil},
		{"churn to a remote host", churn, aMachine(), []string{"net.ipv4.tcp_tw_reuse=1"}},
		{"and reuse off", churn, aMachine(twReuse + "=0"), []string{"net.ipv4.tcp_tw_reuse=1"}},
		{"few enough without reuse", with(churn, func(l *Load) { l.Rate = 470 }), aMachine(), nil},
		{"one too many", with(churn, func(l *Load) { l.Rate = 471 }), aMachine(), []string{"net.ipv4.tcp_tw_reuse=1"}},
		{"more than the range with reuse", with(churn, func(l *Load) { l.Rate = 30_000 }), aMachine(), []string{wide, "net.ipv4.tcp_tw_reuse=1"}},
		{"no rate: 20,000 is assumed", with(churn, func(l *Load) { l.Rate = 0 }), aMachine(), []string{"net.ipv4.tcp_tw_reuse=1"}},
		{"no timestamps", churn, aMachine(timestamps + "=0"), []string{"net.ipv4.tcp_timestamps=1", "net.ipv4.tcp_tw_reuse=1"}},
		{"no timestamps, on loopback", with(churn, func(l *Load) { l.Loopback = true }), aMachine(timestamps + "=0"), []string{"net.ipv4.tcp_timestamps=1"}},
		{"on loopback", with(churn, func(l *Load) { l.Loopback = true }), aMachine(), nil},
		{"on loopback, more than the range", with(churn, func(l *Load) { l.Loopback, l.Rate = true, 30_000 }), aMachine(), []string{wide}},
		{"the server closes first", with(churn, func(l *Load) { l.ServerCloses = true }), aMachine(), nil},
		{"TIME_WAIT overflows", churn, aMachine(maxTWBuckets + "=5000"), nil},
		{"many destinations", with(churn, func(l *Load) { l.Destinations = 11 }), aMachine(), nil},
		{"many source addresses", with(churn, func(l *Load) { l.Sources = 11 }), aMachine(maxTWBuckets + "=1000000"), nil},
		{"an old kernel", churn, aMachine(twReuseDelay+"=absent", twReuse+"=1"), nil},
		{"ports of which nothing is known", churn, aMachine(portRange + "=absent"), nil},
		{"many connections", Load{Connections: 30_000}, aMachine(), []string{wide}},
		{"to several destinations", Load{Connections: 30_000, Destinations: 2}, aMachine(), nil},
		{"it is wide already", Load{Connections: 70_000}, aMachine(portRange+"=1024 65535", "net.ipv4.tcp_rmem=4096 8192 6291456"), nil},
		{"wider below than ours", Load{Connections: 60_000, Destinations: 1}, aMachine(portRange+"=2000 60999", "net.ipv4.tcp_rmem=4096 8192 6291456"),
			[]string{"net.ipv4.ip_local_port_range=2000\t65535"}},

		{"listeners in the wider range", Load{Connections: 30_000}, listening(aMachine(reservedPorts+"=7000,20000-20001"), 80, 20002, 40000, 61000, 65535),
			[]string{"net.ipv4.ip_local_reserved_ports=7000,20000-20002,61000,65535", wide}},
		{"listeners that are reserved", Load{Connections: 30_000}, listening(aMachine(reservedPorts+"=20000"), 20000), []string{wide}},
		{"sockets of UDP", Load{Connections: 30_000}, func() *Machine {
			m := aMachine()
			m.UDPPorts = []uint16{53, 12345, 33000}
			return m
		}(), []string{"net.ipv4.ip_local_reserved_ports=12345", wide}},
		{"NodePorts", Load{Connections: 30_000}, func() *Machine {
			m := aMachine()
			m.NodePorts = true
			return m
		}(), []string{"net.ipv4.ip_local_reserved_ports=30000-32767", wide}},

		{"a server", Load{For: Serve}, aMachine(), []string{"net.ipv4.tcp_slow_start_after_idle=0"}},
		{"a server, under bbr", Load{For: Serve}, aMachine("net.ipv4.tcp_congestion_control=bbr"), nil},
		{"a server of short connections", Load{For: Serve, NoKeepAlive: true, Rate: 50_000}, aMachine(), nil},
		{"bursts at a server", Load{For: Serve, Connections: 5000, NoKeepAlive: true}, aMachine(), []string{"net.core.somaxconn=16384"}},
		{"large bursts", Load{For: Serve, Connections: 20_000, NoKeepAlive: true}, aMachine(), []string{"net.core.somaxconn=32768"}},
		{"bursts at a server elsewhere", Load{Connections: 5000}, aMachine(), nil},
		{"cookies off", Load{For: Serve, Connections: 3000, NoKeepAlive: true}, aMachine("net.ipv4.tcp_syncookies=0"), []string{"net.ipv4.tcp_max_syn_backlog=4096"}},
		{"very many connections", Load{For: Serve, Connections: 60_000, NoKeepAlive: true}, aMachine("net.core.somaxconn=65535"),
			[]string{"net.ipv4.tcp_rmem=4096\t16384\t6291456"}},

		{"packets dropped", Load{}, func() *Machine {
			m := aMachine()
			m.Packets, m.SoftnetDrops = 10_000, 3
			return m
		}(), []string{"net.core.netdev_max_backlog=10000"}},
		{"few packets dropped", Load{}, func() *Machine {
			m := aMachine()
			m.Packets, m.SoftnetDrops = 1_000_000, 100
			return m
		}(), nil},
		{"a firewall without room", with(churn, func(l *Load) { l.Rate = 400 }), aMachine(conntrackMax+"=16384", conntrackCount+"=5"),
			[]string{"net.netfilter.nf_conntrack_max=32768"}},
		{"a firewall that tracks nothing", churn, aMachine(conntrackMax+"=16384", conntrackCount+"=0", twReuse+"=1"), nil},
		{"more files than a process may have", Load{Connections: 2_000_000, Destinations: 100}, aMachine("net.ipv4.tcp_rmem=4096 8192 6291456"), []string{"fs.nr_open=2097152"}},
	} {
		var got []string
		for _, a := range Diagnose(c.load, c.m).Advice {
			if a.Want != "" {
				got = append(got, a.Name+"="+a.Want)
			}
			if a.Leave && a.Want != "" {
				t.Errorf("%s: %s is to be left", c.what, a.Name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

// Once all that was advised is done, nothing more is, and the ports suffice.
func TestAdviceEnds(t *testing.T) {
	for _, l := range []Load{
		{NoKeepAlive: true}, {NoKeepAlive: true, Rate: 50_000}, {NoKeepAlive: true, Loopback: true, Rate: 40_000},
		{Connections: 40_000}, {For: Serve, Connections: 9000}, {For: Fetch, NoKeepAlive: true, Rate: 1000},
	} {
		m := listening(aMachine(), 20_000)
		d := Diagnose(l, m)
		d = d.After(d.Changes())
		if c := d.Changes(); len(c) > 0 {
			t.Errorf("%+v: still %+v", l, c)
		}
		if l.For != Serve && !d.Well() {
			t.Errorf("%+v: %+v", l, d.Limits)
		}
	}
}

// A queue that somaxconn cut is longer once the server is started again, one that
// the server chose is not.
func TestAfterSomaxconn(t *testing.T) {
	for _, c := range []struct {
		backlog uint32
		well    bool
	}{{4096, true}, {128, false}} {
		m := listening(aMachine("net.ipv4.tcp_congestion_control=bbr"), 80)
		m.Listeners[0].Backlog = c.backlog
		d := Diagnose(Load{For: Serve, Connections: 5000, Port: 80}, m)
		d.Machine.Files.Soft = d.Machine.Files.Hard
		if after := d.After(d.Changes()); d.Well() || after.Well() != c.well {
			t.Errorf("backlog %d: %v, then %v", c.backlog, d.Hindrances(), after.Hindrances())
		}
	}
}

// Settings of the machine are not changed from another namespace; a knob brings
// the one that has to come first.
func TestChanges(t *testing.T) {
	m := listening(aMachine(), 20_000)
	m.SoftnetDrops, m.Initial = 1, false
	d := Diagnose(Load{Connections: 30_000, NoKeepAlive: true, Rate: 100_000}, m)
	names := func(all []Change) (s string) {
		for _, c := range all {
			s += c.Name[strings.LastIndexByte(c.Name, '.')+1:] + " "
		}
		return s
	}
	if got := names(d.Changes()); got != "ip_local_reserved_ports ip_local_port_range tcp_tw_reuse " {
		t.Error(got)
	}
	if got := names(d.Changes("ip_local_port_range")); got != "ip_local_reserved_ports ip_local_port_range " {
		t.Error(got)
	}
	if got := names(d.Changes("tcp_tw_reuse", "somaxconn")); got != "tcp_tw_reuse " {
		t.Error(got)
	}
	m.Initial = true
	if got := names(Diagnose(d.Load, m).Changes()); got != "ip_local_reserved_ports ip_local_port_range tcp_tw_reuse netdev_max_backlog " {
		t.Error(got)
	}
}

// The table itself.
func TestKnobs(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, k := range Knobs {
		if seen[k.Name] {
			t.Errorf("%s twice", k.Name)
		}
		if !seen[k.First] {
			t.Errorf("%s comes before %s", k.Name, k.First)
		}
		seen[k.Name] = true
		if k.Why == "" || k.Risk == "" || k.Confidence == "" || k.Scope != Namespace && k.Scope != Host {
			t.Errorf("%+v", k)
		}
		if k.Leave == (k.Need != nil) {
			t.Errorf("%s: a knob is left, or has a need", k.Name)
		}
		if f, ok := Find(k.Name); !ok || f.Name != k.Name {
			t.Errorf("%s is not found", k.Name)
		}
	}
	if k, ok := Find("somaxconn"); !ok || k.Name != "net.core.somaxconn" {
		t.Error("somaxconn is not found")
	}
	for _, name := range []string{"", "conn", "xsomaxconn", "kernel.panic"} {
		if _, ok := Find(name); ok {
			t.Errorf("%q is found", name)
		}
	}
}

func TestPreflightSays(t *testing.T) {
	for _, c := range []struct {
		name string
		load Load
		m    *Machine
		ok   bool
		says string
	}{
		{"new", Load{NoKeepAlive: true, Rate: 5000}, aMachine(), false,
			"we close first, and keep the port: to a remote host with tcp_tw_reuse 2: 28,232 / 60 s = 470/s; 5,000/s asked" +
				" | set tcp_tw_reuse=1, add source addresses, keep connections alive, let the server close first"},
		{"new", Load{NoKeepAlive: true, Rate: 5000, Loopback: true}, aMachine(), true,
			"we close first, and keep the port: to a loopback address with tcp_tw_reuse 2: 28,232 / 1 s = 28,232/s; 5,000/s asked | "},
		{"new", Load{NoKeepAlive: true, Rate: 90_000, Sources: 2}, aMachine(twReuse+"=1", reservedPorts+"=40000-40231", twReuseDelay+"=500"), true,
			"we close first, and keep the port: to a remote host with tcp_tw_reuse 1: 28,000 x 2 source addresses / 0.5 s = 112,000/s; 90,000/s asked | "},
		{"new", Load{NoKeepAlive: true}, aMachine(), false,
			"we close first, and keep the port: to a remote host with tcp_tw_reuse 2: 28,232 / 60 s = 470/s; 20,000/s assumed, as no rate was given" +
				" | set tcp_tw_reuse=1, add source addresses, keep connections alive, let the server close first"},
		{"descriptors", Load{Connections: 900}, aMachine(), true, "900 connections and 100 for the rest; the limit is 1,024 soft, 524,288 hard | "},
		{"descriptors", Load{Connections: 1000}, aMachine(), true,
			"1,000 connections and 100 for the rest; the limit is 1,024 soft, 524,288 hard; hotlap raises the soft one by itself, other programs do not | "},
		{"descriptors", Load{Connections: 1000, For: Serve}, aMachine(), false,
			"1,000 connections and 100 for the rest; the limit is 1,024 soft, 524,288 hard; hotlap raises the soft one by itself, other programs do not | ulimit -n 1100"},
		{"descriptors", Load{Connections: 600_000}, aMachine(), false,
			"600,000 connections and 100 for the rest; the limit is 1,024 soft, 524,288 hard | ulimit -n 600100 as root, or sudo prlimit --pid $$ --nofile=600100:600100, fewer connections"},
		{"memory", Load{Connections: 10_000}, aMachine(), true, "about 294 MiB for 10,000 connections with little in their buffers; 7,168 MiB available | "},
		{"memory", Load{Connections: 400_000}, aMachine(), false,
			"about 9,435 MiB for 400,000 connections with little in their buffers; 7,168 MiB available | fewer connections, less kept of answers"},
		{"tracked", Load{NoKeepAlive: true, Rate: 1000}, aMachine(conntrackMax+"=20000", conntrackCount+"=1"), false,
			"the firewall has room for 20,000, this load may have 28,297 | raise net.netfilter.nf_conntrack_max, do not track the load (notrack)"},
		{"accept", Load{For: Serve}, func() *Machine {
			m := listening(aMachine(), 80)
			m.Listeners[0].Drops = 7
			return m
		}(), false, "it has refused 7 SYNs since it began; its queue holds 129 | raise the server's own backlog: it asked for 128, somaxconn is 4096"},
	} {
		for _, r := range Preflight(c.load, c.m) {
			if !strings.HasPrefix(r.Name, c.name) {
				continue
			}
			if got := r.Says + " | " + strings.Join(r.Fixes, ", "); got != c.says || r.OK != c.ok {
				t.Errorf("%s, %+v: ok %v\n got %s\nwant %s", c.name, c.load, r.OK, got, c.says)
			}
			c.name = "\x00"
		}
		if c.name != "\x00" {
			t.Errorf("no row %s for %+v", c.name, c.load)
		}
	}
}

// What is not known holds nothing back, and only what is certain is warned of.
func TestNoFalseAlarm(t *testing.T) {
	for _, c := range []struct {
		what       string
		load       Load
		m          *Machine
		well, warn bool
	}{
		{"few ports", Load{Connections: 30_000}, aMachine(), false, true},
		{"no range of ports to be seen", Load{Connections: 30_000}, aMachine(portRange + "=absent"), true, false},
		{"and short connections", Load{NoKeepAlive: true, Rate: 5000}, aMachine(portRange + "=absent"), true, false},
		{"a rate that is assumed", Load{NoKeepAlive: true}, aMachine(), false, false},
		// Which connections a firewall tracks, its rules say.
		{"a full firewall", Load{Connections: 1000}, aMachine(conntrackMax+"=1000", conntrackCount+"=900"), false, false},
		{"no settings at all", Load{Connections: 1000}, &Machine{Files: FileLimit{2000, 2000}, MemoryBytes: 8 << 30, AvailableBytes: 7 << 30}, true, false},
	} {
		d := Diagnose(c.load, c.m)
		if w := warning(c.load.Complete(), c.m); d.Well() != c.well || (w != "") != c.warn {
			t.Errorf("%s: hindered by %q, warning %q", c.what, d.Hindrances(), w)
		}
	}
}

// Listeners that nobody means, and that have refused nobody, are no matter.
func TestNoFalseAlarmOfQueues(t *testing.T) {
	m := listening(aMachine(), 22, 80)
	for _, l := range []Load{{For: Serve, Connections: 1000}, {Loopback: true, Connections: 1000}, {Connections: 1000, Port: 80}, {For: Serve, Connections: 100, Port: 80}} {
		for _, r := range Preflight(l, m) {
			if !r.OK && strings.HasPrefix(r.Name, "accept") {
				t.Errorf("%+v: %+v", l, r)
			}
		}
	}
}

// Facts say what no knob changes; a slow clock and a full memory hold a load back.
func TestFacts(t *testing.T) {
	m := listening(aMachine(), 22)
	m.CPUQuota, m.Steal, m.Clocksource, m.TCPPages, m.Qdiscs = 0.5, 0.25, "hpet", 200_001, map[string]string{"lo": "noqueue", "eth0": "fq"}
	want := map[string]string{
		"CPUs":               "8 online, 8 for us, of which the cgroup's quota lets 0.5 run",
		"steal":              "25.0 % of CPU time since boot went to other machines of the host: expect noise",
		"clocksource":        "hpet: reading the time is slow with it",
		"TCP memory":         "200,001 pages of all sockets; pressure begins at 200,000",
		"listeners":          "backlogs: [::]:22 128",
		"congestion control": "cubic, eth0 fq, lo noqueue",
	}
	d := Diagnose(Load{}, m)
	for _, f := range d.Facts {
		if !strings.HasPrefix(f.Says, want[f.Name]) || want[f.Name] == "" {
			t.Errorf("%s: %s", f.Name, f.Says)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 || !slices.Equal(d.Hindrances(), []string{"CPUs", "clocksource", "TCP memory"}) || d.Well() {
		t.Errorf("%v, %q", want, d.Hindrances())
	}
	if d := Diagnose(Load{}, aMachine()); !d.Well() {
		t.Errorf("%q", d.Hindrances())
	}
}

func TestPorts(t *testing.T) {
	for _, c := range []struct {
		load Load
		m    *Machine
		want Ports
	}{
		{Load{}, aMachine(), Ports{Usable: 28232, Open: 28232}},
		{Load{For: Serve, NoKeepAlive: true}, aMachine(), Ports{Usable: 28232, Open: 28232}},
		{Load{NoKeepAlive: true}, aMachine(portRange + "=1000 1599"), Ports{Usable: 600, Open: 600, Hold: time.Minute, PerSecond: 10}},
		{Load{NoKeepAlive: true, Sources: 3}, aMachine(portRange + "=1000 1599"), Ports{Usable: 600, Open: 1800, Hold: time.Minute, PerSecond: 30}},
		{Load{NoKeepAlive: true, Sources: 3}, aMachine(portRange+"=1000 1599", maxTWBuckets+"=1799"), Ports{Usable: 600, Open: 1800, Hold: time.Minute, Overflows: true}},
		{Load{NoKeepAlive: true}, listening(aMachine(portRange+"=1000 1599", reservedPorts+"=900-1001,1500"), 1001, 1200, 80), Ports{Usable: 596, Open: 596, Hold: time.Minute, PerSecond: 596. / 60}},
		{Load{}, aMachine(portRange + "=1000 1098"), Ports{Usable: 98, Open: 98}}, // an odd number
		{Load{}, aMachine(portRange + "=1000 1000"), Ports{Usable: 1, Open: 1}},
		{Load{NoKeepAlive: true}, aMachine(portRange + "=absent"), Ports{Hold: time.Minute}},
		{Load{NoKeepAlive: true}, aMachine(portRange + "=9 5"), Ports{Hold: time.Minute}},
	} {
		if got := PortsFor(c.load.Complete(), c.m); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.load, got, c.want)
		}
	}
}

func TestPortSet(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "8080": "8080", "1,2,3": "1-3", "65535,65533-65534": "65533-65535", " 7 , 5-6,x,9-z,70000": "5-7",
	} {
		var s portSet
		s.parse(in)
		if got := s.String(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The knobs that help are one advice together: each alone would not do.
func TestChurnKnobs(t *testing.T) {
	for _, c := range []struct {
		what string
		rate float64
		m    *Machine
		want string
	}{
		{"reuse will do", 5000, aMachine(), "set tcp_tw_reuse=1"},
		{"reuse and more ports", 30_000, aMachine(), "set tcp_tw_reuse=1 and widen ip_local_port_range"},
		{"no timestamps", 5000, aMachine(timestamps + "=0"), "set tcp_timestamps=1 and set tcp_tw_reuse=1"},
		{"not far enough", 90_000, aMachine(twReuse + "=1"), "widen ip_local_port_range (which gives 55,296/s)"},
		{"nothing is left to do", 90_000, aMachine(twReuse+"=1", portRange+"=1024 65535"), ""},
	} {
		if got := churnKnobs(Load{NoKeepAlive: true, Rate: c.rate}.Complete(), c.m); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
