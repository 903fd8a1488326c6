package target

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// digits is the body of /bytes/N and /chunked/N.
func digits(n int) string { return strings.Repeat("0123456789abcdef", n/16+1)[:n] }

// webClient is net/http's client, which is stricter than a test could be.
func webClient(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestRoutes(t *testing.T) {
	s, client := start(t, Options{}), webClient(t)
	const long = 3*sendAt + 7
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/", 200, "Hello, World!"},
		{"/?x=1", 200, "Hello, World!"},
		{"/bytes/0", 200, ""},
		{"/bytes/5", 200, "01234"},
		{fmt.Sprintf("/bytes/%d", sendAt), 200, digits(sendAt)},
		{fmt.Sprintf("/bytes/%d?x=1", long), 200, digits(long)},
		{"/bytes/", 404, "want /bytes/N or /chunked/N with N up to 1073741824\n"},
		{"/bytes/-1", 404, "want /bytes/N or /chunked/N with N up to 1073741824\n"},
		{"/bytes/1073741825", 404, "want /bytes/N or /chunked/N with N up to 1073741824\n"},
		{"/bytes/99999999999999999999", 404, "want /bytes/N or /chunked/N with N up to 1073741824\n"},
		{"/chunked/0", 200, ""},
		{"/chunked/5", 200, "01234"},
		{fmt.Sprintf("/chunked/%d", long), 200, digits(long)},
		{"/chunked/x", 404, "want /bytes/N or /chunked/N with N up to 1073741824\n"},
		{"/status/200", 200, ""},
		{"/status/204", 204, ""},
		{"/status/304", 304, ""},
		{"/status/404", 404, ""},
		{"/status/503", 503, ""},
		{"/status/999", 999, ""},
		{"/status/199", 404, "want /status/N with N from 200 to 999\n"},
		{"/status/1000", 404, "want /status/N with N from 200 to 999\n"},
		{"/status/ok", 404, "want /status/N with N from 200 to 999\n"},
		{"/delay/0", 200, "/delay/0"},
		{"/delay/1?x=1", 200, "/delay/1?x=1"},
		{"/delay/soon", 404, "want /delay/MS with MS up to 3600000\n"},
		{"/delay/3600001", 404, "want /delay/MS with MS up to 3600000\n"},
		{"/close/1?x", 200, "/close/1?x"},
		{"/close/0", 404, "want /close/N with N from 1\n"},
		{"/close/door", 404, "want /close/N with N from 1\n"},
		{"/item/7?lang=en&x=%zz", 200, "/item/7?lang=en&x=%zz"},
		{"/echo/7", 200, "/echo/7"},
		{"/reset/7", 200, "/reset/7"},
		{"/a//b/../c", 200, "/a//b/../c"},
	} {
		resp, err := client.Get("http://" + s.Addr() + c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s: status %d, body %.100q, %v\nwant %d and %.100q", c.path, resp.StatusCode, body, err, c.status, c.body)
		}
		chunked := c.status == 200 && strings.HasPrefix(c.path, "/chunked/")
		if got := len(resp.TransferEncoding) > 0; got != chunked {
			t.Errorf("%s: chunked %v", c.path, got)
		}
		if closes := strings.HasPrefix(c.path, "/close/1"); resp.Close != closes {
			t.Errorf("%s: close %v", c.path, resp.Close)
		}
	}
}

