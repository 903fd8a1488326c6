package tune

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
	"hotlap/ebpf/internal/netlink"
	"hotlap/ebpf/internal/procfs"
)

// read beside the knobs: what needs and facts are computed from.
var alsoRead = []string{conntrackCount, conntrackWait, "net.ipv4.tcp_mem", "net.ipv4.tcp_available_congestion_control"}

// ReadMachine reads the machine, and the calling thread's network namespace. What
// cannot be read is absent, and named in Unseen.
func ReadMachine() *Machine {
	m := &Machine{Sysctls: map[string]string{}, Initial: initialNamespace()}
	m.readSysctls()
	m.readFiles()
	m.readSockets()
	m.readCounters()
	m.readMemory()
	m.readProcessors()
	m.readQdiscs()
	m.NodePorts = kubernetes("/")
	return m
}

// initialNamespace: only the first network namespace shows the settings that are
// the machine's.
func initialNamespace() bool {
	_, err := os.Stat(sysctlFile("net.core.netdev_max_backlog"))
	return err == nil
}

func (m *Machine) missing(what string, err error) {
	if err != nil {
		m.Unseen = append(m.Unseen, fmt.Sprintf("%s: %v", what, err))
	}
}

func (m *Machine) readSysctls() {
	names := slices.Clone(alsoRead)
	for i := range Knobs {
		names = append(names, Knobs[i].Name)
	}
	for _, name := range names {
		value, err := Read(name)
		if err == nil {
			m.Sysctls[name] = value
		}
		if name == portRange { // what ports allow is then not said
			m.missing("local ports", err)
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
}

// readFiles asks a shell for the soft limit. That of this process has been raised
// by the syscall package when it was initialised, which puts the old one back in
// the programs it starts.
func (m *Machine) readFiles() {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		m.missing("RLIMIT_NOFILE", err)
		return
	}
	m.Files = FileLimit{Soft: lim.Max, Hard: lim.Max}
	out, err := exec.Command("/bin/sh", "-c", "ulimit -Sn").Output()
	if text := strings.TrimSpace(string(out)); err == nil && text != "unlimited" {
		m.Files.Soft, err = strconv.ParseUint(text, 10, 64)
	}
	m.missing("the shell's ulimit -Sn", err)
}

func (m *Machine) readSockets() {
	c, err := diag.Open()
	if err != nil {
		m.missing("listeners", err)
		return
	}
	defer c.Close()
	all, err := c.Listeners(nil)
	m.missing("listeners", err)
	for i := range all {
		l := &all[i]
		m.Listeners = append(m.Listeners, Listener{Address: l.Local, Backlog: l.Limit, Waiting: l.Queue, Drops: l.Memory.Drops})
	}
	for _, name := range []string{"udp", "udp6"} {
		if b, err := os.ReadFile("/proc/thread-self/net/" + name); err == nil {
			m.UDPPorts = append(m.UDPPorts, udpPorts(string(b))...)
		}
	}
}

// udpPorts are the local ports in /proc/net/udp or udp6: column 2 is the address
// and the port, in hexadecimal.
func udpPorts(table string) (ports []uint16) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasSuffix(f[0], ":") {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}

func (m *Machine) readCounters() {
	r, err := procfs.Open()
	if err != nil {
		m.missing("counters", err)
		return
	}
	defer r.Close()
	var c procfs.Counters
	if err := r.Read(&c); err != nil {
		m.missing("counters", err)
		return
	}
	m.SoftnetDrops, _ = c.Get(procfs.SoftnetDropped)
	m.Packets = packets()
	pages, _ := c.Get(procfs.TCPMemory)
	m.TCPPages = int64(pages)
}

// packets adds up the first column of softnet_stat, in hexadecimal, of all CPUs.
func packets() (n uint64) {
	b, _ := os.ReadFile("/proc/net/softnet_stat")
	for line := range strings.Lines(string(b)) {
		first, _, _ := strings.Cut(line, " ")
		v, _ := strconv.ParseUint(first, 16, 64)
		n += v
	}
	return n
}

func (m *Machine) readMemory() {
	b, err := os.ReadFile("/proc/meminfo")
	m.missing("memory", err)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			m.MemoryBytes = kib << 10
		case "MemAvailable:":
			m.AvailableBytes = kib << 10
		}
	}
}

