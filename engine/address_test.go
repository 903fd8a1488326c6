package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// Where connections go instead of where the URL says: Host stays the URL's.
func TestConnectTo(t *testing.T) {
	srv := listen(t)
	at := srv.addr()
	there := engine.ConnectRule{ToHost: "127.0.0.1", ToPort: at.Port()}
	to := func(host string, port uint16) engine.ConnectRule {
		r := there
		r.Host, r.Port = host, port
		return r
	}
	elsewhere := engine.ConnectRule{ToHost: "127.0.0.1", ToPort: 1}
	for _, x := range []struct {
		name  string
		rules []engine.ConnectRule
		url   string
		host  string
	}{
		{"host and port", []engine.ConnectRule{to("name.test", 81)}, "http://name.test:81/", "name.test:81"},
		{"any case", []engine.ConnectRule{to("NAME.test", 81)}, "http://name.TEST:81/", "name.test:81"},
		{"any host", []engine.ConnectRule{to("", 80)}, "http://name.test/", "name.test"},
		{"any port", []engine.ConnectRule{to("name.test", 0)}, "http://name.test:65535/", "name.test:65535"},
		{"any", []engine.ConnectRule{to("", 0)}, "http://[2001:db8::1]:81/", "[2001:db8::1]:81"},
		{"an address", []engine.ConnectRule{to("2001:db8::1", 81)}, "http://[2001:db8::1]:81/", "[2001:db8::1]:81"},
		{"the port alone", []engine.ConnectRule{{ToPort: at.Port()}}, "http://127.0.0.1:81/", "127.0.0.1:81"},
		{"the host alone", []engine.ConnectRule{{ToHost: "127.0.0.1"}}, fmt.Sprintf("http://name.test:%d/", at.Port()), fmt.Sprintf("name.test:%d", at.Port())},
		{"the first that matches", []engine.ConnectRule{{Host: "other.test", ToHost: "127.0.0.1", ToPort: 1}, {Port: 82, ToPort: 1}, to("name.test", 81), elsewhere},
			"http://name.test:81/", "name.test:81"},
		{"a name in its place", []engine.ConnectRule{{Host: "name.test", ToHost: "Real.test", ToPort: at.Port()}}, "http://name.test/", "name.test"},
	} {
		t.Run(x.name, func(t *testing.T) {
			dns := resolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
				if host == "real.test" {
					return addrs("127.0.0.1"), nil
				}
				return nil, fmt.Errorf("nobody is to resolve %s", host)
			})
			e := talk(t, engine.Config{ConnectTo: x.rules, Resolver: dns, Omit: []string{"Accept", "User-Agent"}, KeepBody: true})
			end := e.ask(&engine.Request{URL: x.url})[0]
			c := srv.accept()
			wantText(t, "the request", c.heard(), "GET / HTTP/1.1\r\nHost: "+x.host+"\r\n\r\n")
			c.send(ok("here"))
			end.want(200, "here")
			if end.r.Remote != at {
				t.Errorf("remote is %v, want %v", end.r.Remote, at)
			}
		})
	}
}

// The certificate has to be that of the URL's host.
func TestConnectToTLS(t *testing.T) {
	port, trust := startOrigin(t, true, nil)
	trust.ServerName = ""
	rule := engine.ConnectRule{ToHost: "127.0.0.1", ToPort: port}
	e := talk(t, engine.Config{ConnectTo: []engine.ConnectRule{rule}, TLS: trust, KeepBody: true})
	ends := e.ask(&engine.Request{URL: "https://example.com/right"}, &engine.Request{URL: "https://wrong.test/"})
	ends[0].want(200, "/right")
	ends[1].wantError(engine.PhaseTLS, engine.TLS)
}

// resolverFunc is a resolver.
type resolverFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	return f(ctx, host)
}

