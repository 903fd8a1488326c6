package engine

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/httpcodec"
)

// A loop is one event loop: a poller, the connections it watches, their
// origins and timers. Everything in it but the mailbox belongs to its
// goroutine; others reach it with post.
type loop struct {
	e     *Engine
	index int

	poller   poller
	armed    int64     // what the timer is set to, 0 is nothing
	sockets  []watched // by descriptor
	marked   int32     // the mark of the last of them
	shut     []ended   // sockets to close when no event of this batch can name them
	spares   spares
	handling bool // a batch of events, some of which may be about spares
	net      network
	clock    func() int64
	lastAt   int64 // see wallAt
	lastWall time.Time
	seen     int64        // what the clock said last; 0 is "not since the current event began"
	soon     int64        // when something is due for which the loop does not wait, but polls; 0 is nothing
	spun     atomic.Int64 // nanoseconds of that
	busy     atomic.Int64 // nanoseconds in which the loop did not wait
	lingered atomic.Int64 // connections that the peer did not close though it was asked to

	mu      sync.Mutex
	mailbox []func(now int64)

	origins    map[originKey]*origin
	lastOrigin *origin
	sweepAt    int
	open       int // connections, being opened included
	mostOpen   int
	waiting    originQueue // origins that have no connection and may not open one yet
	idle       originQueue // origins that may have idle connections
	dirty      []*origin   // to be pumped before the loop waits again
	seq        uint64

	backlog callQueue // waiting for the engine's pacer
	wheel   wheel
	rnd     *rand.Rand

	timed   []*part   // parts whose sources have a schedule
	outs    []*part   // parts with results to deliver
	writers []*conn   // connections with requests to write
	ready   []*conn   // connections whose last read filled the buffer
	held    []*origin // wait until sockets are closed: see mayDial
	more    bool      // there is work that needs no event
	closing bool
	over    bool

	stalled   []*conn
	spare     []*conn     // memory for stalled, which changes with every body that is consumed
	stalling  atomic.Bool // some connection of this loop waits for the budget
	unstaller bool        // a call of unstall is on its way
	favoured  *conn       // goes on although the budget is spent
	buffers   *bufferPool
	rbuf      []byte
	wbuf      []byte
	cipher    []byte // read(2)s of TLS connections
	sealed    []byte // write(2)s of TLS connections
	head      httpcodec.Head
	facts     headFacts // of the last head that was parsed
	limits    httpcodec.Limits
}

const (
	readBuffer  = 64 << 10 // bytes of one read(2), besides the head that is continued
	writeBuffer = 64 << 10 // bytes of one write(2)
	handAt      = 128      // results that are handed over without waiting for the end of the turn
)

func newLoop(e *Engine, index int) *loop {
	l := &loop{
		e: e, index: index, clock: e.now,
		origins: make(map[originKey]*origin), sweepAt: sweepOrigins,
		mostOpen: share(e.cfg.Connections, e.cfg.Loops, index),
		buffers:  &e.buffers,
		rbuf:     make([]byte, readBuffer+e.cfg.MaxHead),
		wbuf:     make([]byte, 0, writeBuffer),
		rnd:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		limits:   httpcodec.DefaultLimits,
	}
	l.limits.HeadBytes = e.cfg.MaxHead
	l.net = l
	return l
}

// share is part i of n of a total.
func share(total, n, i int) int {
	s := total / n
	if i < total%n {
		s++
	}
	return s
}

// perHost is how many connections an origin may have on this loop. Few
// connections are not spread thinner than one: then only some of the loops
// serve the origin, and loopFor sends its requests there.
func (l *loop) perHost(key string) int {
	n := l.e.cfg.Loops
	if l.e.cfg.PerHost >= l.e.cfg.Connections {
		return l.mostOpen
	}
	return max(1, share(l.e.cfg.PerHost, n, (l.index+n-l.e.firstLoop(key))%n))
}

// hostRate is this loop's part of an origin's rate.
func (l *loop) hostRate(string) float64 {
	return l.e.cfg.HostRate / float64(min(l.e.cfg.Loops, l.e.cfg.PerHost))
}

func (l *loop) now() int64 {
	l.seen = l.clock()
	return l.seen
}

