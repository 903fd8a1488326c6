package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"hotlap/engine"
)

// all reads a source to its end, releasing what it serves in batches of n.
func all(t *testing.T, s *Source, n int) []Item {
	t.Helper()
	var items []Item
	batch := make([]*engine.Request, n)
	for {
		n, err := s.Next(context.Background(), batch)
		var results []*engine.Result
		for _, r := range batch[:n] {
			it := *ItemOf(r)
			it.Header = append([]engine.Field(nil), it.Header...)
			items = append(items, it)
			results = append(results, &engine.Result{Request: r})
		}
		s.Release(results)
		if err == io.EOF {
			return items
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// describe says in a line what an item is.
func describe(it *Item) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", it.Number)
	if it.ID != nil {
		fmt.Fprintf(&b, " id=%s", it.ID)
	}
	if it.Err != nil {
		fmt.Fprintf(&b, " bad: %v", it.Err)
		return b.String()
	}
	if it.Method != "" {
		b.WriteString(" " + it.Method)
	}
	b.WriteString(" " + it.URL)
	for _, f := range it.Header {
		fmt.Fprintf(&b, " %s:%s", f.Name, f.Value)
	}
	for _, o := range it.Omit {
		fmt.Fprintf(&b, " -%s", o)
	}
	if it.Body != nil {
		fmt.Fprintf(&b, " body=%q", it.Body)
	}
	if it.Timeout != 0 {
		fmt.Fprintf(&b, " timeout=%v", it.Timeout)
	}
	if it.Meta != nil {
		fmt.Fprintf(&b, " meta=%s", it.Meta)
	}
	return b.String()
}

func describeAll(items []Item) []string {
	var out []string
	for i := range items {
		out = append(out, describe(&items[i]))
	}
	return out
}

const mixed = "\xef\xbb\xbfhttp://a/1\n" +
	"# a comment\n" +
	"\n" +
	" \t\n" +
	"http://a/5\r\n" +
	"\r\n" +
	`{"url":"http://a/7"}` + "\n" +
	"http://a/8 with a space\n" +
	`  {"id":"x","url":"http://a/9","meta":{"a": [1, "\u00e9"]}}` + "\r\n" +
	`{"url":` + "\n" +
	"http://a/11#fragment\n" +
	"http://a/12"

var mixedWant = []string{
	"1 http://a/1",
	"5 http://a/5",
	"7 http://a/7",
	"8 http://a/8 with a space",
	`9 id="x" http://a/9 meta={"a":[1,"\u00e9"]}`,
	"10 bad: column 8: want url to be a string",
	"11 http://a/11#fragment",
	"12 http://a/12",
}

func TestLines(t *testing.T) {
	for _, n := range []int{1, 2, 3, 256} {
		for name, in := range map[string]io.Reader{
			"whole":         strings.NewReader(mixed),
			"byte by byte":  iotest.OneByteReader(strings.NewReader(mixed)),
			"data with EOF": iotest.DataErrReader(strings.NewReader(mixed)),
		} {
			got := describeAll(all(t, Lines(in, Options{}), n))
			if !reflect.DeepEqual(got, mixedWant) {
				t.Errorf("%s, batches of %d:\n%s", name, n, strings.Join(got, "\n"))
			}
		}
	}
}

func TestLinesAtEverySplit(t *testing.T) {
	for i := range len(mixed) {
		in := io.MultiReader(strings.NewReader(mixed[:i]), strings.NewReader(mixed[i:]))
		if got := describeAll(all(t, Lines(in, Options{}), 4)); !reflect.DeepEqual(got, mixedWant) {
			t.Fatalf("split at %d:\n%s", i, strings.Join(got, "\n"))
		}
	}
}

func TestEmptyInputs(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing", "\n\n#\n", "\xef\xbb\xbf"} {
		if got := all(t, Lines(strings.NewReader(text), Options{}), 4); len(got) != 0 {
			t.Errorf("%q: %v", text, describeAll(got))
		}
	}
	if got := all(t, Args(nil, Options{}), 4); len(got) != 0 {
		t.Errorf("no arguments: %v", describeAll(got))
	}
}

func TestArgs(t *testing.T) {
	got := describeAll(all(t, Args([]string{"http://a/1", "#x", "{}", ""}, Options{Method: "HEAD"}), 3))
	want := []string{"1 HEAD http://a/1", "2 HEAD #x", "3 HEAD {}", "4 HEAD "}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestDefaults(t *testing.T) {
	const lines = "http://a/1\n" +
		`{"url":"http://a/2","method":"PUT"}` + "\n" +
		`{"url":"http://a/3","body":"own"}` + "\n"
	for _, c := range []struct {
		o    Options
		want []string
	}{
		{Options{}, []string{`1 http://a/1`, `2 PUT http://a/2`, `3 POST http://a/3 body="own"`}},
		{Options{Body: []byte("b")}, []string{`1 POST http://a/1 body="b"`, `2 PUT http://a/2 body="b"`, `3 POST http://a/3 body="own"`}},
		{Options{Method: "PATCH"}, []string{`1 PATCH http://a/1`, `2 PUT http://a/2`, `3 PATCH http://a/3 body="own"`}},
	} {
		if got := describeAll(all(t, Lines(strings.NewReader(lines), c.o), 8)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: got %q", c.o, got)
		}
	}
}

// A line is served when it has arrived, whatever comes after it.
func TestSlowPipe(t *testing.T) {
	in, out := io.Pipe()
	s := Lines(in, Options{})
	batch := make([]*engine.Request, 16)
	for i := range 3 {
		line := fmt.Sprintf("http://a/%d", i)
		go io.WriteString(out, line+"\nhttp://half/of/a/") // blocks until it is read
		n, err := s.Next(context.Background(), batch)
		if n != 1 || err != nil || !strings.HasSuffix(batch[0].URL, line) {
			t.Fatalf("line %d: %d requests, %v", i, n, err)
		}
	}
	s.Stop()
	out.Close()
}

// A reader that has nothing.
type stuck struct{ until chan struct{} }

func (r stuck) Read([]byte) (int, error) {
	<-r.until
	return 0, io.EOF
}

func TestNextEndsWithoutInput(t *testing.T) {
	r := stuck{make(chan struct{})}
	defer close(r.until)
	ctx, cancel := context.WithCancel(context.Background())
	s := Lines(r, Options{})
	cancel()
	if _, err := s.Next(ctx, make([]*engine.Request, 1)); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	go s.Stop()
	if _, err := s.Next(context.Background(), make([]*engine.Request, 1)); err != io.EOF {
		t.Errorf("stopped: %v", err)
	}
}

func TestStopKeepsLinesBack(t *testing.T) {
	s := Lines(strings.NewReader(mixed), Options{})
	batch := make([]*engine.Request, 1)
	if n, err := s.Next(context.Background(), batch); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	s.Stop()
	if n, err := s.Next(context.Background(), batch); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
}

func TestReadError(t *testing.T) {
	broken := errors.New("the disk is gone")
	in := io.MultiReader(strings.NewReader("http://a/1\nhttp://a/ha"), iotest.ErrReader(broken))
	s := Lines(in, Options{})
	got := describeAll(all(t, s, 8))
	if !reflect.DeepEqual(got, []string{"1 http://a/1"}) {
		t.Errorf("half a line was served: %q", got)
	}
	if s.Err() != broken {
		t.Errorf("Err is %v", s.Err())
	}
}

func TestLongLines(t *testing.T) {
	const most = 1 << 20
	exact := "http://a/" + strings.Repeat("x", most-len("http://a/"))
	over := exact + "y"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"in the middle", "http://a/1\n" + over + "\nhttp://a/3\n", []string{"1 http://a/1", "2 bad: longer than 64 MiB", "3 http://a/3"}},
		{"at the end", over + over, []string{"1 bad: longer than 64 MiB"}},
		{"by one byte, at the end", over, []string{"1 bad: longer than 64 MiB"}},
		{"twice", over + "\n" + over + "\nhttp://a/3", []string{"1 bad: longer than 64 MiB", "2 bad: longer than 64 MiB", "3 http://a/3"}},
		{"with CRLF", "http://a/1\n" + over + "\r\nhttp://a/3\r\n", []string{"1 http://a/1", "2 bad: longer than 64 MiB", "3 http://a/3"}},
		{"just not", exact + "\nhttp://a/2", []string{"1 " + exact, "2 http://a/2"}},
	} {
		got := describeAll(all(t, lines(strings.NewReader(c.text), Options{}, most), 8))
		if !reflect.DeepEqual(got, c.want) {
			for i := range got {
				got[i] = got[i][:min(len(got[i]), 60)]
			}
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// What is in flight is bounded in bytes; a request that is alone goes through.
func TestPendingBytes(t *testing.T) {
	line := "http://a/" + strings.Repeat("x", pendingMost/2) + "\n"
	s := Lines(strings.NewReader(strings.Repeat(line, 4)), Options{})
	batch := make([]*engine.Request, 8)
	next := func() []*engine.Request {
		n, err := s.Next(context.Background(), batch)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return append([]*engine.Request(nil), batch[:n]...)
	}
	var out []*engine.Request
	for len(out) < 2 {
		out = append(out, next()...)
	}
	if len(out) != 2 {
		t.Fatalf("%d requests of %d bytes each are in flight", len(out), len(line))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := s.Next(ctx, batch); n != 0 || err != context.Canceled {
		t.Fatalf("another one was let through: %d, %v", n, err)
	}
	s.Release([]*engine.Result{{Request: out[0]}, {Request: out[1]}})
	if n := len(next()); n == 0 {
		t.Fatal("nothing after the release")
	}
}

func TestCheckStops(t *testing.T) {
	refuse := func(r *engine.Request) error {
		if strings.HasPrefix(r.URL, "http:") {
			return nil
		}
		return &engine.Error{Kind: engine.InvalidRequest, Message: "URL scheme is not http"}
	}
	for _, c := range []struct {
		text string
		want []string
		err  string
	}{
		{"http://a/1\nftp://a/2\nhttp://a/3\n", []string{"1 http://a/1", "2 ftp://a/2"}, "line 2: URL scheme is not http"},
		{"http://a/1\n{\nhttp://a/3\n", []string{"1 http://a/1", "2 bad: column 2: want a name in quotes"}, "line 2: column 2: want a name in quotes"},
		{"http://a/1\n", []string{"1 http://a/1"}, "<nil>"},
	} {
		s := Lines(strings.NewReader(c.text), Options{Check: refuse})
		got := describeAll(all(t, s, 8))
		if !reflect.DeepEqual(got, c.want) || fmt.Sprint(s.Err()) != c.err {
			t.Errorf("%q: got %q, %v", c.text, got, s.Err())
		}
		s.Stop()
	}
}

// endless repeats a text.
type endless struct {
	text []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], e.text[e.at:])
		n += c
		e.at = (e.at + c) % len(e.text)
	}
	return n, nil
}

func urls(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "http://127.0.0.1:8080/item/%08d?lang=en\n", i)
	}
	return b.Bytes()
}

