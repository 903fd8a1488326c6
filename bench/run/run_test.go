package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"hotlap/bench/sample"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{9, 1, 5}, spread{1, 5, 9}},
		{[]float64{4, 1, 2, 8}, spread{1, 3, 8}},
	} {
		in := slices.Clone(c.values)
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(in, c.values) {
			t.Errorf("spreadOf reordered its argument: %v became %v", in, c.values)
		}
	}
}

// A round in which everything took twice as long changes no ratio.
func TestRatiosAreTakenWithinRounds(t *testing.T) {
	got := ratios([]float64{2, 4, 2}, []float64{1, 2, 1})
	if want := []float64{2, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("ratios = %v, want %v", got, want)
	}
}

func samplesOf(cpuUs ...float64) (list []sample.Sample) {
	for _, us := range cpuUs {
		list = append(list, sample.Sample{Requests: 1e6, Seconds: 2, UserSeconds: us})
	}
	return list
}

func TestTable(t *testing.T) {
	samples := map[string][]sample.Sample{
		floorName: samplesOf(1, 2, 4),
		"hotlap":  samplesOf(1.5, 3, 8),
		"wrk":     samplesOf(2, 8, 8),
	}
	clients := []client{{name: floorName}, {name: "hotlap"}, {name: "wrk"}}
	rows := append(rowsOf(1, clients, samples), rowsOf(8, clients[:2], samples)...)
	got := table(rows)
	want := `| depth | client | CPU us/request | requests/s | CPU, times the floor | limit |
|--:|:--|--:|--:|--:|:--|
| 1 | floor | 2.000 (1.000-4.000) | 500000 | 1 |  |
| 1 | hotlap | 3.000 (1.500-8.000) | 500000 | 1.50 (1.50-2.00) | 1.25: **missed** |
| 1 | wrk | 8.000 (2.000-8.000) | 500000 | 2.00 (2.00-4.00) |  |
| 8 | floor | 2.000 (1.000-4.000) | 500000 | 1 |  |
| 8 | hotlap | 3.000 (1.500-8.000) | 500000 | 1.50 (1.50-2.00) | 1.7: met |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestReadH2load(t *testing.T) {
	out, err := os.ReadFile("testdata/h2load.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readH2load(load{connections: 64, depth: 8}, out)
	if err != nil {
		t.Fatal(err)
	}
	want := sample.Sample{Connections: 64, Depth: 8, Requests: 1359848, Seconds: 2}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReadJSONTakesTheLastLine(t *testing.T) {
	out := []byte("Running 2s test\n{not this}\n" + `{"client":"x","requests":7,"seconds":0.5}` + "\n")
	s, err := readJSON(load{}, out)
	if err != nil || s.Requests != 7 || s.Rate() != 14 {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := readJSON(load{}, []byte("it failed\n")); err == nil {
		t.Error("output without JSON was accepted")
	}
}

func TestVerify(t *testing.T) {
	const one = `{"id":1,"status":200,"body":"/item/00000001"}` + "\n"
	const two = `{"id":"2","status":200,"body":"/item/00000002"}` + "\n"
	for _, c := range []struct{ name, out, want string }{
		{"any order", two + one, ""},
		{"one missing", one, "1 results, want 2"},
		{"one twice", one + one, "id 1 a second time"},
		{"one too many", one + two + `{"id":3,"status":200}`, "id 3 was not asked for"},
		{"bodies exchanged", `{"id":1,"status":200,"body":"/item/00000002"}`, "id 1 has the body"},
		{"a failure", `{"id":1,"error":{"kind":"closed"}}`, "id 1: status 0"},
		{"a torn line", `{"id":1,"sta`, "line 1"},
		{"an id of another kind", `{"id":[1]}`, "no line number"},
	} {
		err := verify(strings.NewReader(c.out), 2)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestURLsAreThoseThatVerifyExpects(t *testing.T) {
	path := t.TempDir() + "/urls"
	if err := writeURLs(path, "127.0.0.1:80", 3); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		if want := "http://127.0.0.1:80" + pathOf(i+1); string(l) != want {
			t.Errorf("line %d is %s, want %s", i+1, l, want)
		}
	}
}

func TestParseBusy(t *testing.T) {
	stat := "cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
	if got, want := parseBusy(stat), (1+2+4+8+16+32)*tick; got != want {
		t.Errorf("busy %v, want %v", got, want)
	}
}
