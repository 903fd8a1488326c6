package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

// Proxies: scripted ones, which see each byte, and then those of Debian's
// packages.

// secretUser is a user and a password, which no message may show.
const (
	secretUser  = "me:p%40ss-secret"
	secretBasic = "Basic bWU6cEBzcy1zZWNyZXQ="
)

// via has all requests go through one proxy.
func via(t testing.TB, proxy string) func(*url.URL) (*url.URL, error) {
	t.Helper()
	u, err := url.Parse(proxy)
	if err == nil {
		err = engine.CheckProxy(u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

// noNames is the resolver of tests in which all names are the proxy's to resolve.
func noNames(t testing.TB) *names {
	n := &names{err: errors.New("nobody is to resolve anything")}
	t.Cleanup(func() {
		if k := n.asked.Load(); k != 0 {
			t.Errorf("the resolver was asked %d times", k)
		}
	})
	return n
}

// bare is a configuration whose requests have no fields but those they need.
func bare(t testing.TB, proxy string) engine.Config {
	return engine.Config{Proxy: via(t, proxy), Resolver: noNames(t), Omit: []string{"Accept", "User-Agent"}, KeepBody: true}
}

// heard reads a request's head, byte for byte.
func (c *talkConn) heard() string {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(patience))
	return readHead(c.t, c.in)
}

// drained waits for the client to close, whatever it had sent.
func (c *talkConn) drained() {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c.in); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the client does not close")
	}
}

func readHead(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if head.WriteString(line); err != nil {
			t.Fatalf("no request: %q, then %v", head.String(), err)
		}
	}
	return head.String()
}

func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// wantSays checks what a failed request says: never the password.
func (e *end) wantSays(says string) {
	e.t.Helper()
	r := e.wait()
	if r.Err == nil || !strings.Contains(r.Err.Error(), says) {
		e.t.Errorf("the error is %v, want one with %q", r.Err, says)
	}
	for err := error(r.Err); err != nil; err = errors.Unwrap(err) {
		wantNoSecret(e.t, err.Error())
	}
}

func wantNoSecret(t testing.TB, text string) {
	t.Helper()
	for _, secret := range []string{"secret", "p@ss", "p%40ss", base64.StdEncoding.EncodeToString([]byte("me:p@ss-secret"))} {
		if strings.Contains(text, secret) {
			t.Errorf("the password is shown: %s", text)
		}
	}
}

// http requests are sent to the proxy itself: in absolute form, with its
// credentials, a connection per origin.
func TestProxyForwards(t *testing.T) {
	cleanAfter(t)
	proxy := listen(t)
	e := talk(t, bare(t, "http://"+secretUser+"@"+proxy.addr().String()))
	first := e.ask(&engine.Request{URL: "http://Origin.test:80/a?b=c"})[0]
	c := proxy.accept()
	wantText(t, "the first request", c.heard(),
		"GET http://origin.test/a?b=c HTTP/1.1\r\nHost: origin.test\r\nProxy-Authorization: "+secretBasic+"\r\n\r\n")
	c.send(ok("one"))
	first.want(200, "one")
	if first.r.Remote != proxy.addr() {
		t.Errorf("remote is %v, want the proxy's %v", first.r.Remote, proxy.addr())
	}

	again := e.ask(&engine.Request{Method: "PUT", URL: "http://you:too@origin.test#x", Body: []byte("hello")})[0]
	wantText(t, "a request with a user and a body, on the same connection", c.heard(),
		"PUT http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nAuthorization: Basic eW91OnRvbw==\r\nProxy-Authorization: "+
			secretBasic+"\r\nContent-Length: 5\r\n\r\n")
	body := make([]byte, 5)
	if _, err := io.ReadFull(c.in, body); err != nil || string(body) != "hello" {
		t.Errorf("the body is %q, %v", body, err)
	}
	c.send(ok("two"))
	again.want(200, "two")

	other := e.ask(&engine.Request{URL: "http://[2001:db8::1]:81/"})[0]
	c2 := proxy.accept()
	wantText(t, "a request for another origin, on a connection of its own", c2.heard(),
		"GET http://[2001:db8::1]:81/ HTTP/1.1\r\nHost: [2001:db8::1]:81\r\nProxy-Authorization: "+secretBasic+"\r\n\r\n")
	c2.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
	other.want(407, "") // a response like any other
}