// Addresses that are given are asked of nobody, for their port alone.
func TestResolve(t *testing.T) {
	srv := listenOn(t, "127.0.0.2:0")
	srv.closedOn("127.0.0.3")
	port := srv.addr().Port()
	dns := &names{err: errors.New("no such host")}
	e := talk(t, engine.Config{Resolver: dns, KeepBody: true, Resolve: map[engine.HostPort][]netip.Addr{
		{Host: "one.test", Port: port}:           addrs("127.0.0.2"),
		{Host: "two.test", Port: port}:           addrs("127.0.0.3", "127.0.0.2"),
		{Host: "xn--bcher-kva.test", Port: port}: addrs("127.0.0.2"),
		{Host: "127.0.0.4", Port: port}:          addrs("127.0.0.2"),
		{Host: "2001:db8::1", Port: port}:        addrs("127.0.0.2"),
		{Host: "one.test", Port: port ^ 1}:       addrs("127.0.0.9"),
		{Host: "else.test", Port: port ^ 1}:      addrs("127.0.0.2"),
		{Host: "nowhere.test", Port: port}:       {},
	}})
	for _, host := range []string{"one.test", "ONE.test", "two.test", "B\u00fccher.test", "127.0.0.4", "[2001:db8::1]"} {
		end := e.ask(srv.named(host, "/"))[0]
		c := srv.accept()
		c.take()
		c.send(ok(host, "Connection: close"))
		end.want(200, host)
		end.wantAttempts(1)
		c.fin()
	}
	if n := dns.asked.Load(); n != 0 {
		t.Errorf("the resolver was asked %d times", n)
	}
	end := e.ask(srv.named("else.test", "/"))[0]
	end.wantError(engine.PhaseDNS, engine.DNS)
	if n := dns.asked.Load(); n != 1 {
		t.Errorf("the resolver was asked %d times for what was given for another port", n)
	}
	end = e.ask(srv.named("nowhere.test", "/"))[0]
	end.wantError(engine.PhaseDNS, engine.DNS)
}

// -4 and -6: addresses of the other family do not count, given ones and
// literals neither.
func TestIPVersion(t *testing.T) {
	srv := listen(t)
	for _, version := range []int{4, 6} {
		six, four := "::1", "127.0.0.1"
		if version == 6 {
			four, six = six, four
		}
		if version == 6 {
			if !haveIPv6() {
				t.Log("no IPv6 on this machine's loopback")
				continue
			}
			srv = listenOn(t, "[::1]:0")
		}
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			dns := resolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
				if host == "both.test" {
					return addrs(six, four), nil // of the wrong family first
				}
				return addrs(six), nil
			})
			port := srv.addr().Port()
			e := talk(t, engine.Config{IPVersion: version, Resolver: dns, KeepBody: true,
				Resolve: map[engine.HostPort][]netip.Addr{
					{Host: "given.test", Port: port}: addrs(six, four),
					{Host: "wrong.test", Port: port}: addrs(six),
				}})
			for _, host := range []string{"both.test", "given.test", literal(four)} {
				end := e.ask(srv.named(host, "/"))[0]
				c := srv.accept()
				c.take()
				c.send(ok(host, "Connection: close"))
				end.want(200, host)
				if end.r.Remote != srv.addr() {
					t.Errorf("%s: remote is %v, want %v", host, end.r.Remote, srv.addr())
				}
				c.fin()
			}
			for _, host := range []string{"other.test", "wrong.test", literal(six)} {
				end := e.ask(srv.named(host, "/"))[0]
				end.wantError(engine.PhaseDNS, engine.DNS)
				end.wantSays(fmt.Sprintf("no IPv%d address", version))
			}
		})
	}
}

// literal is an address as a URL has it.
func literal(a string) string {
	if strings.Contains(a, ":") {
		return "[" + a + "]"
	}
	return a
}

// startUnix runs net/http's server on a unix socket.
func startUnix(t testing.TB, secure bool) (path string, trust *tls.Config) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host+r.RequestURI)
	}))
	srv.Listener.Close()
	srv.Listener = l
	if !secure {
		srv.Start()
	} else {
		srv.StartTLS()
		trust = srv.Client().Transport.(*http.Transport).TLSClientConfig
	}
	t.Cleanup(srv.Close)
	return path, trust
}

// All connections go to the socket, whatever the URLs say.
func TestUnixSocket(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		path, trust := startUnix(t, scheme == "https")
		e := talk(t, engine.Config{UnixSocket: path, TLS: trust, Resolver: noNames(t), KeepBody: true, Pipeline: 4})
		var reqs []*engine.Request
		hosts := []string{"example.com", "a.example.com:81", "127.0.0.1:1"}
		for i := range 300 {
			reqs = append(reqs, &engine.Request{URL: fmt.Sprintf("%s://%s/%d", scheme, hosts[i%3], i)})
		}
		for i, end := range e.ask(reqs...) {
			end.want(200, fmt.Sprintf("%s/%d", hosts[i%3], i))
			if end.r.Remote.IsValid() {
				t.Errorf("remote is %v, a unix socket has none", end.r.Remote)
			}
		}
	})
}

