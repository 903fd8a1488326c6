package target

import (
	"container/heap"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A clock wakes connections when they are due. Go's timers would do it up to a
// millisecond late where nothing else goes on: that is the unit in which the
// runtime's poller waits. A timerfd in that poller is as exact as the kernel's
// timers.
type clock struct {
	fd   int
	file *os.File
	done chan struct{}

	mu     sync.Mutex
	queue  alarms
	closed bool
}

// An alarm wakes one connection.
type alarm struct {
	clock  *clock
	at     time.Time
	stream stream
	index  int // in the queue; -1: it is not set
}

func newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	c := &clock{fd: fd, file: os.NewFile(uintptr(fd), "timerfd"), done: make(chan struct{})}
	go c.run()
	return c, nil
}

func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.file.Close()
	<-c.done
}

// run wakes until the clock is closed.
func (c *clock) run() {
	defer close(c.done)
	var expirations [8]byte
	for {
		if _, err := c.file.Read(expirations[:]); err != nil {
			return
		}
		for _, a := range c.due() {
			_ = a.stream.Wake(nil)
		}
	}
}

// due takes the alarms whose time has come.
func (c *clock) due() (due []*alarm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && time.Until(c.queue[0].at) <= 0 {
		due = append(due, heap.Pop(&c.queue).(*alarm))
	}
	c.arm()
	return due
}

// set has a connection be woken once, so long from now.
func (a *alarm) set(d time.Duration, s stream) {
	c := a.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	a.at, a.stream = time.Now().Add(d), s
	if a.index < 0 {
		heap.Push(&c.queue, a)
	} else {
		heap.Fix(&c.queue, a.index)
	}
	if a.index == 0 {
		c.arm()
	}
}

// stop takes that back, unless it is just being done.
func (a *alarm) stop() {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	if a.index >= 0 {
		heap.Remove(&a.clock.queue, a.index)
	}
}

// arm sets the timer to the first alarm.
func (c *clock) arm() {
	if c.closed || len(c.queue) == 0 {
		return
	}
	in := max(time.Until(c.queue[0].at), 1) // 0 would disarm it
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(in))}
	_ = unix.TimerfdSettime(c.fd, 0, &spec, nil) // of a timer that is open, with a valid time
}

// alarms is a heap: the first is due first.
type alarms []*alarm

func (q alarms) Len() int           { return len(q) }
func (q alarms) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q alarms) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *alarms) Push(x any) {
	a := x.(*alarm)
	a.index = len(*q)
	*q = append(*q, a)
}

func (q *alarms) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	a.index = -1
	return a
}
