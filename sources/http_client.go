package sources

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/prometheus/common/version"

	"sql2metrics/config"
)

// httpClient asks the one server of a source that speaks HTTP. It logs in, and
// reads files of logins and of TLS again for each request. Its methods are for
// any goroutine.
//
// It has at most max_connections connections. Idle ones are kept for five
// minutes; that of a HEAD is closed.
type httpClient struct {
	source config.Source
	limit  int64
	client *http.Client
}

// newHTTPClient returns the client that s describes. It connects to nothing. An
// error is something that no server could mend, such as a certificate file that
// is not there.
func newHTTPClient(s config.Source) (*httpClient, error) {
	transport, err := newTransport(s)
	if err != nil {
		return nil, err
	}
	redirect := sameServer
	if !s.HTTP.FollowRedirects {
		redirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	limit := s.BodySizeLimit
	if limit <= 0 {
		limit = defaultBodyLimit
	}
	return &httpClient{s, limit, &http.Client{Transport: transport, CheckRedirect: redirect}}, nil
}

// sameServer lets redirects stay where the operator pointed the agent: what
// answers there must not send the agent's login elsewhere, nor in clear.
func sameServer(req *http.Request, via []*http.Request) error {
	from, to := via[0], req.URL
	switch {
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects: correct the url")
	case to.Scheme != from.URL.Scheme || hostPort(to) != hostPort(from.URL):
		there := url.URL{Scheme: to.Scheme, Host: to.Host, Path: "/"}
		return fmt.Errorf("redirect to another host or scheme, %s: if that is right, write it as the url", excerpt([]byte(there.String())))
	case req.Method != from.Method:
		return fmt.Errorf("redirect that would make a %s of a %s: ask where it leads to, %s", req.Method, from.Method, excerpt([]byte(to.EscapedPath())))
	}
	return nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// httpRequest is one request.
type httpRequest struct {
	method string
	url    *url.URL
	header http.Header // kept as it is; User-Agent and Accept-Encoding are added
	body   string
}

// exchange sends q and reads the answer, uncompressed, into b. It ends with ctx,
// whose cause it then wraps. What it returns of the answer has no body to read.
//
// An error is a [*ConnectError] if no connection came about, be it to the
// server, its proxy or the endpoint of OAuth2, and a [*statusError] if the
// status is not one of 200 to 299. None repeats a URL or a
// login, nor do the errors that b.secrets covers.
func (c *httpClient) exchange(ctx context.Context, q httpRequest, b *httpBody) (*http.Response, error) {
	b.secrets = &httpSecrets{config: &c.source.HTTP, source: c.source.URL, asked: q.url}
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(b.secrets.watch(ctx), &httptrace.ClientTrace{
		GetConn: func(string) { connected.Store(false) }, // once more if a kept one was dead
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, q.method, "", strings.NewReader(q.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.URL, req.Host = q.url, q.url.Host
	// Some servers send a body behind their answer to a HEAD. On a connection that
	// is kept net/http would find it, and print it in the standard log.
	req.Close = q.method == http.MethodHead
	// Its own for each request: the login is written into it, and one that is
	// there already would not be read again.
	req.Header = q.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	setDefault(req.Header, "User-Agent", "sql2metrics/"+version.Version)
	setDefault(req.Header, "Accept-Encoding", "gzip")

	resp, err := c.client.Do(req)
	switch {
	case err == nil:
	case resp != nil: // a redirect that is not followed
		return nil, b.secrets.coverSent(err)
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, context.Cause(ctx)
	case !connected.Load():
		if ctx.Err() != nil {
			err = fmt.Errorf("no connection: %w", context.Cause(ctx))
		}
		return nil, &ConnectError{Source: c.source.Name, Err: b.secrets.coverSent(err)}
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case strings.Contains(err.Error(), "parse Location header"):
		return nil, errors.New("the server redirects to what is no URL: correct the url")
	case strings.Contains(err.Error(), "malformed HTTP"):
		return nil, fmt.Errorf("what answers does not speak HTTP: correct the port, or http:// and https://: %w", b.secrets.coverSent(err))
	default:
		return nil, fmt.Errorf("no answer: %w", b.secrets.coverSent(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return resp, &statusError{resp.StatusCode, b.beginning(resp), resp.Header.Get("Location") != ""}
	}
	if err := b.read(resp, c.limit); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return resp, b.secrets.coverSent(err)
	}
	return resp, nil
}

func setDefault(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

// close ends the idle connections. The caller has ended its requests.
func (c *httpClient) close() { c.client.CloseIdleConnections() }

// statusError is an answer that is none.
type statusError struct {
	code  int
	said  string // the beginning of the body
	leads bool   // elsewhere
}

func (e *statusError) Error() string {
	text := "the server answered " + statusText(e.code)
	if e.said != "" {
		text += " (" + e.said + ")"
	}
	return text + e.advice()
}

// statusText does not repeat the server's own words, which have no bounds.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// advice says what to do about a status.
func (e *statusError) advice() string {
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ": correct basic_auth, authorization or tls_config of the source"
	case http.StatusNotFound:
		return ": correct the path"
	case http.StatusProxyAuthRequired:
		return ": write the proxy's login in proxy_url"
	case http.StatusTooManyRequests:
		return ": ask less often"
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if e.leads {
			return ": set follow_redirects, or write as the url where it leads to"
		}
		return ": it does not say where to; correct the url"
	case http.StatusNotModified:
		return ": that answers a condition; delete headers such as If-None-Match and If-Modified-Since"
	}
	return ""
}
