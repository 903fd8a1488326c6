package engine

import (
	"math/rand/v2"
	"testing"
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name string
		o    outcome
		want verdict
	}{
		{"never left a connection that died", outcome{kind: Closed}, replay},
		{"POST written, connection lost", outcome{kind: Closed, wrote: true, fault: true, processed: true}, fail},
		{"POST behind an announced close", outcome{kind: Closed, wrote: true}, replay},
		{"POST, no connection", outcome{kind: Connect, fault: true, attempts: 1, retries: 2}, fail},
		{"GET, no connection", outcome{kind: Connect, idempotent: true, fault: true, attempts: 1, retries: 2}, retry},
		{"GET, no connection, attempts used up", outcome{kind: Connect, idempotent: true, fault: true, attempts: 3, retries: 2}, fail},
		{"GET behind the one that timed out", outcome{kind: Timeout, idempotent: true, wrote: true, processed: true}, replay},
		{"GET on a kept connection that had died", outcome{kind: Closed, idempotent: true, wrote: true, fault: true, stale: true}, replayOnce},
		{"the same again", outcome{kind: Closed, idempotent: true, wrote: true, fault: true, stale: true, moved: true, attempts: 1}, fail},
		{"no retries asked", outcome{kind: Timeout, idempotent: true, wrote: true, fault: true, attempts: 1}, fail},
		{"no name", outcome{kind: DNS, idempotent: true, fault: true, attempts: 1, retries: 2}, fail},
		{"not HTTP", outcome{kind: Protocol, idempotent: true, wrote: true, fault: true, attempts: 1, retries: 2}, fail},
		{"head too large", outcome{kind: TooLarge, idempotent: true, wrote: true, fault: true, attempts: 1, retries: 2}, fail},
	} {
		if got := decide(c.o); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for attempts := 1; attempts < 100; attempts++ {
		full := backoffMost
		if attempts < 8 {
			full = min(backoffFirst<<(attempts-1), backoffMost)
		}
		for range 50 {
			if d := backoff(attempts, rnd); d < full/2 || d > full {
				t.Fatalf("attempt %d waits %v, want %v to %v", attempts, d, full/2, full)
			}
		}
	}
}

func TestPacerKeepsTheRate(t *testing.T) {
	p := newPacer(1000)
	now, n := int64(5_000_000), 0
	for end := now + 2_000_000_000; now < end; now += 3_700_000 { // coarse wake-ups are made up for
		for p.take(now) {
			n++
		}
	}
	if n < 1995 || n > 2015 {
		t.Errorf("%d events in 2 s at 1000/s", n)
	}
	now += 60_000_000_000 // a long pause is not
	burst := 0
	for p.take(now) {
		burst++
	}
	if burst > 12 {
		t.Errorf("burst of %d after a pause", burst)
	}
	if p.take(p.due() - 2) {
		t.Error("an event before it was due")
	}
	if !p.take(p.due()) {
		t.Error("no event when it was due")
	}
}

func TestZeroPacerLetsAllPass(t *testing.T) {
	var p pacer
	for range 1000 {
		if !p.take(1) {
			t.Fatal("held back")
		}
	}
}
