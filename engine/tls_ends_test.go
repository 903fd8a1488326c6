package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hotlap/engine"
)

// How TLS connections end, one conversation each.

// tlsTalkConn is one connection of a conversation, with TLS over it.
type tlsTalkConn struct {
	*talkConn
	tls  *tls.Conn
	wire *heldConn
}

// heldConn holds back what is written while it is told to.
type heldConn struct {
	*net.TCPConn
	hold bool
	held []byte
}

func (c *heldConn) Write(b []byte) (int, error) {
	if c.hold {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.TCPConn.Write(b)
}

// together has what f writes sent in one segment.
func (c *tlsTalkConn) together(f func()) {
	c.t.Helper()
	c.wire.hold = true
	f()
	c.wire.hold = false
	c.c.SetWriteDeadline(time.Now().Add(patience)) // CloseWrite has let it pass
	if _, err := c.wire.Write(c.wire.held); err != nil {
		c.t.Errorf("the client does not listen: %v", err)
	}
}

// acceptTLS accepts a connection and shakes hands on it.
func (s *talkServer) acceptTLS(cfg *tls.Config) *tlsTalkConn {
	s.t.Helper()
	c := s.accept()
	c.c.SetDeadline(time.Now().Add(patience))
	wire := &heldConn{TCPConn: c.c}
	t := tls.Server(wire, cfg)
	if err := t.Handshake(); err != nil {
		s.t.Fatalf("handshake: %v", err)
	}
	c.in = bufio.NewReader(t)
	return &tlsTalkConn{c, t, wire}
}

func (c *tlsTalkConn) expectPath(path string) {
	c.t.Helper()
	r, err := http.ReadRequest(c.in)
	if err != nil {
		c.t.Fatalf("no request: %v", err)
	}
	io.Copy(io.Discard, r.Body)
	if r.RequestURI != path {
		c.t.Errorf("the server received %q, want %q", r.RequestURI, path)
	}
}

func (c *tlsTalkConn) say(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.tls, s); err != nil {
		c.t.Errorf("the client does not listen: %v", err)
	}
}

func (s *talkServer) secureRequest(target string) *engine.Request {
	return &engine.Request{URL: fmt.Sprintf("https://%s%s", s.l.Addr(), target)}
}

// The end of a connection is the end of an until-close body only if it says
// so; for every other response it does not matter how it ends.
func TestTLSEnds(t *testing.T) {
	closeNotify := func(c *tlsTalkConn) { c.tls.CloseWrite() }
	fin := func(c *tlsTalkConn) { c.fin() }
	both := func(c *tlsTalkConn) { closeNotify(c); fin(c) }
	rst := func(c *tlsTalkConn) { (&faultyConn{c: c.c}).awaitSent(); c.reset() }
	// the beginning of a record, then FIN
	within := func(c *tlsTalkConn) { c.c.Write([]byte{23, 3, 3, 0, 100, 1, 2}); c.fin() }
	const untilClose, head10 = "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"
	for _, test := range []struct {
		name  string
		says  string
		end   func(*tlsTalkConn)
		phase engine.Phase // 0: succeeds with body "body"
	}{
		{"until close, close_notify and FIN", untilClose + "body", both, 0},
		{"until close, close_notify alone", untilClose + "body", closeNotify, 0},
		{"until close, FIN alone", untilClose + "body", fin, engine.PhaseBody},
		{"until close, FIN within a record", untilClose + "body", within, engine.PhaseBody},
		{"until close, RST", untilClose + "body", rst, engine.PhaseBody},
		{"until close, empty, FIN alone", untilClose, fin, engine.PhaseBody},
		{"HTTP/1.0, close_notify and FIN", head10 + "body", both, 0},
		{"HTTP/1.0, FIN alone", head10 + "body", fin, engine.PhaseBody},
		{"length, FIN alone", ok("body"), fin, 0},
		{"length, FIN within a record", ok("body"), within, 0},
		{"length and close, FIN alone", ok("body", "Connection: close"), fin, 0},
		{"length and close, RST", ok("body", "Connection: close"), rst, 0},
		{"chunked, FIN alone", "HTTP/1.1 200 OK\r\n" + chunked + "\r\n\r\n4\r\nbody\r\n0\r\n\r\n", fin, 0},
		{"length cut, close_notify and FIN", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", both, engine.PhaseBody},
		{"length cut, FIN alone", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", fin, engine.PhaseBody},
		{"head cut, close_notify and FIN", "HTTP/1.1 200 OK\r\nCont", both, engine.PhaseHead},
		{"head cut, FIN alone", "HTTP/1.1 200 OK\r\nCont", fin, engine.PhaseHead},
		{"nothing, close_notify alone", "", closeNotify, engine.PhaseHead},
		{"nothing, FIN alone", "", fin, engine.PhaseHead},
	} {
		for _, version := range tlsVersions {
			t.Run(test.name+"/"+tls.VersionName(version), func(t *testing.T) {
				srv := listen(t)
				server, client := faultyTLS(t, version)
				e := talk(t, engine.Config{KeepBody: true, TLS: client})
				end := e.ask(srv.secureRequest("/x"))[0]
				c := srv.acceptTLS(server)
				c.expectPath("/x")
				if test.says != "" {
					c.say(test.says)
				}
				test.end(c)
				if test.phase == 0 {
					end.want(200, "body")
				} else {
					end.wantError(test.phase, engine.Closed)
				}
			})
		}
	}
}

// What comes in one segment with the end says the same as if it came before:
// close_notify, without a FIN, is seen although no further event comes.
func TestTLSEndsTogether(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			srv := listen(t)
			server, client := faultyTLS(t, version)
			e := talk(t, engine.Config{KeepBody: true, Connections: 1, TLS: client})
			for _, says := range []string{"HTTP/1.1 200 OK\r\n\r\nbody", ok("body"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody"} {
				end := e.ask(srv.secureRequest("/x"))[0]
				c := srv.acceptTLS(server)
				c.expectPath("/x")
				c.together(func() {
					c.say(says)
					c.tls.CloseWrite()
				})
				if strings.Contains(says, ": 5") {
					end.wantError(engine.PhaseBody, engine.Closed)
				} else {
					end.want(200, "body")
				}
				c.expectEnd()
			}
		})
	}
}

