package engine

import (
	"strings"
	"testing"
)

func testEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSplitURL(t *testing.T) {
	for _, c := range []struct {
		url, key, authority, host, target string
		port                              uint16
	}{
		{"http://h/a/b?c=d", "http://h", "h", "h", "/a/b?c=d", 80},
		{"http://h", "http://h", "h", "h", "/", 80},
		{"http://h?q", "http://h", "h", "h", "/?q", 80},
		{"http://h#f", "http://h", "h", "h", "/", 80},
		{"http://h/a#f?x", "http://h", "h", "h", "/a", 80},
		{"HTTP://Ex.Ample:80/A", "http://ex.ample", "ex.ample", "ex.ample", "/A", 80},
		{"http://h:8080/", "http://h:8080", "h:8080", "h", "/", 8080},
		{"https://h/x", "https://h", "h", "h", "/x", 443},
		{"HTTPS://h:443/x", "https://h", "h", "h", "/x", 443},
		{"https://h:80/x", "https://h:80", "h:80", "h", "/x", 80},
		{"http://h:443/x", "http://h:443", "h:443", "h", "/x", 443},
		{"http://b\u00fccher.example:81/x", "http://xn--bcher-kva.example:81", "xn--bcher-kva.example:81", "xn--bcher-kva.example", "/x", 81},
		{"http://B\u00dcCHER.example/", "http://xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example", "/", 80},
		{"http://h:/x", "http://h", "h", "h", "/x", 80},
		{"http://[::1]:81/", "http://[::1]:81", "[::1]:81", "::1", "/", 81},
		{"http://[::1]/", "http://[::1]", "[::1]", "::1", "/", 80},
		{"http://h/a/../b/./%2F%2f//c", "http://h", "h", "h", "/a/../b/./%2F%2f//c", 80},
		{"http://h/ä?ö", "http://h", "h", "h", "/%C3%A4?%C3%B6", 80},
		{"http://h?ä#ö", "http://h", "h", "h", "/?%C3%A4", 80},
		{"http://h/%zz|{}\"", "http://h", "h", "h", "/%zz|{}\"", 80},
	} {
		u, err := splitURL(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		want := splitTarget{c.key, c.authority, c.host, c.target, c.port, strings.HasPrefix(c.key, "https:"), ""}
		if u != want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.url, u, want)
		}
		p := prepared{key: u.key, host: u.host, port: u.port, secure: u.secure}
		if again, err := p.splitURL(c.url); err != nil || again != want {
			t.Errorf("%s again:\n got %+v, %v\nwant %+v", c.url, again, err, want)
		}
		p = prepared{key: "http://h", host: "h", port: 80}
		if again, err := p.splitURL(c.url); err != nil || again != want {
			t.Errorf("%s after another:\n got %+v, %v\nwant %+v", c.url, again, err, want)
		}
	}
}

func TestSplitURLRefuses(t *testing.T) {
	for _, c := range []struct {
		url  string
		kind Kind
		says string
	}{
		{"", InvalidRequest, "no scheme"},
		{"example.com/", InvalidRequest, "no scheme"},
		{"ftp://h/", InvalidRequest, "scheme"},
		{"http:///x", InvalidRequest, "no host"},
		{"http://:80/x", InvalidRequest, "no host"},
		{"http://h:0/", InvalidRequest, "port"},
		{"http://h:65536/", InvalidRequest, "port"},
		{"http://h:8x/", InvalidRequest, "port"},
		{"http://h/a b", InvalidRequest, `' '`},
		{"http://h/a\r\nX: y", InvalidRequest, `'\r'`},
		{"http://h/\x00", InvalidRequest, `'\x00'`},
		{"http://h\r\n/", InvalidRequest, "host"},
		{"http://h h/", InvalidRequest, "host"},
		{"http://[::1/", InvalidRequest, "]"},
		{"http://[1.2.3.4]/", InvalidRequest, "IPv6"},
		{"http://[::1]x/", InvalidRequest, "port"},
		{"http://b\u00fcch er.example/", InvalidRequest, "international"},
		{"http://us%3Aer:secret@h/", InvalidRequest, "basic authentication"},
		{"http://user:secret%zz@h/", InvalidRequest, "percent-encoded"},
		{"http://user:secret%0d%0a@h/", InvalidRequest, "basic authentication"},
		{"user:secret@h/", InvalidRequest, "no scheme"},
		{"http://" + strings.Repeat("a", 254) + "/", InvalidRequest, "253"},
	} {
		_, err := splitURL(c.url)
		if err == nil || err.Kind != c.kind || !strings.Contains(err.Message, c.says) {
			t.Errorf("%q: error %v, want %s with %q", c.url, err, c.kind, c.says)
		}
		if err != nil && strings.Contains(err.Message, "secret") {
			t.Errorf("%q: the message shows the password: %s", c.url, err.Message)
		}
	}
}