// A socket that nobody listens on, one that is not there, and one whose accept
// queue is full.
func TestUnixSocketRefused(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: full}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for path, errno := range map[string]unix.Errno{full: unix.EAGAIN, dead: unix.ECONNREFUSED, filepath.Join(dir, "none"): unix.ENOENT} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			cleanAfter(t)
			if path == full { // the queue of length 0 holds one
				c, err := net.Dial("unix", full)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			e := talk(t, engine.Config{UnixSocket: path, Retries: 1})
			end := e.ask(&engine.Request{URL: "http://example.com/"})[0]
			end.wantError(engine.PhaseConnect, engine.Connect)
			end.wantAttempts(2)
			end.wantSays("connect to unix socket " + path)
			if !errors.Is(end.r.Err, errno) {
				t.Errorf("%v does not wrap %v", end.r.Err, errno)
			}
			e.finish(nil)
		})
	}
}

// peerCount runs a server that counts the addresses its connections come from.
type peerCount struct {
	mu   sync.Mutex
	from map[string]int
}

func countPeers(t testing.TB, l net.Listener) *peerCount {
	p := &peerCount{from: make(map[string]int)}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		p.mu.Lock()
		p.from[host]++
		p.mu.Unlock()
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	return p
}

func (p *peerCount) seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.from)
}

