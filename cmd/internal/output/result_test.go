package output

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hotlap/cmd/internal/input"
	"hotlap/engine"
)

// request makes the request of an input line.
func request(tb testing.TB, line string) *engine.Request {
	tb.Helper()
	src := input.Lines(strings.NewReader(line), input.Options{})
	defer src.Stop()
	batch := make([]*engine.Request, 1)
	if n, err := src.Next(context.Background(), batch); n != 1 {
		tb.Fatalf("%q is no line: %v", line, err)
	}
	return batch[0]
}

var start = time.Date(2026, 2, 3, 4, 5, 6, 7_089_000, time.FixedZone("", 3600))

func response(status int, body string) engine.Response {
	return engine.Response{
		Status: status, Body: []byte(body), Bytes: int64(len(body)), Attempts: 1, Start: start,
		Time:   engine.Times{Queued: 5 * time.Microsecond, TTFB: 1500 * time.Microsecond, Total: time.Second},
		Remote: netip.MustParseAddrPort("127.0.0.1:80"),
	}
}

// lines encodes results.
func lines(o Options, results ...*engine.Result) string {
	var b bytes.Buffer
	w := NewWriter(&b, o)
	_ = w.Put(results)
	_ = w.Close()
	return b.String()
}

const (
	began = `"attempts":1,"start":"2026-02-03T03:05:06.007089Z",`
	ended = began + `"time":{"queued_us":5,"ttfb_us":1500,"total_us":1000000},"remote":"127.0.0.1:80"`
)

