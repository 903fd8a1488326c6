package engine

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// allHere resolves every name to this machine.
type allHere struct{}

func (allHere) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// hosts is a Source of one request to each of n hosts.
func hosts(n int, port string) Source {
	i := 0
	return SourceFunc(func(_ context.Context, batch []*Request) (int, error) {
		k := 0
		for ; k < len(batch) && i < n; k++ {
			batch[k] = &Request{URL: fmt.Sprintf("http://h%d.test:%s/", i, port)}
			i++
		}
		if i == n {
			return k, io.EOF
		}
		return k, nil
	})
}

func newRealEngine(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// onLoop runs f on the engine's first loop.
func onLoop(e *Engine, f func(l *loop)) {
	done := make(chan struct{})
	e.loops[0].post(func(int64) { f(e.loops[0]); close(done) })
	<-done
}

func startHello(t *testing.T) (url, port string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return s.URL, port
}

// Origins with nothing to do are forgotten, those included that had idle
// connections.
func TestOriginsAreForgotten(t *testing.T) {
	_, port := startHello(t)
	e := newRealEngine(t, Config{Loops: 1, MaxInFlight: 16, Resolver: allHere{}, Retries: 3})
	if _, err := e.Run(t.Context(), hosts(1000, port), SinkFunc(func([]*Result) error { return nil })); err != nil {
		t.Fatal(err)
	}
	onLoop(e, func(l *loop) {
		for _, o := range l.origins {
			for len(o.conns) > 0 {
				o.conns[0].close(l.now(), cause{})
			}
		}
		l.sweep()
		if len(l.origins) != 0 || l.idle.n != 0 {
			t.Errorf("%d origins, %d in the list of idle ones", len(l.origins), l.idle.n)
		}
	})
}

// What has waited longest for a connection is served first.
func TestOriginsAreServedInTurn(t *testing.T) {
	_, port := startHello(t)
	const n, connections = 2000, 8
	e := newRealEngine(t, Config{Loops: 1, Connections: connections, MaxInFlight: n, Resolver: allHere{}, Retries: 3})
	type turn struct {
		i  int
		at time.Time // it was given a connection: answers come in the server's order
	}
	var turns []turn
	_, err := e.Run(t.Context(), hosts(n, port), SinkFunc(func(results []*Result) error {
		for _, r := range results {
			var i int
			fmt.Sscanf(r.Request.URL, "http://h%d.", &i)
			turns = append(turns, turn{i, r.Start.Add(r.Time.Queued)})
		}
		return nil
	}))
	slices.SortFunc(turns, func(a, b turn) int { return a.at.Compare(b.at) })
	latest := 0
	for place, turn := range turns {
		latest = max(latest, place-turn.i)
	}
	if err != nil || len(turns) != n || latest > 2*connections {
		t.Errorf("%d results, %v; one came %d places after its turn", len(turns), err, latest)
	}
}

// A body that comes as fast as it can be read keeps nobody else waiting.
func TestFastBodyStarvesNobody(t *testing.T) {
	small, _ := startHello(t)
	big := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 4<<20)
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	defer big.Close()
	e := newRealEngine(t, Config{Loops: 1})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Do(ctx, &Request{URL: big.URL})
		ended <- err
	}()
	for range 200 {
		if _, err := e.Do(t.Context(), &Request{URL: small}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Errorf("the body was to have no end: %v", err)
	default:
	}
	stop()
	<-ended
}

