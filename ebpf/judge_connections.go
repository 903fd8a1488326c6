package ebpf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"hotlap/ebpf/internal/prog"
)

// A plain fault is one counter of the sockets of a server or to a destination.
type plain struct {
	code    string
	counter Counter
	blames  Bound
	says    string // after the number
	advice  string
	source  string
}

const (
	adviceBacklog = "let the reading end read sooner: it held its socket while segments arrived; larger receive buffers (net.ipv4.tcp_rmem) hold more"
	adviceReceive = "raise net.ipv4.tcp_rmem, and net.ipv4.tcp_mem if the machine is short of it, or let the reading end read faster"
	advicePorts   = "keep connections alive, or widen net.ipv4.ip_local_port_range; `hotlap tune verify ip_local_port_range` shows the effect"
	adviceFull    = "there, raise somaxconn and the server's backlog; look at its ListenOverflows (nstat)"
	adviceLoss    = "look for what drops packets on the way: devices, queueing disciplines, firewalls, and the findings of the namespace and the host"
)

// What happens at the server's end is the server's, at the client's the client's.
var (
	ofServer = []plain{
		{"backlog_drops", BacklogDrops, BoundServer, "segments were dropped: the backlog of the server's sockets was full", adviceBacklog, prog.KfreeSkb},
		{"receive_buffer_drops", ReceiveBufferDrops, BoundServer, "segments were dropped: the receive buffers of the server's sockets were full", adviceReceive, prog.KfreeSkb},
	}
	ofDestination = []plain{
		{"ports_exhausted", PortsExhausted, BoundClient, "connects found no free local port", advicePorts, prog.SetState},
		{"ports_taken", PortsTaken, BoundClient, "connects were from a local port whose connection to there was still in use",
			"give the client more source ports or addresses", prog.SetState},
		{"client_backlog_drops", BacklogDrops, BoundClient, "segments were dropped: the backlog of the client's sockets was full", adviceBacklog, prog.KfreeSkb},
		{"client_receive_buffer_drops", ReceiveBufferDrops, BoundClient, "segments were dropped: the receive buffers of the client's sockets were full", adviceReceive, prog.KfreeSkb},
	}
)

func (w *weighing) plain(faults []plain, counts Counts, subject string) {
	for _, p := range faults {
		if n := count(counts, p.counter); n > 0 {
			w.add(Finding{
				Code: p.code, Subject: subject, Count: n, Affected: n,
				Evidence: fmt.Sprintf("%d %s", n, p.says), Advice: p.advice, Source: p.source,
			}, p.blames, 0)
		}
	}
}

func (w *weighing) server(s *Server) {
	subject := fmt.Sprintf("connections of %v", s.Addr)
	w.plain(ofServer, s.Counts, subject)
	w.retransmits(subject, "responses", count(s.Counts, Retransmits), w.reachedClients(s.Addr))
	w.otherDrops(subject, s.Counts, s.Reasons)
}

func (w *weighing) destination(t *Destination) {
	subject := fmt.Sprintf("connections to %v", t.Addr)
	w.plain(ofDestination, t.Counts, subject)
	w.failures(t)
	w.notAnswered(t)
	arrived := w.reachedServer(t.Addr)
	if t.TCP != nil {
		arrived = max(arrived, int64(t.TCP.Duplicates))
	}
	if !w.notTaken(t, arrived) {
		w.retransmits(subject, "requests", count(t.Counts, Retransmits), arrived)
	}
	w.resets(t)
	w.limited(t)
	w.searched(t)
	w.roundTrip(t)
	w.otherDrops(subject, t.Counts, t.Reasons)
}

const connectsRefused = "connects_refused"

