// Package lab is a throwaway network namespace, and injectors that provoke in it
// the faults an observer has to see. What they provoke is known by something
// else than the kernel's counters: the errors the application saw, the segments
// its own sockets say they sent, or the packets that a gate let pass or lost.
//
//  1. New makes a Namespace; Pair makes two with a veth between them.
//  2. An injector (AcceptOverflow, LostSYNs, ...) provokes a fault there and
//     returns what it Provoked, with the sockets it happened at still open.
//  3. The caller reads its figures and compares. Softirqs may be working on the
//     last packets yet: it reads again until they agree or its patience ends.
//  4. Provoked.Close closes the sockets and puts settings back.
//
// The host is not touched: sockets, settings, devices and gates are all the
// namespace's, and go with it.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that lives as long as its thread and the
// sockets made in it: it has no name and no mount, so nothing can be left behind.
type Namespace struct {
	work  chan func()
	quit  chan struct{}
	close sync.Once
	done  chan struct{}

	filters atomic.Uint32 // made so far: see attachFilter
}

var errClosed = errors.New("lab: the namespace is closed")

func newNamespace() *Namespace {
	return &Namespace{work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
}

// New makes a network namespace with the kernel's default settings (not the
// host's) and its loopback device up. It needs CAP_SYS_ADMIN: see Enter.
func New() (*Namespace, error) {
	ns := newNamespace()
	made := make(chan error)
	go ns.thread(made)
	if err := <-made; err != nil {
		return nil, err
	}
	if err := ns.up("lo"); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// thread is the namespace's own. It stays locked to its goroutine, so that it
// ends with it and no other goroutine ever runs in the namespace.
func (ns *Namespace) thread(made chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread of a process does not end with its goroutine. While it
		// is locked here the next goroutine is on another one.
		defer runtime.UnlockOSThread()
		next := make(chan struct{})
		go func() {
			defer close(next)
			ns.thread(made)
		}()
		<-next
		return
	}
	defer close(ns.done)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		made <- fmt.Errorf("lab: a network namespace needs root (CAP_SYS_ADMIN) or a user namespace: unshare: %w", err)
		return
	}
	made <- nil
	for {
		select {
		case f := <-ns.work:
			f()
		case <-ns.quit:
			return
		}
	}
}

// Do runs f on the namespace's thread and returns its error. Sockets, netlink
// connections and files of /proc/thread-self/net opened there are the
// namespace's for good, and may be used anywhere. f must not call Do.
func (ns *Namespace) Do(f func() error) error {
	failed := make(chan error)
	select {
	case ns.work <- func() { failed <- f() }:
		return <-failed
	case <-ns.done:
		return errClosed
	}
}

// Close ends the namespace's thread: Do fails from then on. The namespace itself
// goes with the last of the sockets made in it.
func (ns *Namespace) Close() {
	ns.close.Do(func() { close(ns.quit) })
	<-ns.done
}

// Enter makes cmd run in a user namespace and network namespace of its own,
// as root there: without any privilege the new process can use New, Pair and
// all injectors but those with a gate (BPF knows no user namespaces) and
// BacklogDrops.
func Enter(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNET
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// Sysctl reads a setting of the namespace ("net.ipv4.tcp_syncookies").
func (ns *Namespace) Sysctl(name string) (value string, err error) {
	err = ns.Do(func() error {
		b, err := os.ReadFile(sysctlPath(name))
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// SetSysctl changes a setting of the namespace, and returns what it was. Of net.*
// a namespace shows only what is its own, or does not let it be written; all
// else is the whole machine's, and refused.
func (ns *Namespace) SetSysctl(name, value string) (old string, err error) {
	if !strings.HasPrefix(name, "net.") {
		return "", fmt.Errorf("lab: %s is the whole machine's, not the namespace's", name)
	}
	if old, err = ns.Sysctl(name); err != nil {
		return "", err
	}
	return old, ns.Do(func() error { return os.WriteFile(sysctlPath(name), []byte(value), 0) })
}

func sysctlPath(name string) string {
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

var errTimeout = errors.New("it did not happen in time")
