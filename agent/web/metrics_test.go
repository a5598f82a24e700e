package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// slowGatherer answers when it is released.
type slowGatherer struct {
	asked    chan struct{}
	released chan struct{}
}

func (g *slowGatherer) Gather() ([]*dto.MetricFamily, error) {
	g.asked <- struct{}{}
	<-g.released
	return nil, nil
}

// scrape asks h for metrics within so many seconds; none: it does not say.
func scrape(t *testing.T, h http.Handler, seconds string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
	if seconds != "" {
		r.Header.Set(timeoutHeader, seconds)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestInFlight has as many scrapes under way as may be: one more is turned
// away at once, one after them is answered.
func TestInFlight(t *testing.T) {
	g := &slowGatherer{make(chan struct{}), make(chan struct{})}
	h := metrics(Options{Page: g, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	var underway sync.WaitGroup
	for range maxInFlight {
		underway.Go(func() {
			if status, body := scrape(t, h, ""); status != http.StatusOK {
				t.Errorf("one under way is answered %d %s", status, body)
			}
		})
		<-g.asked
	}
	if status, body := scrape(t, h, ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "concurrent") {
		t.Errorf("one too many is answered %d %q, want 503 and why", status, body)
	}
	close(g.released)
	underway.Wait()
	go func() { <-g.asked }()
	if status, body := scrape(t, h, ""); status != http.StatusOK {
		t.Errorf("one after them is answered %d %s", status, body)
	}
}

// TestScrapeTimeout has an answer take longer than the scrape has time: it is
// told, and what still gathers is under way until it has ended.
func TestScrapeTimeout(t *testing.T) {
	g := &slowGatherer{make(chan struct{}, maxInFlight), make(chan struct{})}
	h := metrics(Options{Page: g, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	for range maxInFlight {
		status, body := scrape(t, h, "0.02")
		if status != http.StatusServiceUnavailable || body != "The answer took longer than 10ms.\n" {
			t.Errorf("answered %d %q", status, body)
		}
		<-g.asked
	}
	if status, body := scrape(t, h, ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "concurrent") {
		t.Errorf("while they gather, another one is answered %d %q", status, body)
	}
	close(g.released)
}

func TestTimeoutOfTheHeader(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": gatherTimeout, "soon": gatherTimeout, "-1": gatherTimeout, "NaN": gatherTimeout, "10": gatherTimeout,
		"5": 4500 * time.Millisecond, "1": 500 * time.Millisecond, "0.4": 200 * time.Millisecond,
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
		r.Header.Set(timeoutHeader, header)
		if got := scrapeTimeout(r); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
