package ebpf

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hotlap/ebpf/internal/procfs"
)

// A supporting counter is the kernel's, of a namespace or the machine: others
// may have caused what it counts, so it blames nobody.
type supporting struct {
	code     string
	unless   Counter // is known: the sockets' own figures say more
	says     string
	advice   string
	counters []procfs.Counter // the first is the Count
}

var supports = []supporting{
	// What is seen at sockets by the higher tiers.
	{"accept_overflow", AcceptOverflows, "a listen queue overflowed", "raise somaxconn and the server's backlog", list(procfs.ListenOverflows, procfs.ListenDrops)},
	{"retransmits", Retransmits, "segments were sent again", adviceLoss, list(procfs.RetransSegs, procfs.TCPSynRetrans)},
	{"backlog_drops", BacklogDrops, "the backlog of a socket was full", adviceBacklog, list(procfs.TCPBacklogDrop)},
	{"receive_buffer_drops", ReceiveBufferDrops, "a receive buffer was full", adviceReceive, list(procfs.TCPRcvQDrop)},
	{"resets", RSTsIn, "connections were reset", "look why connections are closed by force", list(procfs.EstabResets)},

	{"syn_cookies", "", "a SYN queue was full, and SYN cookies were sent", "raise net.ipv4.tcp_max_syn_backlog and the server's backlog", list(procfs.TCPReqQFullDoCookies)},
	{"receive_queue_pruned", "", "receive queues had to be put together or cut for want of memory", adviceReceive, list(procfs.PruneCalled, procfs.TCPRcvCollapsed, procfs.RcvPruned, procfs.OfoPruned)},
	{"zero_window", "", "segments came to a closed window", "see who does not read", list(procfs.TCPZeroWindowDrop)},
	{"tcp_memory_pressure", "", "TCP was short of memory", "raise net.ipv4.tcp_mem", list(procfs.TCPMemoryPressures)},
	{"time_wait_overflow", "", "connections were closed without TIME_WAIT, as there were too many", "raise net.ipv4.tcp_max_tw_buckets, or keep connections alive", list(procfs.TCPTimeWaitOverflow)},
	{"qdisc_drops", "", "a queueing discipline dropped packets", "look at tc -s qdisc", list(procfs.QdiscDrops)},
	{"device_drops", "", "a network device dropped packets", "look at ip -s link and ethtool -S", list(procfs.DeviceRxDropped, procfs.DeviceTxDropped, procfs.DeviceRxErrors, procfs.DeviceTxErrors)},
	{"conntrack_drops", "", "connection tracking dropped packets", "raise net.netfilter.nf_conntrack_max, or do not track the run's connections", list(procfs.ConntrackDrop, procfs.ConntrackInsertFailed, procfs.ConntrackEarlyDrop)},
	{"softnet_drops", "", "a CPU's receive queue was full", "raise net.core.netdev_max_backlog", list(procfs.SoftnetDropped, procfs.SoftnetFlowLimit)},
}

func list(counters ...procfs.Counter) []procfs.Counter { return counters }

// support adds what was counted for more than the run's own sockets, and what the
// observer itself lost.
func (w *weighing) support() {
	for i := range supports {
		s := &supports[i]
		if _, known := w.delta.Total.Get(s.unless); known {
			continue
		}
		scope, counts, subject := ScopeNamespace, w.delta.Namespace, "network namespace"
		if s.counters[0].Scope() == procfs.Host {
			scope, counts, subject = ScopeHost, w.delta.Host, "machine"
		}
		var sum uint64
		var parts []string
		for _, k := range s.counters {
			if n := counts[Counter(k.String())]; n > 0 {
				sum += n
				parts = append(parts, fmt.Sprintf("%s %d", k, n))
			}
		}
		if sum == 0 {
			continue
		}
		w.list = append(w.list, Finding{
			Code: s.code, Subject: subject, Count: int64(counts[Counter(s.counters[0].String())]), Scope: scope, Sure: Measured,
			Evidence: "of the run's own sockets or others: " + s.says + ": " + strings.Join(parts, ", "), Advice: s.advice, Source: "/proc/net",
		})
	}
	for _, what := range slices.Sorted(maps.Keys(w.delta.Lost)) {
		switch n := w.delta.Lost[what]; {
		case n == 0 || harmless[what]:
		case what == Retransmits:
			w.list = append(w.list, Finding{
				Code: "observer_losses", Subject: "observer", Count: int64(n), Scope: ScopeNamespace, Sure: Measured, Source: "/proc/net",
				Evidence: fmt.Sprintf("of the run's own sockets or others: %d segments were sent again without the kernel running the BPF programs", n),
				Advice:   "look at RetransSegs, which has them",
			})
		default:
			w.list = append(w.list, Finding{
				Code: "observer_losses", Subject: "observer", Count: int64(n), Scope: ScopeHost, Sure: Measured, Source: "BPF map " + string(what),
				Evidence: fmt.Sprintf("%d entries of %q could not be recorded: its map was full", n, what),
				Advice:   "observe fewer ports or addresses at once",
			})
		}
	}
}
