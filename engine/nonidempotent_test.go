package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"hotlap/engine"
)

// The server counts each POST and PATCH by its id, and kills connections at
// random: before, within and behind the request, in its answer, and idle. Each
// request must have arrived exactly once if it was answered, at most once if
// it was not, in one attempt.
func TestNonIdempotent(t *testing.T) {
	fates := map[string]weather{
		"closing":      {closeAfter: 2, keepAlive: 4},
		"cut":          {cut: 2},
		"deaf":         {deaf: 2},
		"dead_idle":    {hangUp: 1},
		"all_together": {closeAfter: 8, cut: 4, deaf: 4, hangUp: 4},
	}
	for name, w := range fates {
		for _, depth := range []int{1, 16, engine.PipelineAuto} {
			t.Run(name+"/"+depthName(depth), func(t *testing.T) {
				anyone := dyingKinds
				if name == "closing" {
					anyone = nil
				}
				s := seed(t)
				srv := startFaulty(t, s, max(depth, engine.AutoPipelineMax), w)
				l := newLedger(t, srv, 2, size(1000, 100_000), rightAnswers, lastAnswers)
				l.retries, l.anyone, l.post, l.maxPost = 2, anyone, 2, 200_000
				cfg := ledgerConfig(depth)
				cfg.Retries = 2
				stats := runEngine(t, cfg, l, l)
				srv.stop()
				l.settle(stats)
				srv.settle(l)
			})
		}
	}
}

// An idle connection dies under a POST: the POST may have been processed, so
// it ends there. An idempotent request goes on, on another connection.
func TestIdleConnectionDiesUnderRequest(t *testing.T) {
	for _, method := range []string{"POST", "PATCH", "GET", "PUT", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			srv := listen(t)
			e := talk(t, engine.Config{Retries: 1, KeepBody: true})
			warm := e.ask(srv.request("GET", "/warm"))[0]
			c := srv.accept()
			c.expect("GET /warm")
			c.send(ok("warm"))
			warm.want(200, "warm")

			second := e.ask(srv.request(method, "/second"))[0]
			c.expect(method + " /second")
			c.reset()
			if method == "POST" || method == "PATCH" {
				second.wantError(engine.PhaseHead, closedKinds...)
				second.wantAttempts(1)
				return
			}
			c = srv.accept()
			c.expect(method + " /second")
			c.send(ok("again"))
			second.want(200, "again")
		})
	}
}

// A POST waits for an empty connection, and nothing joins it there. What else
// the engine sends before or after it is its own affair.
func TestNonIdempotentTravelsAlone(t *testing.T) {
	srv := listen(t)
	e := talk(t, engine.Config{Pipeline: 8, Connections: 1, KeepBody: true})
	ends := e.ask(srv.request("GET", "/1"), srv.request("GET", "/2"), srv.request("POST", "/3"),
		srv.request("GET", "/4"), srv.request("GET", "/5"))
	c := srv.accept()
	for left := len(ends); left > 0; left-- {
		got := c.take()
		if got == "POST /3" {
			if c.outstanding != 1 {
				t.Errorf("the POST was sent behind %d unanswered requests", c.outstanding-1)
			}
			c.expectNothing()
		}
		_, target, _ := strings.Cut(got, " ")
		c.send(ok(target))
	}
	for i, e := range ends {
		e.want(200, fmt.Sprintf("/%d", i+1))
		e.wantAttempts(1)
	}
}
