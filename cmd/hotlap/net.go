package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/net/http/httpproxy"

	"hotlap/engine"
)

// netOptions is what the command line says about where connections go, and
// where from.
type netOptions struct {
	proxy   string
	user    string
	v4, v6  bool
	servers []netip.AddrPort
	ttl     time.Duration
}

func (o *netOptions) flags(f *pflag.FlagSet, c *engine.Config) {
	c.Resolve = make(map[engine.HostPort][]netip.Addr)
	f.StringVar(&o.proxy, "proxy", "", "")
	f.StringVarP(&o.user, "user", "u", "", "")
	f.BoolVarP(&o.v4, "ipv4", "4", false, "")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "")
	f.Var(each(func(s string) error { return addResolve(c.Resolve, s) }), "resolve", "")
	f.Var(each(func(s string) error { return addConnectTo(&c.ConnectTo, s) }), "connect-to", "")
	f.Var(each(o.addServer), "dns-servers", "")
	f.Var(limit{&o.ttl}, "dns-ttl", "")
	f.StringVar(&c.UnixSocket, "unix-socket", "", "")
	f.Var(each(func(s string) error { return addSource(&c.Sources, s) }), "source-ip", "")
	f.StringVar(&c.Interface, "interface", "", "")
}

// each is a flag that is given a value at a time.
type each func(s string) error

func (each) String() string       { return "" }
func (each) Type() string         { return "VALUE" }
func (e each) Set(s string) error { return e(s) }

// apply puts what goes together into the engine's configuration.
func (o *netOptions) apply(f *pflag.FlagSet, c *engine.Config) error {
	switch {
	case o.v4 && o.v6:
		return fmt.Errorf("-4 and -6 exclude each other")
	case o.v4:
		c.IPVersion = 4
	case o.v6:
		c.IPVersion = 6
	}
	c.DNSTTL = o.ttl
	if len(o.servers) > 0 {
		c.Resolver = engine.ResolverOf(o.servers)
	}
	if f.Changed("user") {
		value, err := engine.BasicAuth(o.user)
		if err != nil {
			return fmt.Errorf("-u: %w", err)
		}
		own := func(f engine.Field) bool { return strings.EqualFold(f.Name, "Authorization") }
		if !slices.ContainsFunc(c.Header, own) { // -H says it otherwise
			c.Header = append(c.Header, engine.Field{Name: "Authorization", Value: value})
		}
	}
	if f.Changed("unix-socket") && c.UnixSocket == "" {
		return fmt.Errorf("--unix-socket needs a path")
	}
	return o.chooseProxy(f, c)
}

// chooseProxy takes --proxy, or else what the environment says. Upper-case
// HTTP_PROXY is ignored: a CGI script's environment has it from its client.
func (o *netOptions) chooseProxy(f *pflag.FlagSet, c *engine.Config) error {
	if c.UnixSocket != "" {
		if o.proxy != "" {
			return fmt.Errorf("--proxy and --unix-socket exclude each other")
		}
		return nil
	}
	if !f.Changed("proxy") {
		env := environmentProxies()
		if *env == (httpproxy.Config{NoProxy: env.NoProxy}) {
			return nil
		}
		for _, raw := range []string{env.HTTPProxy, env.HTTPSProxy} { // ProxyFunc passes over what it cannot read
			if _, err := parseProxy(raw); err != nil {
				return fmt.Errorf("proxy in the environment: %w", err)
			}
		}
		c.Proxy = env.ProxyFunc()
		return nil
	}
	if o.proxy == "" {
		return nil
	}
	u, err := parseProxy(o.proxy)
	if err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	if err := engine.CheckProxy(u); err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	c.Proxy = func(*url.URL) (*url.URL, error) { return u, nil }
	return nil
}

func parseProxy(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil { // its text would show the password
		return nil, errors.New("not a URL such as http://user:password@host:3128")
	}
	return u, nil
}

func environmentProxies() *httpproxy.Config {
	first := func(names ...string) string {
		for _, n := range names {
			if v := os.Getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	return &httpproxy.Config{
		HTTPProxy:  first("http_proxy", "all_proxy", "ALL_PROXY"),
		HTTPSProxy: first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
		NoProxy:    first("no_proxy", "NO_PROXY"),
	}
}

// addResolve reads HOST:PORT:ADDR[,ADDR]...
func addResolve(to map[engine.HostPort][]netip.Addr, s string) error {
	host, rest, ok := cutHost(s)
	port, list, ok2 := strings.Cut(rest, ":")
	n, err := parsePort(port)
	if !ok || !ok2 || err != nil {
		return fmt.Errorf("%q: want HOST:PORT:ADDRESS, such as example.com:443:127.0.0.1", s)
	}
	var addrs []netip.Addr
	for one := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(strings.Trim(one, "[]"))
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%q: %q is no address", s, one)
		}
		addrs = append(addrs, a.Unmap())
	}
	if host, err = engine.ASCIIHost(host); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	to[engine.HostPort{Host: host, Port: n}] = addrs
	return nil
}

// addConnectTo reads HOST1:PORT1:HOST2:PORT2, any of which may be empty.
func addConnectTo(to *[]engine.ConnectRule, s string) error {
	bad := fmt.Errorf("%q: want HOST1:PORT1:HOST2:PORT2, such as example.com:443:127.0.0.1:8443", s)
	var r engine.ConnectRule
	var err1, err2 error
	host, rest, ok1 := cutHost(s)
	port, rest, ok2 := strings.Cut(rest, ":")
	toHost, toPort, ok3 := cutHost(rest)
	for _, h := range []*string{&host, &toHost} {
		if *h != "" {
			ascii, err := engine.ASCIIHost(*h)
			if err != nil {
				return bad
			}
			*h = ascii
		}
	}
	r.Host, r.ToHost = host, toHost
	if r.Port, err1 = 0, nil; port != "" {
		r.Port, err1 = parsePort(port)
	}
	if r.ToPort, err2 = 0, nil; toPort != "" {
		r.ToPort, err2 = parsePort(toPort)
	}
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil {
		return bad
	}
	*to = append(*to, r)
	return nil
}

// cutHost cuts a host off, which may be an IPv6 address in brackets.
func cutHost(s string) (host, rest string, ok bool) {
	if strings.HasPrefix(s, "[") {
		host, rest, ok = strings.Cut(s[1:], "]:")
		return host, rest, ok
	}
	return strings.Cut(s, ":")
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// addServer reads ADDR[:PORT][,...].
func (o *netOptions) addServer(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		if a, err := netip.ParseAddr(strings.Trim(one, "[]")); err == nil {
			o.servers = append(o.servers, netip.AddrPortFrom(a, 53))
			continue
		}
		a, err := netip.ParseAddrPort(one)
		if err != nil || a.Port() == 0 {
			return fmt.Errorf("%q is no address of a DNS server, such as 127.0.0.1 or 127.0.0.1:5353", one)
		}
		o.servers = append(o.servers, a)
	}
	return nil
}

// addSource reads ADDR or ADDR/BITS, several separated by commas.
func addSource(to *[]netip.Prefix, s string) error {
	for one := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(one)
		if err != nil {
			a, err := netip.ParseAddr(one)
			if err != nil || a.Zone() != "" {
				return fmt.Errorf("%q is no address or network, such as 127.0.0.2 or 127.0.0.0/29", one)
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		*to = append(*to, p)
	}
	return nil
}