func (m *Machine) readProcessors() {
	m.AllowedCPUs = runtime.NumCPU()
	b, err := os.ReadFile("/proc/stat")
	m.missing("CPU times", err)
	m.CPUs, m.Steal = processors(string(b))
	m.CPUQuota = quota()
	b, err = os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	m.missing("clocksource", err)
	m.Clocksource = strings.TrimSpace(string(b))
}

// processors reads /proc/stat: the CPUs that are online, and the share of their
// time that was stolen.
func processors(stat string) (cpus int, steal float64) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		switch {
		case len(f) < 9 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] != "cpu":
			cpus++
		default:
			// user nice system idle iowait irq softirq steal; guest time is in user.
			var all, stolen float64
			for i, v := range f[1:9] {
				n, _ := strconv.ParseFloat(v, 64)
				all += n
				if i == 7 {
					stolen = n
				}
			}
			if all > 0 {
				steal = stolen / all
			}
		}
	}
	return cpus, steal
}

// quota is how many CPUs this process's cgroup, or one above it, may use; 0
// without a limit.
func quota() (cpus float64) {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for dir := range cgroups(string(groups), string(mounts)) {
		var most, period string
		if b, err := os.ReadFile(dir + "/cpu.max"); err == nil {
			most, period, _ = strings.Cut(strings.TrimSpace(string(b)), " ")
		} else {
			m, err1 := os.ReadFile(dir + "/cpu.cfs_quota_us")
			p, err2 := os.ReadFile(dir + "/cpu.cfs_period_us")
			if errors.Join(err1, err2) != nil {
				continue
			}
			most, period = strings.TrimSpace(string(m)), strings.TrimSpace(string(p))
		}
		m, err1 := strconv.ParseFloat(most, 64) // "max", or -1: no limit
		p, err2 := strconv.ParseFloat(period, 64)
		if err1 == nil && err2 == nil && m > 0 && p > 0 && (cpus == 0 || m/p < cpus) {
			cpus = m / p
		}
	}
	return cpus
}

// cgroups gives the directories of the process's cgroup of CPU time and of those
// above it, of version 2 and of version 1, wherever they are mounted.
func cgroups(groups, mounts string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(mounts) {
			mount, fs, ok := strings.Cut(strings.TrimSpace(line), " - ")
			m, f := strings.Fields(mount), strings.Fields(fs)
			if !ok || len(m) < 5 || len(f) < 3 {
				continue
			}
			v1 := f[0] == "cgroup" && slices.Contains(strings.Split(f[2], ","), "cpu")
			if !v1 && f[0] != "cgroup2" {
				continue
			}
			for line := range strings.Lines(groups) {
				g := strings.SplitN(strings.TrimSpace(line), ":", 3)
				if len(g) != 3 || (g[1] == "") == v1 || v1 && !slices.Contains(strings.Split(g[1], ","), "cpu") {
					continue
				}
				at, _ := strings.CutPrefix(g[2], strings.TrimSuffix(m[3], "/")) // a mount may begin at a cgroup
				for at = path.Clean("/" + at); ; at = path.Dir(at) {
					if !yield(m[4] + at) {
						return
					}
					if at == "/" {
						break
					}
				}
			}
		}
	}
}

// Of linux/rtnetlink.h.
const (
	tcMessageBytes = 20 // struct tcmsg
	tcIndex        = 4  // offsets in it
	tcParent       = 12
	tcRoot         = 0xFFFFFFFF
	tcaKind        = 1
)

func (m *Machine) readQdiscs() {
	c, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		m.missing("queueing disciplines", err)
		return
	}
	defer c.Close()
	m.Qdiscs = map[string]string{}
	var all [tcMessageBytes]byte
	err = c.Dump(unix.RTM_GETQDISC, all[:], func(_ uint16, b []byte) error {
		if len(b) < tcMessageBytes {
			return netlink.ErrMalformed
		}
		if binary.NativeEndian.Uint32(b[tcParent:]) != tcRoot {
			return nil
		}
		device, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(b[tcIndex:])))
		if err != nil {
			return nil // it has gone meanwhile
		}
		return netlink.Attributes(b[tcMessageBytes:], func(kind uint16, v []byte) {
			if kind == tcaKind {
				m.Qdiscs[device.Name] = unix.ByteSliceToString(v)
			}
		})
	})
	m.missing("queueing disciplines", err)
}

// kubernetes says whether a node of it seems to be here.
func kubernetes(root string) bool {
	for _, dir := range []string{"var/lib/kubelet", "etc/kubernetes", "var/lib/rancher/k3s"} {
		if _, err := os.Stat(path.Join(root, dir)); err == nil {
			return true
		}
	}
	return false
}