// failures are connects that ended with an error. Those that nobody answered
// are not answered.
func (w *weighing) failures(t *Destination) {
	reasons := t.Reasons[ConnectFailures]
	if n := int64(reasons["ECONNREFUSED"]); n > 0 {
		w.add(Finding{
			Code: connectsRefused, Subject: fmt.Sprintf("connects to %v", t.Addr), Count: n, Affected: n,
			Evidence: fmt.Sprintf("%d connects were refused: their SYN was answered with an RST", n),
			Advice:   "see that a server listens there and no firewall rejects", Source: prog.SetState,
		}, BoundServer, 0)
	}
	for _, errno := range slices.Sorted(maps.Keys(reasons)) {
		switch errno {
		case "ECONNREFUSED", "ETIMEDOUT", "given up":
			continue
		}
		n := int64(reasons[errno])
		w.add(Finding{
			Code: "connects_failed", Subject: fmt.Sprintf("connects to %v", t.Addr), Count: n, Affected: n,
			Evidence: fmt.Sprintf("%d connects failed with %s", n, errno), Advice: "see that there is a route and no firewall rejects", Source: prog.SetState,
		}, BoundPath, 0)
	}
}

// notAnswered: a SYN that gets no answer was lost on the path, or a full queue
// threw it away, which the client cannot tell. It can be told where the server is
// on this machine, or by connections to it that lose nothing.
func (w *weighing) notAnswered(t *Destination) {
	n := count(t.Counts, ConnectsUnanswered)
	if n == 0 {
		return
	}
	f := Finding{
		Code: "connects_unanswered", Subject: fmt.Sprintf("connects to %v", t.Addr), Count: n, Affected: n,
		Source: prog.RetransmitSkb + ", " + prog.SetState, Sure: Inferred, Advice: adviceLoss,
	}
	blames, why := BoundUnknown, "path loss or a full queue at the server, not distinguishable"
	refused, known := w.refusals(t.Addr)
	switch {
	case refused > 0:
		return // those are the listener's
	case known:
		blames, why = BoundPath, "path loss, as the listener on this machine refused nothing"
	case lostData(t):
		blames, why = BoundPath, "path loss, as established connections to it lost segments too"
	case w.quiet(t, n):
		blames, why = BoundServer, "a full queue at the server, as established connections to it lost nothing"
		f.Advice = adviceFull
	}
	f.Evidence = fmt.Sprintf("%d of %d first SYNs got no answer: %s", n, count(t.Counts, Connects), why)
	w.add(f, blames, w.synTimeout())
}

// lostData says that connections that the server had taken sent data again. Those
// whose first data got no answer it may not have taken: a client that sends its
// handshake's last ACK with the request has that refused by a full accept queue.
func lostData(t *Destination) bool {
	first := count(t.Counts, FirstUnanswered)
	return count(t.Counts, Retransmits) > 0 && (first == 0 || count(t.Counts, RetransmitSockets) > first+count(t.Counts, ConnectsUnanswered))
}

// notTaken is the finding for such connections, where no others sent data again,
// and the listener cannot be asked.
func (w *weighing) notTaken(t *Destination, arrived int64) bool {
	segments, n := count(t.Counts, Retransmits), count(t.Counts, FirstUnanswered)
	_, known := w.refusals(t.Addr)
	if known || n == 0 || segments <= arrived || lostData(t) {
		return false
	}
	f := Finding{
		Code: "first_data_unanswered", Subject: fmt.Sprintf("connections to %v", t.Addr), Count: n, Affected: min(n, segments-arrived),
		Source: prog.RetransmitSkb, Sure: Inferred, Advice: adviceLoss,
	}
	blames, why := BoundUnknown, "path loss or a full accept queue at the server, not distinguishable"
	if w.quiet(t, n) {
		blames, why = BoundServer, "a full accept queue at the server, as established connections to it lost nothing"
		f.Advice = adviceFull
	}
	f.Evidence = fmt.Sprintf("the first data of %d of %d connections was sent again, as none was acknowledged: %s", n, count(t.Counts, Connects), why)
	w.add(f, blames, dataTimeout)
	return true
}

