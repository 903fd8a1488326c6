package ebpf

import (
	"fmt"
	"time"
)

// findings are those that the client's own figures show.
func (c *ClientFigures) findings() []Finding {
	list := []Finding{}
	add := func(f Finding) {
		if f.Sure == "" {
			f.Sure = Measured
		}
		if f.blames == "" {
			f.blames = BoundClient
		}
		list = append(list, f)
	}
	for i, busy := range c.Busy {
		if busy >= saturated {
			add(Finding{
				Code: "client_saturated", Subject: fmt.Sprintf("loop %d", i), Affected: c.Requests / int64(len(c.Busy)), Spoils: true,
				Evidence: fmt.Sprintf("busy for %.1f %% of the time", 100*busy),
				Advice:   "the figures show how fast the client is: give it more loops (--loops), more CPU, or ask for a rate (-R)",
				Source:   "the loop's own clock", Scope: ScopeSocket,
			})
		}
	}
	if cores := max(1, min(len(c.Busy), c.CPUs)); len(list) == 0 && ratio(c.CPU, c.Elapsed) >= saturated*float64(cores) {
		add(Finding{
			Code: "client_saturated", Subject: "client", Affected: c.Requests, Spoils: true,
			Evidence: fmt.Sprintf("it used %v of CPU in %v, and its loops can use %d", c.CPU.Round(time.Millisecond), c.Elapsed.Round(time.Millisecond), cores),
			Advice:   "the figures show how fast the client is: give it more CPU, or ask for a rate (-R)",
			Source:   "getrusage", Scope: ScopeSocket,
		})
	}
	if c.Failed > 0 {
		add(Finding{
			Code: "requests_failed", Subject: "requests", Count: c.Failed, Affected: c.Failed,
			Evidence: fmt.Sprintf("%d of %d requests got no response, or one that is not 2xx", c.Failed, c.Requests),
			Advice:   "look at the errors and statuses before you trust the times of the rest",
			Source:   "responses", Scope: ScopeSocket,
		})
	}
	if share := ratio(c.RunQueue, c.Elapsed*time.Duration(max(1, len(c.Busy)))); share >= worthSaying {
		add(Finding{
			Code: "client_waited_for_cpu", Subject: "client", Affected: int64(min(share, 1) * float64(c.Requests)), Spoils: share >= starved,
			Evidence: fmt.Sprintf("its threads were ready and waited for a CPU for %v in %v%s", c.RunQueue.Round(time.Millisecond), c.Elapsed.Round(time.Millisecond), ofLoops(len(c.Busy))),
			Advice:   "leave the client CPUs of its own (taskset, cpuset), or run fewer other programs",
			Source:   "/proc/self/task/*/schedstat", Scope: ScopeSocket,
		})
	}
	if share := ratio(c.Throttled, c.Elapsed); share >= worthSaying {
		add(Finding{
			Code: "client_throttled", Subject: "client's cgroup", Affected: int64(min(share, 1) * float64(c.Requests)), Spoils: share >= starved,
			Evidence: fmt.Sprintf("held back for %v by its CPU quota", c.Throttled.Round(time.Millisecond)),
			Advice:   "raise cpu.max of the cgroup",
			Source:   "cpu.stat", Scope: ScopeSocket,
		})
	}
	if c.Steal >= stolen {
		add(Finding{
			Code: "cpu_stolen", Subject: "machine", Affected: c.Requests,
			Evidence: fmt.Sprintf("the hypervisor gave %.1f %% of the CPU time to others", 100*c.Steal),
			Advice:   "compare only runs taken side by side, or use a machine of your own",
			Source:   "/proc/stat", Scope: ScopeHost,
		})
	}
	if c.Late > 0 {
		add(Finding{
			Code: "sent_late", Subject: "client", Count: c.Late, Affected: c.Late, Spoils: c.spoiled(c.Late, LateAfter),
			Evidence: fmt.Sprintf("%d requests were sent more than %v after they were due though a connection was free", c.Late, LateAfter),
			Advice:   "ask for a lower rate, or give the client more CPU",
			Source:   "schedule", Scope: ScopeSocket,
		})
	}
	if c.Held > 0 {
		add(Finding{
			Code: "connections_busy", Subject: "connections", Count: c.Held, Affected: c.Held,
			Evidence: fmt.Sprintf("%d requests were due while every connection waited for an answer", c.Held),
			Advice:   "the wait is in the response time; more connections (-c) or pipelining (-p) would let them go in time",
			Source:   "schedule", Scope: ScopeSocket,
		})
	}
	if c.Unsent > 0 {
		add(Finding{
			Code: "never_sent", Subject: "requests", Count: c.Unsent, Affected: c.Unsent,
			Evidence: fmt.Sprintf("%d requests were due and not sent when the time was over: the connections were busy, or the client was late", c.Unsent),
			Advice:   "their age is in the response time; ask for a lower rate, or allow more connections (-c)",
			Source:   "schedule", Scope: ScopeSocket,
		})
	}
	if c.Lingered > 0 {
		add(Finding{
			Code: "not_closed", Subject: "connections", Count: c.Lingered, Affected: c.Lingered, Spoils: c.spoiled(c.Lingered, 0), blames: BoundServer,
			Evidence: fmt.Sprintf("%d were not closed by the server within a second of their last response, though it was asked to (Connection: close): each kept its place until then", c.Lingered),
			Advice:   "look why the server leaves connections open; more of them (-c) leave room for those that wait",
			Source:   "connections", Scope: ScopeSocket,
		})
	}
	if c.ServerCPUs {
		add(Finding{
			Code: "server_shares_cpus", Subject: "server", Affected: c.Requests, Sure: Inferred,
			Evidence: fmt.Sprintf("a target is on this machine and may use the %d CPUs of the client", c.CPUs),
			Advice:   "pin client and server to CPUs of their own (taskset) before you compare figures",
			Source:   "sched_getaffinity", Scope: ScopeHost,
		})
	}
	return list
}

// ofLoops says that a time is one of several loops, if it is.
func ofLoops(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" of %d loops", n)
}
