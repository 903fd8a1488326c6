package engine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A poller is where a loop waits: an epoll instance with the loop's sockets, a
// timerfd, and an eventfd by which others wake it.
//
// It is not gnet's netpoll.Poller, which has no hook at the end of a batch of
// events. There the loop writes what it has: see loop.endTurn.
type poller struct {
	epoll  int
	timer  int
	waker  int
	events [eventsMost]unix.EpollEvent
}

// eventsMost is how many events are handled before anything is written.
const eventsMost = 128

func (p *poller) open() error {
	var errs [3]error
	p.epoll, errs[0] = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	p.timer, errs[1] = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	p.waker, errs[2] = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	err := errors.Join(errs[:]...)
	if err == nil {
		err = errors.Join(p.add(p.timer, 0, unix.EPOLLIN), p.add(p.waker, 0, unix.EPOLLIN))
	}
	if err != nil {
		p.close()
		return fmt.Errorf("engine: open the poller: %w", err)
	}
	return nil
}

// close gives up the descriptors, when nobody wakes the loop any more.
func (p *poller) close() {
	for _, fd := range []int{p.waker, p.timer, p.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// add watches fd, once and edge-triggered, until it is closed. Its events bear
// the mark.
func (p *poller) add(fd int, mark int32, events uint32) error {
	ev := unix.EpollEvent{Fd: int32(fd), Pad: mark, Events: events | unix.EPOLLET}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
}

// addSocket watches a socket for reading, writing and its end.
func (p *poller) addSocket(fd int, mark int32) error {
	return p.add(fd, mark, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP)
}

// now returns the events that are there, without waiting. The scheduler need
// not hear of it: see socket.
func (p *poller) now() []unix.EpollEvent {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll), uintptr(unsafe.Pointer(&p.events)), eventsMost, 0, 0, 0)
	if errno != 0 {
		return nil
	}
	return p.events[:n]
}

// wait waits for events, after other goroutines have had their turn.
func (p *poller) wait() []unix.EpollEvent {
	runtime.Gosched()
	if events := p.now(); len(events) > 0 {
		return events
	}
	n, err := unix.EpollWait(p.epoll, p.events[:], -1)
	if err != nil && err != unix.EINTR {
		panic("engine: internal error: epoll_wait: " + err.Error())
	}
	return p.events[:max(n, 0)]
}

// wake ends a wait, from any goroutine. The eventfd is never read: each write
// is an edge.
func (p *poller) wake() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(p.waker, one[:])
}

// wakeAt sets the timer, which is never read either.
func (p *poller) wakeAt(at int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(at)}
	_ = unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, &spec, nil)
}