// Through one proxy or another, or none: as the configuration says of the origin.
func TestProxyByOrigin(t *testing.T) {
	proxies, direct := []*talkServer{listen(t), listen(t)}, listen(t)
	e := talk(t, engine.Config{KeepBody: true, Proxy: func(u *url.URL) (*url.URL, error) {
		switch u.Host {
		case "bad.test":
			return nil, errors.New("no idea")
		case "ftp.test":
			return &url.URL{Scheme: "ftp", Host: "127.0.0.1"}, nil
		case direct.addr().String():
			return nil, nil
		}
		return &url.URL{Scheme: "http", Host: proxies[len(u.Hostname())%2].addr().String()}, nil
	}})
	ends := e.ask(
		&engine.Request{URL: "http://aa.test/"}, &engine.Request{URL: "http://aaa.test/"}, direct.request("GET", "/x"),
		&engine.Request{URL: "http://bad.test/"}, &engine.Request{URL: "http://ftp.test/"},
	)
	for i, want := range []string{"GET http://aaa.test/", "GET http://aa.test/"} {
		c := proxies[i].accept()
		c.expect(want)
		c.send(ok(want))
	}
	c := direct.accept()
	c.expect("GET /x")
	c.send(ok("direct"))
	ends[0].want(200, "GET http://aa.test/")
	ends[1].want(200, "GET http://aaa.test/")
	ends[2].want(200, "direct")
	ends[3].wantError(engine.PhaseQueue, engine.Proxy)
	ends[3].wantSays("no idea")
	ends[4].wantError(engine.PhaseQueue, engine.Proxy)
	ends[4].wantSays(`proxy scheme "ftp"`)
}

// secureTalk takes the TLS handshake of a client, for example.com.
func (c *talkConn) secureTalk(srv *httptest.Server) (*tls.Conn, *bufio.Reader) {
	c.t.Helper()
	s := tls.Server(c.c, &tls.Config{Certificates: srv.TLS.Certificates})
	s.SetDeadline(time.Now().Add(patience))
	if err := s.Handshake(); err != nil {
		c.t.Fatalf("handshake in the tunnel: %v", err)
	}
	return s, bufio.NewReader(s)
}

const connectHead = "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"