// ask has n requests sent, a connection for each.
func (p *peerCount) ask(t testing.TB, cfg engine.Config, addr net.Addr, n int) {
	t.Helper()
	cfg.Header = []engine.Field{{Name: "Connection", Value: "close"}}
	wrong := 0
	runEngine(t, cfg, sameRequest("http://"+addr.String()+"/", n), engine.SinkFunc(func(results []*engine.Result) error {
		for _, r := range results {
			if r.Err != nil || r.Status != 200 {
				if wrong++; wrong < 5 {
					t.Errorf("status %d, %v", r.Status, r.Err)
				}
			}
		}
		return nil
	}))
}

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		if a, err := netip.ParseAddr(s); err == nil {
			ps = append(ps, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// Source addresses are used in turn, networks address by address; of these the
// first and the last are no hosts.
func TestSources(t *testing.T) {
	for _, x := range []struct {
		sources []netip.Prefix
		want    map[string]int
	}{
		{prefixes("127.0.0.2"), map[string]int{"127.0.0.2": 12}},
		{prefixes("127.0.0.2", "127.0.0.3"), map[string]int{"127.0.0.2": 6, "127.0.0.3": 6}},
		{prefixes("127.0.0.8/29"), map[string]int{"127.0.0.9": 2, "127.0.0.10": 2, "127.0.0.11": 2, "127.0.0.12": 2, "127.0.0.13": 2, "127.0.0.14": 2}},
		{prefixes("127.0.0.13/29"), map[string]int{"127.0.0.9": 2, "127.0.0.10": 2, "127.0.0.11": 2, "127.0.0.12": 2, "127.0.0.13": 2, "127.0.0.14": 2}},
		{prefixes("127.0.0.8/30"), map[string]int{"127.0.0.9": 6, "127.0.0.10": 6}},
		{prefixes("127.0.0.8/31"), map[string]int{"127.0.0.8": 6, "127.0.0.9": 6}},
		{prefixes("127.0.0.8/32"), map[string]int{"127.0.0.8": 12}},
		{prefixes("127.0.0.2", "127.0.0.8/30"), map[string]int{"127.0.0.2": 6, "127.0.0.9": 3, "127.0.0.10": 3}},
		{prefixes("127.0.0.2", "::1"), map[string]int{"127.0.0.2": 12}},
		{prefixes("127.0.0.0/8"), map[string]int{"127.0.0.1": 1, "127.0.0.2": 1, "127.0.0.3": 1, "127.0.0.4": 1, "127.0.0.5": 1, "127.0.0.6": 1,
			"127.0.0.7": 1, "127.0.0.8": 1, "127.0.0.9": 1, "127.0.0.10": 1, "127.0.0.11": 1, "127.0.0.12": 1}},
	} {
		t.Run(fmt.Sprint(x.sources), func(t *testing.T) {
			srv := listen(t)
			p := countPeers(t, srv.l)
			p.ask(t, engine.Config{Sources: x.sources, Loops: 2, Connections: 4}, srv.l.Addr(), 12)
			if got := p.seen(); !maps.Equal(got, x.want) {
				t.Errorf("the server saw %v, want %v", got, x.want)
			}
		})
	}
	t.Run("IPv6", func(t *testing.T) {
		if !haveIPv6() {
			missing(t, "IPv6 on loopback")
		}
		srv := listenOn(t, "[::1]:0")
		p := countPeers(t, srv.l)
		p.ask(t, engine.Config{Sources: prefixes("127.0.0.2", "::1")}, srv.l.Addr(), 12)
		if got := p.seen(); got["::1"] != 12 {
			t.Errorf("the server saw %v, want ::1", got)
		}
	})
}

// A source address that is not there, or not of the family, costs the request
// and is named.
func TestSourcesWrong(t *testing.T) {
	srv := listen(t)
	for source, says := range map[string]string{
		"192.0.2.7": "source address 192.0.2.7: cannot assign requested address",
		"::1":       "no source address of its family was given",
	} {
		t.Run(source, func(t *testing.T) {
			cleanAfter(t)
			e := talk(t, engine.Config{Sources: prefixes(source)})
			end := e.ask(srv.request("GET", "/"))[0]
			end.wantError(engine.PhaseConnect, engine.Connect)
			end.wantSays("connect to " + srv.addr().String())
			end.wantSays(says)
			e.finish(nil)
		})
	}
}

// Connections are made from one interface.
func TestInterface(t *testing.T) {
	srv := listen(t)
	e := talk(t, engine.Config{Interface: "lo", Sources: prefixes("127.0.0.2"), KeepBody: true})
	end := e.ask(srv.request("GET", "/x"))[0]
	c := srv.accept()
	if from := c.c.RemoteAddr().(*net.TCPAddr).IP.String(); from != "127.0.0.2" {
		t.Errorf("the connection is from %s", from)
	}
	device, err := boundDevice(srv)
	if err != nil || device != "lo" {
		t.Errorf("the socket is bound to %q, %v; want lo", device, err)
	}
	c.expect("GET /x")
	c.send(ok("x"))
	end.want(200, "x")

	e = talk(t, engine.Config{Interface: "none0"})
	end = e.ask(srv.request("GET", "/"))[0]
	end.wantError(engine.PhaseConnect, engine.Connect)
	end.wantSays("bind to interface none0: no such device")
}

// boundDevice is the interface that the connection to the server is bound to:
// of this process's sockets, the one that is connected to it.
func boundDevice(srv *talkServer) (string, error) {
	to := srv.addr()
	for fd := range 1 << 10 {
		sa, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		if in, ok := sa.(*unix.SockaddrInet4); ok && in.Port == int(to.Port()) && in.Addr == to.Addr().As4() {
			return unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		}
	}
	return "", errors.New("no such connection")
}

// Two source addresses have twice the ports: as many connections as the port
// range holds, and not one more, from each.
func TestSourcesMultiplyPorts(t *testing.T) {
	if !inNamespace(t, "echo '40000 40063' >/proc/sys/net/ipv4/ip_local_port_range") {
		return
	}
	for i, sources := range [][]netip.Prefix{nil, prefixes("127.0.0.2"), prefixes("127.0.0.2", "127.0.0.3"), prefixes("127.0.0.8/29")} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			const ports, n = 64, 500
			l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 9000+i)) // outside of the range, and no one's before
			if err != nil {
				t.Fatal(err)
			}
			all := make(chan int)
			var mu sync.Mutex
			from := make(map[string]int)
			srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-all
				mu.Lock()
				defer mu.Unlock()
				host, _, _ := net.SplitHostPort(r.RemoteAddr)
				from[host]++
			})}}
			srv.Start()
			defer srv.Close()
			addresses := 1
			if len(sources) > 0 {
				addresses = len(sources)
			}
			if len(sources) == 1 && sources[0].Bits() == 29 {
				addresses = 6
			}
			answered, refused := 0, 0
			open := sync.OnceFunc(func() { close(all) })
			defer open()
			runEngine(t, engine.Config{Sources: sources, Connections: n, PerHost: n, MaxInFlight: n, Loops: 1},
				sameRequest("http://"+l.Addr().String()+"/", n), engine.SinkFunc(func(results []*engine.Result) error {
					for _, r := range results {
						switch {
						case r.Err == nil && r.Status == 200:
							answered++
						case errors.Is(r.Err, unix.EADDRNOTAVAIL) && r.Err.Kind == engine.Connect && strings.Contains(r.Err.Message, "no local port is left"):
							refused++
						default:
							t.Errorf("status %d, %v", r.Status, r.Err)
						}
					}
					if answered+refused >= n-ports*addresses { // the others hold all ports
						open()
					}
					return nil
				}))
			if answered != ports*addresses || refused != n-ports*addresses {
				t.Errorf("%d connections, %d found no port; want %d and %d", answered, refused, ports*addresses, n-ports*addresses)
			}
			mu.Lock()
			defer mu.Unlock()
			for host, n := range from {
				if n != ports || len(from) != addresses {
					t.Errorf("%d connections from %s, want %d from each of %d addresses", n, host, ports, addresses)
				}
			}
		})
	}
}

