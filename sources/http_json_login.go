package sources

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
)

// httpLogin keeps requests from being refused the login again and again: each
// request logs in. As long as the last one was let in, they do not wait for each
// other.
type httpLogin struct {
	logins *logins // nil: there is no login
	good   atomic.Bool
}

func newHTTPLogin(s config.Source, now func() time.Time) *httpLogin {
	c := s.HTTP
	if c.BasicAuth == nil && c.Authorization == nil && c.OAuth2 == nil && c.HTTPHeaders == nil && c.BearerToken == "" && c.BearerTokenFile == "" {
		return &httpLogin{}
	}
	l := newLogins(s, now)
	l.files = httpFiles(c)
	return &httpLogin{logins: l}
}

// try runs request unless the last login was refused, as [logins.try] does.
func (l *httpLogin) try(ctx context.Context, request func() error) error {
	if l.logins == nil {
		return request()
	}
	refused := error(nil)
	if l.good.Load() {
		if refused = request(); !errors.As(refused, new(*loginError)) {
			return refused
		}
		l.good.Store(false)
	}
	return l.logins.try(ctx, func() error {
		if refused != nil {
			return refused
		}
		err := request()
		l.good.Store(err == nil)
		return err
	})
}

// httpFiles are the files that a login is made of.
func httpFiles(c promconfig.HTTPClientConfig) []string {
	files := []string{c.BearerTokenFile, c.TLSConfig.CAFile, c.TLSConfig.CertFile, c.TLSConfig.KeyFile}
	if c.BasicAuth != nil {
		files = append(files, c.BasicAuth.UsernameFile, c.BasicAuth.PasswordFile)
	}
	if c.Authorization != nil {
		files = append(files, c.Authorization.CredentialsFile)
	}
	if c.OAuth2 != nil {
		files = append(files, c.OAuth2.ClientSecretFile, c.OAuth2.ClientCertificateKeyFile)
	}
	if c.HTTPHeaders != nil {
		for _, h := range c.HTTPHeaders.Headers {
			files = append(files, h.Files...)
		}
	}
	return files
}
