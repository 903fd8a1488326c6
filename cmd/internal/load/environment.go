package load

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls are those that matter for what a client or a server on this machine
// can do.
var sysctls = []string{
	"net.core.default_qdisc",
	"net.core.netdev_max_backlog",
	"net.core.somaxconn",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_congestion_control",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_max_syn_backlog",
	"net.ipv4.tcp_max_tw_buckets",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_slow_start_after_idle",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_timestamps",
	"net.ipv4.tcp_tw_reuse",
	"net.ipv4.tcp_wmem",
}

// ReadEnvironment looks at the machine.
func ReadEnvironment() Environment {
	e := Environment{
		CPUs: onlineCPUs(), AllowedCPU: runtime.NumCPU(), Go: runtime.Version(), Sysctls: map[string]string{},
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		e.CPU = field(string(b), "model name", "Model", "Processor")
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		e.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		e.NoFile = lim.Cur
	}
	for _, key := range sysctls {
		if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
			e.Sysctls[key] = strings.Join(strings.Fields(string(b)), " ")
		}
	}
	if b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource"); err == nil {
		e.Sysctls["clocksource"] = strings.TrimSpace(string(b))
	}
	return e
}

// onlineCPUs are those of the machine, whichever the process may run on.
func onlineCPUs() int {
	b, _ := os.ReadFile("/proc/stat")
	n := 0
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "cpu"); ok && rest[0] != ' ' {
			n++
		}
	}
	return n
}

// field is the value of the first of the named lines of /proc/cpuinfo.
func field(text string, names ...string) string {
	for _, name := range names {
		for line := range strings.Lines(text) {
			key, value, ok := strings.Cut(line, ":")
			if ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
	}
	return ""
}
