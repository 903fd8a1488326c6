package ebpf

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/procfs"
	"hotlap/ebpf/internal/prog"
)

// A watcher is what an observer's thread works with. That thread owns it.
type watcher struct {
	options Options
	netns   uint32 // inode
	start   time.Time
	unseen  []Unseen
	failed  [3]error // the last reading of accept queues, of the kernel's counters, of TCP_INFO
	known   map[Counter]bool

	counters  *procfs.Reader
	base, now procfs.Counters // at open, and last read

	sockets     *diag.Client // nil in TierProc
	queues      queues
	own         map[uint32]bool // inodes of the sockets of Options.PID
	evidence    evidence
	programs    *prog.Programs // nil below TierBPF
	runStats    interface{ Close() error }
	examples    []Example
	startTime   time.Duration // CLOCK_MONOTONIC at start
	setup       time.Duration // CPU time until then
	synTimeouts []time.Duration
}

// open opens all that can be opened.
func open(options Options) (*watcher, error) {
	w := &watcher{options: options, known: map[Counter]bool{}}
	w.queues.init()
	if err := w.enter(options.netns()); err != nil {
		return nil, err
	}
	var err error
	if w.counters, err = procfs.Open(); err != nil {
		return nil, err
	}
	if err := w.openSockets(); err != nil {
		w.close()
		return nil, err
	}
	w.openPrograms()
	w.synTimeouts = readSYNTimeouts()
	if err := w.counters.Read(&w.base); err != nil {
		w.close()
		return nil, err
	}
	w.now = w.base
	w.start, w.startTime = time.Now(), monotonic()
	w.poll()
	w.setup = threadCPU()
	return w, nil
}

// enter makes the thread one of a network namespace.
func (w *watcher) enter(file string) error {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		defer f.Close()
		var there, here unix.Stat_t
		if unix.Fstat(int(f.Fd()), &there) != nil || unix.Stat("/proc/thread-self/ns/net", &here) != nil || there.Ino != here.Ino {
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering network namespace %s needs CAP_SYS_ADMIN: %w", file, err)
			}
		}
	}
	var s unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &s); err != nil {
		return fmt.Errorf("/proc/thread-self/ns/net: %w", err)
	}
	w.netns = uint32(s.Ino)
	return nil
}

// openSockets begins TierDiag, or says why not.
func (w *watcher) openSockets() error {
	if w.options.Most == TierProc {
		w.miss(socketCounters, "tier proc was asked for")
		return nil
	}
	client, err := diag.Open()
	if err == nil {
		w.sockets = client
		_, err = client.Listeners(nil)
	}
	if err != nil {
		w.closeSockets()
		w.miss(socketCounters, err.Error())
		return nil
	}
	if w.options.PID != 0 {
		// Without this, nothing could be said of the process at all.
		if w.own, err = socketInodes(w.options.PID); err != nil {
			return fmt.Errorf("the sockets of process %d need its owner's rights or CAP_SYS_PTRACE: %w", w.options.PID, err)
		}
	}
	w.know(ListenDrops, AcceptOverflows, SYNDrops)
	return nil
}

func (w *watcher) closeSockets() {
	if w.sockets != nil {
		w.sockets.Close()
		w.sockets = nil
	}
}

// openPrograms begins TierBPF, or says why not.
func (w *watcher) openPrograms() {
	if w.options.Most != "" && w.options.Most != TierBPF {
		w.miss(programCounters, fmt.Sprintf("tier %s was asked for", w.options.Most))
		return
	}
	c := prog.Config{Netns: w.netns, TGID: uint32(w.options.PID), Ports: w.options.Ports, Deep: w.options.Deep, Without: w.options.without, MostArgs: w.options.mostArgs}
	if w.options.AllNetns {
		c.Netns = 0
		w.miss("accept queues, kernel counters and TCP_INFO of open sockets of other network namespaces", "they are read in one")
	}
	programs, err := prog.Load(c)
	if err != nil {
		w.miss(programCounters, err.Error())
		return
	}
	w.programs = programs
	w.knowPrograms(programs)
	if w.options.RunStats {
		w.runStats, err = prog.EnableStats()
		if err != nil {
			w.miss("what the BPF programs cost", err.Error())
		}
	}
}

// tier is the highest that could be opened.
func (w *watcher) tier() Tier {
	switch {
	case w.programs != nil:
		return TierBPF
	case w.sockets != nil:
		return TierDiag
	}
	return TierProc
}

func (w *watcher) miss(what, why string) { w.unseen = append(w.unseen, Unseen{what, why}) }

func (w *watcher) know(counters ...Counter) {
	for _, c := range counters {
		w.known[c] = true
	}
}

func (w *watcher) close() {
	if w.runStats != nil {
		w.runStats.Close()
	}
	if w.programs != nil {
		w.programs.Close()
	}
	w.closeSockets()
	w.counters.Close()
}

// monotonic is the clock that BPF programs read.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("internal error: CLOCK_MONOTONIC: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// threadCPU is the CPU time of the calling thread.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic("internal error: CLOCK_THREAD_CPUTIME_ID: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
