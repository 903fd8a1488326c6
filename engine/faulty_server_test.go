package engine_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The faulty server. A request's path says how it is to be answered, with
// which body: /id/answer/size, and optionally ?split=n to write that answer in
// two parts. What befalls the connection as a whole is drawn from the seed,
// one plan per connection, as the run's weather allows.
type faultyServer struct {
	t       testing.TB
	l       net.Listener
	seed    uint64
	weather weather
	fixed   *plan       // every connection's, if not nil
	depth   int         // no client may have more than this outstanding on a connection; 0 is unchecked
	tls     *tls.Config // nil for plain HTTP

	work sync.WaitGroup
	mu   sync.Mutex
	gone sync.Cond // signalled when live shrinks
	live map[net.Conn]bool
	seen map[int]int // how often each non-idempotent request was received in full
}

// weather says which fates a connection's plan may hold, each as 1 in n
// connections, 0 for none.
type weather struct {
	closeAfter int // "Connection: close" on an answer of the server's choice
	keepAlive  int // the same, foretold by Keep-Alive: max=
	cut        int // FIN or RST at a random byte of what the server sends
	deaf       int // FIN or RST at a random byte of what it receives
	hangUp     int // FIN or RST with nothing outstanding that the server knows of
	shake      int // under TLS, FIN or RST within the handshake, in each direction
}

// plan is the fate of one connection. Counts are -1 for never.
type plan struct {
	closeAfter int // answers until "Connection: close"
	announce   bool
	hangUp     int // answers until the connection ends without a word
	cutAt      int // bytes sent until it ends
	deafAt     int // bytes received until it ends
	how        after
	pieces     pieces
	bare       bool // under TLS: FIN without close_notify where that cuts nothing short
}

// pieces is how a connection's output is split into writes.
type pieces uint8

const (
	whole pieces = iota
	inTwo
	inMany
	inBytes
)

func (w weather) plan(r *rand.Rand) plan {
	p := plan{closeAfter: -1, hangUp: -1, cutAt: -1, deafAt: -1}
	one := func(in int) bool { return in > 0 && r.IntN(in) == 0 }
	if one(w.closeAfter) {
		p.closeAfter = 1 + r.IntN(40)
	}
	if one(w.keepAlive) {
		p.closeAfter, p.announce = 1+r.IntN(40), true
	}
	if one(w.cut) {
		p.cutAt = r.IntN(1 << (1 + r.IntN(14)))
	}
	if one(w.deaf) {
		p.deafAt = r.IntN(1 << (1 + r.IntN(12)))
	}
	if one(w.hangUp) {
		p.hangUp = r.IntN(20)
	}
	p.how = []after{finish, reset, sentRST}[r.IntN(3)]
	p.pieces = somePieces(r)
	return p
}

func somePieces(r *rand.Rand) pieces {
	switch n := r.IntN(100); {
	case n < 3:
		return inBytes
	case n < 30:
		return inMany
	case n < 45:
		return inTwo
	}
	return whole
}

func startFaulty(t testing.TB, seed uint64, depth int, w weather) *faultyServer {
	return startFaultyOver(t, seed, depth, w, nil)
}

// startFaultyOver starts a faulty server over TLS, unless cfg is nil.
func startFaultyOver(t testing.TB, seed uint64, depth int, w weather, cfg *tls.Config) *faultyServer {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &faultyServer{t: t, l: l, seed: seed, weather: w, depth: depth, tls: cfg,
		live: map[net.Conn]bool{}, seen: map[int]int{}}
	s.gone.L = &s.mu
	s.work.Go(s.accept)
	return s
}

// stop waits for every connection: a client that is closed has closed them all.
func (s *faultyServer) stop() {
	s.l.Close()
	s.work.Wait()
}

func (s *faultyServer) addr() netip.AddrPort { return netip.MustParseAddrPort(s.l.Addr().String()) }

func (s *faultyServer) accept() {
	for n := uint64(0); ; n++ {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		tc := c.(*net.TCPConn)
		r := rand.New(rand.NewPCG(s.seed, n))
		fc := &faultyConn{s: s, c: tc, stream: tc, r: r, plan: s.weather.plan(r)}
		s.mu.Lock()
		if s.fixed != nil {
			fc.plan = *s.fixed
		}
		s.mu.Unlock()
		if s.tls != nil {
			fc.overTLS()
		}
		s.mu.Lock()
		s.live[fc.stream] = true
		s.mu.Unlock()
		s.work.Go(func() {
			fc.serve()
			s.mu.Lock()
			delete(s.live, fc.stream)
			s.gone.Broadcast()
			s.mu.Unlock()
		})
	}
}

