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
	other     uint64 // all of these since Open, at least
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
	before := *q
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
	counted := *q
	for i, k := range dropped {
		q.attribute(k, drops[i], w.failed[1] == nil)
	}
	// What was counted before this round and is in no listener's drops now was refused
	// by one that is closed.
	q.overflows = min(q.overflows, counted.overflows-before.overflows)
	q.others = min(q.others, counted.others-before.others)
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
// Overflows are among the drops, but are not read in the same instant: so drops are
// compared with the overflows of a later reading, and a difference is one of causes.
func (w *watcher) readCounters() {
	before := w.now
	if !w.readNow() {
		return
	}
	if d := procfs.Sub(&w.now, &before); w.sockets != nil && refusedOf(&d, procfs.ListenDrops) > 0 {
		sinceOpen := procfs.Sub(&w.now, &w.base)
		all := refusedOf(&sinceOpen, procfs.ListenDrops)
		if !w.readNow() {
			return
		}
		sinceOpen = procfs.Sub(&w.now, &w.base)
		if other := all - min(all, refusedOf(&sinceOpen, procfs.ListenOverflows)); other > w.queues.other {
			w.queues.others += other - w.queues.other
			w.queues.other = other
		}
	}
	d := procfs.Sub(&w.now, &before)
	w.queues.overflows += refusedOf(&d, procfs.ListenOverflows)
}

// readNow reads the counters into w.now, which stays as it is if that fails.
func (w *watcher) readNow() bool {
	before := w.now
	if w.failed[1] = w.counters.Read(&w.now); w.failed[1] != nil {
		w.now = before
	}
	return w.failed[1] == nil
}

func refusedOf(c *procfs.Counters, k procfs.Counter) uint64 {
	n, _ := c.Get(k)
	return n
}

// attribute says of segments that a listener dropped which it refused, and why: as
// many as the namespace counted. The socket counts them all in one, twice where it
// was a handshake's last ACK, and also what it only threw away, such as an RST.
// Where both causes were counted, a listener whose queue is full refused for that.
func (q *queues) attribute(k *queue, drops uint64, counted bool) {
	if !counted {
		k.refused.all += drops
		return
	}
	overflow := min(drops, q.overflows)
	if q.others > 0 && k.Queue <= k.Limit {
		overflow = min(overflow, drops-min(drops, q.others))
	}
	other := min(drops-overflow, q.others)
	q.overflows -= overflow
	q.others -= other
	k.refused.all += overflow + other
	k.refused.overflow += overflow
	k.refused.other += other
	if overflow > 0 { // a queue that overflowed was full
		k.Peak, k.PeakExact = max(k.Peak, k.Limit+1), true
	}
}
