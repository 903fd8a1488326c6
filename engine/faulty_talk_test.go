package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

// Conversations: the test plays the server, one sentence a step, while an
// engine on the other side of a real socket runs what it is asked.

// talker is an engine in the middle of a Run.
type talker struct {
	t      testing.TB
	e      *engine.Engine
	in     chan []*engine.Request
	hold   chan int // the sink takes nothing until it is closed, if not nil
	cancel context.CancelFunc
	ran    chan error
	stats  engine.Stats
	ends   []*end
	ended  bool
}

// talk starts a Run on a new engine, which ends with the test.
func talk(t testing.TB, cfg engine.Config) *talker {
	t.Helper()
	e, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tk := &talker{t: t, e: e, in: make(chan []*engine.Request, 16), ran: make(chan error, 1), cancel: cancel}
	go func() {
		stats, err := e.Run(ctx, &chanSource{in: tk.in}, engine.SinkFunc(tk.put))
		tk.stats = stats
		tk.ran <- err
	}()
	t.Cleanup(func() {
		if t.Failed() {
			cancel()
		}
		tk.finish(nil)
		cancel()
	})
	return tk
}

// chanSource passes on whole slices, as far as a batch holds them.
type chanSource struct {
	in   chan []*engine.Request
	rest []*engine.Request
	err  error // at the end, in place of io.EOF
}

func (s *chanSource) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	for len(s.rest) == 0 {
		select {
		case more, ok := <-s.in:
			if !ok && s.err != nil {
				return 0, s.err
			} else if !ok {
				return 0, io.EOF
			}
			s.rest = more
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	n := copy(batch, s.rest)
	for _, r := range s.rest[:n] {
		r.Tag.(*end).given.Store(true)
	}
	s.rest = s.rest[n:]
	return n, nil
}

func (tk *talker) put(results []*engine.Result) error {
	if tk.hold != nil {
		<-tk.hold
	}
	for _, r := range results {
		kept := &engine.Result{Request: r.Request, Response: *r.Response.Clone(), Err: r.Err}
		r.Request.Tag.(*end).got <- kept
	}
	return nil
}

// ask gives the engine requests, together.
func (tk *talker) ask(reqs ...*engine.Request) []*end {
	var ends []*end
	for _, r := range reqs {
		e := &end{t: tk.t, url: r.URL, got: make(chan *engine.Result, 8)}
		r.Tag = e
		ends = append(ends, e)
	}
	tk.ends = append(tk.ends, ends...)
	tk.in <- reqs
	return ends
}

// awaitRun waits for Run to return, which must be because of want.
func (tk *talker) awaitRun(want error) {
	tk.t.Helper()
	if tk.ended {
		return
	}
	tk.ended = true
	select {
	case err := <-tk.ran:
		if !errors.Is(err, want) && !tk.t.Failed() {
			tk.t.Errorf("Run returned %v, want %v", err, want)
		}
	case <-time.After(patience):
		tk.t.Fatal("Run does not return")
	}
}

// finish ends the source, waits for the run, closes the engine and checks that
// every request it was given has had exactly one result.
func (tk *talker) finish(want error) {
	tk.t.Helper()
	if !tk.ended {
		close(tk.in)
	}
	tk.awaitRun(want)
	if err := tk.e.Close(); err != nil {
		tk.t.Errorf("Close: %v", err)
	}
	for _, e := range tk.ends {
		if n := e.seen + len(e.got); n != 1 && (n > 0 || e.given.Load()) {
			tk.t.Errorf("%s: %d results", e.url, n)
		}
	}
}

// end is how a request ended.
type end struct {
	t     testing.TB
	url   string
	given atomic.Bool // the engine has it: a canceled run may end before
	got   chan *engine.Result
	seen  int
	r     *engine.Result
}

// wantCanceled is content with a request that the engine was not given.
func (e *end) wantCanceled() {
	e.t.Helper()
	if !e.given.Load() {
		return
	}
	if r := e.wait(); r.Err == nil || r.Err.Kind != engine.Canceled {
		e.t.Errorf("%s: status %d, %v; want canceled", e.url, r.Status, r.Err)
	}
}

func (e *end) wait() *engine.Result {
	e.t.Helper()
	if e.r != nil {
		return e.r
	}
	select {
	case e.r = <-e.got:
		e.seen++
	case <-time.After(patience):
		e.t.Fatalf("%s does not end", e.url)
	}
	return e.r
}

func (e *end) want(status int, body string) {
	e.t.Helper()
	r := e.wait()
	if r.Err != nil || r.Status != status || string(r.Body) != body {
		e.t.Errorf("%s: status %d, body %q, %v; want %d %q", e.url, r.Status, r.Body, r.Err, status, body)
	}
}

func (e *end) wantError(phase engine.Phase, kinds ...engine.Kind) {
	e.t.Helper()
	r := e.wait()
	if r.Err == nil || !slices.Contains(kinds, r.Err.Kind) || r.Err.Phase != phase {
		e.t.Errorf("%s: status %d, %v; want %v in phase %v", e.url, r.Status, r.Err, kinds, phase)
	}
}

func (e *end) wantAttempts(n int) {
	e.t.Helper()
	if r := e.wait(); r.Attempts != n {
		e.t.Errorf("%s: %d attempts, want %d", e.url, r.Attempts, n)
	}
}

// talkServer is the listener of a conversation.
type talkServer struct {
	t testing.TB
	l *net.TCPListener
}

func listen(t testing.TB) *talkServer { return listenOn(t, "127.0.0.1:0") }

func listenOn(t testing.TB, addr string) *talkServer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &talkServer{t, l.(*net.TCPListener)}
}

