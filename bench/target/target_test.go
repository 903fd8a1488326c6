package target

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// start runs a server for the length of the test. Such tests run side by side:
// gnet takes half a second to stop.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	t.Parallel()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	return s
}

// A caller is one connection to a server, on which a test talks.
type caller struct {
	t *testing.T
	c *net.TCPConn
	r *bufio.Reader
}

func call(t *testing.T, s *Server) *caller {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &caller{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

// say sends text in one write.
func (c *caller) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, text); err != nil {
		c.t.Fatal(err)
	}
}

// hear reads the response to a request with this method, and its body.
func (c *caller) hear(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(body)
}

// hears wants the next response to be a 200 with this body.
func (c *caller) hears(body string) {
	c.t.Helper()
	if resp, got := c.hear("GET"); resp.StatusCode != 200 || got != body {
		c.t.Fatalf("status %d, body %.200q, want 200 and %.200q", resp.StatusCode, got, body)
	}
}

// ends wants the connection to be closed, with nothing more on it.
func (c *caller) ends() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("%q and %v, want a close", rest, err)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

func TestRefusedRequests(t *testing.T) {
	s := start(t, Options{})
	for _, c := range []struct{ name, request string }{
		{"no version", "GET /\r\n\r\n"},
		{"no request at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
		{"another version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
		{"no Host", "GET / HTTP/1.1\r\n\r\n"},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
		{"a field without a colon", "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"},
		{"a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"},
		{"a length and a coding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n"},
		{"a chunk size that is none", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := call(t, s)
			client.say(get("/before") + c.request + get("/never"))
			client.hears("/before")
			resp, body := client.hear("GET")
			if resp.StatusCode != 400 || !resp.Close || len(body) < 2 || body[len(body)-1] != '\n' {
				t.Errorf("status %d, close %v, body %q: want 400, a close, and a line that says why", resp.StatusCode, resp.Close, body)
			}
			client.ends()
		})
	}
}

func TestPipeline(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	const n = 200
	var requests strings.Builder
	for i := range n {
		requests.WriteString(get(fmt.Sprintf("/item/%d", i)))
	}
	c.say(requests.String())
	for i := range n {
		c.hears(fmt.Sprintf("/item/%d", i))
	}
	// Loopback has room for 64 KiB in a segment, so each of the server's writes
	// came as one: the kernel has counted them.
	if writes := c.segments(); writes > 5 {
		t.Errorf("%d answers came in %d writes", n, writes)
	}
	c.say(get("/later"))
	c.hears("/later")
}

// segments is how many segments with data this connection has received.
func (c *caller) segments() (n uint32) {
	c.t.Helper()
	raw, err := c.c.SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	var info *unix.TCPInfo
	if cerr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); cerr != nil || err != nil {
		c.t.Fatal(cerr, err)
	}
	return info.Data_segs_in
}

// A request may come in any pieces, and several in one.
func TestRequestsByteByByte(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	const post = "POST /echo HTTP/1.1\r\nHost: a\r\n"
	talk := get("/1") +
		post + "Content-Length: 3\r\n\r\nabc" +
		post + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n" +
		get("/4")
	for i := range len(talk) {
		c.say(talk[i : i+1])
	}
	c.hears("/1")
	for range 2 {
		_, body := c.hear("POST")
		if got := echoed(t, body); got.Method != "POST" || got.Body != "abc" {
			t.Errorf("got %+v", got)
		}
	}
	c.hears("/4")
}

func TestPersistence(t *testing.T) {
	s := start(t, Options{})
	for _, c := range []struct {
		name, head string
		stays      bool
		says       string
	}{
		{"HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\n", true, ""},
		{"Connection: close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", false, ""}, // net/http takes it out
		{"HTTP/1.0", "GET / HTTP/1.0\r\n", false, ""},
		{"HTTP/1.0, kept alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n", true, "keep-alive"},
		{"HTTP/1.0, kept alive after a 404", "GET /status/1 HTTP/1.0\r\nConnection: keep-alive\r\n", true, "keep-alive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := call(t, s)
			client.say(c.head + "\r\n" + get("/next"))
			if resp, _ := client.hear("GET"); resp.Close == c.stays || resp.Header.Get("Connection") != c.says {
				t.Errorf("close %v, Connection: %s", resp.Close, resp.Header.Get("Connection"))
			}
			if c.stays {
				client.hears("/next")
			} else {
				client.ends()
			}
		})
	}
}

