package main

import (
	"net"
	"net/netip"
	"net/url"

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
	l := tune.Load{For: role, Connections: c.Connections, Sources: sources(c.Sources), Destinations: destinations(urls, c)}
	if requests > 0 {
		l.Connections = int(min(int64(c.Connections), requests))
	}
	if l.Destinations == 0 { // as many as there are connections: no port is missed
		l.Destinations = l.Connections
	} else {
		l.Connections = min(l.Connections, c.PerHost*l.Destinations)
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

// destinations counts those of the URLs, 0 for unknown: a name may have any number
// of addresses, and so may what the connections go to instead.
func destinations(urls []string, c *engine.Config) int {
	all := map[string]bool{}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || len(c.ConnectTo) > 0 {
			return 0
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			return 0
		}
		if c.Proxy != nil {
			if proxy, err := c.Proxy(u); proxy != nil || err != nil {
				return 0
			}
		}
		all[u.Scheme+net.JoinHostPort(u.Hostname(), u.Port())] = true
	}
	return len(all)
}
