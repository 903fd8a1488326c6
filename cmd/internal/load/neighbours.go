package load

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SharesCPUs says whether a server that listens on this machine at one of the
// addresses may run on the CPUs of this process; nil if none listens here or
// its process is not to be seen.
func SharesCPUs(addrs []netip.AddrPort) *bool {
	inodes := map[string]bool{}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		if b, err := os.ReadFile(name); err == nil {
			listeners(string(b), addrs, inodes)
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	var own unix.CPUSet
	if unix.SchedGetaffinity(0, &own) != nil {
		return nil
	}
	var shares *bool
	for _, pid := range holders(inodes) {
		var theirs unix.CPUSet
		if unix.SchedGetaffinity(pid, &theirs) != nil {
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

// listeners adds the inodes of sockets that listen at one of the addresses, or
// at all, to the set: of a /proc/net/tcp or tcp6.
func listeners(table string, addrs []netip.AddrPort, inodes map[string]bool) {
	const listen = "0A" // include/net/tcp_states.h
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listen {
			continue
		}
		local, err := parseAddress(f[1])
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if local.Port() == a.Port() && (local.Addr().IsUnspecified() || local.Addr() == a.Addr().Unmap()) {
				inodes[f[9]] = true
			}
		}
	}
}

// parseAddress reads ADDRESS:PORT as /proc/net/tcp has it: hexadecimal, 32 bits
// at a time in the byte order of the machine, which is little-endian on all that
// we build for.
func parseAddress(s string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	a, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// processesMost is how many processes are looked at.
const processesMost = 100_000

// holders are the processes that have one of the sockets, but not this one. Of
// those of other users only root can tell.
func holders(inodes map[string]bool) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs[:min(len(dirs), processesMost)] {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		files, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}
		for _, f := range files {
			link, err := os.Readlink(filepath.Join(dir, "fd", f.Name()))
			inode, ok := strings.CutPrefix(link, "socket:[")
			if err == nil && ok && inodes[strings.TrimSuffix(inode, "]")] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
