package ebpf

import "net/netip"

// Sub returns what happened between two Samples of one Observer. Present values
// (queues, limits, gauges, open sockets) are those of after; peaks and shortest round trips
// are since Open, as they cannot be taken apart. It is pure.
func Sub(after, before Sample) Sample {
	d := after
	d.Elapsed = after.Elapsed - before.Elapsed
	d.Total = after.Total.minus(before.Total)
	d.Reasons = after.Reasons.minus(before.Reasons)
	d.Namespace = after.Namespace.minus(before.Namespace)
	d.Host = after.Host.minus(before.Host)
	d.Lost = after.Lost.minus(before.Lost)
	d.Cost = after.Cost.minus(before.Cost)

	d.Listeners, d.Shared = subListeners(after.Listeners, before.Listeners), subListeners(after.Shared, before.Shared)
	servers := map[place]Server{}
	for _, s := range before.Servers {
		servers[place{s.Netns, s.Addr}] = s
	}
	d.Servers = make([]Server, len(after.Servers))
	for i, s := range after.Servers {
		was := servers[place{s.Netns, s.Addr}]
		s.Counts, s.Reasons = s.Counts.minus(was.Counts), s.Reasons.minus(was.Reasons)
		d.Servers[i] = s
	}
	destinations := map[place]Destination{}
	for _, t := range before.Destinations {
		destinations[place{t.Netns, t.Addr}] = t
	}
	d.Destinations = make([]Destination, len(after.Destinations))
	for i, t := range after.Destinations {
		was := destinations[place{t.Netns, t.Addr}]
		t.Counts, t.Reasons = t.Counts.minus(was.Counts), t.Reasons.minus(was.Reasons)
		t.ConnectLatency = t.ConnectLatency.minus(&was.ConnectLatency)
		if _, there := destinations[place{t.Netns, t.Addr}]; there && was.TCP == nil {
			t.TCP = nil // what of it is new is not known
		}
		t.TCP = t.TCP.minus(was.TCP)
		d.Destinations[i] = t
	}
	d.Examples = nil
	for _, e := range after.Examples {
		if e.At.After(before.At) {
			d.Examples = append(d.Examples, e)
		}
	}
	return d
}

func subListeners(after, before []Listener) []Listener {
	type key struct {
		cookie uint64
		at     place // of sums, which have no cookie
	}
	keyOf := func(l *Listener) key { return key{l.Cookie, place{l.Netns, l.Addr}} }
	listeners := map[key]*Listener{}
	for i := range before {
		listeners[keyOf(&before[i])] = &before[i]
	}
	d := make([]Listener, len(after))
	for i, l := range after {
		if was := listeners[keyOf(&l)]; was != nil {
			l.Counts, l.Reasons = l.Counts.minus(was.Counts), l.Reasons.minus(was.Reasons)
		}
		d[i] = l
	}
	return d
}

// place is an address in a network namespace.
type place struct {
	netns uint32
	addr  netip.AddrPort
}

func (e *Evidence) minus(before *Evidence) *Evidence {
	if e == nil || before == nil {
		return e
	}
	d := *e
	d.Closed -= min(d.Closed, before.Closed)
	d.Busy -= min(d.Busy, before.Busy)
	d.ReceiveLimited -= min(d.ReceiveLimited, before.ReceiveLimited)
	d.Duplicates -= min(d.Duplicates, before.Duplicates)
	d.SendLimited -= min(d.SendLimited, before.SendLimited)
	return &d
}

func (c Cost) minus(before Cost) Cost {
	c.CPU -= before.CPU
	if c.BPF != nil && before.BPF != nil {
		runs, spent := *c.BPFRuns-*before.BPFRuns, *c.BPF-*before.BPF
		c.BPFRuns, c.BPF = &runs, &spent
	}
	return c
}
