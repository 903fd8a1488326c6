// Package target is the server that hotlap is tried, tested and measured
// against: pipelining in, pipelining out, one write for all that one read
// brought. It runs on gnet, with the codec that the client uses; with TLS, which
// gnet has not, on goroutines.
//
//	/            "Hello, World!"
//	/echo        method, target, headers and body of the request, as JSON
//	/bytes/N     N bytes
//	/status/N    status N, no body
//	/delay/MS    the path, MS milliseconds later; what is behind it waits
//	/chunked/N   N bytes, chunked; with trailers if the request has TE: trailers
//	/close/N     the path; Connection: close on the connection's N-th response
//	/reset       half a response, then an RST
//	other paths  the path and query, as they came
package target

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	"golang.org/x/sys/unix"
)

// Options are what a server is started with; the zero value listens on a free
// port of 127.0.0.1 with one event loop.
type Options struct {
	Addr  string // host:port; port 0 is any free port
	Loops int    // event loops
	// TLS makes it an https server, which has a goroutine per connection
	// instead of event loops.
	TLS *tls.Config
}

// A Server is running from Start to Close.
type Server struct {
	gnet.BuiltinEventEngine
	engine gnet.Engine
	addr   string
	booted chan error
	ended  chan error
	tls    *tlsServer // instead of the engine
	clock  *clock
}

// Start listens and serves.
func Start(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("listen address %q: want HOST:PORT, as in 127.0.0.1:8080: %w", o.Addr, err)
	}
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	s, err := listen(o, clock)
	if err != nil {
		clock.close()
		return nil, err
	}
	return s, nil
}

func listen(o Options, clock *clock) (*Server, error) {
	if o.TLS != nil {
		t, err := startTLS(o.Addr, o.TLS, clock)
		if err != nil {
			return nil, err
		}
		return &Server{tls: t, clock: clock, addr: t.l.Addr().String()}, nil
	}
	s := &Server{clock: clock, booted: make(chan error, 1), ended: make(chan error, 1)}
	go func() {
		s.ended <- gnet.Run(s, "tcp://"+o.Addr, gnet.WithNumEventLoop(max(1, o.Loops)), gnet.WithReuseAddr(true),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithLogger(quiet{}), gnet.WithLogLevel(logging.ErrorLevel))
	}()
	select {
	case err := <-s.booted:
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		return s, nil
	case err := <-s.ended:
		return nil, fmt.Errorf("listen on %s: %w", o.Addr, err)
	}
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.addr }

// closeTimeout bounds how long Close waits for the loops.
const closeTimeout = 10 * time.Second

// Close closes the listener and all connections.
func (s *Server) Close() error {
	defer s.clock.close()
	return s.stop()
}

func (s *Server) stop() error {
	if s.tls != nil {
		return s.tls.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.engine.Stop(ctx); err != nil {
		return err
	}
	return <-s.ended
}

// OnBoot is called by gnet when the server listens.
func (s *Server) OnBoot(e gnet.Engine) gnet.Action {
	s.engine = e
	addr, err := boundAddr(e)
	s.addr = addr
	s.booted <- err
	return gnet.None
}

// boundAddr asks the kernel where the listener is: the port may have been 0.
func boundAddr(e gnet.Engine) (string, error) {
	fd, err := e.Dup()
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String(), nil
	}
	return "", fmt.Errorf("a listener of family %T", sa)
}

// OnOpen is called by gnet for a new connection.
func (s *Server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	k := newConn(s.clock)
	c.SetContext(&k)
	return nil, gnet.None
}

// OnTraffic is called by gnet when bytes have come, or after a Wake.
func (s *Server) OnTraffic(c gnet.Conn) gnet.Action {
	return c.Context().(*conn).serve(c)
}

// OnClose is called by gnet when a connection has ended.
func (s *Server) OnClose(c gnet.Conn, _ error) gnet.Action {
	c.Context().(*conn).alarm.stop()
	return gnet.None
}

// quiet is a logger that says nothing: what clients do wrong is theirs to see.
type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
