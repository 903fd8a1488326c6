package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"hotlap/bench/sample"
	"hotlap/bench/target"
)

// What the engine's CPU per request over TLS may be, in multiples of wrk's at
// depth 1.
const (
	tlsLimit   = 1.10 // at depth 1
	tlsLimit16 = 0.35 // at depth 16
)

// tlsFlags is the comparison over TLS 1.3.
func tlsFlags(fs *flag.FlagSet) func(context.Context) (string, error) {
	var c contest
	c.timedFlags(fs, 7, 2*time.Second)
	connections := fs.Int("c", 64, "connections")
	return func(ctx context.Context) (string, error) {
		if err := c.check(); err != nil {
			return "", err
		}
		dir, err := filepath.Abs(buildDir + "/tls")
		if err != nil {
			return "", err
		}
		if err := writeCertificate(dir); err != nil {
			return "", err
		}
		outcomes, err := c.play(ctx, tlsScenes(*connections, nginxServer("https", fmt.Sprintf(nginxTLS, dir))))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# Client CPU per https request, TLS 1.3, %d connections, one loop\n\n%s%s",
			*connections, c.method(), text(outcomes)), failed(outcomes)
	}
}

// nginxTLS goes into nginxConf; it takes the folder of the certificate.
const nginxTLS = `ssl;
  ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem; ssl_protocols TLSv1.3; ssl_session_cache shared:x:10m;`

// tlsScenes has hotlap serve beside nginx, which answers pipelined requests by
// one write each, and so bounds what depth can gain.
func tlsScenes(connections int, nginx server) []scene {
	deep := func(l *load) { l.depth = 16 }
	depth16 := engineClient(hotlapName + ", depth 16")
	depth16.adjust = deep
	serve16 := engineClient(hotlapName + ", depth 16, hotlap serve")
	serve16.adjust, serve16.server = deep, hotlapServer("", "--tls")
	requests := scene{
		name:    "requests",
		about:   "Against nginx, at depth 1, where the name says nothing else.",
		server:  nginx,
		load:    load{path: "/", tls: true, connections: connections, depth: 1},
		clients: append(named(peers(), "wrk"), engineClient(hotlapName), depth16, serve16),
		figures: []figure{cpuFigure, rateFigure},
		base:    "wrk",
		limits: []limit{
			{figure: cpuFigure, to: "wrk", high: tlsLimit},
			{figure: cpuFigure, of: serve16.name, to: "wrk", high: tlsLimit16},
		},
	}
	handshakes := scene{
		name:    "handshakes",
		about:   "One connection per request; openssl s_time sends no request, and has one connection at a time.",
		server:  nginx,
		load:    load{path: "/", tls: true, connections: connections, depth: 1, closing: true},
		clients: []client{engineClient(hotlapName, "-noresume"), engineClient(hotlapName + ", resumed"), sTime("-new"), sTime("-reuse")},
		figures: []figure{cpuFigure, rateFigure},
	}
	return []scene{requests, handshakes}
}

// sTime is openssl's measure of handshakes, new ones or resumed.
func sTime(how string) client {
	return client{
		name: "openssl s_time " + how, program: "openssl", uncounted: true, anyExit: true, read: readSTime,
		args: func(l load) []string {
			return []string{"openssl", "s_time", "-connect", l.addr, how, "-time", seconds(l), "-tls1_3"}
		},
	}
}

var sTimeDone = regexp.MustCompile(`(\d+) connections in (\d+) real seconds`)

// readSTime takes connections for requests, and real time.
func readSTime(out []byte) (s sample.Sample, err error) {
	n := numbers{out: out}
	s.Requests, s.Seconds = n.count(sTimeDone, 1), n.float(sTimeDone, 2)
	return s, n.err
}

// unverified is for the certificate made here, and for one question each.
var unverified = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
}}

func writeCertificate(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cert, _, err := target.MakeCertificate()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return errors.Join(os.WriteFile(dir+"/cert.pem", chain, 0o644),
		os.WriteFile(dir+"/key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}
