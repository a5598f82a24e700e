package sources

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"sql2metrics/config"
)

const (
	// accept asks for what Prometheus's own default asks for: OpenMetrics
	// first, because it alone has exemplars and start timestamps.
	accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7," +
		"application/openmetrics-text;version=0.0.1;q=0.6," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5," +
		"text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
)

// Exposition is a source of type prometheus: a page of metrics that is
// scraped. It is no [Source], because it has no queries. It is for one
// goroutine.
type Exposition struct {
	source config.Source
	client *httpClient
	header http.Header
	body   httpBody
}

// OpenExposition returns the exposition that s describes, of type
// [config.TypePrometheus]. It connects to nothing. An error is something that
// no server could mend, such as a certificate file that is not there. The
// caller closes the exposition.
func OpenExposition(s config.Source) (*Exposition, error) {
	client, err := newHTTPClient(s)
	if err != nil {
		return nil, err
	}
	return &Exposition{
		source: s,
		client: client,
		header: http.Header{
			"Accept":          {accept},
			"Accept-Encoding": {"gzip"},
			"X-Prometheus-Scrape-Timeout-Seconds": {
				strconv.FormatFloat(s.Timeout.Seconds(), 'f', -1, 64),
			},
		},
	}, nil
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
	request := httpRequest{method: http.MethodGet, url: e.source.URL, header: e.header}
	resp, err := e.client.exchange(limited, request, &e.body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{code: resp.StatusCode}
	}
	switch {
	case err == nil:
		return e.body.take(), resp.Header.Get("Content-Type"), nil
	case errors.As(err, new(*ConnectError)):
		return nil, "", err
	}
	return nil, "", fmt.Errorf("scrape source %s: %w", e.source.Name, err)
}

// Close ends the connections. The caller has stopped scraping.
func (e *Exposition) Close() error {
	e.client.close()
	return nil
}
