package engine

import (
	"context"
	"io"
	"testing"
	"time"
)

// scheduled has requests that are due at given times.
type scheduled struct {
	due []time.Duration
	at  time.Time
}

func (s *scheduled) Begin(at time.Time) { s.at = at }

func (s *scheduled) Next(context.Context, []*Request) (int, error) {
	panic("a scheduled source is asked with NextDue")
}

func (s *scheduled) NextDue(now time.Duration, batch []*Request, due []time.Duration) (n int, next time.Duration, err error) {
	for n < len(batch) && len(s.due) > 0 && s.due[0] <= now {
		batch[n], due[n] = &Request{URL: "http://127.0.0.1/" + string(rune('a'+n))}, s.due[0]
		s.due = s.due[1:]
		n++
	}
	if len(s.due) == 0 {
		return n, 0, io.EOF
	}
	return n, s.due[0], nil
}

// newScheduledTalk begins a run of a schedule on a conversation's loop, of which
// at most most requests may be under way.
func newScheduledTalk(t *testing.T, cfg Config, most int, due ...time.Duration) (*talk, *scheduled) {
	k := newTalk(t, cfg)
	s := &scheduled{due: due}
	k.p.run.started = k.time
	k.p.run.parting = 1
	k.p.begin(s, k.p.sink, most, k.time)
	k.settle()
	return k, s
}

const ms = time.Millisecond

// Each request of a pipeline has its own due time, and its times run from it.
func TestScheduleInAPipeline(t *testing.T) {
	k, s := newScheduledTalk(t, Config{Pipeline: 4}, 4, 0, 10*ms, 20*ms)
	p := k.accept(0)
	k.says(p, answer("A"))
	k.passes(10 * ms)
	k.passes(10 * ms) // two are on their way in one pipeline
	k.passes(5 * ms)
	k.says(p, answer("B")+answer("C"))
	k.results("a 200 A", "a 200 B", "a 200 C")
	got := k.got["a"] // the last one: due at 20 ms, answered at 25
	if due := got.Start.Sub(s.at); due != 20*ms {
		t.Errorf("it started %v after the run, and was due after 20 ms", due)
	}
	if got.Time.Total != 5*ms || got.Time.Held != 0 || got.Time.Late != 0 || got.Time.Sent != 0 {
		t.Errorf("times %+v", got.Time)
	}
}

// What is due while every place is taken keeps its due time; the wait is Held.
func TestScheduleWhileAllPlacesAreTaken(t *testing.T) {
	k, s := newScheduledTalk(t, Config{}, 1, 0, 10*ms)
	p := k.accept(0)
	k.passes(60 * ms)
	k.says(p, answer("A"))
	k.passes(5 * ms)
	k.says(p, answer("B"))
	k.results("a 200 A", "a 200 B")
	got := k.got["a"]
	if due := got.Start.Sub(s.at); due != 10*ms {
		t.Errorf("it started %v after the run, and was due after 10 ms", due)
	}
	if got.Time.Total != 55*ms || got.Time.Held != 50*ms || got.Time.Late != 0 {
		t.Errorf("times %+v", got.Time)
	}
	if k.p.source != nil {
		t.Error("the part has not ended with its source")
	}
}

// A source whose first request is due later is not taken for one that has
// ended, and a loop that wakes late says so.
func TestScheduleThatBeginsLater(t *testing.T) {
	k, _ := newScheduledTalk(t, Config{}, 1, 50*ms)
	if k.p.source == nil {
		t.Fatal("the part ended before its first request was due")
	}
	k.passes(58 * ms)
	p := k.accept(0)
	k.says(p, answer("A"))
	k.results("a 200 A")
	if got := k.got["a"].Time; got.Late != 8*ms || got.Held != 0 {
		t.Errorf("times %+v", got)
	}
}

// Who asked for the close leaves it to the server: its FIN comes first, and
// TIME_WAIT is the server's. Until then the place is taken.
func TestLingerUntilTheServerCloses(t *testing.T) {
	closing := func(id string) *Request {
		return &Request{URL: "http://127.0.0.1/" + id, Header: []Field{{Name: "Connection", Value: "close"}}}
	}
	for name, end := range map[string]func(k *talk, p *peer){
		"FIN":    func(k *talk, p *peer) { k.hangsUp(p) },
		"silent": func(k *talk, p *peer) { k.passes(lingerMost + 10*ms) },
		"bytes":  func(k *talk, p *peer) { k.says(p, "?") },
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, Config{})
			k.askFor(closing("a"))
			k.settle()
			p := k.accept(0)
			k.askFor(closing("b"))
			k.says(p, answer("A"))
			k.results("a 200 A")
			if p.closed || len(k.peers) != 1 {
				t.Fatal("the connection was closed before the server closed it")
			}
			end(k, p)
			if !p.closed {
				t.Fatal("the connection stays open")
			}
			if lingered := k.l.lingered.Load() == 1; lingered != (name == "silent") {
				t.Errorf("the server did not close it in time: %v", lingered)
			}
			k.says(k.accept(1), answer("B"))
			k.results("b 200 B")
		})
	}
}