// https requests go through a tunnel, however the proxy says that it is open.
// RFC 9110 section 9.3.6: "A client MUST ignore any Content-Length or
// Transfer-Encoding header fields received in a successful response to CONNECT."
func TestProxyConnect(t *testing.T) {
	srv, trust := startHTTPS(t, tls.VersionTLS13)
	for name, says := range map[string][]string{
		"200":                             {"HTTP/1.1 200 Connection established\r\n\r\n"},
		"HTTP/1.0":                        {"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n"},
		"204":                             {"HTTP/1.1 204 No Content\r\n\r\n"},
		"a length":                        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		"chunked":                         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"close":                           {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		"a long head":                     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n"},
		"in two pieces":                   {"HTTP/1.1 200 OK\r\nX: ", "y\r\n\r\n"},
		"interim before it":               {"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\nHTT", "P/1.1 200 OK\r\n\r\n"},
		"interim with it":                 {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
		"interim and half of it, at once": {"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n", "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			cfg := bare(t, "http://"+secretUser+"@"+proxy.addr().String())
			cfg.TLS, cfg.Retries, cfg.ConnectTimeout = trust, 0, patience/2
			e := talk(t, cfg)
			end := e.ask(&engine.Request{URL: "https://example.com/x"})[0]
			c := proxy.accept()
			wantText(t, "what the proxy heard", c.heard(), connectHead+"Proxy-Authorization: "+secretBasic+"\r\n\r\n")
			for i, s := range says {
				if i > 0 {
					c.expectNothing() // so that it is a piece of its own
				}
				c.send(s)
			}
			s, in := c.secureTalk(srv)
			for i := range 2 {
				wantText(t, "what went through the tunnel", readHead(t, in), "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n")
				io.WriteString(s, ok("through"))
				end.want(200, "through")
				if tm := end.r.Time; i == 0 && (tm.Connect <= 0 || tm.TLS <= 0) || end.r.Remote != proxy.addr() {
					t.Errorf("times %+v, remote %v", tm, end.r.Remote)
				}
				if i == 0 { // once more, through the same tunnel
					end = e.ask(&engine.Request{URL: "https://example.com/x"})[0]
				}
			}
		})
	}
}

// What a proxy can do instead of opening a tunnel: all of it is the proxy's
// fault, and costs no other attempt.
func TestProxyRefuses(t *testing.T) {
	endless := "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100)
	for name, x := range map[string]struct {
		answer string
		then   func(*talkConn)
		says   string
	}{
		"forbids":             {"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnever\n", nil, "403 Forbidden"},
		"forbids and resets":  {"HTTP/1.1 403 Forbidden\r\n\r\n", (*talkConn).reset, "403 Forbidden"},
		"wants credentials":   {"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\n\r\n", (*talkConn).fin, "407 Proxy Authentication Required"},
		"redirects":           {"HTTP/1.1 302 Found\r\nLocation: http://else.test/\r\n\r\n", nil, "302"},
		"gateway timeout":     {"HTTP/1.1 504 Too bad\r\n\r\n", nil, "504"},
		"interim and refuses": {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", nil, "403"},
		"interim flood":       {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", engine.MaxInterim+1), nil, "interim responses"},
		"switches":            {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", nil, "CONNECT"},
		"is none":             {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", nil, "no HTTP response"},
		"speaks TLS":          {"\x15\x03\x01\x00\x02\x02\x46", nil, "no HTTP response"},
		"closes":              {"", (*talkConn).fin, "closed"},
		"resets":              {"", (*talkConn).reset, "reset"},
		"closes in its head":  {"HTTP/1.1 200 O", (*talkConn).fin, "closed"},
		"says too much":       {"HTTP/1.1 200 OK\r\n\r\nhello", nil, "CONNECT"},
		"has no end":          {endless, nil, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			cfg := bare(t, "http://"+secretUser+"@"+proxy.addr().String())
			cfg.Retries, cfg.ConnectTimeout = 2, patience/2
			e := talk(t, cfg)
			end := e.ask(&engine.Request{URL: "https://example.com/"})[0]
			c := proxy.accept()
			c.heard()
			c.send(x.answer)
			if x.then != nil {
				x.then(c)
			}
			end.wantError(engine.PhaseProxy, engine.Proxy)
			end.wantAttempts(1)
			end.wantSays(x.says)
			end.wantSays("proxy http://" + proxy.addr().String())
			if tm := end.r.Time; tm.Connect <= 0 || tm.TLS != 0 {
				t.Errorf("times %+v: there was no TLS handshake", tm)
			}
			if !strings.Contains(name, "resets") {
				c.expectEnd()
			}
		})
	}
}

// A proxy that says nothing costs the connect timeout; one that is not there
// is named.
func TestProxyUnreachable(t *testing.T) {
	for scheme, target := range map[string]string{"http": "https://example.com/", "socks5": "http://example.com/"} {
		t.Run(scheme+" silent", func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			cfg := bare(t, scheme+"://"+secretUser+"@"+proxy.addr().String())
			cfg.ConnectTimeout = limit
			end := talk(t, cfg).ask(&engine.Request{URL: target})[0]
			end.wantError(engine.PhaseProxy, engine.Timeout)
			end.wantSays("proxy " + scheme + "://" + proxy.addr().String())
		})
		t.Run(scheme+" refused", func(t *testing.T) {
			at := freeAddr(t)
			end := talk(t, bare(t, scheme+"://"+secretUser+"@"+at)).ask(&engine.Request{URL: target})[0]
			end.wantError(engine.PhaseConnect, engine.Connect)
			end.wantSays("proxy " + at)
		})
		t.Run(scheme+" without address", func(t *testing.T) {
			dns := &names{err: &net.DNSError{Err: "no such host", Name: "proxy.test", IsNotFound: true}}
			e := talk(t, engine.Config{Resolver: dns, Proxy: via(t, scheme+"://"+secretUser+"@proxy.test")})
			end := e.ask(&engine.Request{URL: target})[0]
			end.wantError(engine.PhaseDNS, engine.DNS)
			end.wantSays("host proxy.test: no such host")
		})
	}
}

// A request can end in the middle of a tunnel too: by its own deadline, or with
// the run.
func TestProxyInterrupted(t *testing.T) {
	for _, scheme := range []string{"http", "socks5"} {
		t.Run(scheme, func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			e := talk(t, bare(t, scheme+"://"+secretUser+"@"+proxy.addr().String()))
			first := e.ask(&engine.Request{URL: "https://one.test/", Timeout: limit})[0]
			first.wantError(engine.PhaseProxy, engine.Timeout)
			second := e.ask(&engine.Request{URL: "https://two.test/"})[0]
			proxy.accept()
			c := proxy.accept()
			c.c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.in.ReadByte(); err != nil {
				t.Fatal(err)
			}
			e.cancel()
			e.awaitRun(context.Canceled)
			second.wantError(engine.PhaseProxy, engine.Canceled)
			e.finish(context.Canceled)
		})
	}
}

// SOCKS5, a piece at a time: RFC 1928 and 1929.
const (
	socksPlain    = "\x05\x01\x00"                             // no authentication
	socksWithUser = "\x05\x02\x00\x02"                         // or user and password
	socksUser     = "\x01\x02me\x0bp@ss-secret"                // those
	socksOpen     = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00" // succeeded, bound to 0.0.0.0:0
)

// hears reads exactly what is wanted.
func (c *talkConn) hears(want string) {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, len(want))
	n, err := io.ReadFull(c.in, b)
	if string(b[:n]) != want {
		c.t.Fatalf("the proxy heard %q, %v; want %q", b[:n], err, want)
	}
}

// A SOCKS5 proxy gets names as they are, and addresses as such; what goes
// through its tunnel is as without one.
func TestProxySOCKS(t *testing.T) {
	srv, trust := startHTTPS(t, tls.VersionTLS13)
	for _, x := range []struct{ scheme, user, url, asks, host string }{
		{"socks5", "", "http://only.test:81/x", "\x03\x09only.test\x00\x51", "only.test:81"},
		{"socks5h", "", "http://only.test/x", "\x03\x09only.test\x00\x50", "only.test"},
		{"socks5", secretUser + "@", "http://B\u00fccher.test:81/x", "\x03\x12xn--bcher-kva.test\x00\x51", "xn--bcher-kva.test:81"},
		{"socks5", "", "http://192.0.2.1/x", "\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1"},
		{"socks5", "", "http://[::2]/x", "\x04" + strings.Repeat("\x00", 15) + "\x02\x00\x50", "[::2]"},
		{"socks5", secretUser + "@", "https://example.com/x", "\x03\x0bexample.com\x01\xbb", "example.com"},
	} {
		t.Run(x.url, func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			cfg := bare(t, x.scheme+"://"+x.user+proxy.addr().String())
			cfg.TLS = trust
			e := talk(t, cfg)
			end := e.ask(&engine.Request{URL: x.url})[0]
			c := proxy.accept()
			if x.user == "" {
				c.hears(socksPlain)
				c.send("\x05\x00")
			} else {
				c.hears(socksWithUser)
				c.send("\x05\x02")
				c.hears(socksUser)
				c.send("\x01\x00")
			}
			c.hears("\x05\x01\x00" + x.asks)
			c.send(socksOpen)
			in, out := c.in, io.Writer(c.c)
			if strings.HasPrefix(x.url, "https:") {
				out, in = c.secureTalk(srv)
			}
			wantText(t, "what went through the tunnel", readHead(t, in), "GET /x HTTP/1.1\r\nHost: "+x.host+"\r\n\r\n")
			io.WriteString(out, ok("through"))
			end.want(200, "through")
			if end.r.Remote != proxy.addr() {
				t.Errorf("remote is %v, want the proxy's", end.r.Remote)
			}
		})
	}
}

