package engine_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hotlap/engine"
)

var quiet = log.New(io.Discard, "", 0)

// An authority issues certificates, good and bad.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ecKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var serials atomic.Int64

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1000 + serials.Add(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

func newAuthority(t testing.TB, name string) *authority { return newAuthorityOf(t, name, ecKey(t)) }

func newAuthorityOf(t testing.TB, name string, key crypto.Signer) *authority {
	c := authorityTemplate(name)
	return &authority{sign(t, c, c, key.Public(), key), key}
}

// under is an intermediate authority.
func (a *authority) under(t testing.TB, name string) *authority {
	key := ecKey(t)
	return &authority{sign(t, authorityTemplate(name), a.cert, key.Public(), a.key), key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// goodHost is what a good certificate is for, besides the loopback.
const goodHost = "right.test"

func leafTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: goodHost}, DNSNames: []string{goodHost, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// issue makes a certificate that is good, but for what spoil does to it.
func (a *authority) issue(t testing.TB, spoil func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return a.issueFor(t, ecKey(t), spoil)
}

func (a *authority) issueFor(t testing.TB, key crypto.Signer, spoil func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := leafTemplate()
	if spoil != nil {
		spoil(template)
	}
	leaf := sign(t, template, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// pemFiles writes a certificate, its key, and both in one file.
func pemFiles(t testing.TB, c tls.Certificate) (cert, key, both string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var certPEM []byte
	for _, b := range c.Certificate {
		certPEM = append(certPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})...)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", certPEM), write("key.pem", keyPEM), write("both.pem", append(certPEM, keyPEM...))
}

// weakRSA is a key that crypto/rsa neither makes nor uses, being too short.
type weakRSA struct {
	pub rsa.PublicKey
	d   *big.Int
}

var makeWeakRSA = sync.OnceValue(func() *weakRSA {
	const bits, e = 768, 65537
	one := big.NewInt(1)
	for {
		p, err1 := rand.Prime(rand.Reader, bits/2)
		q, err2 := rand.Prime(rand.Reader, bits/2)
		if err1 != nil || err2 != nil {
			panic(errors.Join(err1, err2))
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(big.NewInt(e), phi); d != nil && n.BitLen() == bits {
			return &weakRSA{rsa.PublicKey{N: n, E: e}, d}
		}
	}
})

func (k *weakRSA) Public() crypto.PublicKey { return &k.pub }

// Sign signs a SHA-256 digest as RFC 8017 section 9.2 says.
func (k *weakRSA) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	size := k.pub.Size()
	em := append([]byte{0, 1}, make([]byte, size-3-len(info))...)
	for i := 2; i < len(em); i++ {
		em[i] = 0xff
	}
	em = append(append(em, 0), info...)
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, k.d, k.pub.N).FillBytes(make([]byte, size)), nil
}

// badCertificate is a server's certificate that must be refused.
type badCertificate struct {
	name  string
	make  func(t testing.TB, ca *authority) tls.Certificate
	says  string // what the message must say, besides the host
	not   string // what it must not say: it is another failure's
	never bool   // crypto/tls refuses it also without verification
}

var badCertificates = []badCertificate{
	{name: "expired", says: "expired", not: "not yet valid", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	}},
	{name: "not yet valid", says: "not yet valid", not: "expired", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	}},
	{name: "wrong host", says: "valid for other.test, not " + goodHost, make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.test"}, nil })
	}},
	{name: "unknown issuer", says: "unknown authority", not: "self-signed", make: func(t testing.TB, ca *authority) tls.Certificate {
		return newAuthority(t, "Stranger CA").issue(t, nil)
	}},
	{name: "self-signed", says: "self-signed", make: func(t testing.TB, ca *authority) tls.Certificate {
		key, c := ecKey(t), leafTemplate()
		leaf := sign(t, c, c, key.Public(), key)
		return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	}},
	{name: "missing intermediate", says: "intermediate", not: "self-signed", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.under(t, "Middle CA").issue(t, nil)
	}},
	{name: "wrong extended key usage", says: "key usage", not: "unknown authority", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	}},
	{name: "CN without SAN", says: "Common Name", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })
	}},
	{name: "SHA-1", says: "SHA1", not: "unknown authority", make: func(t testing.TB, ca *authority) tls.Certificate {
		return ca.issue(t, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	}},
	{name: "RSA of 768 bits", says: "768-bit", never: true, make: func(t testing.TB, ca *authority) tls.Certificate {
		c := ca.issueFor(t, makeWeakRSA(), nil)
		c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256}
		return c
	}},
}

// certServer answers "ok" with a certificate, and counts what it is asked.
func certServer(t testing.TB, cfg *tls.Config) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, "ok")
	}))
	srv.TLS = cfg
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return fmt.Sprintf("https://%s:%d/", goodHost, srv.Listener.Addr().(*net.TCPAddr).Port), asked
}

// doOnce sends one request on an engine of its own.
func doOnce(t testing.TB, url string, cfg *tls.Config) *engine.Result {
	t.Helper()
	var got *engine.Result
	runEngine(t, engine.Config{TLS: cfg, KeepBody: true, Retries: 2, Resolver: &names{addrs: addrs("127.0.0.1")}},
		sameRequest(url, 1), engine.SinkFunc(func(results []*engine.Result) error {
			got = &engine.Result{Request: results[0].Request, Response: *results[0].Response.Clone(), Err: results[0].Err}
			return nil
		}))
	return got
}

