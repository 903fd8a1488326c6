package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"hotlap/bench/target"
	"hotlap/cmd/internal/report"
)

const serveUsage = `Usage: hotlap serve [-l ADDR] [--loops N] [--tls [--ca-out FILE | --cert FILE --key FILE]]

Run the target server: something to send requests to. It pipelines.

  /            "Hello, World!"
  /echo        method, target, headers and body of the request, as JSON
  /bytes/N     N bytes
  /status/N    status N
  /delay/MS    the path, MS milliseconds later
  /chunked/N   N bytes, chunked; with trailers if asked by TE: trailers
  /close/N     the path; the connection is closed after its N-th response
  /reset       an RST in the middle of the response
  other paths  the path and query, as they came

  -l, --listen ADDR  host:port (127.0.0.1:8080); port 0 is any free port
      --loops N      event loops (1)
      --tls          serve https, with a certificate for localhost, 127.0.0.1 and
                     ::1 that is made on the fly
      --ca-out FILE  write the certificate of its CA to FILE, for hotlap fetch --cacert
      --cert FILE, --key FILE   with --tls: the certificate chain and the key to use, PEM

It listens on loopback unless told otherwise, prints where on standard error,
and ends with exit code 0 on SIGINT or SIGTERM.
`

func runServe(ctx context.Context, std *stdio, args []string) int {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	listen := flags.StringP("listen", "l", "127.0.0.1:8080", "")
	loops := 1
	flags.Var(number[int]{&loops, 1, 256}, "loops", "")
	secure := flags.Bool("tls", false, "")
	caOut := flags.String("ca-out", "", "")
	cert, key := flags.String("cert", "", ""), flags.String("key", "", "")
	withParent := flags.Bool("with-parent", false, "") // of demo: end when standard input does
	flags.Usage = func() {}
	switch err := parseFlags(flags, args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(std.out, serveUsage)
		return exitOK
	case err != nil:
		return std.misuse("serve", "%v", err)
	case flags.NArg() > 0:
		return std.misuse("serve", "unexpected argument %q: the address goes behind -l", flags.Arg(0))
	case !*secure && (*caOut != "" || *cert != "" || *key != ""):
		return std.misuse("serve", "--ca-out, --cert and --key go with --tls")
	case *cert != "" && *caOut != "":
		return std.misuse("serve", "--ca-out is for the certificate that is made on the fly, not for --cert")
	case *cert == "" && *key != "":
		return std.misuse("serve", "--key goes with --cert")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, scheme := target.Options{Addr: *listen, Loops: loops}, "http"
	if *secure {
		scheme = "https"
		tlsConfig, err := serveTLS(*cert, *key, *caOut)
		if err != nil {
			return std.misuse("serve", "%v", err)
		}
		options.TLS = tlsConfig
	}
	s, err := target.Start(options)
	if err != nil {
		std.complain("serve", "%v", err)
		return exitFailed
	}
	fmt.Fprintf(std.err, "listening on %s://%s\n", scheme, s.Addr())
	warnIfExposed(std, s.Addr())
	if *withParent {
		go func() {
			_, _ = io.Copy(io.Discard, std.in)
			stop()
		}()
	}
	<-ctx.Done()
	if err := s.Close(); err != nil {
		std.complain("serve", "%v", err)
		return exitFailed
	}
	return exitOK
}

// serveTLS is the server's side of TLS, with the certificate of a file or one
// made now.
func serveTLS(certFile, keyFile, caOut string) (*tls.Config, error) {
	c := &tls.Config{NextProtos: []string{"http/1.1"}}
	if certFile != "" {
		cert, err := loadKeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
		return c, nil
	}
	cert, ca, err := target.MakeCertificate()
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{cert}
	if caOut != "" {
		return c, report.WriteFile(caOut, ca)
	}
	return c, nil
}

// warnIfExposed says so where others than this machine can connect.
func warnIfExposed(std *stdio, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		std.complain("serve", "warning: %s is not loopback: other machines may connect", addr)
	}
}