func TestResultLines(t *testing.T) {
	full := response(200, "hi")
	full.Time.Connect, full.Truncated, full.Bytes, full.Attempts = 42*time.Microsecond, true, 9, 2
	full.Remote = netip.MustParseAddrPort("[::1]:8080")
	half := response(200, "ha")
	none := engine.Response{Start: start, Attempts: 1, Time: engine.Times{Queued: time.Microsecond, Total: time.Millisecond}}
	never := engine.Response{Start: start}
	for _, c := range []struct {
		name, line string
		resp       engine.Response
		err        *engine.Error
		o          Options
		want       string
	}{
		{"a plain line", "http://a/1", response(200, "Hello, \"World\"\n"), nil, Options{Bodies: true},
			`{"id":1,"url":"http://a/1","method":"GET","status":200,"bytes":15,"body":"Hello, \"World\"\n",` + ended + `}`},
		{"an empty body", "http://a/1", response(204, ""), nil, Options{Bodies: true},
			`{"id":1,"url":"http://a/1","method":"GET","status":204,"bytes":0,"body":"",` + ended + `}`},
		{"no body wanted", "http://a/1", response(200, "hi"), nil, Options{},
			`{"id":1,"url":"http://a/1","method":"GET","status":200,"bytes":2,` + ended + `}`},
		{"a body that is no text", "http://a/1", response(200, "\xff\x00"), nil, Options{Bodies: true},
			`{"id":1,"url":"http://a/1","method":"GET","status":200,"bytes":2,"body_base64":"/wA=",` + ended + `}`},
		{"everything", `{"id":"x","url":"http://a/é","method":"PUT","meta":{"k":1}}`, full, nil, Options{Bodies: true},
			`{"id":"x","url":"http://a/é","method":"PUT","status":200,"bytes":9,"body":"hi","truncated":true,"attempts":2,` +
				`"start":"2026-02-03T03:05:06.007089Z","time":{"queued_us":5,"connect_us":42,"ttfb_us":1500,"total_us":1000000},"remote":"[::1]:8080","meta":{"k":1}}`},
		{"a body that broke off", "http://a/1", half, &engine.Error{Kind: engine.Closed, Phase: engine.PhaseBody, Message: "closed by the peer"}, Options{Bodies: true},
			`{"id":1,"url":"http://a/1","method":"GET","status":200,"bytes":2,"body":"ha",` + ended +
				`,"error":{"kind":"closed","phase":"body","message":"closed by the peer"}}`},
		{"no response", "\n\nhttp://a/1", none, &engine.Error{Kind: engine.Connect, Phase: engine.PhaseConnect, Message: `refused: "no"`}, Options{Bodies: true, Headers: true},
			`{"id":3,"url":"http://a/1","method":"GET",` + began + `"time":{"queued_us":1,"total_us":1000},` +
				`"error":{"kind":"connect","phase":"connect","message":"refused: \"no\""}}`},
		{"a bad URL", "#\nhttp//a", never, &engine.Error{Kind: engine.InvalidRequest, Phase: engine.PhaseQueue, Message: "URL has no scheme"}, Options{Bodies: true},
			`{"id":2,"url":"http//a","method":"GET","attempts":0,"start":"2026-02-03T03:05:06.007089Z","time":{"queued_us":0,"total_us":0},` +
				`"error":{"kind":"invalid_request","phase":"queue","message":"line 2: URL has no scheme"}}`},
		{"a bad line", `{"id":9,"ulr":"u"}`, never, &engine.Error{Kind: engine.InvalidRequest, Phase: engine.PhaseQueue, Message: `column 9: unknown key "ulr"`}, Options{Bodies: true},
			`{"id":9,"attempts":0,"start":"2026-02-03T03:05:06.007089Z","time":{"queued_us":0,"total_us":0},` +
				`"error":{"kind":"invalid_request","phase":"queue","message":"line 1: column 9: unknown key \"ulr\""}}`},
	} {
		got := lines(c.o, &engine.Result{Request: request(t, c.line), Response: c.resp, Err: c.err})
		if got != c.want+"\n" {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	fields := [][2]string{
		{"Set-Cookie", "a=1"}, {"Content-Type", `text/"html"`}, {"set-cookie", "b=2"}, {"X-Name", "Andr\xe9\\"},
		{"x-utf8", "André"}, {"Empty", ""}, {"SET-COOKIE", "c=3"},
	}
	var b bytes.Buffer
	w := NewWriter(&b, Options{Headers: true})
	w.fields = func(*engine.Result) iter.Seq2[[]byte, []byte] {
		return func(yield func(name, value []byte) bool) {
			for _, f := range fields {
				if !yield([]byte(f[0]), []byte(f[1])) {
					return
				}
			}
		}
	}
	r := &engine.Result{Request: request(t, "http://a/"), Response: response(200, "")}
	for range 2 { // the second time with what the first left behind
		b.Reset()
		if err := w.Put([]*engine.Result{r}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		const want = `"status":200,"headers":{"set-cookie":["a=1","b=2","c=3"],"content-type":["text/\"html\""],` +
			`"x-name":["André\\"],"x-utf8":["André"],"empty":[""]},"bytes":0,`
		if !strings.Contains(b.String(), want) {
			t.Errorf("got %s", b.String())
		}
	}
	fields = nil
	b.Reset()
	_ = w.Put([]*engine.Result{r})
	w.Close()
	if !strings.Contains(b.String(), `"headers":{},`) {
		t.Errorf("no fields: %s", b.String())
	}
}

func TestClock(t *testing.T) {
	var c clock
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 999_999_999), start, start.Add(time.Microsecond), start.Add(-time.Second),
		start.Add(-time.Hour), time.Unix(-1, 5000), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		want := at.UTC().Truncate(time.Microsecond).Format("2006-01-02T15:04:05.000000Z")
		if got := string(c.append(nil, at)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// decoded is what any JSON reader makes of a line.
type decoded struct {
	ID     int64
	URL    string
	Body   *string
	Base64 *string `json:"body_base64"`
	Error  *struct{ Message string }
}

// FuzzText holds the encoder against encoding/json: what it reads back must be
// what went in.
func FuzzText(f *testing.F) {
	f.Add("http://a/?q=\"\\\x00\x1f\x7f é 😀", []byte("body"), "\xff")
	f.Add("u", []byte("\xc3"), "")
	f.Add("u", bytes.Repeat([]byte("0123456\n"), 5000), "\u2028")
	f.Add("u", bytes.Repeat([]byte{0xfe}, 30001), "")
	req := request(f, "http://a/")
	f.Fuzz(func(t *testing.T, url string, body []byte, message string) {
		req.URL = url
		resp := response(200, "")
		resp.Body = body
		line := lines(Options{Bodies: true}, &engine.Result{
			Request: req, Response: resp, Err: &engine.Error{Kind: engine.Read, Phase: engine.PhaseBody, Message: message},
		})
		if strings.Count(line, "\n") != 1 || !utf8.ValidString(line) {
			t.Fatalf("not one line of UTF-8: %q", line)
		}
		var got decoded
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if want := strings.ToValidUTF8(url, "\ufffd"); got.URL != want {
			t.Errorf("URL %q, want %q", got.URL, want)
		}
		if want := strings.ToValidUTF8(message, "\ufffd"); got.Error.Message != want {
			t.Errorf("message %q, want %q", got.Error.Message, want)
		}
		if utf8.Valid(body) {
			if got.Body == nil || *got.Body != string(body) || got.Base64 != nil {
				t.Errorf("body %v, want %q", got.Body, body)
			}
		} else if got.Base64 == nil || *got.Base64 != base64.StdEncoding.EncodeToString(body) || got.Body != nil {
			t.Errorf("body_base64 %v, want %q", got.Base64, body)
		}
	})
}

// Every byte, at every place in a word of eight.
func TestEscapeEverywhere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for b := range 128 {
		for at := range 24 {
			text := bytes.Repeat([]byte("x"), 24)
			for i := range text {
				text[i] = byte(0x20 + rnd.IntN(0x60))
			}
			text[at] = byte(b)
			var got string
			if err := json.Unmarshal([]byte(`"`+string(appendEscaped(nil, text))+`"`), &got); err != nil || got != string(text) {
				t.Fatalf("%q became %q, %v", text, got, err)
			}
		}
	}
}

func smallResult(tb testing.TB) *engine.Result {
	return &engine.Result{Request: request(tb, "http://127.0.0.1:8080/item/00012345?lang=en"), Response: response(200, "/item/00012345?lang=en")}
}

func TestPutDoesNotAllocate(t *testing.T) {
	binary := smallResult(t)
	binary.Body = []byte{0xff, 0xfe}
	failed := smallResult(t)
	failed.Err = &engine.Error{Kind: engine.Closed, Phase: engine.PhaseBody, Message: "closed"}
	for name, r := range map[string]*engine.Result{"text": smallResult(t), "binary": binary, "failed": failed} {
		w := NewWriter(io.Discard, Options{Bodies: true})
		batch := []*engine.Result{r}
		for range 2000 {
			_ = w.Put(batch)
		}
		if n := testing.AllocsPerRun(2000, func() { _ = w.Put(batch) }); n != 0 {
			t.Errorf("%s: %v allocations per result", name, n)
		}
		w.Close()
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{20, 1 << 10, 64 << 10} {
		for kind, unit := range map[string]string{"text": "an ordinary body, with \"quotes\"\n", "binary": "\xff\x00"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				r := smallResult(b)
				r.Body = []byte(strings.Repeat(unit, size/len(unit)+1)[:size])
				w := NewWriter(io.Discard, Options{Bodies: true})
				defer w.Close()
				batch := make([]*engine.Result, 64)
				for i := range batch {
					batch[i] = r
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for n := b.N; n > 0; n -= len(batch) {
					_ = w.Put(batch[:min(n, len(batch))])
				}
			})
		}
	}
}

func BenchmarkEscape(b *testing.B) {
	text := []byte(strings.Repeat("an ordinary line of a body, as long as they are in prose\n", 18))
	dst := make([]byte, 0, 2*len(text))
	b.Run("by eight", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			dst = appendEscaped(dst[:0], text)
		}
	})
	b.Run("by one", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			dst = dst[:0]
			for _, c := range text {
				if mustEscape(c) {
					dst = appendEscape(dst, c)
				} else {
					dst = append(dst, c)
				}
			}
		}
	})
}