// What is no TLS in the middle of a response is of kind tls, and is not called
// a failure of the handshake.
func TestTLSBadRecord(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			srv := listen(t)
			server, client := faultyTLS(t, version)
			e := talk(t, engine.Config{KeepBody: true, TLS: client})
			end := e.ask(srv.secureRequest("/x"))[0]
			c := srv.acceptTLS(server)
			c.expectPath("/x")
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbody")
			c.c.Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
			end.wantError(engine.PhaseBody, engine.TLS)
			t.Log(end.r.Err)
			if end.r.Err != nil && strings.Contains(end.r.Err.Message, "handshake") {
				t.Errorf("%q: the handshake was long over", end.r.Err.Message)
			}
		})
	}
}

// A server that refuses in an alert, and whose RST comes right behind it: the
// alert is what went wrong, and is not worth a retry.
func TestTLSAlertThenReset(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	n := size(200, 5000)
	go func() {
		for {
			c, err := srv.l.AcceptTCP()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 10)) // the rest stays unread
			c.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			(&faultyConn{c: c}).awaitSent()
			c.SetLinger(0)
			c.Close()
		}
	}()
	wantTLSOnce(t, srv, engine.Config{Retries: 1}, n)
}

// wantTLSOnce sends n requests, each of which is to end in kind tls, after one
// attempt.
func wantTLSOnce(t *testing.T, srv *talkServer, cfg engine.Config, n int) {
	t.Helper()
	wantTLSOf(t, srv, cfg, sameRequest(fmt.Sprintf("https://%s/", srv.l.Addr()), n), func(r *engine.Result) bool {
		return r.Err.Phase == engine.PhaseTLS && r.Attempts == 1
	})
}

// wantTLSOf wants every request of src to end in kind tls, and as right says.
func wantTLSOf(t *testing.T, srv *talkServer, cfg engine.Config, src engine.Source, right func(*engine.Result) bool) {
	t.Helper()
	ended, wrong := 0, 0
	runEngine(t, cfg, src, engine.SinkFunc(func(results []*engine.Result) error {
		for _, r := range results {
			ended++
			if r.Err == nil || r.Err.Kind != engine.TLS || !right(r) {
				if wrong++; wrong == 1 {
					t.Errorf("got %v after %d attempts, want kind tls", r.Err, r.Attempts)
				}
			}
		}
		return nil
	}))
	if wrong > 0 || ended == 0 {
		t.Errorf("%d of %d ended so", wrong, ended)
	}
	srv.l.Close()
}

// A certificate is refused although the server resets the connection once it
// is sent.
func TestTLSBadCertificateThenReset(t *testing.T) {
	cleanAfter(t)
	srv := listen(t)
	server, _ := faultyTLS(t, tls.VersionTLS12)
	n := size(200, 5000)
	go func() {
		for {
			c, err := srv.l.AcceptTCP()
			if err != nil {
				return
			}
			r := &afterFlight{TCPConn: c}
			tls.Server(r, server).Handshake()
			c.Close()
		}
	}()
	wantTLSOnce(t, srv, engine.Config{Retries: 1, TLS: &tls.Config{RootCAs: newAuthority(t, "Another CA").pool()}}, n)
}

// afterFlight resets the connection when the server waits for the answer to
// its first flight.
type afterFlight struct {
	*net.TCPConn
	wrote bool
}

func (c *afterFlight) Write(b []byte) (int, error) {
	c.wrote = true
	return c.TCPConn.Write(b)
}

