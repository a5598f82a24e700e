package sources

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
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

// sentLogin is what a request has logged in with, to be kept out of what an
// error repeats of the answer: some servers show a request in theirs.
type sentLogin struct {
	headers map[string]bool // that carry it

	mu    sync.Mutex
	words []string
}

func newSentLogin(c promconfig.HTTPClientConfig) *sentLogin {
	l := &sentLogin{headers: map[string]bool{"Authorization": true}}
	if c.HTTPHeaders != nil {
		for name, h := range c.HTTPHeaders.Headers {
			l.headers[http.CanonicalHeaderKey(name)] = len(h.Secrets)+len(h.Files) > 0
		}
	}
	return l
}

// watch returns ctx for a request whose login is to be known.
func (l *sentLogin) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: func(name string, values []string) {
		if !l.headers[http.CanonicalHeaderKey(name)] {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, value := range values {
			l.add(value)
		}
	}})
}

// add adds the words of a header.
func (l *sentLogin) add(value string) {
	for word := range strings.FieldsSeq(value) {
		l.words = append(l.words, word)
		if plain, err := base64.StdEncoding.DecodeString(word); err == nil {
			_, password, _ := strings.Cut(string(plain), ":")
			l.words = append(l.words, password)
		}
	}
}

// shortestSecret is how short a word may be and still be one: shorter ones stand
// in any text.
const shortestSecret = 4

// hide replaces the login in text, also where the text breaks off within it.
func (l *sentLogin) hide(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, word := range l.words {
		if len(word) < shortestSecret || word == "Basic" || word == "Bearer" {
			continue
		}
		text = strings.ReplaceAll(text, word, "<secret>")
		whole, more := strings.CutSuffix(text, "…")
		for n := len(word) - 1; more && n >= shortestSecret; n-- {
			if before, found := strings.CutSuffix(whole, word[:n]); found {
				text = before + "<secret>…"
				break
			}
		}
	}
	return text
}
