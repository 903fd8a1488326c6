package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/engine"
)

// Interop: other people's TLS servers, each of which answers with what it was
// asked for.

// tlsURICheck is a uriCheck that looks at the connections too.
type tlsURICheck struct {
	uriCheck
	version uint16
	resumed int
}

func (c *tlsURICheck) Put(results []*engine.Result) error {
	for _, r := range results {
		switch {
		case r.TLS == nil || r.TLS.Version != c.version:
			if c.wrong++; c.wrong <= 10 {
				c.t.Errorf("%s: over %+v", r.Request.URL, r.TLS)
			}
		case r.TLS.Resumed:
			c.resumed++
		}
	}
	return c.uriCheck.Put(results)
}

// echoes has the server at addr, which must be good for 127.0.0.1, echo n URIs
// at depth 16 over one TLS version. It returns how many results came over
// resumed sessions.
func echoes(t *testing.T, addr string, version uint16, ca *authority, n int) (stats engine.Stats, resumed int) {
	t.Helper()
	c := &tlsURICheck{uriCheck: uriCheck{t: t, base: "https://" + addr, n: n, seen: make([]uint8, n)}, version: version}
	stats = runEngine(t, engine.Config{Connections: 8, PerHost: 8, Pipeline: 16, KeepBody: true,
		TLS: &tls.Config{RootCAs: ca.pool(), MinVersion: version, MaxVersion: version}}, c, c)
	c.settle(stats)
	t.Logf("%d requests in %v, %d connections, %d results over resumed sessions, %d replays",
		n, stats.Elapsed, stats.Connects, c.resumed, stats.Replays)
	return stats, c.resumed
}

// eachVersion runs an interop test for TLS 1.2 and 1.3.
func eachVersion(t *testing.T, f func(t *testing.T, version uint16, n int)) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			n := size(20_000, 200_000)
			if version == tls.VersionTLS13 {
				n = size(20_000, 1_000_000)
			}
			f(t, version, n)
		})
	}
}

// startTool runs a server until the end of the test; dead has its end.
func startTool(t testing.TB, cmd *exec.Cmd) (dead <-chan error) {
	t.Helper()
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		for range ended { // to its end
		}
	})
	return ended
}

// nginx closes each connection 1000 requests in, and the next one resumes the
// session: nobody may notice.
func TestTLSNginx(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	cert, key, _ := pemFiles(t, ca.issue(t, nil))
	addr := startNginx(t, " ssl", "ssl_certificate "+cert+"; ssl_certificate_key "+key+"; ssl_protocols TLSv1.2 TLSv1.3;")
	eachVersion(t, func(t *testing.T, version uint16, n int) {
		stats, resumed := echoes(t, addr, version, ca, n)
		if stats.Connects < int64(n/1000) || resumed == 0 {
			t.Errorf("%d connections, %d results of resumed sessions", stats.Connects, resumed)
		}
	})
}

const haproxyConf = `
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend f
  bind %[1]s ssl crt %[2]s ssl-min-ver TLSv1.2
  http-request return status 200 content-type text/plain lf-string "%%[url]"
`

func TestTLSHAProxy(t *testing.T) {
	path, dir, addr := needTool(t, "haproxy"), t.TempDir(), freeAddr(t)
	ca := newAuthority(t, "Test CA")
	_, _, both := pemFiles(t, ca.issue(t, nil))
	conf := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, haproxyConf, addr, both), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-db", "-q", "-f", conf)
	awaitListener(t, addr, startTool(t, cmd))
	eachVersion(t, func(t *testing.T, version uint16, n int) { echoes(t, addr, version, ca, n) })
}

const nodeServer = `
const fs = require('fs');
const [cert, key] = process.argv.slice(1).map(f => fs.readFileSync(f));
const s = require('https').createServer({cert, key}, (req, res) => { req.resume(); res.end(req.url); });
s.maxRequestsPerSocket = 500;
s.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + s.address().port));
`

