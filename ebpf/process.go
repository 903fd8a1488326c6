package ebpf

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// ownersOf finds which processes have sockets, as far as it may look at them.
// Of several that share one (a server's workers) it names the one with the lowest number.
func ownersOf(inodes map[uint32]int) {
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
			if owner, wanted := inodes[inode]; wanted && (owner == 0 || pid < owner) {
				inodes[inode] = pid
			}
		}
	}
}

// unmapped is an address with IPv4 as IPv4, also where an IPv6 socket has it.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
