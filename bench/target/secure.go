package target

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// A stream is what a connection is served over: a gnet.Conn, or TLS.
type stream interface {
	Peek(n int) ([]byte, error)
	Discard(n int) (int, error)
	Write(b []byte) (int, error)
	InboundBuffered() int
	OutboundBuffered() int
	SetLinger(secs int) error
	Wake(gnet.AsyncCallback) error
}

// gnet has no TLS: those connections have a goroutine each, which reads, and
// are served by the same code under a lock.
type tlsStream struct {
	raw *net.TCPConn
	c   *tls.Conn

	mu   sync.Mutex
	k    conn
	in   []byte
	over bool
}

// Time limits of a TLS connection.
const (
	handshakeTimeout = 10 * time.Second
	goodbyeTimeout   = time.Second // to take what is still coming, which would otherwise reset the connection
)

// A tlsServer accepts TLS connections.
type tlsServer struct {
	l     net.Listener
	cfg   *tls.Config
	clock *clock
	work  sync.WaitGroup
	mu    sync.Mutex
	live  map[net.Conn]bool // nil when closed
}

func startTLS(addr string, cfg *tls.Config, clock *clock) (*tlsServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &tlsServer{l: l, cfg: cfg, clock: clock, live: make(map[net.Conn]bool)}
	s.work.Go(s.accept)
	return s, nil
}

func (s *tlsServer) accept() {
	for {
		c, err := s.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors: those there are will end
			time.Sleep(unsentCheck)
			continue
		}
		if !s.enter(c) {
			_ = c.Close()
			return
		}
		s.work.Go(func() {
			t := &tlsStream{raw: c.(*net.TCPConn), c: tls.Server(c, s.cfg), k: newConn(s.clock)}
			t.run()
			s.leave(c)
		})
	}
}

func (s *tlsServer) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		return false
	}
	s.live[c] = true
	return true
}

func (s *tlsServer) leave(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	delete(s.live, c)
	s.mu.Unlock()
}

func (s *tlsServer) close() error {
	err := s.l.Close()
	s.mu.Lock()
	for c := range s.live {
		_ = c.Close()
	}
	s.live = nil
	s.mu.Unlock()
	s.work.Wait()
	return err
}

// run serves the connection to its end.
func (t *tlsStream) run() {
	_ = t.raw.SetDeadline(time.Now().Add(handshakeTimeout))
	if t.c.Handshake() != nil {
		return
	}
	_ = t.raw.SetDeadline(time.Time{})
	buf := make([]byte, 64<<10)
	for {
		n, err := t.c.Read(buf)
		if !t.serve(buf[:n]) {
			return
		}
		if err != nil {
			t.mu.Lock()
			t.stop()
			t.mu.Unlock()
			return
		}
	}
}

// serve serves what has come, and says whether the connection goes on.
func (t *tlsStream) serve(more []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in = append(t.in, more...)
	if !t.over && t.k.serve(t) != gnet.None {
		t.goodbye()
	}
	return !t.over
}

func (t *tlsStream) stop() {
	t.over = true
	t.k.alarm.stop()
}

// goodbye ends the connection so that the client gets all that was sent.
func (t *tlsStream) goodbye() {
	t.stop()
	if t.k.resets {
		_ = t.raw.SetLinger(0)
		_ = t.raw.Close()
		return
	}
	_ = t.raw.SetDeadline(time.Now().Add(goodbyeTimeout))
	_ = t.c.CloseWrite()
	_ = t.raw.CloseWrite()
	_, _ = io.Copy(io.Discard, t.raw)
	_ = t.raw.Close()
}

func (t *tlsStream) Peek(int) ([]byte, error) { return t.in, nil }

func (t *tlsStream) Discard(n int) (int, error) {
	t.in = t.in[:copy(t.in, t.in[n:])]
	return n, nil
}

func (t *tlsStream) Write(b []byte) (int, error) { return t.c.Write(b) }
func (t *tlsStream) InboundBuffered() int        { return len(t.in) }
func (t *tlsStream) OutboundBuffered() int       { return 0 } // Write waits
func (t *tlsStream) SetLinger(int) error         { return nil }

// Wake is called by the clock, which cannot wait for what is written.
func (t *tlsStream) Wake(gnet.AsyncCallback) error {
	go t.serve(nil)
	return nil
}

// certificateLife is how long a certificate that was made on the fly is valid.
const certificateLife = 30 * 24 * time.Hour

// MakeCertificate makes a CA and a certificate of it for localhost, 127.0.0.1
// and ::1. The CA's certificate is returned in PEM; its key is forgotten.
func MakeCertificate() (cert tls.Certificate, caPEM []byte, err error) {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hotlap serve CA, made on the fly"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return cert, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return cert, nil, err
	}
	cert = tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}
