package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// A probe remembers how much of the machine had been used at some time: when
// the measured part began, and when the sending ended. What comes after that is
// waiting, which would make the client look idle.
type probe struct {
	mu    sync.Mutex
	taken bool
	at    time.Time
	usage
	busy     []time.Duration
	spun     time.Duration
	lingered int64
}

// usage is what the kernel counts. What could not be read is negative.
type usage struct {
	user, system time.Duration
	threads      map[string]thread // of this process, by their numbers; nil: not known
	throttled    time.Duration     // the cgroup was held back
	stolen, all  time.Duration     // CPU time of the machine
}

// A thread was on a CPU, and on the run queue of one.
type thread struct{ ran, waited time.Duration }

// waited is how long the threads that did the work of loops waited for a CPU.
// Left out are the observer's and those that did less than a tenth of the work of
// an even share: the runtime's, which wait while no request does. A loop may move
// from thread to thread. It is nil if it is not known.
func waited(before, after map[string]thread, loops, observer int) *float64 {
	if before == nil || after == nil {
		return nil
	}
	var all time.Duration
	did := map[string]thread{}
	for id, t := range after {
		if id != strconv.Itoa(observer) {
			did[id] = thread{t.ran - before[id].ran, t.waited - before[id].waited}
			all += did[id].ran
		}
	}
	sum := 0.0
	for _, t := range did {
		if t.ran >= all/time.Duration(10*max(1, loops)) {
			sum += max(0, t.waited.Seconds())
		}
	}
	return &sum
}

// take reads, once.
func (p *probe) take(e *engine.Engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		return
	}
	p.taken, p.at, p.usage, p.busy = true, time.Now(), readUsage(), e.Busy()
	p.spun, p.lingered = e.Spun(), e.Lingered()
}

// fill puts into the report what was used from then to after.
func (p *probe) fill(r *Report, after *probe, stats engine.Stats, observer int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &r.Client
	c.Connections = stats.Connects
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		c.MaxRSS = u.Maxrss << 10
	}
	if !p.taken {
		return // it ended in the warm-up
	}
	now, elapsed := after.usage, after.at.Sub(p.at)
	if elapsed <= 0 {
		return
	}
	c.User, c.System = (now.user - p.user).Seconds(), (now.system - p.system).Seconds()
	if n := r.Requests - r.Unsent; n > 0 {
		own := c.User + c.System - r.Kernel.CPU(elapsed).Seconds()
		c.PerRequest = max(0, own) / float64(n) * 1e6
	}
	for i, busy := range after.busy {
		c.Busy = append(c.Busy, min(1, (busy-p.busy[i]).Seconds()/elapsed.Seconds()))
	}
	c.Spun = (after.spun - p.spun).Seconds()
	c.Lingered = after.lingered - p.lingered
	c.RunQueue = waited(p.threads, now.threads, len(after.busy), observer)
	c.Throttled = difference(p.throttled, now.throttled)
	if stolen, all := difference(p.stolen, now.stolen), difference(p.all, now.all); stolen != nil && all != nil && *all > 0 {
		share := *stolen / *all
		c.Steal = &share
	}
}

// difference is in seconds; nil if one of the two is not known.
func difference(before, after time.Duration) *float64 {
	if before < 0 || after < 0 {
		return nil
	}
	s := max(0, (after - before).Seconds())
	return &s
}

func readUsage() usage {
	u := usage{throttled: -1, stolen: -1, all: -1}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.user, u.system = time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
	}
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		u.stolen, u.all = parseStat(string(b))
	}
	files, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		if t, ok := parseSchedstat(string(b)); ok {
			if u.threads == nil {
				u.threads = map[string]thread{}
			}
			u.threads[filepath.Base(filepath.Dir(name))] = t
		}
	}
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		u.throttled = readThrottled(string(b))
	}
	return u
}

// parseSchedstat reads the first two numbers: nanoseconds on a CPU and on a run
// queue (Documentation/scheduler/sched-stats.rst).
func parseSchedstat(s string) (thread, bool) {
	f := strings.Fields(s)
	if len(f) < 2 {
		return thread{}, false
	}
	ran, err := strconv.ParseInt(f[0], 10, 64)
	waited, err2 := strconv.ParseInt(f[1], 10, 64)
	return thread{time.Duration(ran), time.Duration(waited)}, err == nil && err2 == nil
}

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// parseStat adds up the first line of /proc/stat: user nice system idle iowait
// irq softirq steal; guests are in user and nice.
func parseStat(s string) (stolen, all time.Duration) {
	line, _, _ := strings.Cut(s, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return -1, -1
	}
	for i := 1; i <= 8; i++ {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return -1, -1
		}
		all += time.Duration(n) * tick
		if i == 8 {
			stolen = time.Duration(n) * tick
		}
	}
	return stolen, all
}

// readThrottled reads cpu.stat of the cgroup that /proc/self/cgroup names: of
// version 2 where that is mounted, else of version 1's cpu controller.
func readThrottled(cgroup string) time.Duration {
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var roots []string
		switch {
		case parts[1] == "":
			roots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
		case strings.Contains(","+parts[1]+",", ",cpu,"):
			roots = []string{"/sys/fs/cgroup/" + parts[1], "/sys/fs/cgroup/cpu"}
		}
		for _, root := range roots {
			if b, err := os.ReadFile(filepath.Join(root, parts[2], "cpu.stat")); err == nil {
				if t := parseThrottled(string(b)); t >= 0 {
					return t
				}
			}
		}
	}
	return -1
}

func parseThrottled(stat string) time.Duration {
	for line := range strings.Lines(stat) {
		var n int64
		if _, err := fmt.Sscanf(line, "throttled_usec %d", &n); err == nil {
			return time.Duration(n) * time.Microsecond
		}
		if _, err := fmt.Sscanf(line, "throttled_time %d", &n); err == nil {
			return time.Duration(n)
		}
	}
	return -1
}
