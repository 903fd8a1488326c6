package load

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"hotlap/ebpf"
)

// SharesCPUs says whether a server that listens on this machine at one of the
// addresses may run on the CPUs of this process; nil if none listens here or
// its process is not to be seen.
func SharesCPUs(addrs []netip.AddrPort) *bool {
	pids, err := ebpf.ServersAt(addrs)
	var own unix.CPUSet
	if err != nil || unix.SchedGetaffinity(0, &own) != nil {
		return nil
	}
	var shares *bool
	for _, pid := range pids {
		var theirs unix.CPUSet
		if pid == os.Getpid() || unix.SchedGetaffinity(pid, &theirs) != nil {
			continue
		}
		yes := shares != nil && *shares
		for i := range own {
			yes = yes || own[i]&theirs[i] != 0
		}
		shares = &yes
	}
	return shares
}
