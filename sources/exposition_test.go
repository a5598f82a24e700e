package sources

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

func openExposition(t *testing.T, address string, timeout time.Duration) *Exposition {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	e, err := OpenExposition(config.Source{
		Name: "target", Type: config.TypePrometheus, URL: u, Timeout: timeout,
		HTTP: promconfig.HTTPClientConfig{FollowRedirects: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func serve(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL + "/metrics"
}

func TestExposition(t *testing.T) {
	plain := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "a 1\n")
	}
	zipped := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "a 1\n")
		_ = z.Close()
	}
	moved := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		plain(w, r)
	}
	for name, handle := range map[string]http.HandlerFunc{"plain": plain, "gzip": zipped, "a redirect on its host": moved} {
		t.Run(name, func(t *testing.T) {
			e := openExposition(t, serve(t, handle), time.Minute)
			for range 3 {
				body, kind, err := e.Scrape(t.Context())
				if err != nil || string(body) != "a 1\n" || kind != "text/plain; version=0.0.4" {
					t.Errorf("got %q, %q, %v", body, kind, err)
				}
			}
		})
	}
}

// What goes wrong is named, and one bad page does not spoil the next.
func TestExpositionErrors(t *testing.T) {
	connect := func(err error) bool {
		var c *ConnectError
		return errors.As(err, &c)
	}
	timeout := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) && !connect(err) }
	other := func(err error) bool { return !connect(err) && !timeout(err) }
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect to another host was followed") })
	for name, c := range map[string]struct {
		handle http.HandlerFunc // nil: nobody listens
		kind   func(error) bool
		says   string
	}{
		"nobody listens": {nil, connect, "connect to source target: dial tcp"},
		"not there": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
			other, "scrape source target: the server answered 404 Not Found: correct the path",
		},
		"no login": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
			other, "the server answered 401 Unauthorized: correct basic_auth",
		},
		"unavailable, at length": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write(make([]byte, 1<<20))
			},
			other, "503 Service Unavailable",
		},
		"not an OK": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
			other, "204 No Content",
		},
		"redirect to another host": {
			func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) },
			other, "redirect to another host",
		},
		"redirect to itself": {
			func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/metrics", http.StatusFound) },
			other, "stopped after 10 redirects",
		},
		"never answers": {
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			timeout, "scrape source target: no whole page within 50ms",
		},
		"never ends": {
			func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "a 1\n")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			},
			timeout, "no whole page within 50ms",
		},
		"breaks off": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "a 1\n")
			},
			other, "read the answer after 4 bytes: unexpected EOF",
		},
		"not gzip": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = io.WriteString(w, strings.Repeat("a 1\n", 10))
			},
			other, "read gzip: ",
		},
		"a bomb": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				var member bytes.Buffer
				z := gzip.NewWriter(&member)
				_, _ = z.Write(bytes.Repeat([]byte{'#'}, 1<<20))
				_ = z.Close()
				for range defaultBodyLimit>>20 + 1 {
					_, _ = w.Write(member.Bytes())
				}
			},
			other, "the answer is over the limit of 67108864 bytes, uncompressed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := "http://" + servers.HoldPort(t)
			var mended atomic.Bool
			if c.handle != nil {
				address = serve(t, func(w http.ResponseWriter, r *http.Request) {
					if mended.Load() {
						_, _ = io.WriteString(w, "a 1\n")
						return
					}
					c.handle(w, r)
				})
			}
			e := openExposition(t, address, time.Minute)
			limit, late := time.Minute, strings.Contains(c.says, "within")
			if late {
				limit = 50 * time.Millisecond
			}
			var body []byte
			var err error
			Patiently(limit, func(timeout time.Duration) (tooEarly bool) {
				e.source.Timeout = timeout
				body, _, err = e.Scrape(t.Context())
				return late && connect(err)
			})
			says := strings.Replace(c.says, "50ms", e.source.Timeout.String(), 1)
			switch {
			case err == nil:
				t.Fatalf("got %d bytes and no error", len(body))
			case !c.kind(err):
				t.Errorf("%v is not of its kind", err)
			case !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "source target"):
				t.Errorf("error is %q, want %q in it", err, says)
			}
			if mended.Store(true); c.handle == nil {
				return
			}
			e.source.Timeout = time.Minute
			if body, _, err := e.Scrape(t.Context()); err != nil || string(body) != "a 1\n" {
				t.Errorf("the next page is %q, %v", body, err)
			}
		})
	}
}

func TestExpositionEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := openExposition(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}), time.Minute)
	if _, _, err := e.Scrape(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Scrape returned %v, want context.Canceled", err)
	}
}

// TestExpositionFallback: a page whose Content-Type says nothing is of the
// format that the source falls back to.
func TestExpositionFallback(t *testing.T) {
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for _, c := range []struct {
		said     string
		fallback config.ScrapeProtocol
		want     string
	}{
		{"", "", ""},
		{"", config.PrometheusText0_0_4, "text/plain;version=0.0.4"},
		{"text/html; charset=utf-8", "", "text/html; charset=utf-8"},
		{"text/html; charset=utf-8", config.OpenMetricsText1_0_0, "application/openmetrics-text;version=1.0.0"},
		{"text/plain; =", config.PrometheusProto, proto},
		{"application/openmetrics-text; version=2.0.0", config.PrometheusText1_0_0, "text/plain;version=1.0.0"},
		{"application/openmetrics-text", config.PrometheusProto, "application/openmetrics-text"},
		{"Text/Plain", config.PrometheusProto, "Text/Plain"},
		{"application/vnd.google.protobuf", config.PrometheusText0_0_4, "application/vnd.google.protobuf"},
	} {
		t.Run(c.said+" "+string(c.fallback), func(t *testing.T) {
			e := openExposition(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if c.said != "" {
					w.Header().Set("Content-Type", c.said)
				}
				_, _ = io.WriteString(w, "a 1\n")
			}), time.Minute)
			e.fallback = mediaTypes[c.fallback]
			_, got, err := e.Scrape(t.Context())
			if err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			_, theirs := textparse.New([]byte("a 1\n"), c.said, nil, textparse.ParserOptions{FallbackContentType: c.want})
			if _, err := textparse.New(nil, got, nil, textparse.ParserOptions{}); (err == nil) != (c.fallback != "" || theirs == nil) {
				t.Errorf("Prometheus's parsers take %q otherwise: %v", got, err)
			}
		})
	}
}