// quiet says that established connections retransmitted nothing, though they sent
// so much that they would have, had the path lost their segments as it lost SYNs.
func (w *weighing) quiet(t *Destination, unanswered int64) bool {
	if lostData(t) || t.TCP == nil || t.TCP.Clean == 0 {
		return false
	}
	answered := w.c.Requests - w.c.Failed
	connects := max(1, count(t.Counts, Connects))
	return float64(unanswered)/float64(connects)*float64(answered) >= quietAfter
}

// atSocket are the reasons for which a socket drops a segment that reached it: it
// was sent again for that, or though it had arrived. The path lost none of these.
var atSocket = []string{
	"SOCKET_BACKLOG", "SOCKET_RCVBUFF", "PROTO_MEM", "SOCKET_FILTER", "TCP_ZEROWINDOW", "TCP_OVERWINDOW",
	"TCP_OLD_DATA", "TCP_OFOMERGE", "TCP_OFO_QUEUE_PRUNE",
}

func reached(reasons Reasons) (n int64) {
	for _, reason := range atSocket {
		n += int64(reasons[Drops][reason])
	}
	return n
}

// retransmits are the path's fault, but for segments that did reach the other
// end's sockets.
func (w *weighing) retransmits(subject, what string, n, arrived int64) {
	lost := n - arrived
	if lost <= 0 {
		return
	}
	w.add(Finding{
		Code: "retransmits", Subject: subject, Count: n, Affected: lost,
		Evidence: fmt.Sprintf("%d segments of %s were sent again, %d of them not seen to have reached the other end", n, what, lost),
		Advice:   adviceLoss, Source: prog.RetransmitSkb,
	}, BoundPath, 0)
}

func (w *weighing) reachedServer(at netip.AddrPort) (n int64) {
	for i := range w.delta.Servers {
		if s := &w.delta.Servers[i]; s.Addr == at {
			n += reached(s.Reasons)
		}
	}
	refused, _ := w.refusals(at) // a request that came where the last ACK did not
	for i := range w.delta.Destinations {
		if t := &w.delta.Destinations[i]; t.Addr == at {
			refused -= count(t.Counts, SYNRetransmits) // those were SYNs
		}
	}
	return n + max(0, refused) + w.unattributed()
}

func (w *weighing) reachedClients(at netip.AddrPort) (n int64) {
	for i := range w.delta.Destinations {
		if t := &w.delta.Destinations[i]; t.Addr == at {
			n += reached(t.Reasons)
		}
	}
	return n + w.unattributed()
}

// unattributed are segments that sockets of the namespace dropped, where the kernel
// does not tell which.
func (w *weighing) unattributed() (n int64) {
	for _, k := range []Counter{BacklogDrops, ReceiveBufferDrops} {
		if _, known := w.delta.Total.Get(k); known {
			continue
		}
		for _, wide := range wider[k] {
			n += count(w.delta.Namespace, Counter(wide.String()))
		}
	}
	return n
}

// resets came to connections that were made. One that the client had closed
// already touches no request.
func (w *weighing) resets(t *Destination) {
	n, open := int64(0), int64(0)
	for state, times := range t.Reasons[RSTsIn] {
		switch state {
		case "SYN_SENT": // refused
			continue
		case "ESTABLISHED", "CLOSE_WAIT":
			open += int64(times)
		}
		n += int64(times)
	}
	if n == 0 {
		return
	}
	f := Finding{
		Code: "resets", Subject: fmt.Sprintf("connections to %v", t.Addr), Count: n, Affected: open, Source: prog.ReceiveReset,
		Evidence: fmt.Sprintf("%d were reset by the other end, %d of them while they were open", n, open),
		Advice:   "look why the server, or something before it, closes connections by force",
	}
	for i := range w.delta.Servers {
		if s := &w.delta.Servers[i]; s.Addr == t.Addr && len(s.Reasons[RSTsOut]) > 0 {
			f.Evidence += "; the server's kernel says why: " + reasonsText(s.Reasons[RSTsOut])
		}
	}
	w.add(f, BoundServer, 0)
}

