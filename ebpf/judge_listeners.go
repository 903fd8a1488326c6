package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"hotlap/ebpf/internal/prog"
)

// listeners are those of the run's targets: of sockets that share an address
// only the sum, as their connections are known only together.
func (w *weighing) listeners() (own []Listener) {
	shared := map[place]bool{}
	for _, l := range w.delta.Shared {
		shared[place{l.Netns, l.Addr}] = true
		own = append(own, l)
	}
	for _, l := range w.delta.Listeners {
		if !shared[place{l.Netns, l.Addr}] {
			own = append(own, l)
		}
	}
	return slices.DeleteFunc(own, func(l Listener) bool {
		return !slices.ContainsFunc(w.c.Targets, func(t netip.AddrPort) bool { return takes(w.delta.Listeners, &l, unmapped(t)) })
	})
}

// takes says whether a listener, which is one of all or a sum of some, gets the
// connects to an address: no other one that is open is nearer to it.
func takes(all []Listener, l *Listener, to netip.AddrPort) bool {
	near := nearness(l.Addr, to)
	return near > 0 && !slices.ContainsFunc(all, func(other Listener) bool {
		return !other.Closed && other.Netns == l.Netns && nearness(other.Addr, to) > near
	})
}

// nearness is by what a kernel with several sockets on a port chooses between them: 0
// is never. On [::] one may take IPv4 too, if none on 0.0.0.0 does.
func nearness(listen, to netip.AddrPort) int {
	switch on := listen.Addr(); {
	case listen.Port() != to.Port():
		return 0
	case on == to.Addr():
		return 3
	case on.IsUnspecified() && on.Is4() == to.Addr().Is4():
		return 2
	case on.IsUnspecified() && on.Is6():
		return 1
	}
	return 0
}

func (w *weighing) listener(l *Listener) {
	var connections int64
	if n := count(l.Counts, AcceptOverflows); n > 0 {
		if connections = count(l.Counts, AcceptOverflowConnections); connections == 0 {
			connections = fewest(n)
		}
		where, limit := w.which(l)
		w.add(Finding{
			Code: "accept_overflow", Subject: fmt.Sprintf("listen queue of %v", l.Addr), Count: n, Affected: connections,
			Evidence: fmt.Sprintf("it overflowed%s: %d segments, %s, at its limit of %d", where, n, atLeast(connections, l.Counts, AcceptOverflowConnections), limit),
			Advice:   "raise somaxconn and the server's backlog; `hotlap tune verify somaxconn` shows the effect",
			Source:   "sock_diag",
		}, BoundServer, w.refusedFor(l))
	}
	if n := count(l.Counts, SYNDrops); n > 0 {
		lost := w.unanswered(l) - connections
		if lost <= 0 {
			lost = fewest(n)
		}
		w.add(Finding{
			Code: "syn_drops", Subject: fmt.Sprintf("SYN queue of %v", l.Addr), Count: n, Affected: lost,
			Evidence: fmt.Sprintf("it refused %d segments, %s, and not because its listen queue was full", n, atLeast(lost, w.delta.Total, ConnectsUnanswered)),
			Advice:   "leave net.ipv4.tcp_syncookies at 1, or raise net.ipv4.tcp_max_syn_backlog and the server's backlog",
			Source:   "sock_diag",
		}, BoundServer, w.synTimeout())
	}
	// Those of an overflow at the last ACK are counted there.
	if n := count(l.Counts, SYNACKRetransmitSockets); n > 0 && connections == 0 {
		w.add(Finding{
			Code: "synack_retransmits", Subject: fmt.Sprintf("handshakes at %v", l.Addr), Count: count(l.Counts, SYNACKRetransmits), Affected: n,
			Evidence: fmt.Sprintf("%d SYN-ACKs of %d connections were sent again: they, or the ACKs to them, were lost", count(l.Counts, SYNACKRetransmits), n),
			Advice:   adviceLoss, Source: prog.RetransmitSynack,
		}, BoundPath, 0)
	}
}

// which says how many of the sockets that share an address overflowed, and the limit
// of one that did.
func (w *weighing) which(sum *Listener) (where string, limit uint32) {
	sockets, full := 0, 0
	limit = sum.Limit
	for _, l := range w.delta.Listeners {
		if l.Netns == sum.Netns && l.Addr == sum.Addr {
			sockets++
			if l.Counts[AcceptOverflows] > 0 {
				full++
				limit = l.Limit
			}
		}
	}
	if sockets < 2 {
		return "", limit
	}
	return fmt.Sprintf(" at %d of its %d sockets", full, sockets), limit
}

// fewest is of how many connections so many refused segments are at least. By the
// kernel's defaults one sends 11 SYNs, or its data, which come in place of the
// last ACK, 16 times, and an ACK to each of 6 SYN-ACKs.
func fewest(segments int64) int64 {
	const most = 32
	return (segments + most - 1) / most
}

func atLeast(connections int64, counts Counts, exact Counter) string {
	if counts[exact] == uint64(connections) {
		return fmt.Sprintf("%d connections", connections)
	}
	return fmt.Sprintf("at least %d connections", connections)
}

// synTimeout is how much later a connection is made if its first SYN is lost.
func (w *weighing) synTimeout() time.Duration {
	if len(w.delta.SYNTimeouts) > 0 {
		return w.delta.SYNTimeouts[0]
	}
	return synTimeout
}

// dataTimeout is the shortest time after which data is sent again
// (include/net/tcp.h: TCP_RTO_MIN).
const dataTimeout = 200 * time.Millisecond

// refusedFor is how much later a connection is made, at least, that an accept
// queue had no room for: some came with their last ACK, and the first data.
func (w *weighing) refusedFor(l *Listener) time.Duration {
	if count(l.Counts, Drops) > 0 {
		return dataTimeout
	}
	return w.synTimeout()
}

// unanswered are the connects to a listener whose first SYN got no answer.
func (w *weighing) unanswered(l *Listener) (n int64) {
	for i := range w.delta.Destinations {
		if t := &w.delta.Destinations[i]; t.Netns == l.Netns && takes(w.delta.Listeners, l, t.Addr) && w.c.isTarget(t.Addr) {
			n += count(t.Counts, ConnectsUnanswered)
		}
	}
	return n
}

// refusals are what listening sockets of this machine refused of the segments to
// an address. They are not known if none of them listens there.
func (w *weighing) refusals(at netip.AddrPort) (n int64, known bool) {
	for i := range w.delta.Listeners {
		l := &w.delta.Listeners[i]
		if _, polled := l.Counts.Get(ListenDrops); polled && takes(w.delta.Listeners, l, at) {
			n += count(l.Counts, ListenDrops)
			known = true
		}
	}
	return n, known
}
