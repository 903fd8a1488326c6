package engine_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hotlap/engine"
)

// The faulty server under TLS: the same answers and fates, and a wire of its
// own below the records, which breaks ciphertext up, and off.

// bareFIN ends a connection with FIN, and no close_notify under TLS. (It
// continues the list in faulty_answers_test.go.)
const bareFIN after = hang + 1

// bareAnswers end with the connection, and it does not say that it ends: RFC
// 9112 section 9.8, they are incomplete.
var bareAnswers = []answer{
	{name: "until_close_bare", status: 200, write: func(w *reply) { w.head("200 OK"); w.Write(w.body) }},
	{name: "until_close_said_bare", status: 200, write: func(w *reply) {
		w.head("200 OK", "Connection: close")
		w.Write(w.body)
	}},
	{name: "http10_until_close_bare", status: 200, write: func(w *reply) {
		w.headAs("HTTP/1.0", "200 OK")
		w.Write(w.body)
	}},
}

func init() {
	for i := range bareAnswers {
		a := &bareAnswers[i]
		a.after, a.permits = bareFIN, []engine.Kind{engine.Closed}
		answers[a.name] = a
	}
}

// faultyWire is the net.Conn under the server's TLS.
type faultyWire struct {
	*net.TCPConn
	c       *faultyConn
	r       *rand.Rand
	pieces  pieces
	cutAt   int // bytes it may still send, -1 for any number
	deafAt  int // bytes it may still receive
	splitAt int // the next write is in two segments, the first so long; 0 for no
	over    bool
}

// overTLS puts TLS over the connection. The fates of its plan befall the plain
// text or, for one half of the connections, the ciphertext, handshake included.
func (c *faultyConn) overTLS() {
	p := &c.plan
	w := &faultyWire{TCPConn: c.c, c: c, cutAt: -1, deafAt: -1, pieces: somePieces(c.r)}
	w.r = rand.New(rand.NewPCG(c.s.seed, c.r.Uint64()))
	if c.r.IntN(2) == 0 {
		w.cutAt, w.deafAt = p.cutAt, p.deafAt
		p.cutAt, p.deafAt = -1, -1
	}
	if n := c.s.weather.shake; n > 0 {
		switch c.r.IntN(n) {
		case 0:
			w.cutAt = c.r.IntN(1500)
		case 1:
			w.deafAt = c.r.IntN(1800)
		}
	}
	p.bare = c.r.IntN(3) == 0
	c.wire, c.stream = w, tls.Server(w, c.s.tls)
}

// closeNotify says that nothing follows, under TLS.
func (c *faultyConn) closeNotify() {
	if t, ok := c.stream.(*tls.Conn); ok {
		t.CloseWrite()
	}
}

// end ends the connection below the TLS layer.
func (w *faultyWire) end() error {
	if !w.over {
		w.over = true
		how := w.c.plan.how
		if how == finish {
			how = bareFIN
		}
		w.c.end(how)
	}
	return errOver
}

func (w *faultyWire) Read(b []byte) (int, error) {
	if w.over || w.deafAt == 0 {
		return 0, w.end()
	}
	if w.deafAt > 0 {
		b = b[:min(len(b), w.deafAt)]
	}
	n, err := w.TCPConn.Read(b)
	if w.deafAt > 0 {
		w.deafAt -= n
	}
	return n, err
}

func (w *faultyWire) Write(b []byte) (n int, err error) {
	if w.over {
		return 0, errOver
	}
	cut := w.cutAt >= 0 && len(b) >= w.cutAt
	if cut {
		b = b[:w.cutAt]
	}
	if first := min(w.splitAt, len(b)); first > 0 {
		w.splitAt = 0
		if n, err = w.TCPConn.Write(b[:first]); err != nil {
			return n, err
		}
		w.c.awaitSent()
		runtime.Gosched()
		b = b[first:]
	}
	k, err := writePieces(w.TCPConn, b, w.pieces, w.r)
	n += k
	if w.cutAt > 0 {
		w.cutAt -= n
	}
	if cut {
		err = w.end()
	}
	return n, err
}

// faultyTLS is the server's configuration for one version, and the client's.
func faultyTLS(t testing.TB, version uint16) (server, client *tls.Config) {
	ca := newAuthority(t, "Faulty CA")
	cert := ca.issue(t, nil)
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version},
		&tls.Config{RootCAs: ca.pool()}
}

// tlsLedger asks over https, and looks at what the connections were.
type tlsLedger struct {
	*ledger
	version       uint16
	resumed, full int // results of either kind of connection
}

func (l *tlsLedger) Next(ctx context.Context, batch []*engine.Request) (int, error) {
	n, err := l.ledger.Next(ctx, batch)
	secureURLs(batch[:n])
	return n, err
}

func secureURLs(batch []*engine.Request) {
	for _, r := range batch {
		r.URL = "https" + strings.TrimPrefix(r.URL, "http")
	}
}

