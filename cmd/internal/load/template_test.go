package load

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hotlap/engine"
)

func parseTemplate(t *testing.T, h *Holes, s string) *Template {
	t.Helper()
	template, err := h.Parse(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return template
}

// file writes a file for the length of the test.
func file(t *testing.T, text string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// Only the exact forms are holes: all else is sent as it is.
func TestBracesThatAreText(t *testing.T) {
	for _, s := range []string{
		"", "no braces", "{", "}", "{}", "}{", "{{}}", `{"json":{"a":1}}`,
		"{SEQ}", "{Seq}", "{ seq}", "{seq }", "{seq:1}", "{seq", "seq}", "{sequence}",
		"{rand}", "{rand:}", "{rand:1}", "{rand:1:}", "{rand::2}", "{rand:a:b}", "{rand:1:2:3}", "{rand:1.5:2}", "{RAND:1:2}",
		"{rand: 1:2}", "{rand:1:99999999999999999999}",
		"{line}", "{line:}", "{LINE:x}", "%7Bseq%7D",
	} {
		template := parseTemplate(t, &Holes{}, s)
		if got := string(template.Append(nil)); !template.Fixed() || got != s {
			t.Errorf("%q is sent as %q", s, got)
		}
	}
}

func TestHoles(t *testing.T) {
	name := file(t, "one\r\ntwo\n\nthree")
	for _, c := range []struct{ text, first, second string }{
		{"{seq}", "0", "1"},
		{"/a/{seq}/b", "/a/0/b", "/a/1/b"},
		{"{seq}{seq}", "01", "23"},
		{"{{seq}}", "{0}", "{1}"},
		{"{{{seq}", "{{0", "{{1"},
		{"{x{seq}", "{x0", "{x1"},
		{"{seq}}", "0}", "1}"},
		{"{rand:5:5}", "5", "5"},
		{"{rand:-3:-3}", "-3", "-3"},
		{`{"id":{seq},"n":{}}`, `{"id":0,"n":{}}`, `{"id":1,"n":{}}`},
		{"{line:" + name + "}", "one", "two"},
		{"{line:" + name + "} {line:" + name + "}", "one two", "three one"},
		{"{line:" + name + "}{seq}", "one0", "two1"},
	} {
		template := parseTemplate(t, &Holes{}, c.text)
		if template.Fixed() {
			t.Errorf("%s: no hole in it", c.text)
		}
		for _, want := range []string{c.first, c.second} {
			if got := string(template.Append([]byte("> "))); got != "> "+want {
				t.Errorf("%s is sent as %q, want %q", c.text, got, "> "+want)
			}
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	empty := file(t, "\n\r\n")
	for _, c := range []struct{ text, want string }{
		{"{rand:2:1}", "{rand:2:1}: want {rand:A:B} with A at most B"},
		{"{rand:-9223372036854775808:9223372036854775807}", "want {rand:A:B}"},
		{"{line:/no/such/file}", "{line:/no/such/file}: stat /no/such/file: no such file or directory"},
		{"{line:" + empty + "}", "the file has no lines"},
	} {
		if _, err := (&Holes{}).Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}

// Both bounds come, and nothing beyond them.
func TestRandomBounds(t *testing.T) {
	template, seen := parseTemplate(t, &Holes{}, "{rand:-2:3}"), map[int]int{}
	for range 6000 {
		n, err := strconv.Atoi(string(template.Append(nil)))
		if err != nil {
			t.Fatal(err)
		}
		seen[n]++
	}
	for n := -2; n <= 3; n++ {
		if seen[n] < 500 { // 1000 are expected, with a deviation of 29
			t.Errorf("%d came %d times of 6000", n, seen[n])
		}
		delete(seen, n)
	}
	if len(seen) > 0 {
		t.Errorf("out of bounds: %v", seen)
	}
}

func addTarget(t *testing.T, targets *Targets, e *engine.Engine, r engine.Request) {
	t.Helper()
	if err := targets.Add(e, r); err != nil {
		t.Fatal(err)
	}
}

func newEngine(t *testing.T, c engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Loops that send at once count with one {seq}, without a gap.
func TestSequenceIsShared(t *testing.T) {
	targets, e := &Targets{}, newEngine(t, engine.Config{})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/{seq}"})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/", Method: "POST", Body: []byte("{seq}")})
	const loops, each = 4, 5000
	var (
		mu  sync.Mutex
		all []int
		wg  sync.WaitGroup
	)
	for loop := range loops {
		wg.Go(func() {
			turn := turn{targets: targets, at: loop % targets.Len()}
			own := make([]int, 0, each)
			for range each {
				r := turn.next()
				text := strings.TrimPrefix(r.URL, "http://127.0.0.1/") + string(r.Body)
				n, _ := strconv.Atoi(text)
				own = append(own, n)
				turn.release(r)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	slices.Sort(all)
	for i, n := range all {
		if n != i {
			t.Fatalf("in the place of %d there is %d", i, n)
		}
	}
}

// What Add tries out has no effect on what is sent.
func TestTargetsBeginAtTheBeginning(t *testing.T) {
	lines := file(t, "a\nb\n")
	targets, e := &Targets{}, newEngine(t, engine.Config{})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/{seq}?{line:" + lines + "}"})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/second/{line:" + lines + "}"})
	turn, got := turn{targets: targets}, []string{}
	for range 5 {
		got = append(got, strings.TrimPrefix(turn.next().URL, "http://127.0.0.1"))
	}
	want := []string{"/0?a", "/second/b", "/1?a", "/second/b", "/2?a"}
	if !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if url := targets.URL(1); url != "http://127.0.0.1/second/{line:"+lines+"}" {
		t.Errorf("the URL of the second target is %q", url)
	}
}

// A request without holes is prepared once and sent again and again; of those
// that are made anew the memory is used again when a result was consumed.
func TestRequestsAreReused(t *testing.T) {
	targets, e := &Targets{}, newEngine(t, engine.Config{})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/fixed"})
	addTarget(t, targets, e, engine.Request{URL: "http://127.0.0.1/{seq}", Body: []byte("body {seq}")})
	turn := turn{targets: targets}
	fixed, made := turn.next(), turn.next()
	again, other := turn.next(), turn.next()
	if fixed != again {
		t.Error("a request that is always the same was copied")
	}
	if made == other {
		t.Error("a request that is in flight was used again")
	}
	if made.URL != "http://127.0.0.1/0" || string(made.Body) != "body 1" {
		t.Errorf("made %s with %q", made.URL, made.Body)
	}
	turn.release(made)
	turn.next()
	if r := turn.next(); r != made || r.URL != "http://127.0.0.1/4" || string(r.Body) != "body 5" {
		t.Errorf("the request of a consumed result was not used again, or says %s with %q", r.URL, r.Body)
	}
	turn.release(fixed) // is nobody's memory
	if len(turn.spare) != 0 {
		t.Error("a prepared request is to be filled anew")
	}
}

func TestTargetErrors(t *testing.T) {
	lines := file(t, "a b\n")
	e := newEngine(t, engine.Config{})
	for _, c := range []struct {
		r    engine.Request
		want string
	}{
		{engine.Request{URL: "http://127.0.0.1/{rand:2:1}"}, "URL: {rand:2:1}: "},
		{engine.Request{URL: "http://127.0.0.1/", Body: []byte("{line:/no/such/file}")}, "body: {line:/no/such/file}: "},
		{engine.Request{URL: "ftp://127.0.0.1/"}, "ftp"},
		{engine.Request{URL: "ftp://127.0.0.1/{seq}"}, "ftp"},
		{engine.Request{URL: "http://127.0.0.1/{line:" + lines + "}"}, "the character ' '"},
	} {
		var targets Targets
		err := targets.Add(e, c.r)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.r.URL, err, c.want)
		}
		if targets.Len() != 0 {
			t.Errorf("%s was added", c.r.URL)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	e, err := engine.New(engine.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	var targets Targets
	if err := targets.Add(e, engine.Request{URL: "http://127.0.0.1/{seq}?{rand:1:1000}"}); err != nil {
		b.Fatal(err)
	}
	turn := turn{targets: &targets}
	b.ReportAllocs()
	for b.Loop() {
		turn.release(turn.next())
	}
}
