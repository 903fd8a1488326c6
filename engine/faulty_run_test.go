package engine_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"hotlap/engine"
)

// A climate is a mix of answers and fates, and what it permits.
type climate struct {
	name    string
	answers [][]answer
	weather weather
	n       int // requests per depth; 30 times as many with -soak
	retries int
	post    int
	split   int
	// anyone: see ledger.
	anyone  []engine.Kind
	timeout time.Duration
}

// climates add up to more than 100,000 requests over the four depths.
var climates = []climate{
	// What is valid must succeed, without a single retry: a server that says
	// when it closes costs nobody an attempt.
	{name: "right", answers: [][]answer{rightAnswers}, n: 5000, post: 20},
	{name: "right_and_last", answers: [][]answer{rightAnswers, rightAnswers, rightAnswers, lastAnswers}, n: 4000, post: 20},
	{name: "closing", answers: [][]answer{rightAnswers}, n: 5000, post: 20, weather: weather{closeAfter: 2}},
	{name: "keep_alive_max", answers: [][]answer{rightAnswers}, n: 4000, post: 20, weather: weather{keepAlive: 1}},
	{name: "split_everywhere", answers: [][]answer{rightAnswers, lastAnswers}, n: 4000, split: 300},
	// What is invalid ends its own request; the ones behind travel again.
	{name: "wrong", answers: [][]answer{rightAnswers, rightAnswers, rightAnswers, wrongAnswers}, n: 2500, post: 20},
	// A connection that dies may take anyone with it, after the last retry.
	{name: "dying", answers: [][]answer{rightAnswers, rightAnswers, lastAnswers}, n: 2500, post: 20,
		weather: weather{cut: 2, deaf: 8, hangUp: 8}, anyone: dyingKinds},
	{name: "dying_retried", answers: [][]answer{rightAnswers, rightAnswers, lastAnswers}, n: 2500, post: 20, retries: 3,
		weather: weather{cut: 2, deaf: 8, hangUp: 8}, anyone: dyingKinds},
	{name: "cut_short", answers: [][]answer{rightAnswers, rightAnswers, rightAnswers, cutAnswers}, n: 1500, post: 20, retries: 1,
		anyone: closedKinds},
	{name: "everything", answers: [][]answer{rightAnswers, rightAnswers, rightAnswers, lastAnswers, wrongAnswers, cutAnswers},
		n: 2500, post: 20, retries: 1, weather: weather{closeAfter: 4, keepAlive: 8, cut: 4, deaf: 16, hangUp: 16}, anyone: dyingKinds},
}

var depths = []int{1, 4, 16, engine.PipelineAuto}

func depthName(p int) string {
	if p == engine.PipelineAuto {
		return "auto"
	}
	return fmt.Sprint(p)
}

func TestFaulty(t *testing.T) {
	for _, c := range climates {
		t.Run(c.name, func(t *testing.T) {
			for _, depth := range depths {
				t.Run(depthName(depth), func(t *testing.T) { c.run(t, depth) })
			}
		})
	}
}

func (c climate) run(t *testing.T, depth int) {
	s := seed(t)
	most := depth
	if depth == engine.PipelineAuto {
		most = engine.AutoPipelineMax
	}
	srv := startFaulty(t, s, most, c.weather)
	l := newLedger(t, srv, 0, size(c.n, 30*c.n), c.answers...)
	l.retries, l.anyone, l.post, l.split = c.retries, c.anyone, c.post, c.split
	cfg := ledgerConfig(depth)
	cfg.Retries, cfg.Timeout = c.retries, c.timeout
	stats := runEngine(t, cfg, l, l)
	srv.stop()
	l.settle(stats)
	srv.settle(l)
}

// runEngine runs a new engine to the end of its source and closes it.
func runEngine(t testing.TB, cfg engine.Config, src engine.Source, sink engine.Sink) engine.Stats {
	t.Helper()
	e, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := e.Run(context.Background(), src, sink)
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return stats
}

// settle holds the client to the promise about non-idempotent requests: sent
// once if answered, at most once if not.
func (s *faultyServer) settle(l *ledger) {
	for _, a := range l.asks {
		if a.idempotent() {
			continue
		}
		switch n := s.seen[a.id]; {
		case n > 1:
			l.report("%s %s was received %d times", a.Method, a.URL, n)
		case n == 0 && !a.failed:
			l.report("%s %s was answered and never received", a.Method, a.URL)
		}
	}
}

// Stalled answers end by the clock, and only by it. On a slow machine any
// other request may miss its limit too, so only the stalled ones are certain.
func TestFaultyStalled(t *testing.T) {
	c := climate{retries: 0, post: 20, n: 400, timeout: 500 * time.Millisecond, anyone: timeout,
		answers: append(slices.Repeat([][]answer{rightAnswers}, 9), stalledAnswers)}
	for _, depth := range depths {
		t.Run(depthName(depth), func(t *testing.T) { c.run(t, depth) })
	}
}

// Bytes nobody asked for close their connection, and the next request, on
// another one, gets its own answer.
func TestFaultyUnasked(t *testing.T) {
	unasked := []string{
		"HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 2\r\n\r\n0|",
		"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Le", "H", "\r\n", "\x00",
	}
	for _, depth := range depths {
		t.Run(depthName(depth), func(t *testing.T) {
			srv := startFaulty(t, seed(t), 0, weather{})
			g := &gatedLedger{ledger: *newLedger(t, srv, 1, 1400, rightAnswers), round: 100}
			g.open = func(round int) { srv.unask([]byte(unasked[round%len(unasked)])) }
			stats := runEngine(t, ledgerConfig(depth), g, g)
			srv.stop()
			g.settle(stats)
		})
	}
}

// gatedLedger gives its requests in rounds. The next one is opened when every
// request of the last has its result, so that nothing is outstanding then.
type gatedLedger struct {
	ledger
	round int
	open  func(round int)
	given int
	ended chan int
}

func (g *gatedLedger) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	if g.ended == nil {
		g.ended = make(chan int, g.n)
	}
	if g.given > 0 && g.given%g.round == 0 {
		for range g.round {
			<-g.ended
		}
		g.open(g.given/g.round - 1)
	}
	n := min(len(batch), g.round-g.given%g.round)
	for i := range n {
		batch[i] = g.ask()
	}
	if g.given += n; g.given == g.n {
		return n, io.EOF
	}
	return n, nil
}

func (g *gatedLedger) Put(results []*engine.Result) error {
	g.ledger.Put(results)
	for range results {
		g.ended <- 1
	}
	return nil
}

// TestFaultyServer lets net/http have the right answers, so that what the
// engine is held to is what the server really sends.
func TestFaultyServer(t *testing.T) {
	srv := startFaulty(t, seed(t), 0, weather{closeAfter: 2})
	tr := &http.Transport{}
	for i, a := range slices.Concat(rightAnswers, lastAnswers) {
		method := a.method
		if method == "" {
			method = "GET"
		}
		req, _ := http.NewRequest(method, fmt.Sprintf("http://%s/%d/%s/100?split=7", srv.addr(), i, a.name), nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		want := string(bodyOf(i, 100))
		if a.nobody {
			want = ""
		}
		if err != nil || string(body) != want || resp.StatusCode != a.status {
			t.Errorf("%s: status %d, body %q, %v", a.name, resp.StatusCode, body, err)
		}
	}
	tr.CloseIdleConnections()
	srv.stop()
}
