package load

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/cmd/internal/observe"
	"hotlap/cmd/internal/report"
	"hotlap/ebpf"
	"hotlap/engine"
)

// bench runs a load against a URL, as the command would.
func bench(t *testing.T, url string, connections, depth int, o Options) *Report {
	t.Helper()
	o.Loops = max(o.Loops, 1)
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	e, err := engine.New(engine.Config{
		Loops: o.Loops, Connections: connections, PerHost: connections, Pipeline: depth,
		MaxInFlight: connections * depth, Timeout: o.Timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	targets := &Targets{}
	if err := targets.Add(e, engine.Request{URL: url}); err != nil {
		t.Fatal(err)
	}
	run := New(e, targets, o, nil)
	run.Start()
	r, err := run.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	balanced(t, r)
	return r
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// A server that stalls 200 ms at every 500th request is seen by those who wanted
// something from it meanwhile: in an open loop. In a closed loop few ask.
func TestStallShowsInAnOpenLoop(t *testing.T) {
	const stall, every = 200 * time.Millisecond, 500
	stalled := func() string {
		var asked, until atomic.Int64
		start := time.Now()
		return serve(t, func(http.ResponseWriter, *http.Request) {
			if asked.Add(1)%every == every/2 {
				until.Store(int64(time.Since(start) + stall))
			}
			time.Sleep(time.Duration(until.Load()) - time.Since(start))
		})
	}
	open := bench(t, stalled(), 4, 1, Options{From: every, To: every, Count: 3 * every})
	if p99 := open.ResponseTime.P99; p99 < 150e3 {
		t.Errorf("open loop: p99 is %s, a fifth of the requests waited up to %s", UnitMicros.Format(p99), stall)
	}
	if open.Client.Held == 0 {
		t.Error("open loop: no request was held up by busy connections")
	}
	closed := bench(t, stalled(), 1, 1, Options{Count: 3 * every})
	if p99 := closed.ResponseTime.P99; p99 > 100e3 {
		t.Errorf("closed loop: p99 is %s, though one request of %d was stalled", UnitMicros.Format(p99), every)
	}
}

// Little's law: as many requests are under way as there are connections, but for
// the time that the client itself takes between two of them.
func TestRateTimesLatencyIsConnections(t *testing.T) {
	var served atomic.Int64 // nanoseconds
	url := serve(t, func(http.ResponseWriter, *http.Request) {
		began := time.Now()
		time.Sleep(20 * time.Millisecond)
		served.Add(int64(time.Since(began)))
	})
	const connections, duration = 8, 4 * time.Second
	began := time.Now()
	r := bench(t, url, connections, 1, Options{Duration: duration})
	// What was in flight at the end is in the mean, and not in the rate.
	over := float64(time.Since(began)) / float64(duration)
	counted := r.Rates.Responses * duration.Seconds() / float64(r.ResponseTime.Count)
	atServer := float64(served.Load()) / float64(duration) * counted
	if n := r.Rates.Responses * r.ResponseTime.Mean / 1e6; n < 0.98*atServer || n > 1.02*connections*over {
		t.Errorf("%.1f/s x %.0f us = %.3f, want %d, and %.3f at least", r.Rates.Responses, r.ResponseTime.Mean, n, connections, atServer)
	}
}

// The k-th answer of a batch comes k times 10 ms late, and is measured so.
func TestPipelinedAnswersAreMeasuredOneByOne(t *testing.T) {
	const depth, step = 8, 10 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for n := range 2 * depth {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if n+1 < depth {
				continue // the whole batch comes first
			}
			// Then a request is the word that the answer before it has come.
			time.Sleep(step)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
		for range depth - 1 {
			time.Sleep(step)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	}()
	r := bench(t, "http://"+l.Addr().String()+"/", 1, depth, Options{Count: 2 * depth})
	s := r.ServiceTime
	if s == nil || s.Count != 2*depth {
		t.Fatalf("%+v", r)
	}
	if s.Max < 80e3 || s.Mean < 0.99*(45e3+80e3)/2 || s.Max-s.Min < 69e3 {
		t.Errorf("times from %.0f to %.0f us, mean %.0f: want 10 to 80 ms in steps of 10, and 80 ms after that", s.Min, s.Max, s.Mean)
	}
}

// At the end nothing new is sent, and who has no answer counts with its age.
func TestEndOfAnOpenLoop(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) }) // before the server is closed
	r := bench(t, url, 1, 1, Options{From: 20, To: 20, Duration: 300 * time.Millisecond, Timeout: 200 * time.Millisecond})
	if r.Requests != 6 || r.Responses != 0 || r.Unsent < 1 || r.Unanswered+r.Errors["timeout"] < 1 {
		t.Errorf("%d requests, %d responses, %d unsent, %d unanswered, errors %v", r.Requests, r.Responses, r.Unsent, r.Unanswered, r.Errors)
	}
	if l := r.ResponseTime; l == nil || l.Count != 6 || l.Max < 200e3 {
		t.Errorf("response time %+v", l)
	}
}

// A count is kept exactly, however it is shared by the loops.
func TestCountIsExact(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, n := range []int64{1, 2, 3, 100} {
		for name, o := range map[string]Options{"closed": {}, "open": {From: 2000, To: 2000}} {
			o.Count, o.Loops = n, 3
			if r := bench(t, url, 3, 1, o); r.Responses != n {
				t.Errorf("%s, %d requests by 3 loops: %d responses, errors %v", name, n, r.Responses, r.Errors)
			}
		}
	}
}

// What the kernel did in the warm-up is no part of what was observed, as it is
// no part of what was measured.
func TestMeasuredPartIsObserved(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	watch, err := observe.Open(observe.Options{Mode: observe.Auto, Ports: []uint16{portOf(t, url)}})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	const connections = 3
	r := bench(t, url, connections, 1, Options{WarmUp: 2 * time.Second, Duration: 300 * time.Millisecond, Kernel: watch})
	k := r.Kernel
	if k == nil || k.Tier == "" || k.Elapsed <= 0 || k.At.Add(-k.Elapsed).Before(r.Started) {
		t.Fatalf("started %v, kernel %+v", r.Started, k)
	}
	if n, known := k.Total.Get(ebpf.Connects); known && n != 0 {
		t.Errorf("%d connects in the measured part: all %d were made before", n, connections)
	}
	if len(k.Listeners) != 1 {
		t.Errorf("the server's listener is not there: %+v", k.Listeners)
	}
}

func portOf(t *testing.T, url string) uint16 {
	t.Helper()
	a, err := netip.ParseAddrPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return a.Port()
}

// The observer's CPU time is told apart: it is not what a request costs.
func TestObserverIsNoCostOfRequests(t *testing.T) {
	start := time.Unix(0, 0)
	before := probe{taken: true, at: start}
	after := probe{taken: true, at: start.Add(2 * time.Second), usage: usage{user: time.Second, system: time.Second}}
	r := &Report{Requests: 1000, Kernel: &report.Kernel{Sample: ebpf.Sample{Elapsed: 4 * time.Second, Cost: ebpf.Cost{CPU: time.Second}}}}
	before.fill(r, &after, engine.Stats{}, 0)
	if r.Client.User != 1 || r.Client.System != 1 || r.Client.PerRequest != 1500 {
		t.Errorf("%v s user, %v s system, %v us per request, want 1500: a quarter of the 2 s was the observer's", r.Client.User, r.Client.System, r.Client.PerRequest)
	}
}

// What is due before the end is sent, though the loop comes to it a little
// late; what is due after is not, nor what comes much too late.
func TestWhatIsDueAtTheEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		now   time.Duration
		taken int
		ended bool
	}{
		{"before the end", 999 * ms, 10, false},
		{"just after it", time.Second + 100*time.Microsecond, 10, true},
		{"when nobody would call it in time", time.Second + endGrace, 0, true},
	} {
		l := newLap(t, Options{From: 10, To: 10, Duration: time.Second})
		batch, due := make([]*engine.Request, 100), make([]time.Duration, 100)
		n, next, err := l.timed[0].NextDue(c.now, batch, due)
		if n != c.taken || (err == io.EOF) != c.ended || err == nil && next != time.Second {
			t.Errorf("%s: %d requests, next at %v, %v", c.name, n, next, err)
		}
	}
	l := newLap(t, Options{From: 10, To: 10, Duration: time.Second})
	l.stopAt.Store(int64(550 * ms))
	l.stopped.Store(true)
	batch, due := make([]*engine.Request, 100), make([]time.Duration, 100)
	if n, _, err := l.timed[0].NextDue(550*ms+time.Microsecond, batch, due); n != 6 || err != io.EOF {
		t.Errorf("stopped at 0.55 s: %d requests and %v, want 6", n, err)
	}
}

// Nothing is sent after the end of a closed loop, however late the timer is.
func TestEndOfAClosedLoop(t *testing.T) {
	l := newLap(t, Options{Duration: time.Second})
	batch := make([]*engine.Request, 1)
	l.parts[0].started = time.Now().Add(-time.Second)
	if n, err := l.parts[0].Next(t.Context(), batch); n != 0 || err != io.EOF {
		t.Errorf("%d requests after the end, and %v", n, err)
	}
	l.parts[0].started = time.Now()
	if n, err := l.parts[0].Next(t.Context(), batch); n != 1 || err != nil {
		t.Errorf("%d requests before it, and %v", n, err)
	}
}
