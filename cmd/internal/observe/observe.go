// Package observe has the kernel watched while a run goes on: what an observer
// of package ebpf sees between Begin and End becomes the kernel part of the report.
//
//  1. Open opens the observer before any load, for that takes a while.
//  2. Begin reads it when the measured part begins. Once a second then a
//     goroutine reads it again, and keeps what went wrong in that second.
//  3. End reads it when the last response is there, or is waited for no longer,
//     and while connections are still open.
//
// Nobody watches where a *Watch is nil: its methods do nothing.
package observe

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
	"hotlap/ebpf/tune"
)

// Mode is how much is to be observed.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // what the kernel and the process's privileges allow, and nothing where they allow nothing
	Off  Mode = "off"
	On   Mode = "on"   // with BPF programs, or not at all
	Deep Mode = "deep" // and what costs something for each connection
)

// Options say what to observe.
type Options struct {
	Mode Mode
	// Ports are those that the run connects to: with them the connections of
	// both sides are seen, and the accept queues of a server on this machine, which
	// is another process. None: only what this process does is.
	Ports    []uint16
	RunStats bool // see ebpf.Options.RunStats
}

// A Watch is an observer at work for one run. Begin may be called from another
// goroutine than the rest.
type Watch struct {
	observer *ebpf.Observer
	ports    []uint16

	mu     sync.Mutex // of what Begin and End share
	begun  bool
	ended  bool
	failed error // Begin's reading

	first, last   ebpf.Sample      // last is the poller's while it runs, and so are the events
	ticks         <-chan time.Time // when it reads
	stop, stopped chan struct{}
	events        []report.KernelEvent
	leftOut       int
	settings      func(time.Time) []tune.Drift // what has changed since it was asked last
	changes       []report.SettingChange
}

// Open opens the observer. In mode Off, and where in mode Auto nothing can be
// observed, it returns nil.
func Open(o Options) (*Watch, error) {
	if o.Mode == Off {
		return nil, nil
	}
	w, err := open(o, ebpf.Options{})
	if err != nil && o.Mode == Auto {
		return nil, nil
	}
	return w, err
}

func open(o Options, options ebpf.Options) (*Watch, error) {
	w := &Watch{}
	options.Deep, options.RunStats = o.Mode == Deep, o.RunStats
	if len(o.Ports) > 0 {
		options.Ports, w.ports = o.Ports, o.Ports
	} else {
		options.PID = os.Getpid()
	}
	var err error
	if w.observer, err = ebpf.Open(options); err != nil {
		return nil, err
	}
	// The first reading finds out whose the listeners are, which takes longest.
	s, err := w.observer.Read()
	if err == nil && o.Mode != Auto && s.Tier != ebpf.TierBPF {
		err = fmt.Errorf("--observe=%s needs BPF programs; with auto the run goes on without them, in tier %s: %s", o.Mode, s.Tier, reason(s.Unseen))
	}
	if err != nil {
		w.observer.Close()
		return nil, err
	}
	return w, nil
}

// reason is why there are no BPF programs: the last thing that Open missed.
func reason(unseen []ebpf.Unseen) string {
	if len(unseen) == 0 {
		return "the reason is not known"
	}
	return strings.Join(strings.Fields(unseen[len(unseen)-1].Why), " ")
}

// Thread is the number of the observer's thread, 0 if there is none.
func (w *Watch) Thread() int {
	if w == nil {
		return 0
	}
	return w.observer.Thread()
}

// Begin says that the measured part begins. It may come too late, after End.
func (w *Watch) Begin() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun || w.ended {
		return
	}
	w.begun = true
	if w.first, w.failed = w.observer.ReadAll(); w.failed != nil {
		return
	}
	w.last = w.first
	if w.settings == nil {
		w.settings = tune.WatchSysctls().Poll
	}
	w.stop, w.stopped = make(chan struct{}), make(chan struct{})
	if w.ticks == nil {
		w.ticks = time.Tick(time.Second)
	}
	go w.poll()
}

// poll is the goroutine that reads once a second.
func (w *Watch) poll() {
	defer close(w.stopped)
	for {
		select {
		case <-w.stop:
			return
		case <-w.ticks:
			if now, err := w.observer.Read(); err == nil { // else the next one tells more
				w.took(now)
			}
		}
	}
}

// maxEvents bounds the seconds with faults that are kept, and the changes.
const maxEvents = 3600

// took keeps what went wrong since the last reading.
func (w *Watch) took(now ebpf.Sample) {
	before := w.last
	w.last = now
	for _, c := range w.settings(now.At) {
		if len(w.changes) < maxEvents {
			w.changes = append(w.changes, report.SettingChange{At: seconds(now.Elapsed - w.first.Elapsed), Name: c.Name, From: c.From, To: c.To})
		}
	}
	counts := ebpf.Counts{}
	for _, fault := range ebpf.Faults {
		if n, was := now.Total[fault], before.Total[fault]; n > was {
			counts[fault] = n - was
		}
	}
	switch {
	case len(counts) == 0:
	case len(w.events) == maxEvents:
		w.leftOut++
	default:
		w.events = append(w.events, report.KernelEvent{
			At: seconds(before.Elapsed - w.first.Elapsed), Length: seconds(now.Elapsed - before.Elapsed), Counts: counts,
		})
	}
}

// seconds is to the millisecond: a reading is not more exact.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// End says that the measured part is over, and what was seen of it. A run that
// was over before it began has seen nothing happen.
func (w *Watch) End() *report.Kernel {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopPolling()
	now, err := w.observer.ReadAll()
	if err == nil {
		err = w.failed
	}
	if err != nil {
		return &report.Kernel{Sample: ebpf.Sample{Unseen: []ebpf.Unseen{{What: "the whole run", Why: err.Error()}}}, Events: []report.KernelEvent{}}
	}
	if w.begun {
		w.took(now)
	} else {
		w.first = now
	}
	k := &report.Kernel{Sample: ebpf.Sub(now, w.first), Ports: w.ports, Events: append([]report.KernelEvent{}, w.events...), EventsLeftOut: w.leftOut, Changes: w.changes}
	if w.ports == nil {
		k.Unseen = append(k.Unseen, ebpf.Unseen{What: "accept queues of servers on this machine", Why: "which ports are connected to is not known before the run"})
	}
	return k
}

// stopPolling ends the goroutine, and lets no other begin.
func (w *Watch) stopPolling() {
	w.ended = true
	if w.stop != nil {
		close(w.stop)
		<-w.stopped
		w.stop = nil
	}
}

// Close detaches everything.
func (w *Watch) Close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopPolling()
	w.observer.Close()
}
