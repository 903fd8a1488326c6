package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A secure is the transport of an https connection: crypto/tls over memory, on
// top of a socket.
//
// crypto/tls wants a blocking net.Conn. It gets one that moves ciphertext
// through memory (wire). The handshake runs in a goroutine of its own, whose
// reads wait for what the loop feeds; once it is done the loop alone reads and
// writes, and a read that finds nothing says os.ErrDeadlineExceeded, which
// crypto/tls takes for temporary: nothing is lost, also in the middle of a
// record or of a post-handshake message.
//
// Owner: the loop, but for wire during the handshake.
type secure struct {
	c     *conn
	inner transport
	conn  *tls.Conn // nil where a plain connection only needs a tunnel
	wire  wire

	tunneled atomic.Int64 // when a proxy had opened the tunnel, or none was needed; 0 is not yet

	readErr error // of the socket; reported once what came before it is read
	cut     bool  // the end came without close_notify
}

func newSecure(c *conn, cfg *tls.Config) *secure {
	s := &secure{c: c, inner: c.t}
	s.wire.some.L = &s.wire.mu
	s.wire.waits = true
	s.wire.computing = c.l.e.computing
	s.wire.written = func() { c.l.post(func(int64) { _ = s.flush() }) }
	if cfg != nil {
		s.conn = tls.Client(&s.wire, cfg)
	}
	return s
}

// read decrypts as much as b holds and the socket has. Like a socket's, a read
// that does not fill b has drained it; where the end or an error follows
// behind the data that were read, the connection is marked as gone, so that it
// is read on.
func (s *secure) read(b []byte) (n int, err error) {
	drained := false
	for n < len(b) {
		k, rerr := s.conn.Read(b[n:])
		n += k
		if rerr == nil {
			continue
		}
		if !errors.Is(rerr, os.ErrDeadlineExceeded) {
			err = s.over(rerr)
			break
		}
		if n > 0 && drained {
			break
		}
		if drained, err = s.refill(); err != nil {
			break
		}
	}
	s.keepRest()
	_ = s.flush() // a KeyUpdate may have been answered
	switch {
	case err == io.EOF:
		err = nil // as read(2) says it
	case err == nil || err == unix.EAGAIN && n > 0:
		return n, nil
	case err == unix.EAGAIN:
		return 0, err
	}
	if n > 0 {
		s.c.gone = true
		return n, nil
	}
	return 0, err
}

// over says what an error of the TLS layer means.
func (s *secure) over(err error) error {
	switch {
	case s.readErr != nil:
		return s.readErr
	case s.wire.ended: // the socket's end, not the TLS layer's
		s.cut = true
		return io.EOF
	case err == io.EOF: // close_notify
		return io.EOF
	}
	return err
}

// refill reads ciphertext from the socket. drained: there is no more now.
func (s *secure) refill() (drained bool, err error) {
	buf := s.c.l.cipherIn()
	n, err := s.inner.read(buf)
	switch {
	case n > 0:
		s.wire.in = buf[:n]
		return n < len(buf), nil
	case err == unix.EAGAIN:
		return false, err
	case err == unix.EINTR:
		return false, nil
	}
	s.readErr, s.wire.eof = err, true
	return false, nil
}

// keepRest copies ciphertext that was not decrypted out of the loop's buffer.
func (s *secure) keepRest() {
	if len(s.wire.in) > 0 && !s.wire.owned {
		s.wire.in, s.wire.owned = append([]byte(nil), s.wire.in...), true
	}
}

// write encrypts b and sends it. What the socket does not take at once is kept,
// and counts as written: it cannot be taken back.
func (s *secure) write(b []byte) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	l := s.c.l
	s.wire.out = l.sealed[:0]
	n, err := s.conn.Write(b)
	_ = s.flush() // what fails here fails again
	l.sealed, s.wire.out = s.wire.out[:0], append([]byte(nil), s.wire.out...)
	return n, err
}

// flush sends what is encrypted and was not taken yet; EAGAIN while some is left.
func (s *secure) flush() error {
	w := &s.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) > 0 {
		if s.c.t != s {
			return net.ErrClosed
		}
		n, err := s.inner.write(w.out)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		w.out = w.out[:copy(w.out, w.out[n:])]
	}
	return nil
}