// consume serves n requests of s and releases each batch.
func consume(tb testing.TB, s *Source, n int) {
	batch := make([]*engine.Request, 256)
	results := make([]*engine.Result, len(batch))
	for i := range results {
		results[i] = new(engine.Result)
	}
	for n > 0 {
		got, err := s.Next(context.Background(), batch)
		if err != nil {
			tb.Fatal(err)
		}
		for i, r := range batch[:got] {
			results[i].Request = r
		}
		s.Release(results[:got])
		n -= got
	}
}

func TestPlainLinesDoNotAllocate(t *testing.T) {
	s := Lines(&endless{text: urls(1000)}, Options{})
	defer s.Stop()
	consume(t, s, 10000)
	const lines = 20000
	allocs := testing.AllocsPerRun(5, func() { consume(t, s, lines) })
	// One string for 4 KiB of lines, and what consume itself makes.
	perLine := (allocs - 258) / lines
	if most := 1.5 * 48 / textMost; perLine > most {
		t.Errorf("%.4f allocations per line, want at most %.4f", perLine, most)
	}
}

func BenchmarkPlainLines(b *testing.B) {
	s := Lines(&endless{text: urls(1000)}, Options{})
	defer s.Stop()
	b.SetBytes(int64(len(urls(1))))
	b.ReportAllocs()
	consume(b, s, b.N)
}

func BenchmarkJSONLines(b *testing.B) {
	line := []byte(`{"id":"a-1","url":"http://127.0.0.1:8080/v1/complete","method":"POST","headers":{"Content-Type":"application/json"},"body":"{\"q\":1}","meta":{"row":1}}` + "\n")
	s := Lines(&endless{text: line}, Options{})
	defer s.Stop()
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	consume(b, s, b.N)
}
