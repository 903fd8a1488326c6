package ebpf

import (
	"net/netip"
	"time"

	"hotlap/ebpf/internal/diag"
)

// evidence is the TCP_INFO of the clients' sockets that are open.
type evidence struct {
	open     map[netip.AddrPort]*Evidence // nil: not known
	moved    uint64                       // connects, and sockets whose totals the BPF programs had then
	at       time.Time                    // it was read
	took     time.Duration                // of CPU, to read it
	snapshot []diag.Socket
}

// Reading TCP_INFO takes 2 ms and more, as the kernel walks its whole table: 5 ms
// with 6000 sockets. So it is not done at every sample, but where all is asked for.
const (
	evidenceShare      = 400 // at most one part of so many of the time goes into it,
	evidenceShareMoved = 50  // or of so many, where sockets came or went since
)

// readEvidence sums up TCP_INFO by destination, of the sockets in scope that
// connected: those whose own port nobody listens on. The totals of sockets that
// are closed are the programs': those that were closed since the last reading
// must not be counted in both.
func (w *watcher) readEvidence(moved uint64, all bool) {
	e := &w.evidence
	since, began := time.Since(e.at), threadCPU()
	switch other := moved != e.moved; {
	case w.sockets == nil:
		return
	case all, since >= evidenceShare*e.took, other && since >= evidenceShareMoved*e.took:
	case other:
		e.open = nil
		return
	default:
		return
	}
	sockets, err := w.sockets.Sockets(e.snapshot[:0], w.evidenceFilter())
	if w.failed[2] = err; err != nil {
		e.open = nil
		return
	}
	e.snapshot, e.moved, e.open = sockets, moved, map[netip.AddrPort]*Evidence{}
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
	e.at, e.took = time.Now(), threadCPU()-began
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
	d.Duplicates += uint64(s.Info.Dsack_dups)
	d.SendLimited += time.Duration(s.Info.Sndbuf_limited) * time.Microsecond
}

// shorter returns the shorter of two times, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