// fix gives every connection to come the same fate.
func (s *faultyServer) fix(p plan) {
	s.mu.Lock()
	s.fixed = &p
	s.mu.Unlock()
}

// unask sends every open connection bytes nobody asked for, and waits until
// the client has closed them all. Nothing may be outstanding.
func (s *faultyServer) unask(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.live {
		c.SetReadDeadline(time.Now().Add(patience))
		c.Write(b)
	}
	for len(s.live) > 0 {
		s.gone.Wait()
	}
}

// received counts the non-idempotent request that came whole.
func (s *faultyServer) received(id int) {
	s.mu.Lock()
	s.seen[id]++
	s.mu.Unlock()
}

// faultyConn is one connection of the faulty server.
type faultyConn struct {
	s        *faultyServer
	c        *net.TCPConn
	stream   net.Conn    // c, or the TLS over it
	wire     *faultyWire // between stream and c; nil without TLS
	r        *rand.Rand
	in       *bufio.Reader
	plan     plan
	answered int
	sent     int
	out      bytes.Buffer // answers not yet written
	unsent   int          // how many
	fragile  bool         // out holds a body that ends with the connection
	ended    bool
}

var errOver = errors.New("the connection is over")

// deafReader breaks off after so many bytes.
type deafReader struct {
	io.Reader
	left int
}

func (d *deafReader) Read(b []byte) (int, error) {
	if d.left == 0 {
		return 0, errOver
	}
	n, err := d.Reader.Read(b[:min(len(b), d.left)])
	d.left -= n
	return n, err
}

func (c *faultyConn) serve() {
	defer c.c.Close()
	c.in = bufio.NewReaderSize(c.stream, 32<<10)
	if c.plan.deafAt >= 0 {
		c.in.Reset(&deafReader{c.stream, c.plan.deafAt})
	}
	for {
		if c.answered == c.plan.hangUp {
			c.end(c.plan.how)
			return
		}
		req, err := c.read()
		if errors.Is(err, errOver) {
			c.end(c.plan.how)
		}
		if err != nil {
			return
		}
		if c.answer(req) != nil {
			return
		}
	}
}

// wanted is a request as the server understood it.
type wanted struct {
	method string
	id     int
	answer *answer
	size   int
	split  int
}

func (w *wanted) idempotent() bool { return w.method != "POST" && w.method != "PATCH" }

// read reads one request. It knows only what the engine sends.
func (c *faultyConn) read() (*wanted, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	w, err := parseWanted(line)
	if err != nil {
		c.s.t.Errorf("the server received %q: %v", line, err)
		return nil, err
	}
	length := 0
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		if name, v, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	if _, err := c.in.Discard(length); err != nil {
		return nil, err
	}
	if !w.idempotent() {
		c.s.received(w.id)
	}
	return w, nil
}

func (c *faultyConn) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	return strings.TrimSuffix(string(b), "\r\n"), err
}

func parseWanted(line string) (*wanted, error) {
	w := new(wanted)
	f := strings.Split(line, " ")
	if len(f) != 3 || f[2] != "HTTP/1.1" {
		return nil, errors.New("no request line")
	}
	w.method = f[0]
	path, split, _ := strings.Cut(f[1], "?split=")
	w.split, _ = strconv.Atoi(split)
	p := strings.Split(path, "/")
	if len(p) != 4 || answers[p[2]] == nil {
		return nil, errors.New("no such path")
	}
	w.answer = answers[p[2]]
	var err1, err2 error
	w.id, err1 = strconv.Atoi(p[1])
	w.size, err2 = strconv.Atoi(p[3])
	return w, errors.Join(err1, err2)
}

// answer adds the answer to what is to be sent, and sends it all once no
// further request is waiting. It returns an error when the connection is over.
func (c *faultyConn) answer(w *wanted) error {
	c.unsent++
	c.checkOutstanding(w)
	rep := &reply{id: w.id, body: bodyOf(w.id, w.size), r: c.r}
	last := false
	if left := c.plan.closeAfter - c.answered; c.plan.closeAfter >= 0 && w.answer.after == goOn {
		last = left <= 1
		rep.extra = c.announcement(left)
	}
	w.answer.write(rep)
	c.answered++
	after := w.answer.after
	if after == goOn && last {
		after = finish
	}
	if w.split > 0 {
		c.flush()
		c.splitAt(rep.Bytes(), w.split)
		rep.Reset()
		c.unsent++
	}
	c.out.Write(rep.Bytes())
	c.fragile = c.fragile || strings.Contains(w.answer.name, "until_close")
	if after == goOn && c.in.Buffered() > 0 && c.answered != c.plan.hangUp && w.idempotent() {
		return nil
	}
	if err := c.flush(); err != nil || after == goOn {
		return err
	}
	if after == finish && c.plan.bare && !c.fragile {
		after = bareFIN
	}
	c.end(after)
	return errOver
}

