package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"hotlap/engine"
)

// DESIGN section 4, rule 4: behind "Connection: close" nothing was processed;
// all of it travels again, though no retry is allowed.
func TestReplayBehindAnnouncedClose(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(c *talkConn)
	}{{"fin", (*talkConn).fin}, {"rst", (*talkConn).reset}, {"nothing", func(*talkConn) {}}} {
		t.Run(end.name, func(t *testing.T) {
			srv := listen(t)
			e := talk(t, engine.Config{Pipeline: 4, Connections: 1, KeepBody: true})
			ends := e.ask(srv.requests(4)...)
			c := srv.accept()
			c.expect("GET /1", "GET /2", "GET /3", "GET /4")
			c.send(ok("one") + ok("two", "Connection: close"))
			end.do(c)
			ends[0].want(200, "one")
			ends[1].want(200, "two")
			c = srv.accept()
			c.expect("GET /3")
			c.send(ok("three"))
			c.expect("GET /4")
			c.send(ok("four"))
			ends[2].want(200, "three")
			ends[3].want(200, "four")
			e.finish(nil)
			if e.stats.Retries != 0 || e.stats.Replays != 2 {
				t.Errorf("%d retries and %d replays, want 0 and 2", e.stats.Retries, e.stats.Replays)
			}
		})
	}
}

// After a close without a word, RFC 9112 section 9.3.2: "a client MUST NOT
// pipeline immediately after connection establishment". The request whose
// answer broke off may come later than the others: it waits for its retry.
func TestReplayAfterUnannouncedClose(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(c *talkConn)
	}{{"fin", (*talkConn).fin}, {"rst", (*talkConn).reset}} {
		t.Run(end.name, func(t *testing.T) {
			srv := listen(t)
			e := talk(t, engine.Config{Pipeline: 4, Connections: 1, Retries: 1, KeepBody: true})
			ends := e.ask(srv.requests(4)...)
			c := srv.accept()
			c.expect("GET /1", "GET /2", "GET /3", "GET /4")
			c.send(ok("/1") + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n/")
			ends[0].want(200, "/1") // so that it is not lost with a reset
			end.do(c)
			c = srv.accept()
			for i := range 3 {
				target := strings.TrimPrefix(c.take(), "GET ")
				if i == 0 {
					c.expectNothing()
				}
				c.send(ok(target))
			}
			for i, e := range ends {
				e.want(200, fmt.Sprintf("/%d", i+1))
			}
			ends[1].wantAttempts(2)
		})
	}
}

// A connection that ends the moment it is accepted may do so before the client
// has noticed that it is there. Nobody may wait for it.
func TestConnectionOverAtOnce(t *testing.T) {
	for _, how := range []after{finish, reset} {
		t.Run([]string{finish: "fin", reset: "rst"}[how], func(t *testing.T) {
			srv := startFaulty(t, seed(t), 0, weather{})
			srv.fix(plan{closeAfter: -1, cutAt: -1, deafAt: -1, hangUp: 0, how: how})
			l := newLedger(t, srv, 8, 400, rightAnswers)
			l.anyone, l.post = dyingKinds, 20
			stats := runEngine(t, ledgerConfig(4), l, l)
			srv.stop()
			l.settle(stats)
			if stats.Responses != 0 {
				t.Errorf("%d requests were answered by nobody", stats.Responses)
			}
		})
	}
}

// A broken answer is nobody's fault but its own request's.
func TestReplayBehindBrokenAnswer(t *testing.T) {
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 4, Connections: 1, KeepBody: true})
	ends := e.ask(srv.requests(3)...)
	c := srv.accept()
	c.expect("GET /1", "GET /2", "GET /3")
	c.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
	ends[0].wantError(engine.PhaseHead, engine.Protocol)
	ends[0].wantAttempts(1)
	c.expectEnd()
	c = srv.accept()
	c.expect("GET /2")
	c.send(ok("two"))
	c.expect("GET /3")
	c.send(ok("three"))
	ends[1].want(200, "two")
	ends[2].want(200, "three")
}

// Rule 1: an unknown origin gets one request, until it has shown that it can
// take more; one that answers in HTTP/1.0 never gets more.
func TestAutoDepthOfHTTP10(t *testing.T) {
	srv := startFaulty(t, seed(t), 1, weather{})
	l := newLedger(t, srv, 3, 500, []answer{*answers["http10_keep"]})
	stats := runEngine(t, ledgerConfig(engine.PipelineAuto), l, l)
	srv.stop()
	l.settle(stats)
}

// Depth is earned: the first request alone, then more of them.
func TestAutoDepthIsEarned(t *testing.T) {
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: engine.PipelineAuto, Connections: 1, KeepBody: true})
	ends := e.ask(srv.requests(40)...)
	c := srv.accept()
	c.expect("GET /1")
	c.expectNothing()
	c.send(ok("x"))
	for range 11 {
		c.take()
		c.send(ok("x"))
	}
	for c.outstanding < 4 {
		c.take()
	}
	for range len(ends) - 12 {
		if c.outstanding == 0 {
			c.take()
		}
		c.send(ok("x"))
	}
	for _, e := range ends {
		e.want(200, "x")
	}
}

// Rule 1 again: a server that closes each connection after the same count is
// known after two of them, and few requests are sent past the count later.
func TestKeepAliveLimitIsLearnt(t *testing.T) {
	for name, announce := range map[string]bool{"closed": false, "announced": true} {
		t.Run(name, func(t *testing.T) {
			srv := startFaulty(t, seed(t), engine.AutoPipelineMax, weather{})
			srv.fix(plan{closeAfter: 20, announce: announce, hangUp: -1, cutAt: -1, deafAt: -1})
			l := newLedger(t, srv, 4, 5000, []answer{*answers["length"]})
			cfg := ledgerConfig(engine.PipelineAuto)
			cfg.Connections = 4
			stats := runEngine(t, cfg, l, l)
			srv.stop()
			l.settle(stats)
			if stats.Replays > int64(l.n/10) {
				t.Errorf("%d of %d requests were sent past the limit", stats.Replays, l.n)
			}
		})
	}
}
