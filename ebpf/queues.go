package ebpf

import (
	"fmt"
	"slices"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/procfs"
)

// queues are the listening sockets of the namespace, as they were last polled.
// Those that are out of scope are kept too: the kernel's counters are theirs as well.
type queues struct {
	listeners map[uint64]*queue // by cookie
	snapshot  []diag.Listener
	overflows uint64 // refused segments of the namespace that no listener was found for yet
	others    uint64 // those of another cause than a full accept queue
	round     uint64
}

type queue struct {
	Listener
	inode   uint32
	scoped  bool
	sought  bool   // its process was looked for
	drops   uint32 // sk_drops, as last read
	polled  uint64 // the round it was last seen in
	refused refused
}

// refused are segments that a listener refused.
type refused struct{ all, overflow, other uint64 }

func (q *queues) init() { q.listeners = map[uint64]*queue{} }

// maxClosed bounds the closed listeners that are remembered.
const maxClosed = 1024

// poll looks at the accept queues.
func (w *watcher) poll() {
	if w.sockets == nil {
		return
	}
	q := &w.queues
	if q.snapshot, w.failed[0] = w.sockets.Listeners(q.snapshot[:0]); w.failed[0] != nil {
		return
	}
	q.round++
	var dropped []*queue
	var drops []uint64
	for i := range q.snapshot {
		l := &q.snapshot[i]
		k := q.listeners[l.Cookie]
		if k == nil {
			k = w.found(l)
		}
		k.polled, k.Closed = q.round, false
		k.Queue, k.Limit, k.Peak = l.Queue, l.Limit, max(k.Peak, l.Queue)
		if n := l.Memory.Drops - k.drops; n > 0 { // modulo 2^32, as the kernel counts
			k.drops = l.Memory.Drops
			dropped, drops = append(dropped, k), append(drops, uint64(n))
		}
	}
	for _, k := range q.listeners {
		k.Closed = k.polled != q.round
	}
	if len(dropped) > 0 {
		w.readCounters()
	}
	for i, k := range dropped {
		q.attribute(k, drops[i])
	}
}

// found takes in a listener. What it had dropped before the observer was there
// does not count; a listener that came later starts at zero.
func (w *watcher) found(l *diag.Listener) *queue {
	k := &queue{inode: l.Inode, scoped: w.portInScope(l.Local.Port())}
	k.Cookie, k.Addr, k.Netns, k.Cgroup = l.Cookie, unmapped(l.Local), w.netns, l.Cgroup
	if w.queues.round == 1 {
		k.drops = l.Memory.Drops
	}
	if w.options.PID != 0 && k.scoped {
		k.scoped = w.isOwn(l.Inode)
	}
	if k.scoped && w.programs != nil {
		if err := w.programs.Serve(w.netns, k.Addr.Port()); err != nil {
			w.miss(fmt.Sprintf("that port %d is listened on", k.Addr.Port()), err.Error())
		}
	}
	if len(w.queues.listeners) >= maxClosed {
		w.queues.forgetClosed()
	}
	w.queues.listeners[l.Cookie] = k
	return k
}

func (q *queues) forgetClosed() {
	for cookie, k := range q.listeners {
		if k.Closed {
			delete(q.listeners, cookie)
		}
	}
}

// isOwn says whether a socket is one of the process's, which may have made it
// since it was last looked at.
func (w *watcher) isOwn(inode uint32) bool {
	if !w.own[inode] {
		if own, err := socketInodes(w.options.PID); err == nil {
			w.own = own
		}
	}
	return w.own[inode]
}

func (w *watcher) portInScope(port uint16) bool {
	return len(w.options.Ports) == 0 || slices.Contains(w.options.Ports, port)
}

// readCounters reads the kernel's counters, and what they say of refused segments.
func (w *watcher) readCounters() {
	before := w.now
	if w.failed[1] = w.counters.Read(&w.now); w.failed[1] != nil {
		w.now = before
		return
	}
	d := procfs.Sub(&w.now, &before)
	all, _ := d.Get(procfs.ListenDrops)
	overflows, _ := d.Get(procfs.ListenOverflows)
	w.queues.overflows += overflows
	w.queues.others += all - min(all, overflows)
}

// attribute says of segments that a listener refused why it did. The socket
// counts them all in one, and twice where it was a handshake's last ACK; the
// namespace counts full accept queues apart.
// Where there were both, a listener whose queue is full refused for that.
func (q *queues) attribute(k *queue, drops uint64) {
	overflow := min(drops, q.overflows)
	if q.others > 0 && k.Queue <= k.Limit {
		overflow = min(overflow, drops-min(drops, q.others))
	}
	other := min(drops-overflow, q.others)
	q.overflows -= overflow
	q.others -= other
	k.refused.all += drops - min(drops-overflow-other, overflow)
	k.refused.overflow += overflow
	k.refused.other += other
	if overflow > 0 { // a queue that overflowed was full
		k.Peak, k.PeakExact = max(k.Peak, k.Limit+1), true
	}
}