func (c *faultyConn) announcement(left int) string {
	switch {
	case left <= 1:
		return "Connection: close\r\n"
	case c.plan.announce:
		return fmt.Sprintf("Connection: keep-alive\r\nKeep-Alive: timeout=5, max=%d\r\n", left-1)
	}
	return ""
}

// checkOutstanding holds the client to its depth, and to the rule that a
// non-idempotent request is alone on its connection.
func (c *faultyConn) checkOutstanding(w *wanted) {
	if c.s.depth > 0 && c.unsent > c.s.depth {
		c.s.t.Errorf("%d requests are outstanding at depth %d", c.unsent, c.s.depth)
	}
	if !w.idempotent() && (c.unsent > 1 || c.in.Buffered() > 0) {
		c.s.t.Errorf("%s %d shares a pipeline: %d before it, %d bytes behind", w.method, w.id, c.unsent-1, c.in.Buffered())
	}
}

// flush writes what is unsent, as far as the plan allows.
func (c *faultyConn) flush() error {
	b, over := c.out.Bytes(), false
	if left := c.plan.cutAt - c.sent; c.plan.cutAt >= 0 && len(b) >= left {
		b, over = b[:left], true
	}
	err := c.write(b)
	c.out.Reset()
	c.unsent = 0
	if !over {
		return err
	}
	if c.fragile && c.plan.how == finish {
		c.plan.how = reset // a FIN would make a whole of the part
		if c.wire != nil && c.plan.bare {
			c.plan.how = bareFIN
		}
	}
	c.end(c.plan.how)
	return errOver
}

func (c *faultyConn) write(b []byte) error {
	n, err := writePieces(c.stream, b, c.plan.pieces, c.r)
	c.sent += n
	if err != nil {
		return errOver
	}
	return nil
}

func writePieces(to io.Writer, b []byte, p pieces, r *rand.Rand) (written int, err error) {
	for written < len(b) {
		n := len(b) - written
		switch p {
		case inTwo:
			n = 1 + r.IntN(n)
		case inMany:
			n = 1 + r.IntN(min(n, 1<<r.IntN(12)))
		case inBytes:
			if n < 4096 {
				n = 1
			}
		}
		n, err = to.Write(b[written : written+n])
		written += n
		if err != nil {
			return written, err
		}
		if written < len(b) {
			runtime.Gosched()
		}
	}
	return written, nil
}

// splitAt writes b in two segments, the first of them n bytes long: under TLS
// in two records, or as one whose ciphertext is split so.
func (c *faultyConn) splitAt(b []byte, n int) {
	if c.wire != nil && c.r.IntN(2) == 0 {
		c.wire.splitAt = n
		c.stream.Write(b)
		return
	}
	n = min(n, len(b))
	c.stream.Write(b[:n])
	c.awaitSent()
	runtime.Gosched()
	c.stream.Write(b[n:])
}

// end ends the connection.
func (c *faultyConn) end(how after) {
	if c.ended {
		return
	}
	c.ended = true
	switch how {
	case sentRST:
		c.awaitSent()
		fallthrough
	case reset:
		c.c.SetLinger(0)
		c.c.Close()
	case finish:
		c.closeNotify()
		fallthrough
	case bareFIN:
		c.c.CloseWrite()
		c.drain()
	case hang:
		c.drain()
	}
}

// drain reads until the client closes, which it must.
func (c *faultyConn) drain() {
	c.c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c.c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.s.t.Errorf("the client keeps a connection that is over")
	}
}

// siocoutqnsd asks how many bytes of the send queue were never sent
// (linux/sockios.h). On loopback what was sent has arrived, in order.
const siocoutqnsd = 0x894b

func (c *faultyConn) awaitSent() {
	sc, err := c.c.SyscallConn()
	if err != nil {
		return
	}
	for until := time.Now().Add(patience); time.Now().Before(until); runtime.Gosched() {
		unsent := 0
		if sc.Control(func(fd uintptr) { unsent, _ = unix.IoctlGetInt(int(fd), siocoutqnsd) }) != nil || unsent == 0 {
			return
		}
	}
}