func TestCompileWritesTheRequest(t *testing.T) {
	e := testEngine(t, Config{Header: []Field{{Name: "X-All", Value: "1"}}})
	for _, c := range []struct {
		name string
		r    Request
		want string
	}{
		{"plain", Request{URL: "http://h/x"},
			"GET /x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nUser-Agent: hotlap/" + Version + "\r\nX-All: 1\r\n\r\n"},
		{"own fields replace defaults, repeated ones are repeated",
			Request{URL: "http://h/", Header: []Field{{Name: "x-all", Value: "2"}, {Name: "X-All", Value: "3"}}, Omit: []string{"user-agent"}},
			"GET / HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nx-all: 2\r\nX-All: 3\r\n\r\n"},
		{"Host is replaced", Request{URL: "http://h/", Header: []Field{{Name: "host", Value: "other"}}, Omit: []string{"accept", "USER-AGENT", "X-All"}},
			"GET / HTTP/1.1\r\nHost: other\r\n\r\n"},
		{"a user in the URL", Request{URL: "http://me:p%40ss@h/x"},
			"GET /x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nUser-Agent: hotlap/" + Version + "\r\nX-All: 1\r\nAuthorization: Basic bWU6cEBzcw==\r\n\r\n"},
		{"own credentials come first", Request{URL: "http://me:pass@h/", Header: []Field{{Name: "authorization", Value: "x"}}, Omit: []string{"accept", "User-Agent", "X-All"}},
			"GET / HTTP/1.1\r\nHost: h\r\nauthorization: x\r\n\r\n"},
		{"without any field", Request{URL: "http://h/", Omit: []string{"accept", "USER-AGENT", "X-All"}},
			"GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"a body has a length", Request{Method: "PUT", URL: "http://h/", Body: []byte("abc"), Omit: []string{"accept", "User-Agent", "X-All"}},
			"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"},
		{"so has a POST without one", Request{Method: "POST", URL: "http://h/", Omit: []string{"accept", "User-Agent", "X-All"}},
			"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"},
		{"a right Content-Length is ours to write", Request{Method: "PUT", URL: "http://h/", Body: []byte("abc"),
			Header: []Field{{Name: "content-length", Value: "3"}}, Omit: []string{"accept", "User-Agent", "X-All"}},
			"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"},
	} {
		var p prepared
		for range 2 { // the second time with used memory
			if err := e.compile(&c.r, &p); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if string(p.wire) != c.want {
				t.Errorf("%s:\n got %q\nwant %q", c.name, p.wire, c.want)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	e := testEngine(t, Config{})
	field := func(name, value string) Request {
		return Request{URL: "http://h/", Header: []Field{{Name: name, Value: value}}}
	}
	for _, c := range []struct {
		name string
		r    Request
		kind Kind
	}{
		{"CR LF in a value", field("X", "a\r\nY: b"), InvalidRequest},
		{"NUL in a value", field("X", "a\x00"), InvalidRequest},
		{"a name that is no token", field("X Y", "a"), InvalidRequest},
		{"an empty name", field("", "a"), InvalidRequest},
		{"CR LF in Host", field("Host", "a\r\nY: b"), InvalidRequest},
		{"a wrong Content-Length", field("Content-Length", "7"), InvalidRequest},
		{"Transfer-Encoding", field("Transfer-Encoding", "chunked"), InvalidRequest},
		{"Upgrade", field("Upgrade", "websocket"), InvalidRequest},
		{"Expect", field("Expect", "100-continue"), Unsupported},
		{"CONNECT", Request{Method: "CONNECT", URL: "http://h/"}, InvalidRequest},
		{"a method that is no token", Request{Method: "GE T", URL: "http://h/"}, InvalidRequest},
		{"a method with CR LF", Request{Method: "GET / HTTP/1.1\r\nX:", URL: "http://h/"}, InvalidRequest},
	} {
		var p prepared
		if err := e.compile(&c.r, &p); err == nil || err.Kind != c.kind {
			t.Errorf("%s: error %v, want %s", c.name, err, c.kind)
		}
	}
}

func TestCompileAllocatesNothing(t *testing.T) {
	e := testEngine(t, Config{})
	r := Request{URL: "http://127.0.0.1:8080/some/path?and=query"}
	var p prepared
	if err := e.compile(&r, &p); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = e.compile(&r, &p) }); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkCompile(b *testing.B) {
	e := testEngine(b, Config{})
	r := Request{URL: "http://127.0.0.1:8080/some/path?and=query"}
	var p prepared
	b.ReportAllocs()
	for b.Loop() {
		_ = e.compile(&r, &p)
	}
}
