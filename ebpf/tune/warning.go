package tune

import (
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/diag"
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

// Reachable is a name's addresses without those of loopback at which nobody
// listens: connections are refused there, and go to another. One alone stays, and so do
// all of them where nobody listens at any, or that is not to be seen.
func Reachable(addrs []netip.AddrPort) []netip.AddrPort {
	if len(addrs) < 2 {
		return addrs
	}
	c, err := diag.Open()
	if err != nil {
		return addrs
	}
	defer c.Close()
	listeners, err := c.Listeners(nil)
	if err != nil {
		return addrs
	}
	kept := slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool {
		return a.Addr().IsLoopback() && !slices.ContainsFunc(listeners, func(l diag.Listener) bool { return takes(&l, a) })
	})
	if len(kept) == 0 {
		return addrs
	}
	return kept
}

// takes says whether a listener has connections to an address of this machine.
func takes(l *diag.Listener, a netip.AddrPort) bool {
	own, to := l.Local.Addr().Unmap(), a.Addr().Unmap()
	return l.Local.Port() == a.Port() && (own == to || own.IsUnspecified() && (own.Is4() == to.Is4() || own.Is6() && !l.V6Only))
}
