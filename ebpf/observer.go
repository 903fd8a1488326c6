package ebpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// How it goes:
//
//  1. Open starts the observer's thread, which enters the namespace and opens
//     what it may of the kernel's counters, sock_diag and the BPF programs (watcher.go).
//     Which counters that makes known is decided there, once (known.go).
//  2. 20 times a second it looks at the accept queues, and finds out why
//     listeners refused what they did (queues.go).
//  3. Read asks it for a Sample: it puts together what the programs counted,
//     TCP_INFO and the kernel's counters (collect.go, evidence.go, affected.go).
//  4. Sub takes two Samples apart, without the kernel (sub.go).
//
// The self-test (selftest.go) provokes what an observer should see.

// Options say whose sockets are observed: those that meet all that is set. The
// zero value is every TCP socket of the caller's network namespace.
type Options struct {
	// Netns is the file of another network namespace (/run/netns/NAME,
	// /proc/PID/ns/net). To enter it needs CAP_SYS_ADMIN.
	Netns string
	// AllNetns observes the sockets of every namespace. Accept queues and
	// the kernel's counters stay those of one.
	AllNetns bool
	// Ports are local or remote ports; none is every port.
	Ports []uint16
	// PID is a process: the connections it makes, the ports it listens on, and
	// the connections of these. Its network namespace is used if Netns is empty.
	// Connections that it had made before Open are seen in TCP_INFO alone.
	PID int
	// Deep adds exact peaks of accept queues and the time that connects spend
	// in search of a local port, at some cost for each connection.
	Deep bool
	// RunStats measures what the BPF programs cost. It needs CAP_SYS_ADMIN, and slows
	// every BPF program of the machine down.
	RunStats bool
	// Most is the tier to be content with even if more is possible; "" is TierBPF.
	Most Tier

	without  []string          // BPF programs left out: for tests of what depends on them
	mostArgs map[string]uint32 // that BPF programs use: for tests of what older kernels show
}

func (o *Options) check() error {
	if slices.Contains(o.Ports, 0) {
		return errors.New("ebpf: port 0 is no port")
	}
	if o.PID < 0 {
		return fmt.Errorf("ebpf: %d is no process", o.PID)
	}
	if o.AllNetns && (o.Netns != "" || o.PID != 0) {
		return errors.New("ebpf: all network namespaces and one, or one process, exclude each other")
	}
	if o.PID != 0 {
		switch _, err := os.Stat(fmt.Sprintf("/proc/%d", o.PID)); {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("ebpf: there is no process %d", o.PID)
		case err != nil:
			return fmt.Errorf("ebpf: process %d: %w", o.PID, err)
		}
	}
	switch o.Most {
	case "", TierBPF, TierDiag, TierProc:
		return nil
	}
	return fmt.Errorf("ebpf: no tier is called %q: bpf, diag and proc are", o.Most)
}

// netns is the file of the network namespace to observe, "" for the own one.
func (o *Options) netns() string {
	if o.Netns == "" && o.PID != 0 {
		return fmt.Sprintf("/proc/%d/ns/net", o.PID)
	}
	return o.Netns
}

// Observer observes sockets from Open to Close. A thread of its own does all the
// work: it looks at the accept queues 20 times a second, and reads the rest when
// it is asked. Its methods may be called from any goroutine.
type Observer struct {
	asked  chan question
	closed chan struct{} // by Close
	ended  chan struct{} // by the thread
	thread int
}

// A question is for a Sample.
type question struct {
	all    bool // with TCP_INFO as it is now
	answer chan<- reading
}

type reading struct {
	sample Sample
	err    error
}

// ErrClosed is returned by Read after Close.
var ErrClosed = errors.New("ebpf: the observer is closed")

// Open begins to observe, with the highest tier that the kernel and the process's
// privileges allow: the Samples name it, and say what it does not see. It fails if
// the options make no sense, the namespace cannot be entered, or not even the kernel's counters can be read.
func Open(options Options) (*Observer, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	options.Ports = slices.Clone(options.Ports)
	o := &Observer{asked: make(chan question), closed: make(chan struct{}), ended: make(chan struct{})}
	opened := make(chan error)
	go o.run(options, opened)
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("ebpf: %w", err)
	}
	return o, nil
}

// Thread is the number of the observer's thread (gettid), for those who count
// what threads of the process do.
func (o *Observer) Thread() int { return o.thread }

// Read returns what was seen since Open. It may be called often: Evidence of open
// sockets, which takes milliseconds to read, is then some readings old, or is left
// out where sockets came or went since.
func (o *Observer) Read() (Sample, error) { return o.read(false) }

// ReadAll is Read with all Evidence, whatever it takes to read it.
func (o *Observer) ReadAll() (Sample, error) { return o.read(true) }

func (o *Observer) read(all bool) (Sample, error) {
	answer := make(chan reading, 1)
	select {
	case o.asked <- question{all, answer}:
		r := <-answer
		return r.sample, r.err
	case <-o.ended:
		return Sample{}, ErrClosed
	}
}

// Close ends the observation and detaches everything. It may be called once.
func (o *Observer) Close() {
	close(o.closed)
	<-o.ended
}

// pollEvery is how often the accept queues are looked at: 20 times a second, at
// about 0.1 ms each.
const pollEvery = 50 * time.Millisecond

// run is the observer's thread. It may be in another network namespace, and its
// CPU time is the observer's: it is never given back (no UnlockOSThread), and
// ends with the goroutine.
func (o *Observer) run(options Options, opened chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread of a process does not end with its goroutine. While it
		// is locked here the next goroutine is on another one.
		defer runtime.UnlockOSThread()
		next := make(chan struct{})
		go func() {
			defer close(next)
			o.run(options, opened)
		}()
		<-next
		return
	}
	defer close(o.ended)
	o.thread = unix.Gettid()
	w, err := open(options)
	opened <- err
	if err != nil {
		return
	}
	defer w.close()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-o.closed:
			return
		case <-tick.C:
			w.poll()
		case q := <-o.asked:
			w.poll()
			s, err := w.sample(q.all)
			q.answer <- reading{s, err}
		}
	}
}
