package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A meter tells how much of the machine others used while a benchmark ran:
// what is left when our own time, with our children, is taken from the busy time
// of all CPUs. Numbers taken beside a neighbour are worth less, and the report
// should say so.
type meter struct {
	start time.Time
	busy  time.Duration
	ours  time.Duration
}

func startMeter() meter { return meter{time.Now(), busyTime(), ownTime()} }

func (m meter) text() string {
	others := busyTime() - m.busy - (ownTime() - m.ours)
	all := time.Since(m.start) * time.Duration(runtime.NumCPU())
	return fmt.Sprintf("Others used %.0f %% of the CPUs meanwhile.\n", 100*max(0, others.Seconds()/all.Seconds()))
}

// busyTime is the time all CPUs were not idle, the hypervisor's share included.
func busyTime() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseBusy(string(b))
}

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// parseBusy adds up the first line of /proc/stat: "cpu user nice system idle
// iowait irq softirq steal guest guest_nice"; the guests are in user and nice.
func parseBusy(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	var busy time.Duration
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i == 4 || i == 5 || i > 8 { // the name; idle, iowait; the guests
			continue
		}
		busy += time.Duration(n) * tick
	}
	return busy
}

// ownTime is the CPU time of all children that have ended, and of this
// process.
func ownTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_CHILDREN, unix.RUSAGE_SELF} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}
