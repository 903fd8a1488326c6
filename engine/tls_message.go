package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// tlsMessage says what is wrong with whose certificate, if that is it; else
// what went wrong with what.
func tlsMessage(what, host string, err error) string {
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) || len(bad.UnverifiedCertificates) == 0 {
		if strings.Contains(err.Error(), "keys are insecure") { // crypto/rsa has no type for it
			return fmt.Sprintf("certificate of %s: its key is too short to be secure: %v", host, err)
		}
		return what + ": " + strings.TrimPrefix(err.Error(), "tls: ")
	}
	leaf := bad.UnverifiedCertificates[0]
	return fmt.Sprintf("certificate of %s (subject %q, issuer %q): %s",
		host, leaf.Subject, leaf.Issuer, certificateFault(bad.Err, bad.UnverifiedCertificates))
}

// certificateFault says in one sentence why a chain, which begins with the
// server's own certificate, was refused.
func certificateFault(err error, chain []*x509.Certificate) string {
	leaf := chain[0]
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Cert != nil:
		return invalidFault(&invalid, leaf)
	case errors.As(err, &unknown):
		return unknownFault(chain)
	case errors.As(err, new(x509.HostnameError)) && len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return "it names no host: it has a Common Name only, which does not count, and no subject alternative name"
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}

func invalidFault(err *x509.CertificateInvalidError, leaf *x509.Certificate) string {
	which := "it"
	if !err.Cert.Equal(leaf) {
		which = fmt.Sprintf("%q in its chain", err.Cert.Subject)
	}
	switch err.Reason {
	case x509.Expired:
		if time.Now().Before(err.Cert.NotBefore) {
			return fmt.Sprintf("%s is not yet valid: only from %s on", which, err.Cert.NotBefore.UTC().Format(time.RFC3339))
		}
		return fmt.Sprintf("%s expired on %s", which, err.Cert.NotAfter.UTC().Format(time.RFC3339))
	case x509.IncompatibleUsage:
		return which + " is not for TLS servers: its extended key usage is another"
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}

// unknownFault says why no trusted root was found.
func unknownFault(chain []*x509.Certificate) string {
	leaf, last := chain[0], chain[len(chain)-1]
	for i, c := range chain {
		switch root := c.Subject.String() == c.Issuer.String(); {
		case root || !insecure(c.SignatureAlgorithm): // a root's own signature does not matter
		case i == 0:
			return fmt.Sprintf("it is signed with %s, which is not secure", c.SignatureAlgorithm)
		default:
			return fmt.Sprintf("%q in its chain is signed with %s, which is not secure", c.Subject, c.SignatureAlgorithm)
		}
	}
	switch {
	case len(chain) == 1 && leaf.Subject.String() == leaf.Issuer.String():
		return "it is self-signed, and not trusted itself"
	case len(chain) == 1:
		return fmt.Sprintf("it is signed by an unknown authority: %q is no trusted root; if it is an intermediate, the server did not send its certificate", leaf.Issuer)
	}
	return fmt.Sprintf("its chain ends with an unknown authority: %q is no trusted root", last.Issuer)
}

func insecure(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}