// wallAt is the time of day at a time of the engine's clock. Requests that were
// accepted together share one, and its cost.
func (l *loop) wallAt(at int64) time.Time {
	if at != l.lastAt {
		l.lastAt, l.lastWall = at, l.e.wall.Add(time.Duration(at))
	}
	return l.lastWall
}

// run is the loop's goroutine: it waits for events, handles them, and ends the
// turn. It must not be locked to its thread: letting other goroutines have
// their turn is then 500 times dearer.
func (l *loop) run() {
	for start := l.now(); !l.over; {
		events := l.poller.now()
		if len(events) == 0 && !l.more {
			events = l.rest()
			start = l.now()
		}
		l.handling = true
		for i := range events {
			l.onEvent(int(events[i].Fd), events[i].Pad, events[i].Events)
			l.keepTime()
		}
		l.handling = false
		l.endTurn()
		end := l.now()
		l.busy.Add(end - start)
		start = end
	}
}

// spinMost is how soon something has to be due for the loop to poll until then:
// to set a timer and to be woken by it takes about as long in a virtual machine,
// and much of it is CPU time.
const spinMost = int64(20 * time.Microsecond)

// rest waits for events, or until something is due.
func (l *loop) rest() []unix.EpollEvent {
	if l.soon == 0 {
		return l.poller.wait()
	}
	runtime.Gosched()
	began := l.now()
	for now := began; now < l.soon; now = l.now() {
		if events := l.poller.now(); len(events) > 0 {
			l.spun.Add(now - began)
			return events
		}
	}
	l.spun.Add(l.soon - min(began, l.soon))
	l.onTimer()
	return nil
}

// keepTime sends what has become due in the middle of a batch: events that came
// together take as long as many a service time.
func (l *loop) keepTime() {
	if len(l.timed) == 0 {
		return
	}
	if due := l.nextDue(); due != 0 && l.now() >= due {
		l.pullTimed(l.seen)
		l.pump(l.seen)
		l.writeAll(l.seen)
	}
}

// post has f called on the loop.
func (l *loop) post(f func(now int64)) {
	l.mu.Lock()
	l.mailbox = append(l.mailbox, f)
	first := len(l.mailbox) == 1
	l.mu.Unlock()
	if first {
		l.net.wake()
	}
}

func (l *loop) onMail() {
	l.mu.Lock()
	mail := l.mailbox
	l.mailbox = nil
	l.mu.Unlock()
	now := l.now()
	for _, f := range mail {
		f(now)
	}
}

// onEvent is called for every event of a batch.
func (l *loop) onEvent(fd int, mark int32, ev uint32) {
	switch {
	case fd == l.poller.timer:
		l.onTimer()
		return
	case fd == l.poller.waker:
		l.onMail()
		return
	case fd >= len(l.sockets) || l.sockets[fd].c == nil || l.sockets[fd].mark != mark:
		return // of a socket that has been given up
	}
	c := l.sockets[fd].c
	for i := range c.races {
		if c.fd != fd && c.races[i].fd == fd {
			c.swap(i)
		}
	}
	l.connEvent(c, ev)
}

// connEvent is called for an event of a connection's socket.
func (l *loop) connEvent(c *conn, ev uint32) {
	const gone = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if c.state == connConnecting {
		if ev&(unix.EPOLLOUT|gone) == 0 {
			return
		}
		fd := c.fd
		c.connectDone(l.now())
		c.flush(l.seen) // what comes at once is to find the request written
		if c.state < connHandshaking || c.state == connClosed || ev&(unix.EPOLLIN|gone) == 0 || c.fd != fd {
			return
		}
		// The peer has sent something already, or is gone again: this event
		// alone says so.
	}
	if ev&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if ev&gone != 0 {
		c.gone = true
	}
	if s, ok := c.t.(*secure); ok && c.state == connHandshaking {
		if ev&(unix.EPOLLIN|gone) != 0 {
			c.feed(s)
		}
		return
	}
	if ev&(unix.EPOLLIN|gone) == 0 || c.stalled != 0 {
		l.seen = 0
		l.served(c)
		return
	}
	l.serve(c)
}

// serve reads from a connection and does what follows from that.
func (l *loop) serve(c *conn) {
	l.seen = 0
	c.readable()
	l.served(c)
}

