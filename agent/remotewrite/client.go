package remotewrite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// The headers by which a receiver of 2.0 says what it stored.
const (
	headerSamplesWritten    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistogramsWritten = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplarsWritten  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// maxDrain is how much of a body is read so that its connection can be used
// again.
const maxDrain = 64 << 10

// client posts requests to one endpoint. It tries once: retries, and what an
// answer means, are its caller's.
type client struct {
	http    *http.Client
	url     string
	timeout time.Duration
	headers map[config.Protocol]http.Header
}

func newClient(e config.RemoteWrite, userAgent string) (*client, error) {
	cfg := e.HTTP
	// A redirected POST becomes a GET, and a login page answers it with 200.
	cfg.FollowRedirects = false
	c, err := promconfig.NewClientFromConfig(cfg, "remote_write")
	if err != nil {
		return nil, fmt.Errorf("build HTTP client: %w", err)
	}
	if e.SigV4 != nil {
		c.Transport = &signing{config: e.SigV4, next: c.Transport}
	}
	own := func(contentType, version string) http.Header {
		h := http.Header{}
		for name, value := range e.Headers {
			h.Set(name, value.Reveal())
		}
		h.Set("Content-Encoding", "snappy")
		h.Set("Content-Type", contentType)
		h.Set("User-Agent", userAgent)
		h.Set("X-Prometheus-Remote-Write-Version", version)
		return h
	}
	return &client{
		http:    c,
		url:     e.URL.String(),
		timeout: e.RemoteTimeout,
		headers: map[config.Protocol]http.Header{
			config.ProtocolV1: own("application/x-protobuf", "0.1.0"),
			config.ProtocolV2: own("application/x-protobuf;proto="+string(config.ProtocolV2), "2.0.0"),
		},
	}, nil
}

// answer is what came of one attempt.
type answer struct {
	protocol   config.Protocol // of the request
	at         time.Time       // when it landed
	err        error           // no status was received; says why
	status     int
	retryAfter string
	location   string // of a redirect: scheme and host
	words      string // the beginning of an error's body
	page       bool   // the body is HTML

	counted bool       // one of the Written headers is there, with a number
	written wal.Totals // what they say; a missing one says zero
}

// post sends body once.
func (c *client) post(ctx context.Context, p config.Protocol, body []byte) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return answer{protocol: p, err: withoutSecrets(err)}
	}
	req.Header = c.headers[p].Clone()
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{protocol: p, err: withoutSecrets(err)}
	}
	defer resp.Body.Close()

	a := answer{protocol: p, status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
	a.readWritten(resp.Header)
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	a.page = kind == "text/html"
	if resp.StatusCode/100 == 3 {
		if to, err := resp.Location(); err == nil {
			a.location = to.Scheme + "://" + to.Host
		}
	}
	if resp.StatusCode/100 != 2 {
		// The status is the answer. Words that cannot be read are no words.
		words, _ := io.ReadAll(io.LimitReader(resp.Body, maxWords+1))
		a.words = printable(string(words))
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	return a
}

func (a *answer) readWritten(h http.Header) {
	read := func(name string) uint64 {
		n, err := strconv.ParseUint(h.Get(name), 10, 64)
		if err != nil {
			return 0 // as if it were not there
		}
		a.counted = true
		return n
	}
	a.written = wal.Totals{
		Samples:    read(headerSamplesWritten),
		Histograms: read(headerHistogramsWritten),
		Exemplars:  read(headerExemplarsWritten),
	}
}
