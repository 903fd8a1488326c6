package load

import (
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"hotlap/ebpf"
)

// figures are what Judge wants to know of the client.
func (r *Report) figures() ebpf.ClientFigures {
	c := ebpf.ClientFigures{
		Elapsed: seconds(r.Seconds), Requests: r.Requests, Failed: r.Requests - r.Responses + r.NonOK,
		Open: r.Load.Loop == OpenLoop, Asked: r.Rates.Asked, Achieved: r.Rates.Responses,
		Held: r.Client.Held, Unsent: r.Unsent, Late: r.Client.Late, Lingered: r.Client.Lingered,
		Busy: r.Client.Busy, RunQueue: -1, Throttled: -1, Steal: -1,
		CPU: r.needed(), CPUs: r.Environment.AllowedCPU,
		Targets: r.addresses(), MoreTargets: len(r.Peers) == peersMost, Connections: r.Load.Connections,
		Loopback: r.Load.Local, ServerCPUs: r.Client.SharesCPUs != nil && *r.Client.SharesCPUs,
	}
	if t := r.ResponseTime; t != nil {
		c.P99, c.AboveP99 = micros(t.P99), t.aboveP99()
	}
	// Bodies that fit in the first congestion window (RFC 6928) come with the
	// first byte.
	if t := r.ServiceTime; t != nil && r.Bytes.Body <= firstWindow*r.Responses {
		c.FirstByte = micros(t.P50)
	}
	if v := r.Client.RunQueue; v != nil {
		c.RunQueue = seconds(*v)
	}
	if v := r.Client.Throttled; v != nil {
		c.Throttled = seconds(*v)
	}
	if v := r.Client.Steal; v != nil {
		c.Steal = *v
	}
	return c
}

// needed is the CPU time without what was not taken by requests: polling for
// what is due, and the observer.
func (r *Report) needed() time.Duration {
	c := &r.Client
	return max(0, seconds(c.User+c.System-c.Spun)-r.Kernel.CPU(seconds(r.Seconds)))
}

// addresses are those that were connected to, and where some requests failed
// also those that the first targets name.
func (r *Report) addresses() []netip.AddrPort {
	all := slices.Clone(r.Peers)
	if len(r.Errors) == 0 && len(all) > 0 {
		return all
	}
	for _, target := range r.Load.Targets {
		if at, ok := literal(target); ok && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// literal is the address of a URL that has one, not a name.
func literal(target string) (at netip.AddrPort, ok bool) {
	u, err := url.Parse(target)
	if err != nil {
		return at, false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	at, err = netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	return at, err == nil
}

// firstWindow is how many bytes a server sends before it waits for an ACK: ten
// segments of 1460.
const firstWindow = 14600

// aboveP99 is how many times were longer than the 99th percentile: one in a
// hundred, or fewer where many are as long as that one.
func (l *Latency) aboveP99() int64 {
	share := 1.0
	for _, point := range l.Curve {
		if point[1] <= l.P99 {
			share = min(share, 100-point[0])
		}
	}
	return int64(math.Round(share / 100 * float64(l.Count)))
}

func micros(us float64) time.Duration { return time.Duration(us * 1e3) }
