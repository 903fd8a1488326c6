package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// descriptorReserve is how many descriptors are left for other than
// connections: files, pollers, the resolver.
const descriptorReserve = 100

// checkDescriptors refuses more connections than RLIMIT_NOFILE has room for.
// The soft limit is not in the way: the os package raises it to the hard one.
func checkDescriptors(connections int) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return nil
	}
	need := uint64(connections) + descriptorReserve
	if need <= lim.Cur {
		return nil
	}
	help := fmt.Sprintf("ulimit -n %d", need)
	if os.Geteuid() != 0 {
		help += fmt.Sprintf("\nor, past a hard limit: sudo prlimit --pid $$ --nofile=%d:%d", need, need)
	}
	return fmt.Errorf("-c %d needs %d file descriptors, the limit is %d: run this first, or ask for less:\n%s",
		connections, need, lim.Cur, help)
}

// limitProcessors has Go code run on one CPU where there are two at the most,
// unless the user has said how many. Measured on two, with the target server on
// the same: a request's memory then stays in one CPU's cache, which took 1.8
// instead of 3.0 us of CPU a request, and gave 560,000 instead of 400,000 a
// second; the kernel's part, and the server, have the other CPU. Several loops
// want several.
func limitProcessors(loops int) {
	if os.Getenv("GOMAXPROCS") == "" && loops <= 1 && runtime.NumCPU() <= 2 {
		runtime.GOMAXPROCS(1)
	}
}

// What the Go heap may have besides kept bodies.
const (
	memoryBase          = 60 << 20
	memoryPerConnection = 16 << 10
	memoryPerRequest    = 2 << 10 // in flight
)

// limitMemory tells the garbage collector what this run may use, unless the
// user has.
func (o *fetchOptions) limitMemory(inFlight int) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(memoryBase + o.memoryNeed(inFlight))
}

// memoryNeed is what an engine may use.
func (o *fetchOptions) memoryNeed(inFlight int) int64 {
	most := memoryPerConnection*int64(o.engine.Connections) + memoryPerRequest*int64(inFlight)
	if o.engine.KeepBody {
		most += o.engine.MaxMemory + o.engine.MaxMemory/4 // with what small bodies leave behind: see Config.MaxMemory
	}
	return most
}