// A SOCKS5 proxy that does not do it. Only the connection that a proxy itself
// says it could not make is told apart by its message.
func TestProxySOCKSRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		user   bool
		method string // the answer to the greeting
		grant  string // to the password
		reply  string // to the request
		then   func(*talkConn)
		says   string
	}{
		"wants credentials": {method: "\x05\xff", says: "no acceptable authentication method"},
		"wrong credentials": {user: true, method: "\x05\x02", grant: "\x01\x01", says: "username/password authentication failed"},
		"is none":           {method: "HTTP/1.1 400 Bad Request\r\n\r\n", says: "protocol version"},
		"is SOCKS4":         {method: "\x00\x5b\x00\x00\x00\x00\x00\x00", says: "protocol version"},
		"not allowed":       {method: "\x05\x00", reply: "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", says: "not allowed"},
		"refused":           {method: "\x05\x00", reply: "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", says: "refused"},
		"no host":           {method: "\x05\x00", reply: "\x05\x04\x00\x03\x01x\x00\x00", says: "host unreachable"},
		"closes at once":    {then: (*talkConn).fin, says: "closed"},
		"closes later":      {method: "\x05\x00", then: (*talkConn).fin, says: "closed"},
		"closes in a reply": {method: "\x05\x00", reply: socksOpen[:5], then: (*talkConn).fin, says: "closed"},
		"says too much":     {method: "\x05\x00", reply: socksOpen + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", says: "bytes that answer nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			cleanAfter(t)
			proxy := listen(t)
			user := ""
			if x.user {
				user = secretUser + "@"
			}
			cfg := bare(t, "socks5://"+user+proxy.addr().String())
			cfg.Retries, cfg.ConnectTimeout = 2, patience/2
			end := talk(t, cfg).ask(&engine.Request{URL: "http://origin.test/"})[0]
			c := proxy.accept()
			if x.user {
				c.hears(socksWithUser)
			} else {
				c.hears(socksPlain)
			}
			c.send(x.method)
			if x.grant != "" {
				c.hears(socksUser)
				c.send(x.grant)
			}
			if x.reply != "" {
				c.hears("\x05\x01\x00\x03\x0borigin.test\x00\x50")
				c.send(x.reply)
			}
			if x.then != nil {
				x.then(c)
			}
			end.wantError(engine.PhaseProxy, engine.Proxy)
			end.wantAttempts(1)
			end.wantSays(x.says)
			end.wantSays("proxy socks5://" + proxy.addr().String())
			c.drained()
		})
	}
}

