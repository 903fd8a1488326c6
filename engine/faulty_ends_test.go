package engine_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hotlap/engine"
)

// cleanAfter checks, at the end of the test, that the engine left no goroutine
// and no descriptor. Call it first.
func cleanAfter(t testing.TB) {
	freeAddr(t) // the first socket of a process opens the runtime's poller too
	before, fds := goleak.IgnoreCurrent(), openFDs(t)
	t.Cleanup(func() {
		err := goleak.Find(before)
		for until := time.Now().Add(patience); err != nil && time.Now().Before(until); {
			err = goleak.Find(before) // it waits less than half a second
		}
		if err != nil {
			t.Error(err)
		}
		if n := openFDs(t); n > fds {
			t.Errorf("%d descriptors are open, %d were", n, fds)
		}
	})
}

func openFDs(t testing.TB) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// inEveryState gives an engine requests of which two are outstanding, the
// first with part of an answer, and the others wait.
func inEveryState(t testing.TB, retries int) (*talker, *talkConn, []*end) {
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 2, Connections: 1, Retries: retries, KeepBody: true})
	ends := e.ask(srv.requests(5)...)
	c := srv.accept()
	c.expect("GET /1", "GET /2")
	c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")
	return e, c, ends
}

// A canceled run ends everything at once, each request as a result, and takes
// nothing more.
func TestRunCanceled(t *testing.T) {
	cleanAfter(t)
	e, c, ends := inEveryState(t, 2)
	e.cancel()
	e.awaitRun(context.Canceled)
	for _, end := range ends {
		end.wantCanceled()
	}
	c.expectEnd()
	e.finish(context.Canceled)
}

