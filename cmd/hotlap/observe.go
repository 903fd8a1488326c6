package main

import (
	"errors"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"hotlap/cmd/internal/observe"
	"hotlap/engine"
)

// observeUsage is the same in bench and fetch, but for the default.
const observeUsage = `Observation (what the kernel does to the run's sockets; see hotlap watch --help):
        --observe auto|off|on|deep   auto: as much as kernel and privileges allow; on:
                             with BPF programs (CAP_BPF, CAP_PERFMON), or exit 1; deep:
                             exact peaks of accept queues and searches for local ports
                             too, at some cost for each connection (`

const runStatsUsage = `        --run-stats          measure what the BPF programs cost; it slows all of the
                             machine's, and needs CAP_SYS_ADMIN
`

// observeOptions is what the command line says about observing the kernel.
type observeOptions struct {
	mode     string
	runStats bool
}

func (o *observeOptions) flags(f *pflag.FlagSet, mode observe.Mode) {
	o.mode = string(mode)
	f.Var(choice{&o.mode, []string{string(observe.Auto), string(observe.Off), string(observe.On), string(observe.Deep)}}, "observe", "")
	f.BoolVar(&o.runStats, "run-stats", false, "")
}

// check looks for what does not go together.
func (o *observeOptions) check(c *engine.Config) error {
	switch {
	case o.runStats && o.mode == string(observe.Off):
		return errors.New("--run-stats is of an observer: give --observe too")
	case c.UnixSocket == "":
		return nil
	case o.mode == string(observe.Auto):
		o.mode = string(observe.Off)
	case o.mode != string(observe.Off):
		return errors.New("--observe and --unix-socket exclude each other: only TCP is observed")
	}
	return nil
}

// open begins to observe connections for these URLs, as far as they are known
// before the run.
func (o *observeOptions) open(c *engine.Config, urls func(yield func(string) bool)) (*observe.Watch, error) {
	return observe.Open(observe.Options{Mode: observe.Mode(o.mode), Ports: portsOf(c, urls), RunStats: o.runStats})
}

// portsOf are the ports that connections for these URLs go to; nil if that is
// not known of one of them.
func portsOf(c *engine.Config, urls func(yield func(string) bool)) (ports []uint16) {
	add := func(port uint16) {
		if port != 0 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	seen := map[string]bool{} // schemes and hosts
	for raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return nil
		}
		origin := u.Scheme + "://" + u.Host
		if seen[origin] {
			continue
		}
		seen[origin] = true
		port, ok := portOf(c, u)
		if !ok || len(seen) > maxOrigins {
			return nil
		}
		add(port)
	}
	for _, r := range c.ConnectTo {
		add(r.ToPort)
	}
	slices.Sort(ports)
	return ports
}

// maxOrigins bounds the origins that are looked at.
const maxOrigins = 100_000

// portOf is the port of a URL, or of the proxy that is asked for it.
func portOf(c *engine.Config, u *url.URL) (uint16, bool) {
	known := map[string]uint16{"http": 80, "https": 443}
	if c.Proxy != nil {
		proxy, err := c.Proxy(u)
		if err != nil {
			return 0, false
		}
		if proxy != nil {
			u, known = proxy, map[string]uint16{"http": 8080, "socks5": 1080, "socks5h": 1080}
		}
	}
	if u.Port() == "" {
		port, ok := known[u.Scheme]
		return port, ok
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return uint16(port), err == nil
}