// Where crypto/tls keeps what it received: a buffer that has grown to a whole
// record, 17 KiB or twice that, stays so for the life of the connection, which
// an idle one should not hold. There is no way to say so but this one. Where a
// later Go has other fields, nothing is given back.
var (
	rawInput, hasRawInput = tlsField[bytes.Buffer]("rawInput")
	input, hasInput       = tlsField[bytes.Reader]("input")
)

// tlsField returns the place of a field of tls.Conn, if it is of type T.
func tlsField[T any](name string) (offset uintptr, ok bool) {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	return f.Offset, ok && f.Type == reflect.TypeFor[T]()
}

// shedAbove is how large a buffer an idle connection may keep.
const shedAbove = 4 << 10

// shed gives the buffers of an idle connection back: after large bodies it holds
// 12 to 15 KB instead of 35 to 37 (TestTLSMemoryOfIdleConnections).
func (s *secure) shed() {
	if !hasRawInput || !hasInput {
		return
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(s.conn), rawInput))
	in := (*bytes.Reader)(unsafe.Add(unsafe.Pointer(s.conn), input))
	if raw.Len() == 0 && in.Len() == 0 && raw.Cap() > shedAbove {
		in.Reset(nil) // it points into raw
		*raw = bytes.Buffer{}
	}
}

func (s *secure) truncated() bool { return s.cut }

// end says goodbye, as far as the socket takes it at once, or ends a handshake.
func (s *secure) end() {
	if !s.wire.waiting() && s.conn != nil {
		_ = s.conn.CloseWrite()
		_ = s.flush()
	}
	s.wire.Close()
}

// handshake begins what has to be agreed on a connection whose socket is
// connected, before requests can be sent: a tunnel, TLS.
func (c *conn) handshake(now int64) {
	l := c.l
	c.state, c.connectedAt = connHandshaking, now
	c.deadline = c.startedAt + int64(min(l.e.cfg.ConnectTimeout, l.e.cfg.Timeout))
	c.arm()
	var cfg *tls.Config
	if c.o.secure {
		cfg = c.o.tlsConfig()
	}
	s := newSecure(c, cfg)
	if !c.o.proxy.tunnels(c.o.secure) {
		s.tunneled.Store(now)
	}
	c.t = s
	proxy, to := c.o.proxy, HostPort{c.o.host, c.o.port}
	l.e.handshakes.Go(func() {
		err := s.shake(l.e, proxy, to)
		l.post(func(now int64) { c.shaken(now, s, err) })
	})
}

// shake runs the handshake, in its own goroutine. There is one for each
// connection that is being made; few of them compute at once, so that they do
// not keep the loops from running, and those that wait for a peer keep nobody.
func (s *secure) shake(e *Engine, proxy *proxy, to HostPort) error {
	e.computing <- struct{}{}
	defer func() { <-e.computing }()
	if s.tunneled.Load() == 0 {
		if err := proxy.tunnel(&s.wire, to); err != nil {
			return err
		}
		s.tunneled.Store(e.now())
	}
	if s.conn == nil {
		return nil
	}
	return s.conn.Handshake()
}

// feed passes what the socket has to the handshake.
func (c *conn) feed(s *secure) {
	buf := c.l.cipherIn()
	for range readsPerTurn {
		n, err := s.inner.read(buf)
		switch {
		case n > 0:
			if !s.wire.give(buf[:n]) {
				s.readErr = errFlood
				s.wire.giveEnd()
				return
			}
			if n < len(buf) && !c.gone {
				return
			}
		case err == unix.EAGAIN:
			return
		case err != unix.EINTR:
			s.readErr = err
			s.wire.giveEnd()
			return
		}
	}
	c.l.makeReady(c) // the others have their turn first
}

// maxUnshaken is how much of a handshake may wait to be computed. A flight of
// certificates is a few KB.
const maxUnshaken = 256 << 10

var errFlood = errors.New("the peer sends far more than a handshake needs")

// shaken takes the outcome of the handshake.
func (c *conn) shaken(now int64, s *secure, err error) {
	if c.state != connHandshaking {
		return // given up meanwhile
	}
	if err != nil {
		_ = s.flush() // the alert that says why
		c.dialFailed(now, s.fault(err))
		return
	}
	s.wire.settle()
	c.connectedAt = s.tunneled.Load()
	if s.conn == nil {
		if len(s.wire.in) > 0 {
			s.tunneled.Store(0) // it is the proxy's
			c.dialFailed(now, c.o.proxy.fault(errors.New("bytes that answer nothing came through the tunnel")))
			return
		}
		c.t = s.inner
		c.opened(now)
		if s.wire.eof && c.state == connOpen { // its only event has been
			c.gone = true
			c.l.serve(c)
		}
		return
	}
	state := s.conn.ConnectionState()
	c.secured = &TLSInfo{Version: state.Version, CipherSuite: state.CipherSuite, Resumed: state.DidResume}
	c.opened(now)
	if c.state == connOpen { // tickets, or more, may have come with the last flight
		c.l.serve(c)
	}
}

