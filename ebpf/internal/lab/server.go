package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
)

// SlowServer is an HTTP server that takes its time. Nothing is lost or refused:
// a sender's latency is the server's alone, and its network's is as ever.
type SlowServer struct {
	At     netip.AddrPort
	server http.Server
	served atomic.Uint64
	ended  chan error
}

// SlowServer serves HTTP at a port that the kernel picks, each request after a
// delay, with an answer of 2 bytes.
func (ns *Namespace) SlowServer(on netip.Addr, delay time.Duration) (*SlowServer, error) {
	l, err := ns.ListenNet(netip.AddrPortFrom(on, 0))
	if err != nil {
		return nil, err
	}
	s := &SlowServer{At: l.Addr().(*net.TCPAddr).AddrPort(), ended: make(chan error, 1)}
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
		case <-r.Context().Done(): // the client has gone
			return
		}
		s.served.Add(1)
		w.Header().Set("Content-Length", strconv.Itoa(len("ok")))
		_, _ = w.Write([]byte("ok"))
	})
	go func() { s.ended <- s.server.Serve(l) }()
	return s, nil
}

// Served is how many requests were answered.
func (s *SlowServer) Served() uint64 { return s.served.Load() }

// Close ends the server and its connections.
func (s *SlowServer) Close() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// ListenNet listens in the namespace, for programs that want a net.Listener. Its
// cookie is that of the TCP socket: Go's multipath TCP would put another before it.
func (ns *Namespace) ListenNet(on netip.AddrPort) (l net.Listener, err error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	err = ns.Do(func() error {
		l, err = config.Listen(context.Background(), "tcp", on.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return l, nil
}

// DialContext connects from the namespace, for programs that want a net.Conn:
// it is what http.Transport and the like take as a dialer.
func (ns *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := ns.Do(func() (err error) {
		// A literal address makes one socket, on this thread. A name would be looked
		// up, and with several addresses dialled, on others: in other namespaces.
		if _, err := netip.ParseAddrPort(address); err != nil {
			return fmt.Errorf("lab: dial %s: not an address and a port", address)
		}
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