// A run that was canceled before it began takes nothing.
func TestRunCanceledBefore(t *testing.T) {
	cleanAfter(t)
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	src := engine.SourceFunc(func(ctx context.Context, batch []*engine.Request) (int, error) {
		if ctx.Err() == nil {
			t.Error("the source is asked with a live context")
		}
		return 0, ctx.Err()
	})
	stats, err := e.Run(ctx, src, engine.SinkFunc(func([]*engine.Result) error { return nil }))
	if !errors.Is(err, context.Canceled) || stats.Requests != 0 {
		t.Errorf("Run: %+v, %v", stats, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

var errOwn = errors.New("an error of the caller's own")

// A sink that fails gets nothing more, and Run returns its error.
func TestSinkError(t *testing.T) {
	cleanAfter(t)
	srv := startFaulty(t, seed(t), 4, weather{})
	l := newLedger(t, srv, 5, 2000, rightAnswers)
	e, err := engine.New(ledgerConfig(4))
	if err != nil {
		t.Fatal(err)
	}
	failed, left := false, 1+int(srv.seed%100)
	_, err = e.Run(context.Background(), l, engine.SinkFunc(func(results []*engine.Result) error {
		if failed {
			t.Error("the sink is used after its error")
		}
		l.Put(results)
		if left -= len(results); left <= 0 {
			failed = true
			return errOwn
		}
		return nil
	}))
	if !errors.Is(err, errOwn) {
		t.Errorf("Run returned %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	srv.stop()
}

// A source that fails stops the run: what is inside ends, each request once.
func TestSourceError(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	e, err := engine.New(engine.Config{Pipeline: 2, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	fail := make(chan int)
	given, ends := 0, map[string]int{}
	src := engine.SourceFunc(func(ctx context.Context, batch []*engine.Request) (int, error) {
		if given == 3 {
			<-fail
			return 0, errOwn
		}
		n := copy(batch, srv.requests(3)[given:])
		given += n
		return n, nil
	})
	ran := make(chan error)
	go func() {
		_, err := e.Run(context.Background(), src, engine.SinkFunc(func(results []*engine.Result) error {
			for _, r := range results {
				ends[r.Request.URL]++
				if r.Err == nil || r.Err.Kind != engine.Canceled {
					t.Errorf("%s: %v, want canceled", r.Request.URL, r.Err)
				}
			}
			return nil
		}))
		ran <- err
	}()
	c := srv.accept()
	c.expect("GET /1", "GET /2")
	close(fail)
	if err := <-ran; !errors.Is(err, errOwn) {
		t.Errorf("Run returned %v", err)
	}
	for _, r := range srv.requests(3) {
		if ends[r.URL] != 1 {
			t.Errorf("%s: %d results", r.URL, ends[r.URL])
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	c.expectEnd()
}

// Close ends a run that is going on: each request as a result.
func TestCloseDuringRun(t *testing.T) {
	cleanAfter(t)
	e, c, ends := inEveryState(t, 2)
	if err := e.e.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	e.ended = true
	if err := <-e.ran; err == nil {
		t.Error("Run of a closed engine returned no error")
	}
	for _, end := range ends {
		end.wantCanceled()
	}
	c.expectEnd()
}

// A closed engine says so.
func TestUseAfterClose(t *testing.T) {
	cleanAfter(t)
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	src := engine.SourceFunc(func(context.Context, []*engine.Request) (int, error) { return 0, io.EOF })
	sink := engine.SinkFunc(func([]*engine.Result) error { return nil })
	if _, err := e.Run(context.Background(), src, sink); err == nil {
		t.Error("Run on a closed engine returned no error")
	}
	if _, err := e.Do(context.Background(), &engine.Request{URL: "http://127.0.0.1:1/"}); err == nil {
		t.Error("Do on a closed engine returned no error")
	}
}

// Do sends one request, and its context ends it.
func TestDo(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	e, err := engine.New(engine.Config{KeepBody: true, KeepHead: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	type answer struct {
		r   *engine.Response
		err error
	}
	do := func(ctx context.Context, target string) <-chan answer {
		got := make(chan answer, 1)
		go func() {
			r, err := e.Do(ctx, srv.request("GET", target))
			got <- answer{r, err}
		}()
		return got
	}
	got := do(context.Background(), "/1")
	c := srv.accept()
	c.expect("GET /1")
	c.send(ok("one", "X-A: b"))
	if a := <-got; a.err != nil || string(a.r.Body) != "one" || a.r.Header("x-a") != "b" {
		t.Errorf("Do: %+v, %v", a.r, a.err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	got = do(ctx, "/2")
	c.expect("GET /2")
	cancel()
	if a := <-got; !errors.Is(a.err, engine.Canceled) && !errors.Is(a.err, context.Canceled) {
		t.Errorf("canceled Do: %v", a.err)
	}

	got = do(context.Background(), "/3")
	c.expectEnd()
	c = srv.accept()
	c.expect("GET /3")
	c.fin()
	if a := <-got; !errors.Is(a.err, engine.Closed) {
		t.Errorf("Do on a closed connection: %v", a.err)
	}
	c.expectEnd()
}

// One credit per request: the source is never asked for more than MaxInFlight
// beyond what the sink has consumed.
func TestCredits(t *testing.T) {
	cleanAfter(t)
	const credits = 16
	srv := startFaulty(t, seed(t), 4, weather{closeAfter: 2})
	l := newLedger(t, srv, 6, 3000, rightAnswers)
	consumed := make(chan int, l.n)
	left := credits
	src := engine.SourceFunc(func(ctx context.Context, batch []*engine.Request) (int, error) {
		for n := len(consumed); n > 0; n-- {
			<-consumed
			left++
		}
		n, err := l.Next(ctx, batch)
		if left -= n; left < 0 {
			t.Errorf("%d requests over the %d credits", -left, credits)
		}
		return n, err
	})
	sink := engine.SinkFunc(func(results []*engine.Result) error {
		err := l.Put(results)
		for range results {
			consumed <- 1
		}
		return err
	})
	cfg := ledgerConfig(4)
	cfg.MaxInFlight = credits
	stats := runEngine(t, cfg, src, sink)
	srv.stop()
	l.settle(stats)
}