// fault says what a failed handshake means.
func (s *secure) fault(err error) cause {
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if cut && s.readErr != nil { // what came before it has been read, an alert too
		err = s.readErr
	}
	what := "TLS handshake with " + s.c.o.host
	switch {
	case s.tunneled.Load() == 0:
		return s.c.o.proxy.fault(err)
	case cut && s.readErr != nil:
		return cause{kind: Closed, err: err, message: fmt.Sprintf("%s: %v", what, err)}
	case cut:
		return cause{kind: Closed, err: err, message: what + ": the peer closed the connection"}
	}
	return cause{kind: TLS, err: err, message: tlsMessage(what, s.c.o.host, err)}
}

// tlsConfig is what connections to the origin handshake with. Its session cache
// is the origin's own.
func (o *origin) tlsConfig() *tls.Config {
	if o.tls == nil {
		o.tls = o.l.e.tls.Clone()
		if o.tls.ServerName == "" {
			o.tls.ServerName = strings.TrimSuffix(o.host, ".")
		}
		o.tls.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsPerOrigin)
	}
	return o.tls
}

const sessionsPerOrigin = 4

// baseTLS is the configuration that all origins' are made of.
func (c *Config) baseTLS() *tls.Config {
	t := &tls.Config{}
	if c.TLS != nil {
		t = c.TLS.Clone()
	}
	t.NextProtos = []string{"http/1.1"}
	t.DynamicRecordSizingDisabled = true // a write is a batch of requests, not a stream that grows
	return t
}

// A wire is the net.Conn that crypto/tls is given. During the handshake two
// goroutines use it, and Read waits; after it only the loop does.
type wire struct {
	mu      sync.Mutex
	some    sync.Cond // for a Read that waits
	waits   bool
	in      []byte // ciphertext received; owned: it is not in a buffer of the loop
	owned   bool
	out     []byte // ciphertext to be sent
	eof     bool   // nothing comes after in
	ended   bool   // a Read was told so
	closed  bool
	written func() // called during the handshake when out is no longer empty

	computing chan struct{} // has a token of the handshake while that does not wait
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits && w.nothing() {
		w.wait()
	}
	switch {
	case len(w.in) > 0:
		n := copy(b, w.in)
		if w.in = w.in[n:]; len(w.in) == 0 {
			w.in, w.owned = nil, false
		}
		return n, nil
	case w.closed:
		return 0, net.ErrClosed
	case w.eof:
		w.ended = true
		return 0, io.EOF
	}
	return 0, os.ErrDeadlineExceeded
}

// nothing says that a Read has to wait.
func (w *wire) nothing() bool { return len(w.in) == 0 && !w.closed && !w.eof }

// wait waits until there is something to read, and lets others compute
// meanwhile.
func (w *wire) wait() {
	<-w.computing
	for w.nothing() {
		w.some.Wait()
	}
	w.mu.Unlock() // the loop is not to wait for a turn to compute
	w.computing <- struct{}{}
	w.mu.Lock()
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	first := len(w.out) == 0 && w.waits
	w.out = append(w.out, b...)
	w.mu.Unlock()
	if first {
		w.written()
	}
	return len(b), nil
}

// give adds ciphertext for a Read that waits. It says no to too much.
func (w *wire) give(b []byte) bool {
	w.mu.Lock()
	ok := len(w.in)+len(b) <= maxUnshaken
	if ok {
		w.in, w.owned = append(w.in, b...), true
	}
	w.mu.Unlock()
	w.some.Signal()
	return ok
}

func (w *wire) giveEnd() {
	w.mu.Lock()
	w.eof = true
	w.mu.Unlock()
	w.some.Signal()
}

// settle ends the handshake: no Read waits any more.
func (w *wire) settle() {
	w.mu.Lock()
	w.waits = false
	w.mu.Unlock()
}

func (w *wire) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waits
}

// Close ends a Read that waits.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.some.Broadcast()
	return nil
}

// The rest of net.Conn has no meaning here.

func (*wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }
