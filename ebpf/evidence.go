package ebpf

import (
	"net/netip"
	"time"

	"hotlap/ebpf/internal/diag"
)

// evidence is the TCP_INFO of the clients' sockets that are open.
type evidence struct {
	open     map[netip.AddrPort]*Evidence
	next     time.Time // not to be read again before
	snapshot []diag.Socket
}

// Reading TCP_INFO takes 5 ms for 6000 sockets, and a machine may have more.
// Where it takes longer than evidenceFree it takes at most one part in
// evidenceShare of the time, and the figures may be older than the sample.
const (
	evidenceFree  = 2 * time.Millisecond
	evidenceShare = 100
)

// readEvidence sums up TCP_INFO by destination, of the sockets in scope that
// connected: those whose own port nobody listens on.
func (w *watcher) readEvidence() {
	e := &w.evidence
	began := time.Now()
	if w.sockets == nil || began.Before(e.next) {
		return
	}
	sockets, err := w.sockets.Sockets(e.snapshot[:0], w.evidenceFilter())
	if w.failed[2] = err; err != nil {
		return
	}
	e.snapshot, e.open = sockets, map[netip.AddrPort]*Evidence{}
	if w.options.PID != 0 {
		if own, err := socketInodes(w.options.PID); err == nil {
			w.own = own
		}
	}
	served := map[uint16]bool{}
	for _, k := range w.queues.listeners {
		served[k.Addr.Port()] = true
	}
	for i := range sockets {
		s := &sockets[i]
		if served[s.Local.Port()] || s.InfoBytes == 0 || s.State == diag.Close || w.options.PID != 0 && !w.own[s.Inode] {
			continue
		}
		if w.portInScope(s.Local.Port()) || w.portInScope(s.Peer.Port()) {
			e.add(s)
		}
	}
	if took := time.Since(began); took > evidenceFree {
		e.next = time.Now().Add(evidenceShare * took)
	}
}

// evidenceFilter lets the kernel leave out what it can.
func (w *watcher) evidenceFilter() diag.Filter {
	if len(w.options.Ports) == 1 {
		return diag.Filter{PeerPort: w.options.Ports[0]}
	}
	return diag.Filter{}
}

// noRTT is tcpi_min_rtt before anything was measured.
const noRTT = ^uint32(0)

func (e *evidence) add(s *diag.Socket) {
	to := unmapped(s.Peer)
	d := e.open[to]
	if d == nil {
		d = &Evidence{}
		e.open[to] = d
	}
	d.Open++
	if s.State == diag.Established && s.Info.Total_retrans == 0 {
		d.Clean++
	}
	if s.Info.Min_rtt != noRTT {
		d.MinRTT = shorter(d.MinRTT, time.Duration(s.Info.Min_rtt)*time.Microsecond)
	}
	d.Busy += time.Duration(s.Info.Busy_time) * time.Microsecond
	d.ReceiveLimited += time.Duration(s.Info.Rwnd_limited) * time.Microsecond
	d.SendLimited += time.Duration(s.Info.Sndbuf_limited) * time.Microsecond
}

// shorter returns the shorter of two times, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