func (l *tlsLedger) Put(results []*engine.Result) error {
	for _, r := range results {
		a := r.Request.Tag.(*ask)
		switch {
		case r.TLS == nil && r.Err == nil:
			l.report("%s: a response without TLS", a.URL)
		case r.TLS == nil:
		case r.TLS.Version != l.version || r.TLS.CipherSuite == 0:
			l.report("%s: over %+v", a.URL, r.TLS)
		case r.TLS.Resumed:
			l.resumed++
		default:
			l.full++
		}
		// Every byte came, and yet it may be a part.
		if a.answer.after == bareFIN && l.anyone == nil && r.Err != nil &&
			(r.Err.Phase != engine.PhaseBody || r.Status != a.answer.status || r.Bytes != int64(a.size)) {
			l.report("%s: status %d, %d of %d bytes, %v; want closed in phase body", a.URL, r.Status, r.Bytes, a.size, r.Err)
		}
	}
	return l.ledger.Put(results)
}

// tlsClimates are the plain ones and one more, at a fraction of their size:
// handshakes are dear, the more so under the race detector.
func tlsClimates() []climate {
	cs := append(slices.Clone(climates), climate{name: "no_close_notify", n: 3000, post: 20, retries: 1,
		answers: [][]answer{rightAnswers, rightAnswers, rightAnswers, lastAnswers, bareAnswers}})
	for i := range cs {
		if cs[i].n /= 10; raceDetector {
			cs[i].n /= 3
		}
	}
	return cs
}

func TestTLSFaulty(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			for _, c := range tlsClimates() {
				t.Run(c.name, func(t *testing.T) {
					for _, depth := range depths {
						t.Run(depthName(depth), func(t *testing.T) { c.runTLS(t, depth, version) })
					}
				})
			}
		})
	}
}

func (c climate) runTLS(t *testing.T, depth int, version uint16) {
	cleanAfter(t)
	s := seed(t)
	most := depth
	if depth == engine.PipelineAuto {
		most = engine.AutoPipelineMax
	}
	server, client := faultyTLS(t, version)
	srv := startFaultyOver(t, s, most, c.weather, server)
	l := &tlsLedger{ledger: newLedger(t, srv, 0, size(c.n, 30*c.n), c.answers...), version: version}
	l.retries, l.anyone, l.post, l.split = c.retries, c.anyone, c.post, c.split
	cfg := ledgerConfig(depth)
	cfg.Retries, cfg.Timeout, cfg.TLS = c.retries, c.timeout, client
	stats := runEngine(t, cfg, l, l)
	srv.stop()
	l.settle(stats)
	srv.settle(l.ledger)
	t.Logf("%d connections, %d results of resumed sessions, %d of new ones", stats.Connects, l.resumed, l.full)
	if stats.Connects > 4*int64(cfg.Connections) && l.resumed == 0 && c.anyone == nil {
		t.Error("no session was resumed")
	}
}

// The connection ends in the middle of the handshake, at any byte of either
// direction. Whoever asked is told so, and gets the retries first.
func TestTLSFaultyHandshake(t *testing.T) {
	for _, version := range tlsVersions {
		for _, retries := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s/retries %d", tls.VersionName(version), retries), func(t *testing.T) {
				cleanAfter(t)
				server, client := faultyTLS(t, version)
				srv := startFaultyOver(t, seed(t), 1, weather{shake: 3}, server)
				// Connection: close: a handshake for every request.
				l := &tlsLedger{ledger: newLedger(t, srv, 2, size(300, 10_000), lastAnswers[:1]), version: version}
				l.retries, l.anyone, l.post = retries, dyingKinds, 20
				cfg := ledgerConfig(1)
				cfg.Retries, cfg.TLS = retries, client
				ends := map[string]int{}
				stats := runEngine(t, cfg, l, engine.SinkFunc(func(results []*engine.Result) error {
					for _, r := range results {
						if r.Err == nil {
							ends["right"]++
						} else {
							ends[fmt.Sprintf("%v in %v", r.Err.Kind, r.Err.Phase)]++
						}
					}
					return l.Put(results)
				}))
				srv.stop()
				l.settle(stats)
				srv.settle(l.ledger)
				t.Logf("%v, %d retries", ends, stats.Retries)
				if ends["closed in tls"] == 0 || (stats.Retries > 0) != (retries > 0) {
					t.Error("no handshake was cut short, or none was repeated")
				}
			})
		}
	}
}

// Bytes nobody asked for, under TLS.
func TestTLSFaultyUnasked(t *testing.T) {
	unasked := []string{"HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 2\r\n\r\n0|", "H", "\x00"}
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client := faultyTLS(t, version)
			srv := startFaultyOver(t, seed(t), 0, weather{}, server)
			g := &gatedLedger{ledger: *newLedger(t, srv, 1, 300, rightAnswers), round: 50}
			g.open = func(round int) { srv.unask([]byte(unasked[round%len(unasked)])) }
			src := engine.SourceFunc(func(ctx context.Context, batch []*engine.Request) (int, error) {
				n, err := g.Next(ctx, batch)
				secureURLs(batch[:n])
				return n, err
			})
			cfg := ledgerConfig(4)
			cfg.TLS = client
			stats := runEngine(t, cfg, src, g)
			srv.stop()
			g.settle(stats)
		})
	}
}
