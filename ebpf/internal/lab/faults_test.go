package lab

import (
	"net/netip"
	"testing"
	"time"

	"hotlap/ebpf/internal/procfs"
)

func TestFaults(t *testing.T) {
	for _, f := range Faults() {
		t.Run(f.Name, func(t *testing.T) {
			ns := namespace(t)
			check(t, f.Counters, counters(t, ns), func() (*Provoked, error) { return f.Inject(ns) })
		})
	}
}

// The injectors that look at packets or buffers do the same over IPv6.
func TestFaultsIPv6(t *testing.T) {
	for name, c := range map[string]struct {
		counter procfs.Counter
		inject  func(*Namespace) (*Provoked, error)
	}{
		"final ACK":      {procfs.ListenOverflows, func(ns *Namespace) (*Provoked, error) { return ns.FinalACKOverflow(ipv6, 2, 8) }},
		"SYN queue":      {procfs.TCPReqQFullDrop, func(ns *Namespace) (*Provoked, error) { return ns.SYNQueueFull(ipv6, false, 4, 8) }},
		"cookies":        {procfs.SyncookiesSent, func(ns *Namespace) (*Provoked, error) { return ns.SYNQueueFull(ipv6, true, 4, 8) }},
		"reuseport":      {procfs.ListenOverflows, func(ns *Namespace) (*Provoked, error) { return ns.ReuseportOverflow(ipv6, 2, 8) }},
		"backlog":        {procfs.TCPBacklogDrop, func(ns *Namespace) (*Provoked, error) { return ns.BacklogDrops(ipv6) }},
		"receive buffer": {procfs.TCPRcvQDrop, func(ns *Namespace) (*Provoked, error) { return ns.ReceiveBufferDrops(ipv6, 3) }},
		"client backlog": {procfs.TCPBacklogDrop, func(ns *Namespace) (*Provoked, error) { return ns.ClientBacklogDrops(ipv6) }},
		"client buffer":  {procfs.TCPRcvQDrop, func(ns *Namespace) (*Provoked, error) { return ns.ClientReceiveBufferDrops(ipv6, 3) }},
		"refused":        {procfs.OutRsts, func(ns *Namespace) (*Provoked, error) { return ns.Refused(ipv6, 5) }},
		"reset":          {procfs.OutRsts, func(ns *Namespace) (*Provoked, error) { return ns.Resets(ipv6, 5) }},
		"data":           {procfs.RetransSegs, func(ns *Namespace) (*Provoked, error) { return ns.LostData(ipv6, 2) }},
		"TIME_WAIT":      {procfs.TCPTimeWaitOverflow, func(ns *Namespace) (*Provoked, error) { return ns.TimeWaitOverflow(ipv6, 2, 5) }},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			check(t, []procfs.Counter{c.counter}, counters(t, ns), func() (*Provoked, error) { return c.inject(ns) })
		})
	}
	t.Run("ports", func(t *testing.T) {
		ns := namespace(t)
		check(t, nil, counters(t, ns), func() (*Provoked, error) { return ns.PortExhaustion(ipv6, 10, 5) })
	})
	t.Run("port in use", func(t *testing.T) {
		ns := namespace(t)
		check(t, nil, counters(t, ns), func() (*Provoked, error) { return ns.PortsTaken(ipv6, 5) })
	})
}

func TestReceiveCollapse(t *testing.T) {
	for name, address := range map[string]netip.Addr{"IPv4": ipv4, "IPv6": ipv6} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			check(t, []procfs.Counter{procfs.PruneCalled}, counters(t, ns), func() (*Provoked, error) {
				return ns.ReceiveCollapse(address, 5)
			})
		})
	}
}

func TestQdiscDrops(t *testing.T) {
	for name, address := range map[string]netip.Addr{"IPv4": ipv4, "IPv6": ipv6} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			r := counters(t, ns)
			before := read(t, r)
			p, err := ns.QdiscDrops(address, 7)
			if err != nil {
				t.Fatal(err)
			}
			// The loopback device had no discipline before: its count begins with the fault.
			if _, ok := before.Get(procfs.QdiscDrops); !ok {
				t.Error("the count is absent before")
			}
			if n, ok := read(t, r).Get(procfs.QdiscDrops); n != p.Events || n != 7 || !ok {
				t.Errorf("%d drops, provoked %d", n, p.Events)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			l, err := ns.Listen(netip.AddrPortFrom(address, 0), 1)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := ns.Connect(l.Local())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(make([]byte, 10_000)); err != nil {
				t.Error(err)
			}
			if err := c.acknowledged(); err != nil {
				t.Errorf("after Close data still does not pass: %v", err)
			}
		})
	}
}

func TestSendBufferFull(t *testing.T) {
	for name, address := range map[string]netip.Addr{"IPv4": ipv4, "IPv6": ipv6} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			r := counters(t, ns)
			p, err := ns.SendBufferFull(address, func(held time.Duration) bool { return held >= 50*time.Millisecond })
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if n, _ := read(t, r).Get(procfs.RetransSegs); n != 0 {
				t.Errorf("%d segments were sent again: not by the buffer alone was it held up", n)
			}
		})
	}
}
