package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// gatherTimeout is below the scrape timeout that Prometheus defaults to.
	gatherTimeout = 9 * time.Second
	// maxInFlight bounds the answers that are made at once, those that nobody
	// waits for any more too.
	maxInFlight = 4
	// timeoutHeader has the seconds that a scrape may take.
	timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"
	// underway is what of that is left to the network.
	underway = 500 * time.Millisecond
)

func metrics(o Options) http.Handler {
	gather := promhttp.HandlerFor(o.Page, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            o.Registry,
		MaxRequestsInFlight: maxInFlight,
		EnableOpenMetrics:   true,
	})
	return promhttp.InstrumentMetricHandler(o.Registry, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := scrapeTimeout(r)
		http.TimeoutHandler(gather, timeout, fmt.Sprintf("The answer took longer than %s.\n", timeout)).ServeHTTP(w, r)
	}))
}

// scrapeTimeout returns how long an answer may take so that whoever asks is
// still there to read it.
func scrapeTimeout(r *http.Request) time.Duration {
	seconds, err := strconv.ParseFloat(r.Header.Get(timeoutHeader), 64)
	if err != nil || !(seconds > 0 && seconds < gatherTimeout.Seconds()) {
		return gatherTimeout
	}
	wanted := time.Duration(seconds * float64(time.Second))
	return max(wanted-underway, wanted/2)
}