func TestClose(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	c.say(get("/first") + strings.Repeat(get("/close/3"), 3))
	c.hears("/first")
	if resp, _ := c.hear("GET"); resp.Close {
		t.Error("closed after the second response")
	}
	if resp, body := c.hear("GET"); body != "/close/3" || !resp.Close {
		t.Errorf("third response: %q, close %v", body, resp.Close)
	}
	c.ends()
}

func TestReset(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	c.say(get("/before") + get("/reset") + get("/never"))
	c.hears("/before")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if string(body) != "half" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("body %q and %v, want a part of it and a reset", body, err)
	}
}

func TestDelay(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	began := time.Now()
	c.say(get("/before") + get("/delay/50?x=y") + get("/after") + "HEAD /delay/1 HTTP/1.1\r\nHost: a\r\n\r\n" + get("/last"))
	c.say(get("/more")) // comes while the server waits, or before
	c.hears("/before")
	c.hears("/delay/50?x=y")
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("answered after %v, want 50 ms", took)
	}
	c.hears("/after")
	if resp, body := c.hear("HEAD"); body != "" || resp.ContentLength != int64(len("/delay/1")) {
		t.Errorf("HEAD: %d bytes announced, body %q", resp.ContentLength, body)
	}
	c.hears("/last")
	c.hears("/more")

	// With Connection: close it is the last one, and still answered.
	c.say("GET /delay/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	c.hears("/delay/1")
	c.ends()
}

// What one connection waits for, no other one does: neither a delay, nor a
// client that does not read.
func TestOthersDoNotWait(t *testing.T) {
	s := start(t, Options{})
	delayed, deaf, other := call(t, s), call(t, s), call(t, s)
	delayed.say(get("/delay/3600000") + get("/behind"))
	const size = 64 << 20 // more than sockets hold
	deaf.say(get(fmt.Sprintf("/bytes/%d", size)) + get("/behind"))
	if _, err := deaf.r.Peek(1); err != nil { // it has begun
		t.Fatal(err)
	}
	other.say(get("/now"))
	other.hears("/now")

	resp, err := http.ReadResponse(deaf.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	deaf.hears("/behind")
}

func TestContinue(t *testing.T) {
	s := start(t, Options{})
	c := call(t, s)
	c.say("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(interim))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != interim {
		t.Fatalf("%q, %v", got, err)
	}
	c.say("body")
	if _, body := c.hear("POST"); echoed(t, body).Body != "body" {
		t.Errorf("got %s", body)
	}
}

func TestManyClients(t *testing.T) {
	s := start(t, Options{Loops: 2})
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 100 {
				path := fmt.Sprintf("/client/%d/%d", i, j)
				resp, err := client.Get("http://" + s.Addr() + path)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) != path {
					t.Errorf("%s: %q, %v", path, body, err)
				}
			}
		})
	}
	clients.Wait()
}

func TestStart(t *testing.T) {
	s := start(t, Options{})
	if host, port, err := net.SplitHostPort(s.Addr()); err != nil || host != "127.0.0.1" || port == "0" {
		t.Errorf("listens on %q", s.Addr())
	}
	for _, addr := range []string{s.Addr(), "no port", "127.0.0.1:http-not", "192.0.2.1:0"} {
		if other, err := Start(Options{Addr: addr}); err == nil {
			t.Errorf("a server on %s", addr)
			_ = other.Close()
		}
	}
}

// Close ends what is under way too.
func TestCloseServer(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	idle, delayed := call(t, s), call(t, s)
	idle.say(get("/"))
	idle.hears("Hello, World!")
	delayed.say(get("/first") + get("/delay/3600000"))
	delayed.hears("/first")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*caller{idle, delayed} {
		if _, err := c.r.ReadByte(); err == nil || errors.Is(err, unix.EAGAIN) {
			t.Errorf("after Close: %v", err)
		}
	}
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("it listens after Close")
	}
}