// A source on the loop whose requests fail at once leaves the loop time for
// others.
func TestFailingSourceStarvesNobody(t *testing.T) {
	small, _ := startHello(t)
	e := newRealEngine(t, Config{Loops: 1})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Run(ctx, endless{"http://224.0.0.1:9/"}, nowhere{})
		ended <- err
	}()
	for range 3 {
		if _, err := e.Do(t.Context(), &Request{URL: small}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-ended
}

// endless is a LoopSource of one URL.
type endless struct{ url string }

func (s endless) Next(ctx context.Context, batch []*Request) (int, error) {
	for i := range batch {
		batch[i] = &Request{URL: s.url}
	}
	return len(batch), ctx.Err()
}
func (s endless) OnLoop(int, int) Source { return s }

// nowhere is a LoopSink.
type nowhere struct{}

func (nowhere) Put([]*Result) error    { return nil }
func (s nowhere) OnLoop(int, int) Sink { return s }

// Calls whose back-off ends in an immediate failure leave no timer behind that
// another loop would stumble over.
func TestImmediateFailuresWithDeadlines(t *testing.T) {
	e := newRealEngine(t, Config{Loops: 2, Retries: 1, MaxInFlight: 64})
	const n = 1000
	i, ended := 0, 0
	_, err := e.Run(t.Context(), SourceFunc(func(_ context.Context, batch []*Request) (int, error) {
		k := 0
		for ; k < len(batch) && i < n; k++ {
			batch[k] = &Request{URL: "http://224.0.0.1:9/", Timeout: time.Duration(50+i%200) * time.Millisecond}
			i++
		}
		if i == n {
			return k, io.EOF
		}
		return k, nil
	}), SinkFunc(func(results []*Result) error {
		for _, r := range results {
			if r.call.timer.when != 0 {
				t.Errorf("a call has ended, and its timer runs")
			}
			ended++
		}
		return nil
	}))
	if err != nil || ended != n {
		t.Errorf("%d of %d ended, %v", ended, n, err)
	}
}

// The longest time there is is no limit.
func TestTimeLimitsDoNotOverflow(t *testing.T) {
	url, _ := startHello(t)
	const forever = time.Duration(math.MaxInt64)
	e := newRealEngine(t, Config{Timeout: forever, ConnectTimeout: forever, ReadTimeout: forever, IdleTimeout: forever, DNSTTL: forever})
	for range 2 {
		if _, err := e.Do(t.Context(), &Request{URL: url, Timeout: forever}); err != nil {
			t.Error(err)
		}
	}
	if n := e.Stats().Connects; n != 1 {
		t.Errorf("%d connections, want the idle one used again", n)
	}
}

// However many loops there are, the rate is the rate.
func TestRateIsSharedByLoops(t *testing.T) {
	cfg, err := Config{Loops: 4, PerHost: 1, Rate: 1000}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const second = int64(time.Second)
	n := 0
	for now := second; now < 2*second; now += second / 10_000 {
		for range e.loops {
			if e.pacer.take(now) {
				n++
			}
		}
	}
	if n < 990 || n > 1020 { // the slack of the pacer
		t.Errorf("%d in a second, want 1000", n)
	}
}

// What is kept of a head is that of the last attempt, however long.
func TestHeadOfTheLastAttempt(t *testing.T) {
	k := newTalk(t, Config{Retries: 1, KeepHead: true, MaxHead: 1 << 20})
	k.ask("a")
	k.hangsUp(k.accept(0), "HTTP/1.1 200 OK\r\nX-First: yes\r\nContent-Length: 9\r\n\r\nhal")
	k.passes(time.Second)
	big := "HTTP/1.1 200 OK\r\nX-Second: yes\r\nX-Big: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 0\r\n\r\n"
	k.says(k.accept(1), big[:60<<10], big[60<<10:])
	if k.got["a"].Header("X-Second") != "yes" {
		t.Error("a long head has no fields")
	}
	if k.got["a"].Header("X-First") != "" {
		t.Error("the head of a failed attempt is kept")
	}
}

// While reading is stopped no time limit runs, and no time is falsified.
func TestStallFalsifiesNoTimes(t *testing.T) {
	k := newTalk(t, Config{MaxMemory: 10, Timeout: time.Second, ReadTimeout: time.Hour})
	k.ask("a")
	p := k.accept(0)
	k.time += int64(200 * time.Millisecond)
	k.says(p, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
	k.e.budget.used.Add(100)
	k.e.budget.handed.Add(100)
	k.says(p, "f") // not read
	k.passes(10 * time.Second)
	k.results()
	k.e.budget.consumed(100)
	k.l.unstall(k.time)
	k.settle()
	k.passes(500 * time.Millisecond)
	k.results()
	k.says(p, "-done")
	k.results("a 200 half-done")
	if times := k.got["a"].Time; times.TTFB != 200*time.Millisecond || times.Queued > 100*time.Millisecond {
		t.Errorf("times %+v", times)
	}
}
