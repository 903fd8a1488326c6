package engine_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"hotlap/engine"
)

// A canceler is a Source of requests for a server that does not answer: when
// all of them are in, it cancels those it is to cancel.
type canceler struct {
	e     *engine.Engine
	url   string
	n     int
	picks func(tag int) bool
	given int
}

func (c *canceler) Next(_ context.Context, batch []*engine.Request) (int, error) {
	if c.given == c.n {
		c.e.Cancel(func(r *engine.Request) bool { return c.picks(r.Tag.(int)) })
		return 0, io.EOF
	}
	n := min(len(batch), c.n-c.given)
	for i := range n {
		batch[i] = &engine.Request{URL: c.url, Tag: c.given}
		c.given++
	}
	return n, nil
}

// Cancel ends what it picks, wherever it is: written, in a pipeline behind
// another, waiting for a connection, or for its turn under a rate. The others
// go on.
func TestCancel(t *testing.T) {
	for name, cfg := range map[string]engine.Config{
		"alone":    {PerHost: 1000},
		"pipeline": {PerHost: 2, Pipeline: 8},
		"queue":    {PerHost: 1},
		"rate":     {Rate: 200, PerHost: 4},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
			defer server.Close()
			e, err := engine.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			const n = 50
			even := func(tag int) bool { return tag%2 == 0 }
			source := &canceler{e: e, url: server.URL, n: n, picks: even}
			var seen [n]int
			ended := 0
			stats, err := e.Run(context.Background(), source, engine.SinkFunc(func(results []*engine.Result) error {
				for _, r := range results {
					tag := r.Request.Tag.(int)
					seen[tag]++
					if canceled := r.Err != nil && r.Err.Kind == engine.Canceled; canceled != even(tag) {
						t.Errorf("%d ended with %v", tag, r.Err)
					}
					ended++
					if ended == n/2 { // all that were to be canceled: the server answers the rest
						close(release)
					}
				}
				return nil
			}))
			if err != nil || stats.Errors[engine.Canceled] != n/2 || stats.Responses != n/2 {
				t.Errorf("%v, %+v", err, stats)
			}
			for tag, times := range seen {
				if times != 1 {
					t.Errorf("%d has %d results", tag, times)
				}
			}
		})
	}
}