// served ends what was done for a connection: results go out, requests come
// in, and it takes on what it is to send.
func (l *loop) served(c *conn) {
	now := l.seen // of the last read(2): a clock reading saved
	if now == 0 {
		now = l.now()
	}
	l.deliver(now)
	c.turn(now)
}

// endTurn follows every batch of events: origins whose calls or connections
// changed are pumped, and requests are written. Writing comes last, for all
// connections together: the first write(2) wakes an idle server, and those that
// follow find it awake, which saves a sixth of the CPU time of a request in a
// pipeline of 32 (measured with bench/run engine). Sockets are closed here because an event that is still to be
// handled may carry their number, which the next socket(2) would get.
func (l *loop) endTurn() {
	l.closeShut()
	l.readOn()
	now := l.now()
	for range roundsMost {
		l.pump(now)
		now = l.writeAll(now)
		if !l.deliver(now) && len(l.dirty) == 0 && len(l.writers) == 0 {
			break
		}
	}
	l.handOver()
	l.closeShut()
	for _, o := range l.held {
		o.held = false
		l.mark(o)
	}
	l.held = l.held[:0]
	if l.over = l.closing && l.open == 0; l.over {
		l.spares.close()
	}
	l.more = len(l.dirty) > 0 || len(l.writers) > 0 || len(l.ready) > 0
	l.setTimer()
}

// closeShut closes sockets whose numbers no event can carry any more, or keeps
// them as spares.
func (l *loop) closeShut() {
	for _, s := range l.shut {
		if !l.spares.keep(s) {
			_ = unix.Close(s.fd)
		}
	}
	l.shut = l.shut[:0]
}

// roundsMost is how often a source on the loop is asked before the loop polls
// again: requests that fail at once would keep it from that for ever.
const roundsMost = 4

// pump gives waiting calls to connections: of origins that had none and may
// have one now, and of those that are marked.
func (l *loop) pump(now int64) {
	for n := l.waiting.n; n > 0 && l.open < l.mostOpen; n-- {
		o := l.waiting.pop() // who has waited longest is next
		o.queued = false
		o.pump(now)
	}
	l.pumpDirty(now)
}

// writeLater has c written when the turn ends, or sooner if many are to be.
func (l *loop) writeLater(c *conn) {
	if !c.writing {
		c.writing = true
		l.writers = append(l.writers, c)
	}
}

// writeAll writes what connections have to write.
func (l *loop) writeAll(now int64) int64 {
	for i := 0; i < len(l.writers); i++ { // a failed write may add some
		c := l.writers[i]
		l.writers[i] = nil
		c.writing = false
		now = c.flush(now)
	}
	l.writers = l.writers[:0]
	return now
}

// readOn reads from connections whose last read filled the buffer.
func (l *loop) readOn() {
	for range readsPerTurn {
		ready := l.ready
		l.ready = nil
		for _, c := range ready {
			c.ready = false
			switch {
			case c.state == connOpen && c.stalled == 0:
				l.serve(c)
			case c.state == connHandshaking:
				c.feed(c.t.(*secure))
			}
		}
	}
}

// pumpDirty pumps the marked origins, and those that are marked meanwhile, once
// each: what is marked again waits for the next round.
func (l *loop) pumpDirty(now int64) {
	for n := len(l.dirty); n > 0; n-- {
		o := l.dirty[0]
		l.dirty[0] = nil
		l.dirty = l.dirty[1:]
		o.dirty = false
		o.pump(now)
	}
}

// mark has an origin pumped before the loop waits again.
func (l *loop) mark(o *origin) {
	if !o.dirty && !o.empty() {
		o.dirty = true
		l.dirty = append(l.dirty, o)
	}
}

// cipherIn is where TLS connections read ciphertext.
func (l *loop) cipherIn() []byte {
	if l.cipher == nil {
		l.cipher = make([]byte, readBuffer)
	}
	return l.cipher
}

// readsPerTurn is how many full buffers a connection is read in one turn.
const readsPerTurn = 4

func (l *loop) makeReady(c *conn) {
	if !c.ready {
		c.ready = true
		l.ready = append(l.ready, c)
	}
}

// watched is who has a socket. The mark tells its events from late ones of an
// earlier socket with the same number, which a process that is being forked may
// have kept open.
type watched struct {
	c    *conn
	mark int32
}

