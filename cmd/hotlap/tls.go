package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
)

// tlsOptions is what the command line says about https.
type tlsOptions struct {
	insecure  bool
	caFile    string
	certFile  string
	keyFile   string
	min, max  string
	keyLog    string
	keyLogOut io.Closer
}

func (o *tlsOptions) flags(f *pflag.FlagSet) {
	o.min, o.max = "1.2", "1.3"
	f.BoolVarP(&o.insecure, "insecure", "k", false, "")
	f.StringVar(&o.caFile, "cacert", "", "")
	f.StringVar(&o.certFile, "cert", "", "")
	f.StringVar(&o.keyFile, "key", "", "")
	f.Var(choice{&o.min, []string{"1.2", "1.3"}}, "tls-min", "")
	f.Var(choice{&o.max, []string{"1.2", "1.3"}}, "tls-max", "")
	f.StringVar(&o.keyLog, "sslkeylog", "", "")
}

// config reads the files and makes the engine's configuration.
func (o *tlsOptions) config() (*tls.Config, error) {
	version := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	c := &tls.Config{InsecureSkipVerify: o.insecure, MinVersion: version[o.min], MaxVersion: version[o.max]}
	if c.MinVersion > c.MaxVersion {
		return nil, fmt.Errorf("--tls-min %s is above --tls-max %s", o.min, o.max)
	}
	if o.caFile != "" {
		text, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cacert %s: no certificate in it: want PEM", o.caFile)
		}
	}
	switch {
	case o.certFile != "":
		cert, err := loadKeyPair(o.certFile, o.keyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	case o.keyFile != "":
		return nil, fmt.Errorf("--key goes with --cert")
	}
	if o.keyLog != "" {
		w, err := os.OpenFile(o.keyLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("--sslkeylog: %w", err)
		}
		c.KeyLogWriter, o.keyLogOut = w, w
	}
	return c, nil
}

// loadKeyPair reads a certificate chain and its key; the key may be in the
// certificate's file.
func loadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	if keyFile == "" {
		keyFile = certFile
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return cert, fmt.Errorf("--cert %s, --key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}
