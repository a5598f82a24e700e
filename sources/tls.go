package sources

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"sql2metrics/config"
)

// tlsConfig returns how to encrypt a new connection to host, or nil for a mode
// that asks for none: disable, and allow, which leaves it to the server. The
// files are read at each call. Under prefer whoever connects goes on without
// TLS where the server has none; a protocol that cannot find that out takes
// prefer for disable before it calls.
//
// The modes mean what libpq means by them: require encrypts to whoever answers,
// unless there is a ca_file, which makes it verify-ca; verify-ca wants a
// certificate of an authority that is trusted, for whatever name; verify-full
// wants it for the name of the server too. Without a ca_file the system's
// authorities are trusted.
func tlsConfig(t config.TLS, host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName = host
	}
	verifyCA := t.Mode == "verify-ca" || t.Mode == "require" && t.CAFile != ""
	switch t.Mode {
	case "", "disable", "allow":
		return nil, nil
	case "prefer", "require", "verify-ca":
		c.InsecureSkipVerify = true
	case "verify-full":
	default:
		return nil, fmt.Errorf("sslmode %q is not known; set it to disable, allow, prefer, require, verify-ca or verify-full", t.Mode)
	}
	if t.CAFile != "" {
		text, err := readCredential(t.CAFile, maxCertificate)
		c.RootCAs = x509.NewCertPool()
		if err == nil && !c.RootCAs.AppendCertsFromPEM(text) {
			err = errors.New("it holds no certificate in PEM")
		}
		if err != nil {
			return nil, &fileError{fmt.Errorf("read tls_config.ca_file %s: %w", t.CAFile, err)}
		}
	}
	if t.CertFile != "" {
		pair, err := keyPair(t)
		if err != nil {
			return nil, &fileError{err}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if verifyCA {
		roots := c.RootCAs
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
	}
	return c, nil
}

// keyPair reads the client's certificate.
func keyPair(t config.TLS) (tls.Certificate, error) {
	cert, err := readCredential(t.CertFile, maxCertificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read tls_config.cert_file %s: %w", t.CertFile, err)
	}
	key, err := readCredential(t.KeyFile, maxCertificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read tls_config.key_file %s: %w", t.KeyFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls_config.cert_file %s and key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	return pair, nil
}

// verifyChain checks the server's certificate up to roots, for any name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(options)
	return err
}
