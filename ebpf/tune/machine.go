package tune

import (
	"net/netip"
	"strconv"
	"strings"
)

// Machine is what matters of the machine and of one network namespace, at the
// time it was read.
type Machine struct {
	Kernel string `json:"kernel"`
	// Initial: this is the initial network namespace, whose settings include the
	// machine's.
	Initial bool `json:"initial_namespace"`
	// Sysctls are the values by name. One that this kernel or namespace does not
	// show is absent.
	Sysctls map[string]string `json:"sysctls"`
	// Files is RLIMIT_NOFILE as this process was given it: the runtime of Go raises
	// its own soft limit to the hard one.
	Files FileLimit `json:"rlimit_nofile"`
	// Listeners are the TCP sockets that listen.
	Listeners []Listener `json:"listeners"`
	// UDPPorts are local ports of UDP sockets.
	UDPPorts []uint16 `json:"udp_ports"`
	// NodePorts: Kubernetes runs here, and may give out ports 30000 to 32767.
	NodePorts bool `json:"node_ports"`

	MemoryBytes    int64 `json:"memory_bytes"`           // in all
	AvailableBytes int64 `json:"memory_available_bytes"` // MemAvailable of /proc/meminfo

	CPUs        int     `json:"cpus"`         // that are online
	AllowedCPUs int     `json:"allowed_cpus"` // that this process may run on
	CPUQuota    float64 `json:"cpu_quota"`    // CPUs that its cgroup may use; 0 is no limit
	Steal       float64 `json:"steal"`        // share of CPU time since boot that the hypervisor gave to others
	Clocksource string  `json:"clocksource"`
	TCPPages    int64   `json:"tcp_memory_pages"` // that all TCP sockets of the machine use
	// Packets received since boot, and those that found net.core.netdev_max_backlog
	// reached.
	Packets      uint64 `json:"softnet_processed"`
	SoftnetDrops uint64 `json:"softnet_dropped"`

	Qdiscs map[string]string `json:"qdiscs"` // the root queueing discipline by device

	// Unseen is what could not be read, and why.
	Unseen []string `json:"unseen,omitempty"`
}

// FileLimit is a limit of open files.
type FileLimit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Listener is a TCP socket in LISTEN.
type Listener struct {
	Address netip.AddrPort `json:"address"`
	// Backlog is what listen(2) was given, cut to somaxconn: one more connection
	// than that fits into the queue.
	Backlog uint32 `json:"backlog"`
	Waiting uint32 `json:"waiting"` // connections in the queue
	Drops   uint32 `json:"drops"`   // SYNs refused since it began
}

// numbers reads a sysctl of whole numbers; nil if it is absent or none.
func (m *Machine) numbers(name string) []int {
	var all []int
	for _, f := range strings.Fields(m.Sysctls[name]) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// number reads a sysctl of one number; otherwise is for one that is absent.
func (m *Machine) number(name string, otherwise int) int {
	if all := m.numbers(name); len(all) == 1 {
		return all[0]
	}
	return otherwise
}