// What is wrong with a proxy's URL is said without its password.
func TestCheckProxy(t *testing.T) {
	for raw, says := range map[string]string{
		"http://127.0.0.1:3128":                "",
		"http://me:secret@proxy.test":          "",
		"socks5://[::1]":                       "",
		"socks5h://me:secret@proxy.test:1080":  "",
		"https://me:secret@proxy.test":         `proxy scheme "https"`,
		"socks4://me:secret@proxy.test":        `proxy scheme "socks4"`,
		"//me:secret@proxy.test":               `proxy scheme ""`,
		"http://me:secret@":                    "has no host",
		"http://me:secret@:80":                 "has no host",
		"http://me:secret@proxy.test:0":        `proxy port "0"`,
		"http://me:secret@proxy.test:65536":    `proxy port "65536"`,
		"http://me:secret@proxy.test:99999999": `proxy port "99999999"`,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		err = engine.CheckProxy(u)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", raw, err, says)
		}
		if err != nil {
			wantNoSecret(t, err.Error())
		}
	}
}

// The proxies of Debian's packages.

// startProxy runs a proxy until the end of the test, or until kill is called.
func startProxy(t testing.TB, addr, path string, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	var said bytes.Buffer // read once the process has ended
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan error, 1)
	go func() {
		dead <- cmd.Wait()
		close(dead)
	}()
	kill = func() {
		cmd.Process.Kill()
		for range dead { // to its end
		}
	}
	t.Cleanup(func() {
		if kill(); t.Failed() {
			t.Logf("%s: %s", path, said.Bytes())
		}
	})
	awaitListener(t, addr, dead)
	return kill
}