func (c *afterFlight) Read(b []byte) (int, error) {
	if c.wrote {
		(&faultyConn{c: c.TCPConn}).awaitSent()
		c.SetLinger(0)
		c.TCPConn.Close()
	}
	return c.TCPConn.Read(b)
}

// A server that rejects the client after the handshake, as TLS 1.3 does, and
// while a large body is on its way to it: what it said counts, not that the
// write failed.
func TestTLSClientCertificateMissingLargeBody(t *testing.T) {
	cleanAfter(t)
	ca := newAuthority(t, "Test CA")
	srv := listen(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	go func() {
		for {
			c, err := srv.l.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				tls.Server(c, server).Handshake()
			}()
		}
	}()
	body := bodyOf(1, 4<<20)
	left := size(50, 1000)
	src := engine.SourceFunc(func(_ context.Context, batch []*engine.Request) (int, error) {
		k := min(left, len(batch))
		for i := range k {
			r := srv.secureRequest("/")
			r.Method, r.Body = "PUT", body
			batch[i] = r
		}
		if left -= k; left == 0 {
			return k, io.EOF
		}
		return k, nil
	})
	wantTLSOf(t, srv, engine.Config{Retries: 1, TLS: &tls.Config{RootCAs: ca.pool()}}, src, func(*engine.Result) bool { return true })
}

// tarpit accepts connections, reads, and never says a word. seen has one entry
// for each connection that has sent something.
func tarpit(t testing.TB) (srv *talkServer, seen chan int) {
	srv, seen = listen(t), make(chan int, 4096)
	go func() {
		for {
			c, err := srv.l.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.ReadFull(c, make([]byte, 1))
				seen <- 1
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return srv, seen
}

// Servers that never answer a handshake stop nobody else's.
func TestTLSTarpit(t *testing.T) {
	pit, seen := tarpit(t)
	good := listen(t)
	server, client := faultyTLS(t, tls.VersionTLS13)
	e := talk(t, engine.Config{Connections: 600, PerHost: 400, MaxInFlight: 1000, ConnectTimeout: patience / 4, KeepBody: true, TLS: client})
	var stuck []*engine.Request
	for range 400 {
		stuck = append(stuck, pit.secureRequest("/"))
	}
	ends := e.ask(stuck...)
	for range 256 { // as many as are under way at once, at the least
		<-seen
	}
	end := e.ask(good.secureRequest("/x"))[0]
	go func() {
		c, err := good.l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, server)
		defer s.Close()
		if _, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
			io.WriteString(s, ok("x", "Connection: close"))
		}
	}()
	end.want(200, "x")
	for _, stuck := range ends {
		if len(stuck.got) > 0 {
			t.Fatal("the good server's handshake waited until those of the others were given up")
		}
	}
	e.cancel()
	e.awaitRun(context.Canceled)
}

// A run that is canceled, or an engine that is closed, in the middle of
// handshakes leaves nothing behind.
func TestTLSEndedInHandshake(t *testing.T) {
	for _, how := range []string{"cancel", "close", "deadline"} {
		t.Run(how, func(t *testing.T) {
			cleanAfter(t)
			pit, seen := tarpit(t)
			e := talk(t, engine.Config{Connections: 600, PerHost: 300, ConnectTimeout: time.Hour, Timeout: time.Hour})
			n, deadline := 300, time.Duration(0)
			if how == "deadline" {
				n, deadline = 20, limit // so few that all are in their handshakes by then
			}
			var reqs []*engine.Request
			for range n {
				r := pit.secureRequest("/")
				r.Timeout = deadline
				reqs = append(reqs, r)
			}
			ends := e.ask(reqs...)
			for range n * 2 / 3 {
				<-seen
			}
			switch how {
			case "cancel":
				e.cancel()
				e.awaitRun(context.Canceled)
			case "close":
				if err := e.e.Close(); err != nil {
					t.Error(err)
				}
				e.ended = true
				<-e.ran
			}
			for _, end := range ends {
				if how == "deadline" {
					end.wantError(engine.PhaseTLS, engine.Timeout)
				} else {
					end.wantCanceled()
				}
			}
			if how != "close" {
				e.finish(map[string]error{"cancel": context.Canceled}[how])
			}
			pit.l.Close()
		})
	}
}

// A budget smaller than one body: connections stop with plain text that only
// the TLS layer has, and go on.
func TestTLSBudgetBelowOneBody(t *testing.T) {
	for _, version := range tlsVersions {
		server, client := faultyTLS(t, version)
		srv := startFaultyOver(t, seed(t), 4, weather{}, server)
		l := &tlsLedger{ledger: newLedger(t, srv, 7, 1000, rightAnswers), version: version}
		cfg := ledgerConfig(4)
		cfg.MaxMemory, cfg.TLS = 1<<10, client
		stats := runEngine(t, cfg, l, l)
		srv.stop()
		l.settle(stats)
	}
}