// A name's first address swallows what is sent to it: the answer comes by the
// second one, while the first is still being tried (RFC 8305).
func TestHappyEyeballs(t *testing.T) {
	// What is routed to lo and is no address of it disappears without a word.
	if !inNamespace(t, "ip route add 10.98.0.0/24 dev lo; ip -6 route add fd98::/64 dev lo 2>/dev/null || true") {
		return
	}
	for _, silent := range [][]string{{"10.98.0.2"}, {"10.98.0.2", "10.98.0.3", "10.98.0.4"}, {"fd98::2"}} {
		t.Run(fmt.Sprint(silent), func(t *testing.T) {
			cleanAfter(t)
			srv := listen(t)
			// Nothing but another attempt beside it can help.
			e := talk(t, engine.Config{Resolver: &names{addrs: addrs(append(silent, "127.0.0.1")...)},
				ConnectTimeout: 100 * patience, Timeout: 100 * patience, KeepBody: true})
			end := e.ask(srv.named("two.test", "/x"))[0]
			c := srv.accept()
			c.expect("GET /x")
			c.send(ok("second"))
			end.want(200, "second")
			end.wantAttempts(1)
			if end.r.Remote != srv.addr() {
				t.Errorf("remote is %v, want %v", end.r.Remote, srv.addr())
			}
			if ct := end.r.Time.Connect; ct < 250e6 || ct > end.r.Time.Total {
				t.Errorf("connecting took %v: the first address had no chance, or the times are wrong", ct)
			}
			c.fin()
			e.finish(nil)
		})
	}
}

const namespaceVar = "HOTLAP_TEST_NAMESPACE"

// inNamespace runs the calling test once more, in a network namespace of its
// own, with lo up and after some commands; there it returns true.
func inNamespace(t *testing.T, commands string) bool {
	t.Helper()
	if os.Getenv(namespaceVar) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		missing(t, "root, for a network namespace")
	}
	unshare := needTool(t, "unshare")
	needTool(t, "ip")
	cmd := exec.Command(unshare, "--net", "sh", "-e", "-c", "ip link set lo up; "+commands+`; exec "$@"`, "sh",
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), namespaceVar+"="+t.Name(), "GORACE=atexit_sleep_ms=0", "GOCOVERDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	return false
}

// Users and passwords are taken out of what is shown.
func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"http://h/a@b":                    "http://h/a@b",
		"http://me:secret@h/a@b?c@d#e":    "http://h/a@b?c@d#e",
		"http://secret@h":                 "http://h",
		"http://me:se@cret@h:81":          "http://h:81",
		"https://me:secret@[::1]:81?x":    "https://[::1]:81?x",
		"me:secret@h/":                    "...@h/",
		"http:me:secret@h/":               "...@h/",
		"http:/me:secret@h/":              "...@h/",
		"http:///me:secret@h/":            "...@h/",
		"http://me:se/cret@h/":            "...@h/",
		"ftp://me:secret@h/":              "ftp://h/",
		"http://h?u=http://me:pass@other": "http://h?u=http://me:pass@other",
		"":                                "",
	} {
		if got := engine.RedactURL(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}
