package engine_test

import (
	"strings"
	"testing"
	"time"

	"hotlap/engine"
)

// limit is a time limit that is meant to pass, and yet leaves a slow machine
// the time for what has to happen before.
const limit = 2 * time.Second

// DESIGN section 4, rule 5: the head of the line is late, the connection goes,
// and those behind it travel again at no charge.
func TestTimeoutOfHeadOfLine(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 4, Connections: 1, Timeout: limit, KeepBody: true})
	ends := e.ask(srv.requests(4)...)
	c := srv.accept()
	c.expect("GET /1", "GET /2", "GET /3", "GET /4")
	c.expectEnd()
	ends[0].wantError(engine.PhaseHead, engine.Timeout)
	ends[0].wantAttempts(1)
	c = srv.accept()
	c.expect("GET /2")
	c.expectNothing()
	c.send(ok("two"))
	c.expect("GET /3", "GET /4")
	c.send(ok("three") + ok("four"))
	ends[1].want(200, "two")
	ends[2].want(200, "three")
	ends[3].want(200, "four")
	e.finish(nil)
	if e.stats.Retries != 0 || e.stats.Replays != 3 {
		t.Errorf("%d retries and %d replays, want 0 and 3", e.stats.Retries, e.stats.Replays)
	}
}

// Waiting behind others is queueing: the clock of a request starts when the one
// before it is answered.
func TestTimeoutStartsAtHeadOfLine(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 4, Connections: 1, Timeout: limit, KeepBody: true})
	ends := e.ask(srv.requests(4)...)
	c := srv.accept()
	c.expect("GET /1", "GET /2", "GET /3", "GET /4")
	for _, end := range ends {
		wait(limit / 3) // in first place
		c.send(ok("late"))
		end.want(200, "late")
	}
	if q := ends[3].r.Time.Queued; q < limit*9/10 { // and that was 4/3 of the limit after the writing
		t.Errorf("queued for %v, want about %v", q, limit)
	}
}

// wait lets time pass where time is what is tested.
func wait(d time.Duration) { <-time.After(d) }

// A deadline that passes behind others ends its request at once. The late
// answer is read and dropped, and the connection serves on.
func TestDeadlineBehindOthers(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 4, Connections: 1, KeepBody: true})
	reqs := srv.requests(3)
	reqs[1].Timeout = limit
	ends := e.ask(reqs...)
	c := srv.accept()
	c.expect("GET /1", "GET /2", "GET /3")
	ends[1].wantError(engine.PhaseHead, engine.Timeout)
	ends[1].wantAttempts(1)
	c.send(ok("one") + ok("late"))
	ends[0].want(200, "one")
	c.send(ok("three"))
	ends[2].want(200, "three")
	more := e.ask(srv.request("GET", "/4"))[0]
	c.expect("GET /4")
	c.send(ok("four"))
	more.want(200, "four")
}

// The late answer is dropped too if its request has come first in line since.
func TestDeadlineBehindOthersThenFirst(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 4, Connections: 1, KeepBody: true})
	reqs := srv.requests(2)
	reqs[1].Timeout = limit
	ends := e.ask(reqs...)
	c := srv.accept()
	c.expect("GET /1", "GET /2")
	ends[1].wantError(engine.PhaseHead, engine.Timeout)
	c.send(ok("one"))
	ends[0].want(200, "one")
	more := e.ask(srv.request("GET", "/3"))[0]
	c.expect("GET /3")
	c.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")
	c.send("te" + ok("three"))
	more.want(200, "three")
}

// A deadline that passes before there is a connection ends its request in the
// queue, never sent.
func TestDeadlineInQueue(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Connections: 1, KeepBody: true})
	reqs := srv.requests(2)
	reqs[1].Timeout = limit
	ends := e.ask(reqs...)
	c := srv.accept()
	c.expect("GET /1")
	ends[1].wantError(engine.PhaseQueue, engine.Timeout)
	ends[1].wantAttempts(0)
	c.send(ok("one"))
	ends[0].want(200, "one")
	more := e.ask(srv.request("GET", "/3"))[0]
	c.expect("GET /3")
	c.send(ok("three"))
	more.want(200, "three")
}

// A deadline that passes at the head of the line is a timeout like any other;
// it is absolute, so no retry follows.
func TestDeadlineAtHeadOfLine(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 2, Connections: 1, Retries: 3, KeepBody: true})
	reqs := srv.requests(2)
	reqs[0].Timeout = limit
	ends := e.ask(reqs...)
	c := srv.accept()
	c.expect("GET /1", "GET /2")
	ends[0].wantError(engine.PhaseHead, engine.Timeout)
	ends[0].wantAttempts(1)
	c.expectEnd()
	c = srv.accept()
	c.expect("GET /2")
	c.send(ok("two"))
	ends[1].want(200, "two")
}

// A timeout is retried, for an idempotent request, and a POST is not.
func TestTimeoutIsRetried(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Connections: 1, Timeout: limit, Retries: 1, KeepBody: true})
	get := e.ask(srv.request("GET", "/get"))[0]
	c := srv.accept()
	c.expect("GET /get")
	c.expectEnd()
	c = srv.accept()
	c.expect("GET /get")
	c.send(ok("second try"))
	get.want(200, "second try")
	get.wantAttempts(2)
	post := e.ask(srv.request("POST", "/post"))[0]
	c.expect("POST /post")
	c.expectEnd()
	post.wantError(engine.PhaseHead, engine.Timeout)
	post.wantAttempts(1)
}

// Silence between the bytes of a response: the status stays, the error is a
// timeout in the body.
func TestReadTimeout(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 2, Connections: 1, ReadTimeout: limit, KeepBody: true})
	ends := e.ask(srv.requests(2)...)
	c := srv.accept()
	c.expect("GET /1", "GET /2")
	c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")
	ends[0].wantError(engine.PhaseBody, engine.Timeout)
	if r := ends[0].r; r.Status != 200 || r.Bytes != 4 {
		t.Errorf("status %d and %d bytes, want 200 and 4", r.Status, r.Bytes)
	}
	c.expectEnd()
	c = srv.accept()
	c.expect("GET /2")
	c.send(ok("two"))
	ends[1].want(200, "two")
}

// An unused connection is closed when its time is up.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e := talk(t, engine.Config{IdleTimeout: 100 * time.Millisecond, KeepBody: true})
	one := e.ask(srv.request("GET", "/1"))[0]
	c := srv.accept()
	c.expect("GET /1")
	c.send(ok("one"))
	one.want(200, "one")
	c.expectEnd()
	two := e.ask(srv.request("GET", "/2"))[0]
	c = srv.accept()
	c.expect("GET /2")
	c.send(ok("two"))
	two.want(200, "two")
}

// A sink that takes its time stops the reading of sockets. What the client
// does not read it may not call late.
func TestSlowSinkIsNoTimeout(t *testing.T) {
	t.Parallel()
	const body = 1 << 20
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 8, Connections: 1, Timeout: limit, ReadTimeout: limit,
		KeepBody: true, MaxMemory: body})
	release := make(chan int)
	e.hold = release
	ends := e.ask(srv.requests(8)...)
	c := srv.accept()
	for range ends {
		c.take()
	}
	sent := make(chan int)
	go func() { // the client stops reading, so the writing blocks
		defer close(sent)
		for range ends {
			c.send(ok(strings.Repeat("x", body)))
		}
	}()
	wait(3 * limit)
	close(release)
	for _, end := range ends {
		if r := end.wait(); r.Err != nil || len(r.Body) != body {
			t.Errorf("%s: %d bytes, %v", end.url, len(r.Body), r.Err)
		}
	}
	<-sent
}
