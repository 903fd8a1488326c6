package main

import "testing"

// A result comes as soon as there is nothing else to wait for, or soon after:
// hotlap can be one end of a conversation.
func TestResultsComeAtOnce(t *testing.T) {
	for name, args := range map[string][]string{
		"standard input": nil,
		"-i -":           {"-i", "-", "-o", "-"},
		"pipelines":      {"-p", "auto"},
		"two loops":      {"--loops", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			p := start(t, append([]string{"fetch"}, args...)...)
			for _, path := range []string{"/1", "/2", "/3"} {
				p.give(s.url + path)
				s.await(path)[0].answer()
				if r := p.stdout.result(); r.Status != 200 || r.Body != path {
					t.Fatalf("%s: %+v", path, r)
				}
			}

			// While another one is in flight, too.
			p.give(s.url+"/4", s.url+"/5")
			both := s.await("/4", "/5")
			for _, a := range []asked{both[1], both[0]} {
				a.answer()
				if r := p.stdout.result(); r.Status != 200 || r.Body != a.path {
					t.Fatalf("%s: %+v", a.path, r)
				}
			}

			// What never was a request has its line at once. Half a line waits for
			// its end, or the input's.
			p.give("nonsense")
			if r := p.stdout.result(); r.ID != 6 || r.Error.Kind != "invalid_request" {
				t.Fatalf("got %+v", r)
			}
			for _, half := range []string{s.url, "/7"} {
				if _, err := p.stdin.Write([]byte(half)); err != nil {
					t.Fatal(err)
				}
			}
			p.stdin.Close()
			s.await("/7")[0].answer()
			if got := results(t, p.stdout.rest()); len(got) != 1 || got[0].Body != "/7" {
				t.Errorf("at the end: %+v", got)
			}
			p.exits(0)
			wants(t, p.stderr.rest(), "requests   7 in ")
		})
	}
}
