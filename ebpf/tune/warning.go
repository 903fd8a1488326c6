package tune

import (
	"math"

	"golang.org/x/sys/unix"
)

// Warning is a line about why a load that is about to begin cannot work, or "".
// It is for programs that send the load themselves: only what is certain is said,
// and reading the machine takes a millisecond.
func Warning(l Load) string {
	m := &Machine{Sysctls: map[string]string{}, MemoryBytes: math.MaxInt64, AvailableBytes: math.MaxInt64}
	m.readSysctls()
	m.readSockets()
	m.readMemory()
	var lim unix.Rlimit
	m.Files = FileLimit{math.MaxInt64, math.MaxInt64}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		m.Files = FileLimit{lim.Max, lim.Max}
	}
	return warning(l, m)
}

func warning(l Load, m *Machine) string {
	for _, r := range Preflight(l, m) {
		if !r.OK && r.Certain {
			return "this load cannot work: " + r.Name + ": " + r.Says + ": " + r.Advice()
		}
	}
	return ""
}
