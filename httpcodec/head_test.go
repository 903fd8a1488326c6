package httpcodec

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// dump shows a parsed head as text.
func dump(h *Head, b []byte, response bool) string {
	var s strings.Builder
	if response {
		fmt.Fprintf(&s, "1.%d %d %q", h.Minor, h.Status, h.Reason.Of(b))
	} else {
		fmt.Fprintf(&s, "1.%d %q %q", h.Minor, h.Method.Of(b), h.Target.Of(b))
	}
	for _, f := range h.Fields {
		fmt.Fprintf(&s, " %s=%q", f.Name.Of(b), h.Value(b, f))
	}
	return s.String()
}

func parse(h *Head, b []byte, response bool) (int, error) {
	if response {
		return h.ParseResponse(b, nil)
	}
	return h.ParseRequest(b, nil)
}

var headCases = []struct {
	name     string
	response bool
	in       string // the head ends at "|", if it is complete
	want     string // dump
	err      error
}{
	{"plain", true, "HTTP/1.1 200 OK\r\nA: b\r\nc:d\r\n\r\n|rest", `1.1 200 "OK" A="b" c="d"`, nil},
	{"1.0", true, "HTTP/1.0 404 Not Found\r\n\r\n|", `1.0 404 "Not Found"`, nil},
	{"empty reason", true, "HTTP/1.1 200 \r\n\r\n|", `1.1 200 ""`, nil},
	{"no reason", true, "HTTP/1.1 200\r\n\r\n|", `1.1 200 ""`, nil},
	{"odd status", true, "HTTP/1.1 799 x\r\n\r\n|", `1.1 799 "x"`, nil},
	{"white space around a value", true, "HTTP/1.1 200 OK\r\nA: \t b c \t\r\nE:\r\nF: \r\n\r\n|", `1.1 200 "OK" A="b c" E="" F=""`, nil},
	{"bytes over 0x7f", true, "HTTP/1.1 200 \xe9\r\nA: \xff\xfe\r\n\r\n|", `1.1 200 "\xe9" A="\xff\xfe"`, nil},
	{"fold", true, "HTTP/1.1 200 OK\r\nA: b\r\n  c \r\n\td\r\nE: f\r\n\r\n|", `1.1 200 "OK" A="b c d" E="f"`, nil},
	{"fold at the end", true, "HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n|", `1.1 200 "OK" A="b"`, nil},
	{"HTTP/2", true, "HTTP/2.0 200 OK\r\n\r\n", "", ErrVersion},
	{"minor that is no digit", true, "HTTP/1.x 200 OK\r\n\r\n", "", ErrVersion},
	{"not HTTP", true, "SSH-2.0", "", ErrStatusLine},
	{"lower case", true, "http/1.1 200 OK\r\n\r\n", "", ErrStatusLine},
	{"status of two digits", true, "HTTP/1.1 20 OK\r\n\r\n", "", ErrStatusLine},
	{"status of four digits", true, "HTTP/1.1 2000 OK\r\n\r\n", "", ErrStatusLine},
	{"status under 100", true, "HTTP/1.1 099 OK\r\n\r\n", "", ErrStatusLine},
	{"no space", true, "HTTP/1.1_200 OK\r\n\r\n", "", ErrStatusLine},
	{"control in the reason", true, "HTTP/1.1 200 O\x01K\r\n\r\n", "", ErrStatusLine},
	{"bare LF behind the status line", true, "HTTP/1.1 200 OK\nA: b\r\n\r\n", "", ErrBareLF},
	{"bare LF behind a field", true, "HTTP/1.1 200 OK\r\nA: b\n\r\n", "", ErrBareLF},
	{"bare LF as the empty line", true, "HTTP/1.1 200 OK\r\nA: b\r\n\n", "", ErrBareLF},
	{"bare CR in a value", true, "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "", ErrBareCR},
	{"bare CR as the empty line", true, "HTTP/1.1 200 OK\r\n\rX", "", ErrBareCR},
	{"NUL in a value", true, "HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n", "", ErrFieldValue},
	{"DEL in a value", true, "HTTP/1.1 200 OK\r\nA: some longer value\x7f\r\n\r\n", "", ErrFieldValue},
	{"space before the colon", true, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "", ErrSpaceBeforeColon},
	{"no colon", true, "HTTP/1.1 200 OK\r\nA\r\n\r\n", "", ErrFieldName},
	{"no name", true, "HTTP/1.1 200 OK\r\n: b\r\n\r\n", "", ErrFieldName},
	{"space in front of the first field", true, "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "", ErrObsFold},
	{"too many fields", true, "HTTP/1.1 200 OK\r\n" + strings.Repeat("a:b\r\n", 257) + "\r\n", "", ErrTooManyFields},
	{"too large", true, "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 64<<10), "", ErrHeadTooLarge},

	{"request", false, "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n|rest", `1.1 "GET" "/a?b" Host="h"`, nil},
	{"request of 1.0 without Host", false, "GET / HTTP/1.0\r\n\r\n|", `1.0 "GET" "/"`, nil},
	{"empty line before", false, "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n|", `1.1 "GET" "/" Host="h"`, nil},
	{"no Host", false, "GET / HTTP/1.1\r\n\r\n", "", ErrHost},
	{"two Hosts", false, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "", ErrHost},
	{"fold in a request", false, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", "", ErrObsFold},
	{"no version", false, "GET /\r\n\r\n", "", ErrRequestLine},
	{"version 2", false, "PRI * HTTP/2.0\r\n\r\n", "", ErrVersion},
	{"space in the target", false, "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "", ErrTarget},
	{"two spaces", false, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "", ErrTarget},
	{"no target", false, "GET  HTTP/1.1\r\nHost: h\r\n\r\n", "", ErrTarget},
	{"non-ASCII target", false, "GET /\xe4 HTTP/1.1\r\nHost: h\r\n\r\n", "", ErrTarget},
	{"method that is no token", false, "G(T / HTTP/1.1\r\nHost: h\r\n\r\n", "", ErrMethod},
	{"TLS hello", false, "\x16\x03\x01\x02\x00", "", ErrMethod},
	{"bare LF behind the request line", false, "GET / HTTP/1.1\nHost: h\r\n\r\n", "", ErrBareLF},
}

func TestHead(t *testing.T) {
	for _, c := range headCases {
		in, _, complete := strings.Cut(c.in, "|")
		b := []byte(strings.Replace(c.in, "|", "", 1))
		var h Head
		n, err := parse(&h, b, c.response)
		if !errors.Is(err, c.err) || c.err != nil && n != 0 {
			t.Errorf("%s: n %d, error %v, want %v", c.name, n, err, c.err)
			continue
		}
		if complete && (n != len(in) || dump(&h, b, c.response) != c.want) {
			t.Errorf("%s: n %d of %d\n got %s\nwant %s", c.name, n, len(in), dump(&h, b, c.response), c.want)
		}
		everyPrefix(t, c.name, in, c.response, c.err)
	}
}

// everyPrefix parses every beginning of a head, in a buffer that ends there: it
// says "more", or the fault, and never success.
func everyPrefix(t *testing.T, name, in string, response bool, fault error) {
	step := 1 + len(in)/2000
	for i := 0; i < len(in); i += step {
		b := make([]byte, i)
		copy(b, in)
		var h Head
		n, err := parse(&h, b, response)
		if n != 0 || err != nil && err != fault {
			t.Errorf("%s: the first %d bytes give %d, %v", name, i, n, err)
			return
		}
	}
}

func TestFaultsShowEarly(t *testing.T) {
	for _, c := range []struct {
		in  string
		err error
	}{
		{"X", ErrStatusLine}, {"HTTP/3", ErrVersion}, {"HTTP/1.1 2x0 long enough", ErrStatusLine},
		{"HTTP/1.1 200 OK\r\nA B", ErrSpaceBeforeColon}, {"HTTP/1.1 200 OK\r\n(", ErrFieldName},
	} {
		var h Head
		if _, err := h.ParseResponse([]byte(c.in), nil); err != c.err {
			t.Errorf("%q: %v, want %v", c.in, err, c.err)
		}
	}
}

func TestPersistence(t *testing.T) {
	for _, c := range []struct {
		in                string
		persistent, close bool
		max               int
	}{
		{"HTTP/1.1 200 OK\r\n\r\n", true, false, -1},
		{"HTTP/1.0 200 OK\r\n\r\n", false, false, -1},
		{"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true, false, -1},
		{"HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\n\r\n", false, true, -1},
		{"HTTP/1.1 200 OK\r\nConnection: closed\r\n\r\n", true, false, -1},
		{"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false, true, -1},
		{"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=99\r\n\r\n", true, false, 99},
		{"HTTP/1.1 200 OK\r\nKeep-Alive: max=99999999999\r\n\r\n", true, false, 1 << 30},
		{"HTTP/1.1 200 OK\r\nKeep-Alive: max=x\r\n\r\n", true, false, -1},
		{"HTTP/1.1 200 OK\r\nConnection: a,\r\n close\r\n\r\n", false, true, -1},
	} {
		var h Head
		if n, err := h.ParseResponse([]byte(c.in), nil); n == 0 || err != nil {
			t.Fatalf("%q: %d, %v", c.in, n, err)
		}
		if h.Persistent() != c.persistent || h.Close() != c.close || h.KeepAliveMax() != c.max {
			t.Errorf("%q: persistent %v, close %v, max %d", c.in, h.Persistent(), h.Close(), h.KeepAliveMax())
		}
	}
}

func TestFraming(t *testing.T) {
	for _, c := range []struct {
		in     string
		isHead bool
		want   Framing
		err    error
	}{
		{"HTTP/1.1 200 OK\r\n\r\n", false, Framing{Kind: UntilClose}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Framing{Length, 5}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0005\r\n\r\n", false, Framing{Length, 5}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Framing{}, nil},
		{"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false, Framing{}, nil},
		{"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", false, Framing{}, nil},
		{"HTTP/1.1 103 E\r\n\r\n", false, Framing{}, nil},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framing{Kind: Chunked}, nil},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false, Framing{}, ErrTransferEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", false, Framing{}, ErrTransferEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing{}, ErrTransferEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing{}, ErrTransferEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", false, Framing{}, ErrFieldValue},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing{}, ErrTransferEncoding},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing{}, ErrLengthAndEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", true, Framing{}, ErrLengthAndEncoding},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", false, Framing{}, ErrContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 5\r\n\r\n", false, Framing{}, ErrContentLength},
	} {
		var h Head
		n, err := h.ParseResponse([]byte(c.in), nil)
		var f Framing
		if err == nil && n > 0 {
			f, err = h.ResponseFraming(c.isHead)
		}
		if f != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %+v, %v; want %+v, %v", c.in, f, err, c.want, c.err)
		}
	}
	var h Head
	req := []byte("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n")
	if n, err := h.ParseRequest(req, nil); n != len(req) || err != nil || !h.Expect100() {
		t.Errorf("%d, %v, expect %v", n, err, h.Expect100())
	}
	if f, err := h.RequestFraming(); f != (Framing{}) || err != nil {
		t.Errorf("a request without length has framing %+v, %v", f, err)
	}
}

func TestEveryErrorSaysSomething(t *testing.T) {
	for e := Error(1); e <= ErrStatus; e++ {
		if e.Error() == "unknown codec fault" {
			t.Errorf("error %d has no text", e)
		}
	}
}

const typical = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 08:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\n"

func TestHeadAllocatesNothing(t *testing.T) {
	var h Head
	b := []byte(typical)
	if n, err := h.ParseResponse(b, nil); n != len(b) || err != nil {
		t.Fatal(n, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = h.ParseResponse(b, nil)
		_, _ = h.ResponseFraming(false)
	}); n != 0 {
		t.Errorf("%v allocations per head", n)
	}
	buf := make([]byte, 0, 512)
	fields := []Field{{"Accept", "*/*"}, {"User-Agent", "x"}}
	if n := testing.AllocsPerRun(100, func() { _, _ = AppendRequest(buf, "GET", "/x", "h", fields, -1) }); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkParseResponse(b *testing.B) {
	var h Head
	in := []byte(typical)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := h.ParseResponse(in, nil); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	var h Head
	in := []byte("GET /some/path?and=query HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\nUser-Agent: hotlap/0.1.0\r\n\r\n")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := h.ParseRequest(in, nil); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	buf := make([]byte, 0, 512)
	fields := []Field{{"Accept", "*/*"}, {"User-Agent", "hotlap/0.1.0"}}
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendRequest(buf[:0], "GET", "/some/path?and=query", "127.0.0.1:8080", fields, -1)
	}
	b.SetBytes(int64(len(buf)))
}