// connect begins to connect c: see network.
func (l *loop) connect(c *conn, to netip.AddrPort) error {
	hold := l.e.cfg.UnixSocket == "" && l.open <= holdMost
	if fd := l.spares.take(to.Addr(), !l.handling); fd >= 0 {
		c.fd, c.t = fd, &socket{fd, hold}
		l.sockets[fd].c = c // it is still watched, and its mark is as good as ever
		err := connectAgain(fd, to, hold)
		if err != nil {
			l.releaseSocket(c)
		}
		return err
	}
	fd, err := l.openSocket(to, hold)
	if err != nil {
		return err
	}
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, watched{})
	}
	c.fd, c.t = fd, &socket{fd, hold}
	l.marked++
	l.sockets[fd] = watched{c, l.marked}
	if err := l.poller.addSocket(fd, l.marked); err != nil {
		l.releaseSocket(c)
		return err
	}
	return nil
}

// holdMost is how many connections a loop may have for a handshake to be held:
// see openSocket. With many it is late to read answers, and one that came before
// the socket was told to acknowledge at once (socket.write) waits for that.
const holdMost = 128

func (l *loop) openSocket(to netip.AddrPort, hold bool) (int, error) {
	if path := l.e.cfg.UnixSocket; path != "" {
		return openUnix(path)
	}
	return l.e.locals.openSocket(to, hold)
}

// connected asks for the peer's name, which there is when the handshake is over.
func (l *loop) connected(c *conn) bool {
	return socketName(unix.SYS_GETPEERNAME, c.fd).IsValid() && !toItself(c.fd, c.remote)
}

func (l *loop) connectError(c *conn) error {
	errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err == nil && c.remote.IsValid() && toItself(c.fd, c.remote) {
		err = unix.ECONNREFUSED
	}
	return err
}

func (l *loop) release(c *conn) {
	fd := c.fd
	l.sockets[fd].c = nil
	l.shut = append(l.shut, ended{fd, c.gone && l.e.locals.any(), c.remote.Addr()})
}

// releaseSocket gives up the socket of c, if it has one.
func (l *loop) releaseSocket(c *conn) {
	if c.t != nil {
		if s, ok := c.t.(*secure); ok {
			s.end()
		}
		l.net.release(c)
		c.t = nil
	}
}

// closeAnIdleOne closes the idle connection that was used longest ago of some
// origin, to make room for another origin's.
func (l *loop) closeAnIdleOne() bool {
	for o := l.idle.pop(); o != nil; o = l.idle.pop() {
		o.listed = false
		if len(o.idle) == 0 {
			continue
		}
		if len(o.idle) > 1 {
			o.listed = true
			l.idle.push(o)
		}
		o.idle[0].close(l.now(), cause{})
		return true
	}
	return false
}

// onTimer is called when the timer fires: what is due in the wheel expires,
// what the pacer held back is let go.
func (l *loop) onTimer() {
	l.armed = 0
	now := l.now()
	l.wheel.advance(now)
	l.letGo(now)
	l.pullTimed(now)
}

// letGo sends calls of the backlog on that are due under the rate.
func (l *loop) letGo(now int64) {
	for l.backlog.n > 0 && l.e.pacer.take(now) {
		k := l.backlog.popFront()
		l.o(k).enqueue(k)
	}
}

// setTimer arms the timer for the next thing that is due: it is set only when
// something earlier comes up, and where a schedule is kept only when that is
// not just about to be due.
func (l *loop) setTimer() {
	next := l.wheel.soonest
	if due := l.nextDue(); due != 0 && (next == 0 || due < next) {
		next = due
	}
	if l.backlog.n > 0 {
		if due := l.e.pacer.due(); next == 0 || due < next {
			next = due
		}
	}
	l.soon = 0
	if len(l.timed) > 0 && next != 0 && next-l.now() <= spinMost {
		l.soon = next
		return
	}
	if next == 0 || l.armed != 0 && l.armed <= next {
		return
	}
	l.armed = next
	l.net.wakeAt(next)
}

// wake has onMail called: see network.
func (l *loop) wake() { l.poller.wake() }

// wakeAt has onTimer called: see network.
func (l *loop) wakeAt(at int64) { l.poller.wakeAt(l.e.monotonic + at) }
