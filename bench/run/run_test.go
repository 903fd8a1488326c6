package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
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
		{[]float64{math.NaN(), 1, math.NaN()}, spread{1, 1, 1}},
		{[]float64{math.NaN()}, spread{}},
	} {
		in := slices.Clone(c.values)
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.values, got, c.want)
		}
		if fmt.Sprint(in) != fmt.Sprint(c.values) { // a NaN is not equal to itself
			t.Errorf("spreadOf reordered its argument: %v became %v", in, c.values)
		}
	}
}

// The tails beyond the interval are the binomial's: of 15 values the fourth and
// the twelfth.
func TestMedianInterval(t *testing.T) {
	values := func(n int) (v []float64) {
		for i := range n {
			v = append(v, float64(n-i)) // from n to 1
		}
		return v
	}
	for _, c := range []struct {
		n         int
		low, high float64
		ok        bool
	}{{0, 0, 0, false}, {5, 0, 0, false}, {6, 1, 6, true}, {8, 1, 8, true}, {9, 2, 8, true}, {15, 4, 12, true}, {21, 6, 16, true}, {1000, 469, 532, true}} {
		v := append(values(c.n), math.NaN())
		if low, high, ok := medianInterval(v); low != c.low || high != c.high || ok != c.ok {
			t.Errorf("of 1 to %d: from %v to %v, %v; want %v to %v, %v", c.n, low, high, ok, c.low, c.high, c.ok)
		}
	}
}

// A round in which everything took twice as long changes no ratio.
func TestRatiosAreTakenWithinRounds(t *testing.T) {
	got := ratios([]float64{2, 4, 2}, []float64{1, 2, 1})
	if want := []float64{2, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("ratios = %v, want %v", got, want)
	}
	failed := ratios([]float64{2, math.NaN(), 2}, []float64{1, 2, math.NaN()})
	if want := (spread{2, 2, 2}); spreadOf(failed) != want {
		t.Errorf("where a client failed in a round, ratios = %v, want one", failed)
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
