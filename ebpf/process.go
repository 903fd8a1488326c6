package ebpf

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hotlap/ebpf/internal/diag"
)

// socketInodes returns the inodes of a process's sockets.
func socketInodes(pid int) (map[uint32]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	inodes := map[uint32]bool{}
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			continue // closed meanwhile
		}
		number, isSocket := strings.CutPrefix(target, "socket:[")
		if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32); isSocket && err == nil {
			inodes[uint32(inode)] = true
		}
	}
	return inodes, nil
}

// eachSocket calls f with the sockets of all processes, as far as it may look at
// them.
func eachSocket(f func(pid int, inode uint32)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		sockets, err := socketInodes(pid)
		if err != nil {
			continue
		}
		for inode := range sockets {
			f(pid, inode)
		}
	}
}

// ownersOf finds which processes have sockets. Of several that share one (a
// server's workers) it names the one with the lowest number.
func ownersOf(inodes map[uint32]int) {
	eachSocket(func(pid int, inode uint32) {
		if owner, wanted := inodes[inode]; wanted && (owner == 0 || pid < owner) {
			inodes[inode] = pid
		}
	})
}

// ServersAt returns the processes that listen at one of the addresses in the
// caller's network namespace, or at all addresses of its port: their numbers, in
// order. Only root sees those of other users. It asks the kernel for listening
// sockets alone (sock_diag), which is cheap however many connections there are.
func ServersAt(addrs []netip.AddrPort) ([]int, error) {
	d, err := diag.Open()
	if err != nil {
		return nil, fmt.Errorf("ebpf: %w", err)
	}
	defer d.Close()
	all, err := d.Listeners(nil)
	if err != nil {
		return nil, fmt.Errorf("ebpf: %w", err)
	}
	inodes := map[uint32]bool{}
	for _, l := range all {
		for _, a := range addrs {
			if serves(&l, unmapped(a)) {
				inodes[l.Inode] = true
			}
		}
	}
	if len(inodes) == 0 {
		return nil, nil
	}
	var pids []int
	eachSocket(func(pid int, inode uint32) {
		if inodes[inode] && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	})
	slices.Sort(pids)
	return pids, nil
}

// serves says whether connections to an address are the listener's.
func serves(l *diag.Listener, to netip.AddrPort) bool {
	at := unmapped(l.Local)
	if at.Port() != to.Port() {
		return false
	}
	if at.Addr().IsUnspecified() {
		return at.Addr().Is4() == to.Addr().Is4() || at.Addr().Is6() && !l.V6Only
	}
	return at.Addr().WithZone("") == to.Addr().WithZone("")
}

// unmapped is an address with IPv4 as IPv4, also where an IPv6 socket has it.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