func startTinyproxy(t testing.TB, lines ...string) (addr string, kill func()) {
	t.Helper()
	path := needTool(t, "tinyproxy")
	addr = freeAddr(t)
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	lines = append([]string{
		"Listen 127.0.0.1", fmt.Sprintf("Port %d", netip.MustParseAddrPort(addr).Port()),
		"Timeout 600", "MaxClients 200", "LogLevel Critical",
	}, lines...)
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return addr, startProxy(t, addr, path, "-d", "-c", conf)
}

func startMicrosocks(t testing.TB, args ...string) (addr string, kill func()) {
	t.Helper()
	path := needTool(t, "microsocks")
	addr = freeAddr(t)
	at := netip.MustParseAddrPort(addr)
	args = append([]string{"-i", at.Addr().String(), "-p", fmt.Sprint(at.Port())}, args...)
	return addr, startProxy(t, addr, path, args...)
}

// startOrigin runs net/http's server, which answers with the request's target.
// It is there on both loopback addresses, as far as the machine has them:
// localhost may be either.
func startOrigin(t testing.TB, secure bool, h http.HandlerFunc) (port uint16, trust *tls.Config) {
	t.Helper()
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) }
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		srv.StartTLS()
		roots := x509.NewCertPool()
		roots.AddCert(srv.Certificate())
		trust = &tls.Config{RootCAs: roots, ServerName: "example.com"} // also where the URL says localhost
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	port = netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	if !haveIPv6() {
		return port, trust
	}
	l, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
	if err != nil {
		t.Skipf("the same port on both loopback addresses: %v", err)
	}
	if secure {
		l = tls.NewListener(l, srv.TLS)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Config.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return port, trust
}

// schemes runs a test for http and for https origins.
func schemes(t *testing.T, f func(t *testing.T, scheme string)) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) { f(t, scheme) })
	}
}

// Names are the proxy's to resolve, localhost too; requests that it forwards
// bear its mark, those in its tunnels do not.
func TestTinyproxy(t *testing.T) {
	proxy, _ := startTinyproxy(t)
	schemes(t, func(t *testing.T, scheme string) {
		var heard atomic.Pointer[http.Header]
		port, trust := startOrigin(t, scheme == "https", func(w http.ResponseWriter, r *http.Request) {
			heard.Store(&r.Header)
			fmt.Fprint(w, r.RequestURI)
		})
		cfg := bare(t, "http://"+proxy)
		cfg.TLS = trust
		end := talk(t, cfg).ask(&engine.Request{URL: fmt.Sprintf("%s://localhost:%d/x?y", scheme, port)})[0]
		end.want(200, "/x?y")
		if forwarded := strings.Contains(heard.Load().Get("Via"), "tinyproxy"); forwarded != (scheme == "http") {
			t.Errorf("the origin received %v", *heard.Load())
		}
	})
}