// limited is the time in which connections had something to send and could not.
// A server that does not read is what is measured; a client without room to
// send is not.
func (w *weighing) limited(t *Destination) {
	if t.TCP == nil || w.c.Elapsed <= 0 {
		return
	}
	sockets := max(1, min(w.c.Connections, t.TCP.Open+int(t.TCP.Closed)))
	all := w.c.Elapsed * time.Duration(sockets)
	add := func(code string, held time.Duration, blames Bound, says, advice string) {
		share := min(1, ratio(held, all))
		if share < worthSaying {
			return
		}
		w.list = append(w.list, Finding{
			Code: code, Subject: fmt.Sprintf("connections to %v", t.Addr), Affected: int64(share * float64(w.c.Requests)),
			Evidence: fmt.Sprintf("for %.1f %% of the time of %d connections %s", 100*share, sockets, says), Advice: advice,
			Source: "TCP_INFO", Scope: ScopeSocket, Sure: Measured,
			Spoils: blames == BoundClient && share >= starved, blames: blames,
		})
	}
	add("receive_limited", t.TCP.ReceiveLimited, BoundServer, "the server's receive window was full: it did not read what was sent", "look at the server, or raise its net.ipv4.tcp_rmem")
	add("send_limited", t.TCP.SendLimited, BoundClient, "the client's send buffer was full", "raise the maximum of net.ipv4.tcp_wmem on the client")
}

// searched is the time that connects spent in search of a free local port, on the
// client's loops: with half of a range in use it grows a hundredfold, and no
// counter of the kernel tells. Deep mode.
func (w *weighing) searched(t *Destination) {
	took := time.Duration(t.Counts[PortSearchNs])
	share := ratio(took, w.c.Elapsed*time.Duration(max(1, len(w.c.Busy))))
	if share < worthSaying {
		return
	}
	n := count(t.Counts, PortSearches)
	w.list = append(w.list, Finding{
		Code: "port_search", Subject: fmt.Sprintf("connects to %v", t.Addr), Count: n, Affected: min(n, w.c.Requests),
		Evidence: fmt.Sprintf("%d searches for a free local port took %v, which is %.1f %% of the client's time", n, took.Round(time.Microsecond), 100*share),
		Advice:   advicePorts, Source: prog.PortSearch, Scope: ScopeSocket, Sure: Measured, Spoils: share >= starved, blames: BoundClient,
	})
}

// roundTrip tells network and server apart, where there is a network.
func (w *weighing) roundTrip(t *Destination) {
	if w.c.Loopback || w.c.FirstByte <= 0 || t.TCP == nil || t.TCP.MinRTT == 0 {
		return
	}
	w.list = append(w.list, Finding{
		Code: "round_trip", Subject: fmt.Sprintf("connections to %v", t.Addr), Affected: w.c.Requests, Source: "TCP_INFO", Scope: ScopeSocket, Sure: Inferred,
		Evidence: fmt.Sprintf("the shortest round trip was %v of the %v to the first byte: no more than the rest is the server's", t.TCP.MinRTT, w.c.FirstByte),
		Advice:   "if the round trip is most of it, measure from nearer to the server",
	})
}

// otherDrops are listed with the kernel's reasons. Whether one mattered shows in
// a retransmit.
func (w *weighing) otherDrops(subject string, counts Counts, reasons Reasons) {
	n := count(counts, Drops) - count(counts, BacklogDrops) - count(counts, ReceiveBufferDrops)
	if n <= 0 {
		return
	}
	w.list = append(w.list, Finding{
		Code: "drops", Subject: subject, Count: n, Scope: ScopeSocket, Sure: Measured, Source: prog.KfreeSkb,
		Evidence: fmt.Sprintf("%d segments were dropped for other reasons; of all: %s", n, reasonsText(reasons[Drops])),
		Advice:   "TCP_OLD_DATA came twice and does no harm; the kernel's include/net/dropreason-core.h says what the others are",
	})
}