func wantOK(t testing.TB, what string, r *engine.Result) {
	t.Helper()
	if r.Err != nil || string(r.Body) != "ok" {
		t.Errorf("%s: %q, %v", what, r.Body, r.Err)
	}
}

// wantTLS wants an error of kind tls after one attempt, and logs it once. In
// TLS 1.3 the server's verdict on the client comes after the handshake, so
// that the phase is another.
func wantTLS(t testing.TB, r *engine.Result, show bool, phases ...engine.Phase) {
	t.Helper()
	switch {
	case r.Err == nil:
		t.Errorf("status %d, want kind tls", r.Status)
	case r.Err.Kind != engine.TLS || !slices.Contains(phases, r.Err.Phase) || r.Attempts != 1:
		t.Errorf("got %v after %d attempts, want kind tls in phase %v", r.Err, r.Attempts, phases)
	case show:
		t.Log(r.Err)
	}
}

// Each bad certificate is refused in its own words, before anything is sent
// and without a retry; without verification it is accepted.
func TestTLSBadCertificates(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthorityOf(t, "Test CA", key) // RSA, for the SHA-1 signature
	for _, bad := range badCertificates {
		t.Run(bad.name, func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{bad.make(t, ca)}}
			if bad.never {
				server.MaxVersion = tls.VersionTLS12 // the server's signature, too, is one that 1.3 has not
			}
			url, asked := certServer(t, server)
			r := doOnce(t, url, &tls.Config{RootCAs: ca.pool()})
			wantTLS(t, r, true, engine.PhaseTLS)
			if r.Err != nil {
				msg := r.Err.Message
				if !strings.Contains(msg, goodHost) || !strings.Contains(msg, bad.says) {
					t.Errorf("%q does not name %s and say %q", msg, goodHost, bad.says)
				}
				if bad.not != "" && strings.Contains(msg, bad.not) {
					t.Errorf("%q says %q", msg, bad.not)
				}
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("the server was asked %d times", n)
			}
			r = doOnce(t, url, &tls.Config{RootCAs: ca.pool(), InsecureSkipVerify: true})
			if bad.never {
				wantTLS(t, r, true, engine.PhaseTLS)
			} else {
				wantOK(t, "without verification", r)
			}
		})
	}
}

// The certificates that the bad ones differ from are good.
func TestTLSGoodCertificates(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	middle := ca.under(t, "Middle CA")
	chain := middle.issue(t, nil)
	chain.Certificate = append(chain.Certificate, middle.cert.Raw)
	for name, cert := range map[string]tls.Certificate{"direct": ca.issue(t, nil), "chain": chain} {
		url, _ := certServer(t, &tls.Config{Certificates: []tls.Certificate{cert}})
		wantOK(t, name+"", doOnce(t, url, &tls.Config{RootCAs: ca.pool()}))
		ip := strings.Replace(url, goodHost, "127.0.0.1", 1)
		wantOK(t, name+", by address", doOnce(t, ip, &tls.Config{RootCAs: ca.pool()}))
		dot := strings.Replace(url, goodHost, goodHost+".", 1)
		wantOK(t, name+", with a final dot", doOnce(t, dot, &tls.Config{RootCAs: ca.pool()}))
	}
}

// Versions without one in common, and a peer that does not speak TLS.
func TestTLSNoCommonGround(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	url, _ := certServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, MaxVersion: tls.VersionTLS12})
	wantTLS(t, doOnce(t, url, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS13}), true, engine.PhaseTLS)

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	wantTLS(t, doOnce(t, "https"+strings.TrimPrefix(plain.URL, "http"), nil), true, engine.PhaseTLS)
}

// A server that wants a certificate of the client: given, missing, and one it
// does not trust.
func TestTLSClientCertificates(t *testing.T) {
	ca := newAuthority(t, "Test CA")
	client := func(a *authority) tls.Certificate {
		return a.issue(t, func(c *x509.Certificate) {
			c.Subject.CommonName, c.DNSNames, c.IPAddresses = "client", nil, nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})
	}
	good, stranger := client(ca), client(newAuthority(t, "Stranger CA"))
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			url, asked := certServer(t, &tls.Config{
				Certificates: []tls.Certificate{ca.issue(t, nil)}, MinVersion: version, MaxVersion: version,
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
			})
			with := func(c ...tls.Certificate) *tls.Config { return &tls.Config{RootCAs: ca.pool(), Certificates: c} }
			phases := []engine.Phase{engine.PhaseTLS}
			if version == tls.VersionTLS13 {
				phases = []engine.Phase{engine.PhaseTLS, engine.PhaseWrite, engine.PhaseHead}
			}
			wantOK(t, "given", doOnce(t, url, with(good)))
			asked.Store(0)
			for i := range size(30, 1000) { // in 1.3 the alert races with the request
				wantTLS(t, doOnce(t, url, with()), i == 0, phases...)
				// Go's client sends none that the server's list of issuers does not
				// name, unless it is told to.
				forced := with()
				forced.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
				wantTLS(t, doOnce(t, url, forced), i == 0, phases...)
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("the server was asked %d times", n)
			}
		})
	}
}