func (s *talkServer) addr() netip.AddrPort { return netip.MustParseAddrPort(s.l.Addr().String()) }

func (s *talkServer) request(method, target string) *engine.Request {
	return &engine.Request{Method: method, URL: fmt.Sprintf("http://%s%s", s.l.Addr(), target)}
}

// requests makes GETs, named /1 to /n.
func (s *talkServer) requests(n int) []*engine.Request {
	var reqs []*engine.Request
	for i := range n {
		reqs = append(reqs, s.request("GET", fmt.Sprintf("/%d", i+1)))
	}
	return reqs
}

func (s *talkServer) accept() *talkConn {
	s.t.Helper()
	s.l.SetDeadline(time.Now().Add(patience))
	c, err := s.l.AcceptTCP()
	if err != nil {
		s.t.Fatalf("no connection: %v", err)
	}
	s.t.Cleanup(func() { c.Close() })
	return &talkConn{t: s.t, c: c, in: bufio.NewReader(c)}
}

// talkConn is one connection of a conversation.
type talkConn struct {
	t           testing.TB
	c           *net.TCPConn
	in          *bufio.Reader
	outstanding int // requests taken and not answered
}

// take reads one request and returns its method and target.
func (c *talkConn) take() string {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(patience))
	r, err := http.ReadRequest(c.in)
	if err != nil {
		c.t.Fatalf("no request: %v", err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		c.t.Fatalf("no request body: %v", err)
	}
	c.outstanding++
	return r.Method + " " + r.RequestURI
}

func (c *talkConn) expect(requests ...string) {
	c.t.Helper()
	for _, want := range requests {
		if got := c.take(); got != want {
			c.t.Errorf("the server received %q, want %q", got, want)
		}
	}
}

// expectNothing is content with too short a look: it may miss what should not
// come, and never fails for slowness.
func (c *talkConn) expectNothing() {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if _, err := c.in.Peek(1); err == nil {
		b, _ := c.in.Peek(c.in.Buffered())
		c.t.Errorf("the server received %q, want nothing yet", b)
	}
}

// expectEnd waits for the client to close.
func (c *talkConn) expectEnd() {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.in.ReadByte()
	if ne := net.Error(nil); err == nil || errors.As(err, &ne) && ne.Timeout() {
		c.t.Errorf("the client does not close (%v)", err)
	}
}

func (c *talkConn) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, s); err != nil {
		c.t.Errorf("the client does not listen: %v", err)
	}
	c.outstanding = max(0, c.outstanding-strings.Count(s, "HTTP/1."))
}

func (c *talkConn) fin() { c.c.CloseWrite() }

func (c *talkConn) reset() {
	c.c.SetLinger(0)
	c.c.Close()
}

// ok is a response with this body, and these header lines.
func ok(body string, lines ...string) string {
	head := strings.Join(append(lines, fmt.Sprintf("Content-Length: %d", len(body))), "\r\n")
	return "HTTP/1.1 200 OK\r\n" + head + "\r\n\r\n" + body
}
