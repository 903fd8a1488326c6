package engine_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"hotlap/engine"
)

// startHTTPS runs net/http's server, which echoes the path, and returns a
// configuration that trusts it.
func startHTTPS(t *testing.T, version uint16) (*httptest.Server, *tls.Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.URL.Path)
	}))
	srv.TLS = &tls.Config{MinVersion: version, MaxVersion: version}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, &tls.Config{RootCAs: roots}
}

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func TestTLS(t *testing.T) {
	for _, version := range tlsVersions {
		for _, depth := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s/%d", tls.VersionName(version), depth), func(t *testing.T) {
				srv, trust := startHTTPS(t, version)
				const n = 5000
				sent, right := 0, 0
				src := engine.SourceFunc(func(_ context.Context, batch []*engine.Request) (int, error) {
					k := min(len(batch), n-sent)
					for i := range k {
						batch[i] = &engine.Request{URL: fmt.Sprintf("%s/%d", srv.URL, sent)}
						sent++
					}
					if sent == n {
						return k, io.EOF
					}
					return k, nil
				})
				cfg := engine.Config{Connections: 8, Pipeline: depth, KeepBody: true, TLS: trust}
				stats := runEngine(t, cfg, src, engine.SinkFunc(func(results []*engine.Result) error {
					for _, r := range results {
						switch {
						case r.Err != nil:
							t.Errorf("%s: %v", r.Request.URL, r.Err)
						case srv.URL+string(r.Body) != r.Request.URL:
							t.Errorf("%s: got %q", r.Request.URL, r.Body)
						case r.TLS == nil || r.TLS.Version != version:
							t.Errorf("%s: over %+v", r.Request.URL, r.TLS)
						default:
							right++
						}
					}
					return nil
				}))
				if right != n || stats.Connects > 8 {
					t.Errorf("%d of %d, %d connections", right, n, stats.Connects)
				}
			})
		}
	}
}

// A later connection resumes the session of an earlier one.
func TestTLSResumes(t *testing.T) {
	for _, version := range tlsVersions {
		srv, trust := startHTTPS(t, version)
		e, err := engine.New(engine.Config{TLS: trust})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			r, err := e.Do(t.Context(), &engine.Request{URL: srv.URL, Header: []engine.Field{{Name: "Connection", Value: "close"}}})
			if err != nil {
				t.Fatal(err)
			}
			if r.TLS.Resumed != (i > 0) || r.Time.TLS <= 0 {
				t.Errorf("%s, connection %d: %+v after %v", tls.VersionName(version), i, r.TLS, r.Time.TLS)
			}
		}
		e.Close()
	}
}

// Large bodies in both directions, many records each.
func TestTLSLargeBodies(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	srv.StartTLS()
	defer srv.Close()
	e, err := engine.New(engine.Config{TLS: &tls.Config{InsecureSkipVerify: true}, KeepBody: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := bodyOf(i, 3<<20+i)
			r, err := e.Do(t.Context(), &engine.Request{Method: "PUT", URL: srv.URL, Body: body})
			if err != nil || string(r.Body) != string(body) {
				t.Errorf("body %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// A server that does not go on with the handshake costs the connect timeout.
func TestTLSHandshakeTimeout(t *testing.T) {
	t.Parallel()
	srv := listen(t)
	e, err := engine.New(engine.Config{ConnectTimeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	_, err = e.Do(t.Context(), &engine.Request{URL: "https://" + srv.addr().String()})
	wantError(t, err, engine.PhaseTLS, engine.Timeout)
}

func wantError(t *testing.T, err error, phase engine.Phase, kind engine.Kind) {
	t.Helper()
	e, ok := err.(*engine.Error)
	if !ok || e.Kind != kind || e.Phase != phase {
		t.Errorf("got %v, want %v in phase %v", err, kind, phase)
	}
}