// A response to HEAD announces what GET would bring, and brings nothing: the
// connection stays in step.
func TestHead(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	for _, h := range []struct {
		path   string
		status int
		length int64 // -1: none
	}{
		{"/", 200, 13},
		{"/bytes/100000", 200, 100000},
		{"/bytes/x", 404, 52},
		{"/chunked/5", 200, -1},
		{"/status/404", 404, 0},
		{"/status/x", 404, 38},
		{"/close/100", 200, 10},
		{"/other", 200, 6},
	} {
		c.say("HEAD " + h.path + " HTTP/1.1\r\nHost: a\r\n\r\n" + get("/next"))
		resp, body := c.hear("HEAD")
		if resp.StatusCode != h.status || resp.ContentLength != h.length || body != "" {
			t.Errorf("%s: status %d, length %d, body %q, want %d and %d", h.path, resp.StatusCode, resp.ContentLength, body, h.status, h.length)
		}
		c.hears("/next")
	}
	c.say("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n" + "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
	head, _ := c.hear("HEAD")
	if _, body := c.hear("GET"); head.ContentLength != int64(len(body)+1) {
		t.Errorf("/echo: HEAD announces %d bytes; GET, a letter less, brings %d", head.ContentLength, len(body))
	}
}

func TestTrailers(t *testing.T) {
	s, client := start(t, Options{}), webClient(t)
	for _, c := range []struct{ te, trailer string }{
		{"trailers", "300000"},
		{"gzip, Trailers;q=0.5", "300000"},
		{"gzip", ""},
		{"", ""},
	} {
		req, err := http.NewRequest("GET", "http://"+s.Addr()+"/chunked/300000", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.te != "" {
			req.Header.Set("TE", c.te)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != digits(300000) || resp.Trailer.Get("X-Bytes") != c.trailer {
			t.Errorf("TE %q: %d bytes, %v, trailer %v, want %q", c.te, len(body), err, resp.Trailer, c.trailer)
		}
	}

	// HTTP/1.0 knows no chunks (RFC 9112 section 6.1).
	c := call(t, s)
	c.say("GET /chunked/5 HTTP/1.0\r\nTE: trailers\r\n\r\n")
	if resp, body := c.hear("GET"); body != "01234" || resp.ContentLength != 5 {
		t.Errorf("HTTP/1.0: length %d, body %q", resp.ContentLength, body)
	}
	c.ends()
}

// echo is what /echo answers.
type echo struct {
	Method, Target, Body string
	Headers              map[string][]string
}

func echoed(t *testing.T, text string) (e echo) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v: %.200q", err, text)
	}
	return e
}

func TestEcho(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	const head = " HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a:  2 \r\n"
	headers := func(more ...string) map[string][]string {
		m := map[string][]string{"host": {"a"}, "x-a": {"1", "2"}}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = []string{more[i+1]}
		}
		return m
	}
	for _, e := range []struct {
		name, request string
		want          echo
	}{
		{"no body", "GET /echo?q=%20x" + head + "\r\n",
			echo{"GET", "/echo?q=%20x", "", headers()}},
		{"a body with its length", "PUT /echo" + head + "Content-Length: 5\r\n\r\na\r\n\"b",
			echo{"PUT", "/echo", "a\r\n\"b", headers("content-length", "5")}},
		{"an empty body", "POST /echo" + head + "Content-Length: 0\r\n\r\n",
			echo{"POST", "/echo", "", headers("content-length", "0")}},
		{"chunks", "PATCH /echo" + head + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nA\r\n0123456789\r\n0\r\nX-T: no header\r\n\r\n",
			echo{"PATCH", "/echo", "a0123456789", headers("transfer-encoding", "chunked")}},
		{"no chunks", "DELETE /echo" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			echo{"DELETE", "/echo", "", headers("transfer-encoding", "chunked")}},
		{"no body after bodies", "GET /echo" + head + "\r\n",
			echo{"GET", "/echo", "", headers()}},
	} {
		c.say(e.request)
		resp, body := c.hear("GET")
		if got := echoed(t, body); !reflect.DeepEqual(got, e.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", e.name, got, e.want)
		}
		if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s: Content-Type %s", e.name, kind)
		}
	}
}

// Large bodies, as net/http sends them. /echo shows a part, the rest is read.
func TestEchoLargeBody(t *testing.T) {
	s, client := start(t, Options{}), webClient(t)
	for _, size := range []int{1000, maxBody, maxBody + 1, 3 * maxBody} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(digits(size))
			if chunked {
				body = io.MultiReader(body) // net/http cannot tell its length
			}
			resp, err := client.Post("http://"+s.Addr()+"/echo", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			got := echoed(t, string(text))
			if got.Body != digits(min(size, maxBody)) {
				t.Errorf("%d bytes, chunked %v: %d bytes came back", size, chunked, len(got.Body))
			}
			length := strconv.Itoa(size)
			if sent := got.Headers["content-length"]; chunked == (len(sent) == 1 && sent[0] == length) {
				t.Errorf("%d bytes, chunked %v: Content-Length %v", size, chunked, sent)
			}
		}
	}
}

// Every route reads a request's body, and is in step with what comes behind.
func TestBodiesEverywhere(t *testing.T) {
	s := start(t, Options{})
	for _, path := range []string{
		"/", "/bytes/9", "/status/404", "/status/204", "/delay/1", "/chunked/9", "/close/9", "/other", "/bytes/x",
	} {
		for _, framed := range []string{"Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"} {
			c := call(t, s)
			c.say("POST " + path + " HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nX-Of: the first\r\n" + framed)
			c.hear("POST")
			c.say(get("/echo"))
			_, body := c.hear("GET")
			want := echo{"GET", "/echo", "", map[string][]string{"host": {"a"}}}
			if got := echoed(t, body); !reflect.DeepEqual(got, want) {
				t.Errorf("after POST %s: got %+v", path, got)
			}
		}
	}
}
