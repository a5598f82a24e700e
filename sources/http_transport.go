package sources

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
)

const (
	// idleHTTP is how long a connection waits for the next request, as in
	// Prometheus.
	idleHTTP = 5 * time.Minute
	// pingHTTP2 is after how much silence a connection of HTTP/2 has to show
	// that there is somebody, as in Prometheus.
	pingHTTP2 = time.Minute
	// maxHeaders bounds the headers of an answer, in bytes; in memory they take
	// some eight times as much.
	maxHeaders = 256 << 10
)

// newTransport returns what carries requests to the server of s, logged in and
// encrypted. They are Prometheus's parts. They are put together here, because
// the whole that it makes of them bounds neither connections nor headers, and
// lets a request wait for a token of OAuth2 for ever.
func newTransport(s config.Source) (http.RoundTripper, error) {
	c := s.HTTP
	encrypt, err := promconfig.NewTLSConfig(&c.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("set up its TLS: %w", err)
	}
	files := promconfig.TLSRoundTripperSettings{
		CA:   secretReader(promconfig.Secret(c.TLSConfig.CA), c.TLSConfig.CAFile),
		Cert: secretReader(promconfig.Secret(c.TLSConfig.Cert), c.TLSConfig.CertFile),
		Key:  secretReader(c.TLSConfig.Key, c.TLSConfig.KeyFile),
	}
	return promconfig.NewTLSRoundTripper(encrypt, files, func(encrypt *tls.Config) (http.RoundTripper, error) {
		return logIn(&c, s.Timeout, watched{&http.Transport{
			Proxy: c.Proxy(),
			// A connection that is being made outlives the request it is for, and
			// would take the place of another until the kernel gives up.
			DialContext:            (&net.Dialer{Timeout: s.Timeout}).DialContext,
			TLSClientConfig:        encrypt,
			TLSHandshakeTimeout:    s.Timeout,
			ForceAttemptHTTP2:      c.EnableHTTP2,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingHTTP2},
			MaxConnsPerHost:        max(s.MaxConnections, 1),
			MaxIdleConnsPerHost:    max(s.MaxConnections, 1),
			IdleConnTimeout:        idleHTTP,
			MaxResponseHeaderBytes: maxHeaders,
			DisableCompression:     true, // what is asked for is read in httpBody
		}}), nil
	})
}

// logIn returns carry with the login of c and its http_headers.
func logIn(c *promconfig.HTTPClientConfig, timeout time.Duration, carry http.RoundTripper) http.RoundTripper {
	if a := c.Authorization; a != nil {
		carry = promconfig.NewAuthorizationCredentialsRoundTripper(a.Type, secretReader(a.Credentials, a.CredentialsFile), carry)
	}
	if b := c.BasicAuth; b != nil {
		user := secretReader(promconfig.Secret(b.Username), b.UsernameFile)
		carry = promconfig.NewBasicAuthRoundTripper(user, secretReader(b.Password, b.PasswordFile), carry)
	}
	if o := c.OAuth2; o != nil {
		secret := secretReader(o.ClientSecret, o.ClientSecretFile)
		if secret == nil {
			secret = secretReader(o.ClientCertificateKey, o.ClientCertificateKeyFile)
		}
		carry = promconfig.NewOAuth2RoundTripper(secret, o, carry, promconfig.WithDialContextFunc(within(timeout)))
	}
	if c.HTTPHeaders != nil {
		carry = promconfig.NewHeadersRoundTripper(c.HTTPHeaders, carry)
	}
	return carry
}

// secretReader returns what reads a secret for each request; nil: there is none.
func secretReader(text promconfig.Secret, file string) promconfig.SecretReader {
	switch {
	case file != "":
		return promconfig.NewFileSecret(file)
	case text != "":
		return promconfig.NewInlineSecret(string(text))
	}
	return nil
}

// within returns what dials the endpoint that hands out tokens. It is asked in
// nobody's context and with no limit of its own, while a request waits for it:
// so a connection to it lasts as long as a request may.
func within(timeout time.Duration) promconfig.DialContextFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		deadline := time.Now().Add(timeout)
		conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(deadline)
	}
}
