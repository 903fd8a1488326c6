package main

import (
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"

	"hotlap/ebpf/tune"
	"hotlap/engine"
)

// warnBeforehand says in a line why a run cannot work, where that is certain: not
// where a rate decides how many connections there will be. Requests is how many
// there are, 0 for no end to see. Who wants no progress wants no such line either.
func warnBeforehand(std *stdio, role tune.Role, c *engine.Config, urls []string, requests int64, progress string) {
	if progress == "never" || c.UnixSocket != "" || c.Rate > 0 || c.HostRate > 0 {
		return
	}
	// Connections are taken as kept alive: with Connection: close the engine lets
	// the server close first, and then no port of ours waits.
	origins, places := destinations(urls, c, sync.OnceValue(readHosts))
	l := tune.Load{For: role, Connections: c.Connections, Sources: sources(c.Sources), Destinations: places}
	if requests > 0 {
		l.Connections = int(min(int64(c.Connections), requests))
	}
	if places == 0 { // as many as there are connections: no port is missed
		l.Destinations = l.Connections
	} else {
		l.Connections = min(l.Connections, c.PerHost*origins)
	}
	if w := tune.Warning(l); w != "" {
		std.complain(string(role), "warning: %s", w)
	}
}

// sources is how many source addresses there are.
func sources(prefixes []netip.Prefix) (n int) {
	const most = 1 << 20
	for _, p := range prefixes {
		n += 1 << min(p.Addr().BitLen()-p.Bits(), 20)
	}
	return min(n, most)
}

// destinations counts the origins of the URLs, and the addresses and ports that
// connections to them may go to: 0 for unknown, as a name that only DNS knows may have
// any number of addresses, and so may what the connections go to instead.
func destinations(urls []string, c *engine.Config, hosts func() map[string][]netip.Addr) (origins, places int) {
	seen, all := map[string]bool{}, map[netip.AddrPort]bool{}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || len(c.ConnectTo) > 0 {
			return 0, 0
		}
		if c.Proxy != nil {
			if proxy, err := c.Proxy(u); proxy != nil || err != nil {
				return 0, 0
			}
		}
		port, ok := portOf(c, u)
		if !ok {
			return 0, 0
		}
		to := engine.HostPort{Host: strings.ToLower(u.Hostname()), Port: port}
		origin := u.Scheme + "://" + to.String()
		if seen[origin] {
			continue
		}
		seen[origin] = true
		addrs := addressesOf(c, to, hosts)
		if len(addrs) == 0 {
			return 0, 0
		}
		for _, a := range addrs {
			all[a] = true
		}
	}
	return len(seen), len(all)
}

// addressesOf are those of a host, without asking DNS; nil for unknown.
func addressesOf(c *engine.Config, to engine.HostPort, hosts func() map[string][]netip.Addr) (all []netip.AddrPort) {
	addrs, given := c.Resolve[to]
	if a, err := netip.ParseAddr(to.Host); !given && err == nil {
		addrs = []netip.Addr{a}
	} else if !given {
		addrs = hosts()[to.Host]
	}
	for _, a := range addrs {
		if a = a.Unmap(); c.IPVersion == 0 || a.Is4() == (c.IPVersion == 4) {
			all = append(all, netip.AddrPortFrom(a, to.Port))
		}
	}
	return tune.Reachable(all)
}

// readHosts are the names in /etc/hosts, as are looked up before DNS is asked.
// localhost is known without (RFC 6761 section 6.3).
func readHosts() map[string][]netip.Addr {
	text, _ := os.ReadFile("/etc/hosts") // without it names are not known
	return parseHosts(string(text))
}

func parseHosts(text string) map[string][]netip.Addr {
	all := map[string][]netip.Addr{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = strings.ToLower(name)
			all[name] = append(all[name], a)
		}
	}
	if all["localhost"] == nil {
		all["localhost"] = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	}
	return all
}