// Many requests, in pipelines where they go through tunnels: each answer its
// own. Tinyproxy forwards one request per connection and drops what is behind it.
func TestTinyproxyKeepsOrder(t *testing.T) {
	proxy, _ := startTinyproxy(t)
	for _, x := range []struct {
		scheme   string
		n, depth int
	}{{"http", size(500, 20_000), 1}, {"https", size(4000, 100_000), 16}} {
		t.Run(x.scheme, func(t *testing.T) {
			port, trust := startOrigin(t, x.scheme == "https", nil)
			c := &uriCheck{t: t, base: fmt.Sprintf("%s://127.0.0.1:%d", x.scheme, port), n: x.n, seen: make([]uint8, x.n)}
			cfg := bare(t, "http://"+proxy)
			cfg.TLS, cfg.Pipeline = trust, x.depth
			stats := runEngine(t, cfg, c, c)
			c.settle(stats)
			if x.scheme == "https" && stats.Connects > int64(engine.DefaultPerHost) {
				t.Errorf("%d connections, want at most %d", stats.Connects, engine.DefaultPerHost)
			}
			t.Logf("%d requests in %v, %d connections, %d replays", x.n, stats.Elapsed, stats.Connects, stats.Replays)
		})
	}
}

// Credentials, right and wrong. A proxy that forwards says no in a response.
func TestTinyproxyCredentials(t *testing.T) {
	proxy, _ := startTinyproxy(t, "BasicAuth me secret")
	for user, status := range map[string]int{"me:secret@": 200, "me:not-the-secret@": 401, "me@": 401, "": 407} {
		t.Run(user, func(t *testing.T) {
			schemes(t, func(t *testing.T, scheme string) {
				port, trust := startOrigin(t, scheme == "https", nil)
				cfg := bare(t, "http://"+user+proxy)
				cfg.TLS = trust
				end := talk(t, cfg).ask(&engine.Request{URL: fmt.Sprintf("%s://localhost:%d/x", scheme, port)})[0]
				switch {
				case status == 200:
					end.want(200, "/x")
				case scheme == "http":
					if r := end.wait(); r.Err != nil || r.Status != status {
						t.Errorf("status %d, %v; want %d", r.Status, r.Err, status)
					}
				default:
					end.wantError(engine.PhaseProxy, engine.Proxy)
					end.wantSays(fmt.Sprint(status))
				}
			})
		})
	}
}

// A proxy that lets nobody through to that port, and one that finds nobody there.
func TestTinyproxyRefuses(t *testing.T) {
	port, trust := startOrigin(t, true, nil)
	proxy, _ := startTinyproxy(t, "ConnectPort 1")
	cfg := bare(t, "http://"+proxy)
	cfg.TLS = trust
	e := talk(t, cfg)
	end := e.ask(&engine.Request{URL: fmt.Sprintf("https://localhost:%d/", port)})[0]
	end.wantError(engine.PhaseProxy, engine.Proxy)
	end.wantSays("403 Forbidden")
	end = e.ask(&engine.Request{URL: "https://localhost:1/"})[0]
	end.wantError(engine.PhaseProxy, engine.Proxy)
	end.wantSays("it refused the tunnel: status 500")
}

