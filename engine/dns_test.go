package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// A dnsServer is a resolver on loopback. It owns its state: tests look at it
// once it has stopped.
type dnsServer struct {
	t        testing.TB
	c        net.PacketConn
	outcome  func(host string) dnsmessage.RCode // what is known of a name; success is 127.0.0.1
	together int                                // questions wait for so many names to be asked for
	total    int                                // or for all names to have been

	waiting map[string][]question
	seen    map[string]int // questions
	most    int            // names at once
	done    chan int
}

type question struct {
	from net.Addr
	m    dnsmessage.Message
}

// silence is no answer at all.
const silence dnsmessage.RCode = 0xfff

func startDNS(t testing.TB, s *dnsServer) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.t, s.c, s.done = t, c, make(chan int)
	s.waiting, s.seen = make(map[string][]question), make(map[string]int)
	go s.serve()
	t.Cleanup(s.stop)
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func (s *dnsServer) stop() {
	s.c.Close()
	<-s.done
}

func (s *dnsServer) serve() {
	defer close(s.done)
	b := make([]byte, 2048)
	for {
		n, from, err := s.c.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(b[:n]); err != nil || len(m.Questions) != 1 {
			s.t.Errorf("the resolver received %q: %v", b[:n], err)
			continue
		}
		s.ask(question{from, m})
	}
}

// ask answers a question, or lets it wait until enough names are asked for.
func (s *dnsServer) ask(q question) {
	host := strings.TrimSuffix(q.m.Questions[0].Name.String(), ".")
	first := s.seen[host] == 0
	s.seen[host]++
	if waiting := s.waiting[host]; first && s.together > 0 || waiting != nil {
		s.waiting[host] = append(waiting, q)
		s.most = max(s.most, len(s.waiting))
		if len(s.waiting) >= s.together || len(s.seen) >= s.total {
			for host, qs := range s.waiting {
				for _, q := range qs {
					s.answer(q, host)
				}
			}
			clear(s.waiting)
		}
		return
	}
	s.answer(q, host)
}

func (s *dnsServer) answer(q question, host string) {
	code := dnsmessage.RCodeSuccess
	if s.outcome != nil {
		code = s.outcome(host)
	}
	if code == silence {
		return
	}
	m := dnsmessage.Message{Questions: q.m.Questions, Header: dnsmessage.Header{
		ID: q.m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: code}}
	if asked := q.m.Questions[0]; asked.Type == dnsmessage.TypeA && code == dnsmessage.RCodeSuccess {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: asked.Type, Class: asked.Class, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	b, err := m.Pack()
	if err == nil {
		_, err = s.c.WriteTo(b, q.from)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.t.Errorf("the resolver cannot answer: %v", err)
	}
}

// hostsOf is a Source of one request each for n hosts.
type hostsOf struct {
	n, given int
	port     uint16
}

func (h *hostsOf) Next(_ context.Context, batch []*engine.Request) (int, error) {
	k := min(len(batch), h.n-h.given)
	for i := range k {
		batch[i] = &engine.Request{URL: fmt.Sprintf("http://h%d.test:%d/", h.given, h.port)}
		h.given++
	}
	if h.given == h.n {
		return k, io.EOF
	}
	return k, nil
}

// startHosts runs a server that answers with the host it was asked for.
func startHosts(t testing.TB) (port uint16) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	t.Cleanup(srv.Close)
	return netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
}

// liveHeap is the heap without garbage.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Every host has its answer, names are resolved together, but not all at once,
// and neither connections nor memory grow with the number of hosts.
func TestManyHosts(t *testing.T) {
	n := size(10_000, 100_000)
	if raceDetector && !*soak {
		n = 3000 // what the race detector makes of net.Resolver takes its time
	}
	const connections, together = 64, 32
	dns := &dnsServer{together: together, total: n}
	at := startDNS(t, dns)
	src := &hostsOf{n: n, port: startHosts(t)}
	done, wrong, half, whole := 0, 0, int64(0), int64(0)
	stats := runEngine(t, engine.Config{Resolver: engine.ResolverOf([]netip.AddrPort{at}), Connections: connections,
		Timeout: patience, ConnectTimeout: patience, KeepBody: true},
		src, engine.SinkFunc(func(results []*engine.Result) error {
			for _, r := range results {
				if got := "http://" + string(r.Body) + "/"; r.Err != nil || got != r.Request.URL {
					if wrong++; wrong < 5 {
						t.Errorf("%s: %q, %v", r.Request.URL, r.Body, r.Err)
					}
				}
			}
			before := done
			done += len(results)
			if before < n/2 && done >= n/2 {
				half = liveHeap()
			}
			if done == n {
				whole = liveHeap()
			}
			return nil
		}))
	dns.stop()
	if done != n || wrong > 0 || len(dns.seen) != n {
		t.Errorf("%d results of %d, %d wrong, %d names asked for", done, n, wrong, len(dns.seen))
	}
	if dns.most < together || dns.most > connections {
		t.Errorf("%d names were being resolved at once, want %d to %d", dns.most, together, connections)
	}
	if whole > half*13/10+8*mib {
		t.Errorf("the heap is %d KiB after %d hosts and %d KiB after %d", half>>10, n/2, whole>>10, n)
	}
	t.Logf("%d hosts in %v, %d names at once, heap %d and %d KiB", n, stats.Elapsed, dns.most, half>>10, whole>>10)
}

