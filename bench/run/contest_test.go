package main

import (
	"errors"
	"strings"
	"testing"

	"hotlap/bench/sample"
)

// resultOf makes a result of CPU times per request, in microseconds; 0 stands
// for a failure.
func resultOf(cpuUs ...float64) *result {
	r := &result{rounds: len(cpuUs)}
	for _, us := range cpuUs {
		if us == 0 {
			r.add(sample.Sample{}, errors.New("it\nbroke"))
		} else {
			r.add(sample.Sample{Requests: 1e6, Seconds: 2, UserSeconds: us}, nil)
		}
	}
	return r
}

func TestTable(t *testing.T) {
	o := outcome{
		scene: scene{
			name: "depth-1", about: "A load.", base: hotlapName, figures: []figure{cpuFigure, rateFigure, p50Figure},
			clients: []client{{name: floorName}, {name: hotlapName}, {name: "wrk"}, {name: "ab"}, {name: "k6"}},
			limits: []limit{
				{figure: cpuFigure, to: "wrk", high: 0.5},
				{figure: cpuFigure, to: floorName, high: 1.2},
				{figure: cpuFigure, low: 2, high: 3},
				{figure: cpuFigure, to: "k6", high: 9},
			},
		},
		results: map[string]*result{
			floorName: resultOf(1, 2, 4), hotlapName: resultOf(1.5, 3, 8), "wrk": resultOf(3, 0, 32),
			"ab": resultOf(0, 0, 0), "k6": {not: "absent"},
		},
	}
	want := `
## depth-1

A load.

| client | CPU us/request | requests/s | p50 ms | CPU us/request, times that of hotlap |
|:--|--:|--:|--:|--:|
| floor | 2.000 (1.000-4.000) | 500000 | - | 0.67 (0.50-0.67) |
| hotlap | 3.000 (1.500-8.000) | 500000 | - | 1.00 |
| wrk | 17.500 (3.000-32.000) | 500000 | - | 3.00 (2.00-4.00) |
| ab | failed | | | |
| k6 | absent | | | |

- wrk failed in 1 of 3 rounds: it broke
- ab failed in 3 of 3 rounds: it broke
- hotlap, CPU us/request, times that of wrk: 0.38 (0.25-0.50); limit at most 0.5: holds
- hotlap, CPU us/request, times that of floor: 1.50 (1.50-2.00); limit at most 1.2: **does not hold**
- hotlap, CPU us/request: 3.000 (1.500-8.000); limit from 2 to 3: holds
- hotlap, CPU us/request, times that of k6: -; limit at most 9: **not measured**
`
	if got := text([]outcome{o}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestIntervalsAreTold(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	twice := []float64{2, 4, 6, 8, 10, 12, 14, 16, 18}
	o := &outcome{results: map[string]*result{"a": resultOf(values...), "b": resultOf(twice...), "c": resultOf(1, 2, 3), "d": {not: "absent"}}}
	for _, c := range []struct{ of, to, want string }{
		{"b", "a", "b, CPU us/request, times that of a: median 2.000, 95 % interval 2.000 to 2.000"},
		{"a", "c", "a, CPU us/request, times that of c: too few rounds for an interval"},
		{"d", "a", "d, CPU us/request, times that of a: too few rounds for an interval"},
	} {
		if got := (interval{cpuFigure, c.of, c.to}).text(o); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	scenes := []scene{
		{name: "a", base: floorName, clients: []client{{name: floorName}, {name: hotlapName}, {name: "wrk"}, {name: "ab"}}},
		{name: "b", base: hotlapName, clients: []client{{name: floorName}, {name: hotlapName}, {name: "wrk"}, {name: "ab"}}},
	}
	for only, want := range map[string]string{
		"":         "a: floor hotlap wrk ab; b: floor hotlap wrk ab; ",
		"a":        "a: floor hotlap wrk ab; ",
		"b/wrk":    "b: hotlap wrk; ",
		"/ab|wrk":  "a: floor hotlap wrk ab; b: hotlap wrk ab; ",
		"a|b/none": "a: floor hotlap; b: hotlap; ",
	} {
		c := contest{only: only}
		chosen, err := c.choose(scenes)
		got := ""
		for _, sc := range chosen {
			got += sc.name + ":"
			for _, cl := range sc.clients {
				got += " " + cl.name
			}
			got += "; "
		}
		if err != nil || got != want {
			t.Errorf("-only %q leaves %q, %v, want %q", only, got, err, want)
		}
	}
	c := contest{only: "c/wrk"}
	if _, err := c.choose(scenes); err == nil {
		t.Error("a scene that is not there was chosen")
	}
}

func TestConfirm(t *testing.T) {
	plain := load{connections: 10, depth: 1}
	deep := load{connections: 10, depth: 8}
	paced := load{connections: 10, depth: 8, rate: 100}
	closing := load{connections: 10, depth: 1, closing: true}
	for _, c := range []struct {
		name    string
		load    load
		claimed int64
		seen    seen
		want    string
	}{
		{"as claimed", plain, 1000, seen{1010, 10, 1}, ""},
		{"more than came", plain, 1011, seen{1010, 10, 1}, "claims 1011"},
		{"far less than came", plain, 800, seen{1010, 10, 1}, "claims 800 answers only"},
		{"without a warm-up", plain, 950, seen{1010, 10, 1}, ""},
		{"deep", deep, 1000, seen{1010, 10, 8}, ""},
		{"not deep", deep, 1000, seen{1010, 10, 1}, "at most 1 of its requests came together, not 8"},
		{"too deep", plain, 1000, seen{1010, 10, 2}, "came together"},
		{"paced, so not deep", paced, 1000, seen{1010, 10, 2}, ""},
		{"depth not counted", deep, 1000, seen{1010, 10, 0}, ""},
		{"a connection each", closing, 1000, seen{1010, 1012, 1}, ""},
		{"kept connections", closing, 1000, seen{1010, 10, 1}, "not one each"},
		{"kept none", plain, 1000, seen{1010, 1010, 1}, "opened 1010 connections"},
	} {
		err := c.seen.confirm(c.load, c.claimed)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestParseNginxStatus(t *testing.T) {
	got, err := parseNginxStatus("Active connections: 1 \nserver accepts handled requests\n 12 12 345 \nReading: 0 Writing: 1 Waiting: 0 \n")
	if want := (seen{requests: 345, connections: 12}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseNginxStatus("<html>404</html>"); err == nil {
		t.Error("what is no status was read")
	}
}

func TestLastLine(t *testing.T) {
	if got := lastLine([]byte("\n"), []byte("a\nwhy it  failed\n\n")); got != "why it failed" {
		t.Errorf("got %q", got)
	}
	if got := lastLine(nil, []byte(strings.Repeat("x", 3*maxReason))); len(got) > maxReason+3 {
		t.Errorf("a reason of %d bytes", len(got))
	}
}