// Names are the proxy's to resolve, and pipelines keep their order.
func TestMicrosocks(t *testing.T) {
	proxy, _ := startMicrosocks(t)
	schemes(t, func(t *testing.T, scheme string) {
		port, trust := startOrigin(t, scheme == "https", nil)
		n := size(4000, 100_000)
		c := &uriCheck{t: t, base: fmt.Sprintf("%s://localhost:%d", scheme, port), n: n, seen: make([]uint8, n)}
		cfg := bare(t, "socks5://"+proxy)
		cfg.TLS, cfg.Pipeline = trust, 16
		stats := runEngine(t, cfg, c, c)
		c.settle(stats)
		if stats.Connects > int64(engine.DefaultPerHost) {
			t.Errorf("%d connections, want at most %d", stats.Connects, engine.DefaultPerHost)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		end := talk(t, bare(t, "socks5://"+proxy)).ask(&engine.Request{URL: "http://localhost:1/"})[0]
		end.wantError(engine.PhaseProxy, engine.Proxy)
		end.wantSays("refused")
	})
}

func TestMicrosocksCredentials(t *testing.T) {
	proxy, _ := startMicrosocks(t, "-u", "me", "-P", "secret")
	for user, right := range map[string]bool{"me:secret@": true, "me:not-the-secret@": false, "": false} {
		t.Run(user, func(t *testing.T) {
			schemes(t, func(t *testing.T, scheme string) {
				port, trust := startOrigin(t, scheme == "https", nil)
				cfg := bare(t, "socks5://"+user+proxy)
				cfg.TLS = trust
				end := talk(t, cfg).ask(&engine.Request{URL: fmt.Sprintf("%s://localhost:%d/x", scheme, port)})[0]
				if right {
					end.want(200, "/x")
					return
				}
				end.wantError(engine.PhaseProxy, engine.Proxy)
				end.wantSays("proxy socks5://" + proxy)
			})
		})
	}
}

// A proxy that dies in the middle of a body, however it carries it. So much of
// the body has left the origin by then that the engine has read some of it.
func TestProxyDiesInBody(t *testing.T) {
	const before, length = 64 << 20, 1 << 30
	tiny := func(t testing.TB) (string, func()) {
		addr, kill := startTinyproxy(t)
		return "http://" + addr, kill
	}
	micro := func(t testing.TB) (string, func()) {
		addr, kill := startMicrosocks(t)
		return "socks5://" + addr, kill
	}
	for _, x := range []struct {
		name   string
		start  func(testing.TB) (string, func())
		scheme string
	}{
		{"forward", tiny, "http"}, {"tunnel", tiny, "https"}, {"SOCKS", micro, "http"}, {"SOCKS and TLS", micro, "https"},
	} {
		for framing, set := range map[string]func(http.Header){
			"length":      func(h http.Header) { h.Set("Content-Length", fmt.Sprint(length)) },
			"until close": func(h http.Header) { h.Set("Transfer-Encoding", "identity") },
		} {
			t.Run(x.name+" "+framing, func(t *testing.T) {
				proxy, kill := x.start(t)
				under := make(chan int, 1)
				port, trust := startOrigin(t, x.scheme == "https", func(w http.ResponseWriter, r *http.Request) {
					set(w.Header())
					for piece, n := make([]byte, 1<<20), 0; n < before; n += len(piece) {
						if _, err := w.Write(piece); err != nil {
							t.Errorf("the origin cannot write: %v", err)
							break
						}
					}
					under <- 1
					<-r.Context().Done()
				})
				cfg := bare(t, proxy)
				cfg.KeepBody, cfg.TLS, cfg.Timeout, cfg.ReadTimeout = false, trust, 2*patience, 2*patience
				end := talk(t, cfg).ask(&engine.Request{URL: fmt.Sprintf("%s://127.0.0.1:%d/", x.scheme, port)})[0]
				select {
				case <-under:
				case <-time.After(patience):
					t.Error("the body does not get through")
				}
				kill()
				if x.scheme == "http" && framing == "until close" {
					// The end of the connection is the end of the body: what was lost cannot be known.
					if r := end.wait(); r.Err != nil && (r.Err.Kind != engine.Closed || r.Err.Phase != engine.PhaseBody) {
						t.Errorf("%v", r.Err)
					}
				} else {
					end.wantError(engine.PhaseBody, engine.Closed)
				}
				if end.r.Status != 200 || end.r.Bytes < 1<<20 {
					t.Errorf("status %d, %d bytes; want 200 and some MiB", end.r.Status, end.r.Bytes)
				}
			})
		}
	}
}