// Node says Connection: close on the 500th answer of a connection.
func TestTLSNode(t *testing.T) {
	path := needTool(t, "node")
	ca := newAuthority(t, "Test CA")
	cert, key, _ := pemFiles(t, ca.issue(t, nil))
	cmd := exec.Command(path, "-e", nodeServer, cert, key)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	startTool(t, cmd)
	w.Close()
	addr, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("node says nothing: %v", err)
	}
	eachVersion(t, func(t *testing.T, version uint16, n int) {
		stats, _ := echoes(t, strings.TrimSpace(addr), version, ca, n)
		if stats.Connects < int64(n/500) {
			t.Errorf("%d connections", stats.Connects)
		}
	})
}

// Go's server, which is asked to close after every so many answers.
func TestTLSGo(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	var asked atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%200 == 0 {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, r.RequestURI)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	defer srv.Close()
	eachVersion(t, func(t *testing.T, version uint16, n int) {
		stats, resumed := echoes(t, srv.Listener.Addr().String(), version, ca, n)
		if stats.Connects < int64(n/200) || resumed == 0 {
			t.Errorf("%d connections, %d results of resumed sessions", stats.Connects, resumed)
		}
	})
}

// sServer is a running openssl s_server.
type sServer struct {
	t    testing.TB
	addr string
	in   *os.File
	out  *bufio.Reader
}

func startSServer(t testing.TB, ca *authority, args ...string) *sServer {
	t.Helper()
	path := needTool(t, "openssl")
	cert, key, _ := pemFiles(t, ca.issue(t, nil))
	cmd := exec.Command(path, append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key}, args...)...)
	inR, inW, err1 := os.Pipe()
	outR, outW, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cmd.Stdin, cmd.Stdout = inR, outW
	var errs bytes.Buffer
	cmd.Stderr = &errs
	dead := startTool(t, cmd)
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-dead
		if t.Failed() {
			t.Logf("openssl s_server: %s", &errs)
		}
		inW.Close()
		outR.Close()
	})
	inR.Close()
	outW.Close()
	s := &sServer{t: t, in: inW, out: bufio.NewReader(outR)}
	outR.SetReadDeadline(time.Now().Add(patience))
	s.addr = strings.Fields(s.until("ACCEPT "))[1]
	return s
}

func (s *sServer) line() string {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("openssl s_server says no more: %v, %q", err, line)
	}
	return strings.TrimSpace(line)
}

// until reads what the server prints up to a line that begins so, and returns
// that.
func (s *sServer) until(begin string) string {
	s.t.Helper()
	for {
		if line := s.line(); strings.HasPrefix(line, begin) {
			return line
		}
	}
}

// takes waits for a request, to its empty line.
func (s *sServer) takes(request string) {
	s.t.Helper()
	s.until(request)
	for s.line() != "" {
	}
}

// types types on the server's standard input, and waits until it is read:
// what is typed next is then another line to it.
func (s *sServer) types(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, text); err != nil {
		s.t.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); time.Now().Before(until); <-tick.C {
		if left, err := unix.IoctlGetInt(int(s.in.Fd()), unix.TIOCINQ); err != nil || left == 0 {
			return
		}
	}
	s.t.Fatalf("openssl s_server does not read %q", text)
}

