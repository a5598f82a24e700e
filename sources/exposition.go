package sources

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"sql2metrics/config"
)

// mediaTypes are the formats of expositions, as Prometheus asks for them.
var mediaTypes = map[config.ScrapeProtocol]string{
	config.PrometheusProto:      "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
	config.OpenMetricsText1_0_0: "application/openmetrics-text;version=1.0.0",
	config.OpenMetricsText0_0_1: "application/openmetrics-text;version=0.0.1",
	config.PrometheusText1_0_0:  "text/plain;version=1.0.0",
	config.PrometheusText0_0_4:  "text/plain;version=0.0.4",
}

// defaultProtocols has OpenMetrics first, because of the texts it alone has
// exemplars and start timestamps.
var defaultProtocols = []config.ScrapeProtocol{
	config.OpenMetricsText1_0_0, config.OpenMetricsText0_0_1, config.PrometheusText1_0_0, config.PrometheusText0_0_4,
}

// firstWeight is that of the format most wanted, in tenths: Prometheus knows
// six, and has one weight more for any other.
const firstWeight = 7

// Exposition is a source of type prometheus: a page of metrics that is
// scraped. It is no [Source], because it has no queries. It is for one
// goroutine.
type Exposition struct {
	source config.Source
	client *httpClient
	header http.Header
	// fallback is what a page is of whose Content-Type says nothing; empty: it
	// is returned as it is.
	fallback string
	body     httpBody
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
	scrape := config.Scrape{Compression: true}
	if s.Scrape != nil {
		scrape = *s.Scrape
	}
	coding := "identity"
	if scrape.Compression {
		coding = "gzip"
	}
	return &Exposition{
		source:   s,
		client:   client,
		fallback: mediaTypes[scrape.FallbackProtocol],
		header: http.Header{
			"Accept":          {accept(scrape)},
			"Accept-Encoding": {coding},
			"X-Prometheus-Scrape-Timeout-Seconds": {
				strconv.FormatFloat(s.Timeout.Seconds(), 'f', -1, 64),
			},
		},
	}, nil
}

// accept returns the header by which Prometheus negotiates a format.
func accept(s config.Scrape) string {
	protocols := s.Protocols
	if len(protocols) == 0 {
		protocols = defaultProtocols
	}
	var header strings.Builder
	weight := firstWeight
	for _, p := range protocols {
		header.WriteString(mediaTypes[p])
		if p == config.OpenMetricsText1_0_0 || p == config.PrometheusText1_0_0 {
			fmt.Fprintf(&header, ";%s=%s", model.EscapingKey, s.EscapingScheme)
		}
		fmt.Fprintf(&header, ";q=0.%d,", weight)
		weight--
	}
	fmt.Fprintf(&header, "*/*;q=0.%d", weight)
	return header.String()
}

// Scrape gets the page. The body is valid until the next call; contentType is
// what the server calls it, or the source's fallback where that is no format of
// metrics. Scrape ends with ctx, whose error it then wraps, and after the
// source's timeout. All errors name the source; one because no connection came
// about is a [*ConnectError], and a page that is late a
// [context.DeadlineExceeded].
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
		return e.body.take(), e.mediaType(resp.Header.Get("Content-Type")), nil
	case errors.As(err, new(*ConnectError)):
		return nil, "", err
	}
	return nil, "", fmt.Errorf("scrape source %s: %w", e.source.Name, err)
}

// mediaType returns the format of a page of that Content-Type. What is none is
// decided as Prometheus's parsers do, which know OpenMetrics 2.0 only on demand.
func (e *Exposition) mediaType(contentType string) string {
	if e.fallback == "" {
		return contentType
	}
	name, parameters, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
	case name == "text/plain", name == "application/vnd.google.protobuf":
		return contentType
	case name == "application/openmetrics-text" && parameters["version"] != "2.0.0":
		return contentType
	}
	return e.fallback
}

// Close ends the connections. The caller has stopped scraping.
func (e *Exposition) Close() error {
	e.client.close()
	return nil
}
