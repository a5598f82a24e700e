package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/klauspost/compress/gzip"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/version"

	"sql2metrics/config"
)

const (
	// accept asks for what Prometheus's own default asks for: OpenMetrics
	// first, because it alone has exemplars and start timestamps.
	accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7," +
		"application/openmetrics-text;version=0.0.1;q=0.6," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5," +
		"text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
	// maxBody bounds an exposition, uncompressed: some 600,000 series.
	maxBody = 64 << 20
	// maxDrain is how much of an answer nobody wants is read, to keep its
	// connection for the next.
	maxDrain = 64 << 10
)

// Exposition is a source of type prometheus: a page of metrics that is
// scraped. It is no [Source], because it has no queries. It is for one
// goroutine.
type Exposition struct {
	source config.Source
	client *http.Client
	header http.Header

	body bytes.Buffer
	gzip gzip.Reader
}

// OpenExposition returns the exposition that s describes, of type
// [config.TypePrometheus]. It connects to nothing. An error is something that
// no server could mend, such as a certificate file that is not there. The
// caller closes the exposition.
func OpenExposition(s config.Source) (*Exposition, error) {
	client, err := promconfig.NewClientFromConfig(s.HTTP, s.Name)
	if err != nil {
		return nil, fmt.Errorf("make its HTTP client: %w", err)
	}
	if s.HTTP.FollowRedirects {
		client.CheckRedirect = sameHost
	}
	return &Exposition{
		source: s,
		client: client,
		header: http.Header{
			"Accept":          {accept},
			"Accept-Encoding": {"gzip"},
			"User-Agent":      {"sql2metrics/" + version.Version},
			"X-Prometheus-Scrape-Timeout-Seconds": {
				strconv.FormatFloat(s.Timeout.Seconds(), 'f', -1, 64),
			},
		},
	}, nil
}

// sameHost lets redirects stay on the host that the operator named: what it
// answers must not send the agent's login elsewhere.
func sameHost(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects: correct the url")
	case req.URL.Host != via[0].URL.Host:
		return fmt.Errorf("redirect to another host, %s: if that is right, write it as the url", req.URL.Host)
	}
	return nil
}

// Scrape gets the page. The body is valid until the next call; contentType is
// what the server calls it. Scrape ends with ctx, whose error it then wraps,
// and after the source's timeout, which is a [context.DeadlineExceeded]. All
// errors name the source; one because the server could not be reached is a
// [*ConnectError].
func (e *Exposition) Scrape(ctx context.Context) (body []byte, contentType string, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, e.source.Timeout,
		fmt.Errorf("no whole page within %s: %w", e.source.Timeout, context.DeadlineExceeded))
	defer cancel()
	contentType, err = e.get(limited)
	var connect *ConnectError
	switch {
	case err == nil:
		return e.body.Bytes(), contentType, nil
	case limited.Err() != nil:
		err = context.Cause(limited)
	case errors.As(err, &connect):
		return nil, "", err
	}
	return nil, "", fmt.Errorf("scrape source %s: %w", e.source.Name, err)
}

// get fills e.body.
func (e *Exposition) get(ctx context.Context) (contentType string, err error) {
	req := (&http.Request{Method: http.MethodGet, URL: e.source.URL, Header: e.header.Clone()}).WithContext(ctx)
	resp, err := e.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL says nothing that the source's name does not
		}
		if resp != nil { // a redirect that is not followed
			return "", err
		}
		return "", &ConnectError{Source: e.source.Name, Err: err}
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		_ = resp.Body.Close()
	}()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New("the server answered " + resp.Status + advice(resp.StatusCode))
	}
	var reader io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if err := e.gzip.Reset(resp.Body); err != nil {
			return "", fmt.Errorf("read gzip: %w", err)
		}
		reader = &e.gzip
	}
	e.body.Reset()
	n, err := e.body.ReadFrom(io.LimitReader(reader, maxBody+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the page: %w", err)
	case n > maxBody:
		return "", fmt.Errorf("the page is larger than %d MiB: scrape less, or split it into several sources", maxBody>>20)
	}
	return resp.Header.Get("Content-Type"), nil
}

// advice says what to do about a status.
func advice(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ": correct basic_auth, authorization or tls_config of the source"
	case http.StatusNotFound:
		return ": correct the path of its url"
	}
	return ""
}

// Close ends the connections. The caller has stopped scraping.
func (e *Exposition) Close() error {
	e.client.CloseIdleConnections()
	return nil
}
