package ebpf

import "slices"

// affected says how many connections the overflows of accept queues touched:
// those whose SYN was not answered, and those whose last ACK was refused. That is
// known only where the clients are in scope, and of sockets that share an
// address only together.
func (c *collection) affected() {
	c.Shared = []Listener{}
	groups := map[place][]*Listener{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		at := place{l.Netns, l.Addr}
		groups[at] = append(groups[at], l)
	}
	known := true // of all that overflowed
	var connections uint64
	for _, group := range groups {
		one := group[0]
		if len(group) > 1 {
			c.Shared = append(c.Shared, together(group))
			one = &c.Shared[len(c.Shared)-1]
		}
		if one.Counts[AcceptOverflows] == 0 {
			continue
		}
		n, its := c.resent(one)
		if its {
			one.Counts[AcceptOverflowConnections] = n
			connections += n
		}
		known = known && its
	}
	if known && connections > 0 {
		c.Total[AcceptOverflowConnections] = connections
	}
	slices.SortFunc(c.Shared, func(a, b Listener) int { return byPlace(a.Netns, b.Netns, a.Addr, b.Addr) })
}

// together is the sum of listeners that share an address.
func together(group []*Listener) Listener {
	sum := Listener{Addr: group[0].Addr, Netns: group[0].Netns, Closed: true, PeakExact: true, Counts: Counts{}, Reasons: Reasons{}}
	for _, l := range group {
		if !l.Closed {
			sum.Closed = false
			sum.Queue += l.Queue
			sum.Limit += l.Limit + 1
		}
		for k, n := range l.Counts {
			sum.Counts[k] += n
		}
		for k, reasons := range l.Reasons {
			for reason, n := range reasons {
				sum.Reasons.add(k, reason, n)
			}
		}
		sum.Peak = max(sum.Peak, l.Peak)
		sum.PeakExact = sum.PeakExact && l.PeakExact
	}
	sum.Limit -= min(sum.Limit, 1) // Limit + 1 fit
	return sum
}

// resent counts the connections to a listener's address whose handshake had to
// be repeated, if clients in scope connect to it. Where the last ACK was refused,
// and the first data with it, that is sent again, and after a second the SYN-ACK.
// Refused SYNs are no drops, so the drops of the listener are these.
func (c *collection) resent(l *Listener) (n uint64, known bool) {
	atLast := l.Counts[SYNACKRetransmitSockets]
	first := uint64(0)
	for i := range c.Destinations {
		d := &c.Destinations[i]
		if lost, counted := d.Counts.Get(ConnectsUnanswered); counted && d.Netns == l.Netns && takes(c.Listeners, l, d.Addr) {
			n += lost
			first += d.Counts[FirstUnanswered]
			known = known || d.Counts[Connects] > 0
		}
	}
	drops, seen := l.Counts.Get(Drops)
	return n + max(atLast, min(first, drops)), known && (seen || first == 0)
}