// More connections than lookups may be under way: the bound holds, and is used.
func TestLookupsAreBounded(t *testing.T) {
	const hosts = 700
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	bound := int64(512)
	if room := (int64(min(limit.Cur, 1<<30)) - hosts - 64) / 2; room < bound { // descriptors are few
		bound = max(room, 16)
	}
	port := startHosts(t)
	var inside, most atomic.Int64
	full := make(chan int)
	open := sync.OnceFunc(func() { close(full) })
	dns := resolverFunc(func(ctx context.Context, host string) ([]netip.Addr, error) {
		n := inside.Add(1)
		defer inside.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == bound {
			open()
		}
		select {
		case <-full:
			return addrs("127.0.0.1"), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	right := 0
	runEngine(t, engine.Config{Resolver: dns, Connections: hosts, Timeout: patience, ConnectTimeout: patience},
		&hostsOf{n: hosts, port: port}, engine.SinkFunc(func(results []*engine.Result) error {
			right += len(results) - wrongOnes(results, len("h0.test:")+len(fmt.Sprint(port)))
			for _, r := range results {
				if r.Err != nil {
					t.Errorf("%s: %v", r.Request.URL, r.Err)
				}
			}
			return nil
		}))
	if m := most.Load(); m != bound {
		t.Errorf("%d lookups at once, want %d", m, bound)
	}
}

// What the resolver says is what the error says.
func TestResolverAnswers(t *testing.T) {
	outcomes := map[string]dnsmessage.RCode{
		"none.test": dnsmessage.RCodeNameError, "broken.test": dnsmessage.RCodeServerFailure, "refused.test": dnsmessage.RCodeRefused,
	}
	at := startDNS(t, &dnsServer{outcome: func(host string) dnsmessage.RCode {
		if code, ok := outcomes[host]; ok {
			return code
		}
		return dnsmessage.RCodeNameError // also what a search list makes of them
	}})
	e := talk(t, engine.Config{Resolver: engine.ResolverOf([]netip.AddrPort{at}), Retries: 2})
	for host, says := range map[string]string{
		"none.test": "host none.test: no such host", "broken.test": "host broken.test: server misbehaving", "refused.test": "host refused.test: ",
	} {
		end := e.ask(&engine.Request{URL: "http://" + host + "/"})[0]
		end.wantError(engine.PhaseDNS, engine.DNS)
		end.wantAttempts(1)
		end.wantSays(says)
	}
}

// A resolver that never answers costs its names the connect timeout.
func TestResolverDead(t *testing.T) {
	cleanAfter(t)
	dns := &dnsServer{outcome: func(string) dnsmessage.RCode { return silence }}
	at := startDNS(t, dns)
	e := talk(t, engine.Config{Resolver: engine.ResolverOf([]netip.AddrPort{at}), ConnectTimeout: 300 * time.Millisecond, Connections: 200})
	var reqs []*engine.Request
	for i := range 100 { // more than are looked up at once
		reqs = append(reqs, &engine.Request{URL: fmt.Sprintf("http://dead%d.test/", i)})
	}
	for _, end := range e.ask(reqs...) {
		end.wantError(engine.PhaseDNS, engine.DNS)
		end.wantAttempts(1)
	}
	e.finish(nil)
	dns.stop()
}

// Names that nobody answers for hold up neither addresses nor other names.
func TestResolverDeadForSome(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	dns := &dnsServer{outcome: func(host string) dnsmessage.RCode {
		if strings.HasPrefix(host, "dead") {
			return silence
		}
		return dnsmessage.RCodeSuccess
	}}
	at := startDNS(t, dns)
	e := talk(t, engine.Config{Resolver: engine.ResolverOf([]netip.AddrPort{at}), ConnectTimeout: 100 * patience,
		Timeout: 100 * patience, Connections: 128, KeepBody: true})
	var dead []*engine.Request
	for i := range 32 {
		dead = append(dead, srv.named(fmt.Sprintf("dead%d.test", i), "/"))
	}
	stuck := e.ask(dead...)
	for i := range 20 {
		r := srv.named(fmt.Sprintf("alive%d.test", i), "/x")
		if i%2 == 0 {
			r = srv.request("GET", "/x")
		}
		end := e.ask(r)[0]
		c := srv.accept()
		c.expect("GET /x")
		c.send(ok("x", "Connection: close"))
		end.want(200, "x")
		c.fin()
	}
	e.cancel()
	e.awaitRun(context.Canceled)
	for _, end := range stuck {
		end.wantError(engine.PhaseDNS, engine.Canceled)
	}
	e.finish(context.Canceled)
	dns.stop()
}

// Several servers are asked in turn, and in place of one that is not there.
func TestResolverOfSeveral(t *testing.T) {
	one, two := &dnsServer{}, &dnsServer{}
	servers := []netip.AddrPort{startDNS(t, one), startDNS(t, two)}
	port := startHosts(t)
	right := 0
	count := engine.SinkFunc(func(results []*engine.Result) error {
		for _, r := range results {
			if r.Err != nil {
				t.Errorf("%s: %v", r.Request.URL, r.Err)
			} else {
				right++
			}
		}
		return nil
	})
	runEngine(t, engine.Config{Resolver: engine.ResolverOf(servers)}, &hostsOf{n: 50, port: port}, count)
	one.stop()
	two.stop()
	if right != 50 || len(one.seen) == 0 || len(two.seen) == 0 {
		t.Errorf("%d of 50 hosts; %d names asked of the one server, %d of the other", right, len(one.seen), len(two.seen))
	}
}

// One of several servers is not there, or says nothing: the others are asked
// instead.
func TestResolverOfSeveralOneGone(t *testing.T) {
	at := startDNS(t, &dnsServer{})
	port := startHosts(t)
	for name, gone := range map[string]netip.AddrPort{
		"gone":   netip.MustParseAddrPort(freeUDP(t)),
		"silent": startDNS(t, &dnsServer{outcome: func(string) dnsmessage.RCode { return silence }}),
		"broken": startDNS(t, &dnsServer{outcome: func(string) dnsmessage.RCode { return dnsmessage.RCodeServerFailure }}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, servers := range [][]netip.AddrPort{{gone, at}, {at, gone}} {
				runEngine(t, engine.Config{Resolver: engine.ResolverOf(servers), ConnectTimeout: 3 * limit}, &hostsOf{n: 20, port: port},
					engine.SinkFunc(func(results []*engine.Result) error {
						for _, r := range results {
							if r.Err != nil {
								t.Errorf("%s: %v", r.Request.URL, r.Err)
							}
						}
						return nil
					}))
			}
		})
	}
}

// freeUDP is a loopback address where nobody receives.
func freeUDP(t testing.TB) string {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// scriptedNames is a resolver whose answers a test sets.
type scriptedNames struct {
	mu    sync.Mutex
	asked int
	addrs []netip.Addr
	err   error
}

func (s *scriptedNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.addrs, s.err
}

func (s *scriptedNames) set(addrs []netip.Addr, err error) (asked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs, s.err = addrs, err
	return s.asked
}

// An answer is used for its lifetime and no longer; one lookup serves all who
// ask meanwhile.
func TestDNSTTL(t *testing.T) {
	srv := listen(t)
	dns := &scriptedNames{addrs: addrs("127.0.0.1")}
	e := talk(t, engine.Config{Resolver: dns, DNSTTL: 1, KeepBody: true})
	for i := range 5 {
		end := e.ask(srv.named("brief.test", "/"))[0]
		c := srv.accept()
		c.take()
		c.send(ok("x", "Connection: close"))
		end.want(200, "x")
		c.fin()
		if n := dns.set(addrs("127.0.0.1"), nil); n != i+1 {
			t.Errorf("connection %d: the resolver was asked %d times", i+1, n)
		}
	}
}

// A failure is an answer too, for a second at most.
func TestDNSFailureTTL(t *testing.T) {
	url := fmt.Sprintf("http://late.test:%d/", startHosts(t))
	dns := &scriptedNames{err: errors.New("no such host")}
	e := talk(t, engine.Config{Resolver: dns, DNSTTL: time.Hour, KeepBody: true})
	start := time.Now()
	for range 200 {
		e.ask(&engine.Request{URL: url})[0].wantError(engine.PhaseDNS, engine.DNS)
	}
	if n, most := dns.set(addrs("127.0.0.1"), nil), 1+int(time.Since(start)/time.Second); n > most {
		t.Errorf("the resolver was asked %d times in %v, want at most %d", n, time.Since(start), most)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := start.Add(patience); time.Now().Before(until); <-tick.C {
		end := e.ask(&engine.Request{URL: url})[0]
		if end.wait().Err == nil {
			return
		}
		end.wantError(engine.PhaseDNS, engine.DNS) // still the old answer
	}
	t.Errorf("the name fails for ever")
}

// 100 names that hang, then 20 good ones: the good ones must be answered.
func TestDeadNamesStarveNobody(t *testing.T) {
	port := startHosts(t)
	dns := resolverFunc(func(ctx context.Context, host string) ([]netip.Addr, error) {
		if strings.HasPrefix(host, "dead") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return addrs("127.0.0.1"), nil
	})
	e := talk(t, engine.Config{Resolver: dns, ConnectTimeout: limit, KeepBody: true})
	var reqs []*engine.Request
	for i := range 100 {
		reqs = append(reqs, &engine.Request{URL: fmt.Sprintf("http://dead%d.test/", i)})
	}
	e.ask(reqs...)
	for i := range 20 {
		host := fmt.Sprintf("h%d.test:%d", i, port)
		e.ask(&engine.Request{URL: "http://" + host + "/"})[0].want(200, host)
	}
}