// updateKeys has the server send a KeyUpdate; with K instead of k it asks the
// client for one in return, and that comes. The server needs -msg.
func (s *sServer) updateKeys(how string) {
	s.t.Helper()
	s.types(how + "\n")
	s.until(">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
	if how == "K" {
		s.until("<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
	}
}

// Key updates, between responses, within a head and within a body, with and
// without an update of the client's in return, and what is sent after each is
// understood, on one connection.
func TestTLSKeyUpdates(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	s := startSServer(t, ca, "-tls1_3", "-msg")
	tk := talk(t, engine.Config{Connections: 1, Pipeline: 4, KeepBody: true, TLS: &tls.Config{RootCAs: ca.pool()}})
	id := 0
	ask := func(n int) (ends []*end) {
		var reqs []*engine.Request
		for range n {
			id++
			reqs = append(reqs, &engine.Request{URL: fmt.Sprintf("https://%s/%d", s.addr, id)})
		}
		ends = tk.ask(reqs...)
		for i := range n {
			s.takes(fmt.Sprintf("GET /%d HTTP/1.1", id-n+1+i))
		}
		return ends
	}
	first := ask(1)
	s.types(ok("first"))
	first[0].want(200, "first")
	for round := range size(10, 200) {
		for _, how := range []string{"k", "K"} {
			s.updateKeys(how) // the connection is idle
			body := string(bodyOf(id, 20_000*(round%2)+40))
			parts := []string{"HTTP/1.1 200 OK\r\nContent-Le", fmt.Sprintf("ngth: %d\r\n\r\n%s", len(body), body[:7]), body[7:]}
			ends := ask(3)
			for range ends {
				for _, p := range parts {
					s.types(p)
					s.updateKeys(how)
				}
			}
			for _, e := range ends {
				e.want(200, body)
			}
		}
	}
	for range 12 { // crypto/tls takes more than 16 in a row for a flood
		s.updateKeys("K")
	}
	last := ask(1)
	s.types(ok("last"))
	last[0].want(200, "last")
	tk.finish(nil)
	if tk.stats.Connects != 1 {
		t.Errorf("%d connections, want 1", tk.stats.Connects)
	}
}

// openssl s_server -WWW: HTTP/1.0, a connection for every file, whose end is
// the end of the body.
func TestTLSOpenSSLFiles(t *testing.T) {
	for _, flag := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(flag[1:], func(t *testing.T) {
			ca, dir := newAuthority(t, "Test CA"), t.TempDir()
			needTool(t, "openssl")
			t.Chdir(dir)
			const files = 10
			for i := range files {
				if err := os.WriteFile(fmt.Sprintf("%d.txt", i), bodyOf(i, 1+i*7919), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := startSServer(t, ca, flag, "-WWW")
			go io.Copy(io.Discard, s.out)
			n := size(200, 2000)
			ends := 0
			i := 0
			src := engine.SourceFunc(func(_ context.Context, batch []*engine.Request) (int, error) {
				k := min(len(batch), n-i)
				for j := range k {
					batch[j] = &engine.Request{URL: fmt.Sprintf("https://%s/%d.txt", s.addr, i%files), Tag: i % files}
					i++
				}
				if i == n {
					return k, io.EOF
				}
				return k, nil
			})
			resumed := 0
			runEngine(t, engine.Config{Connections: 4, PerHost: 4, Pipeline: 4, KeepBody: true, TLS: &tls.Config{RootCAs: ca.pool()}},
				src, engine.SinkFunc(func(results []*engine.Result) error {
					for _, r := range results {
						ends++
						f := r.Request.Tag.(int)
						if r.Err != nil || r.Status != 200 || !bytes.Equal(r.Body, bodyOf(f, 1+f*7919)) {
							t.Errorf("%s: %d, %d bytes, %v", r.Request.URL, r.Status, len(r.Body), r.Err)
						}
						if r.TLS != nil && r.TLS.Resumed {
							resumed++
						}
					}
					return nil
				}))
			t.Logf("%d files, %d of them over resumed sessions", ends, resumed)
			if ends != n || resumed == 0 {
				t.Errorf("%d results, %d resumed", ends, resumed)
			}
		})
	}
}

// openssl s_server -www: a page about the connection.
func TestTLSOpenSSLStatus(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	s := startSServer(t, ca, "-www")
	go io.Copy(io.Discard, s.out)
	for _, version := range tlsVersions {
		r := doOnce(t, "https://"+s.addr+"/", &tls.Config{RootCAs: ca.pool(), MinVersion: version, MaxVersion: version})
		if r.Err != nil || r.Status != 200 || !strings.Contains(string(r.Body), strings.ReplaceAll(tls.VersionName(version), "TLS ", "TLSv")) {
			t.Errorf("%s: status %d, %d bytes, %v", tls.VersionName(version), r.Status, len(r.Body), r.Err)
		}
	}
}
