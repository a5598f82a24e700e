package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// BenchmarkScrape is the agent beside Debian's Prometheus in agent mode: both
// scrape one target with 20,000 series each second, at the same time, so that
// whatever else the machine does hits both, and each writes to a receiver of
// its own that forgets the samples. They begin to count with their sixth
// scrape to arrive and end thirty later.
//
// Equal are the interval, the format, gzip, what a scrape attaches and adds
// (up and its companions), and that both keep a log on disk and write from
// that. All else is left as each has it by default, but for the agent's own
// metrics and bound of samples per second, which are off:
//   - Prometheus writes 1.0 and the metadata once a minute in requests of its
//     own, the agent 2.0 with the metadata in each request;
//   - Prometheus sends what it has at once in up to 500 samples a request, the
//     agent up to 2,000 and after five seconds at most;
//   - Prometheus syncs its log when a segment is full, the agent each second.
//
// The CPU of the target and of the receivers is that of the benchmark itself.
func BenchmarkScrape(b *testing.B) {
	for name, openMetrics := range map[string]bool{"OpenMetrics": true, "text": false} {
		b.Run(name, func(b *testing.B) {
			path := prometheusPath(b)
			target := startInstrumented(b, openMetrics)
			for b.Loop() {
				ours, theirs := &scraper{receiver: startNullReceiver(b, 0)}, &scraper{receiver: startNullReceiver(b, 0)}
				ours.agent = start(b, setup{config: fmt.Sprintf(benchConfig, ours.receiver.URL) + fmt.Sprintf(`
sources:
  - {name: app, type: prometheus, job: app, instance: "app-0:8080", url: %s}
`, target.URL)})
				theirs.agent = startPrometheus(b, path, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: app
    static_configs: [{targets: ["%s"]}]
    relabel_configs: [{target_label: instance, replacement: "app-0:8080"}]
remote_write: [{url: %s}]
`, strings.TrimPrefix(target.URL, "http://"), theirs.receiver.URL))
				measureBoth(b, ours, theirs)
				if n := sum(ours.metrics(b), "sql2metrics_query_series"); n != instrumentedSeries {
					b.Errorf("the agent has %v series, want %d", n, instrumentedSeries)
				}
				if failed := sum(ours.metrics(b), "sql2metrics_query_errors_total"); failed > 0 {
					b.Errorf("%v scrapes failed", failed)
				}
				ours.report(b, "")
				theirs.report(b, "Prometheus-")
				b.ReportMetric(ours.perSample()/theirs.perSample(), "CPU-ratio")
				ours.agent.stop(b)
				theirs.agent.kill()
			}
		})
	}
}

// measureBoth looks at both until both have ended. One that does not get there
// fails the benchmark.
func measureBoth(b *testing.B, ours, theirs *scraper) {
	b.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	late := time.After(5 * time.Minute)
	for !ours.ended || !theirs.ended {
		select {
		case <-look.C:
			ours.measure(b)
			theirs.measure(b)
		case <-late:
			b.Fatalf("%d samples of the agent's arrived and %d of Prometheus's", ours.receiver.samples.Load(), theirs.receiver.samples.Load())
		}
	}
}

// scraper is an agent with what it took from one number of samples received to
// another.
type scraper struct {
	*agent
	receiver *nullReceiver
	usage
	began, ended bool
	rss          float64
}

const (
	instrumentedSeries = 20_000
	companions         = 5 // up and the scrape_* series
	perScrape          = instrumentedSeries + companions
)

// measure looks at the receiver, and at what the agent has used so far if it
// has got there where the measurement begins or ends.
func (s *scraper) measure(b *testing.B) {
	b.Helper()
	samples, wire := float64(s.receiver.samples.Load()), float64(s.receiver.bytes.Load())
	pid := s.cmd.Process.Pid
	switch {
	case s.ended:
	case !s.began && samples > 5*perScrape:
		s.began = true
		s.samples, s.wire, s.usage.cpu = -samples, -wire, -procCPU(b, pid)
	case s.began && samples+s.samples >= 30*perScrape:
		s.ended = true
		s.samples += samples
		s.wire += wire
		s.usage.cpu += procCPU(b, pid)
		s.rss = procField(b, pid, "status", "VmRSS")
	case s.hasExited():
		b.Fatalf("process %d has exited", pid)
	}
}

func (s *scraper) perSample() float64 { return s.usage.cpu.Seconds() / s.samples }

func (s *scraper) report(b *testing.B, whose string) {
	b.ReportMetric(s.perSample()*1e6, whose+"CPU-s/Msample")
	b.ReportMetric(s.wire/s.samples, whose+"wire-B/sample")
	b.ReportMetric(s.rss/1e3, whose+"MB-VmRSS")
}

// startInstrumented serves what an instrumented program does, by client_golang:
// 10,000 counters, a quarter of which move each second, 3,000 gauges, a half of
// which do, and 500 histograms of 14 series, a half of which see one more
// observation. The pages are made beforehand, gzip and all, and begin again
// after half a minute.
func startInstrumented(b *testing.B, openMetrics bool) *httptest.Server {
	var (
		requests = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests answered, by route and status.",
		}, []string{"service", "method", "route", "code", "zone"})
		written = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "queue_written_bytes_total", Help: "Bytes written to a queue.",
		}, []string{"cluster", "topic", "partition", "client"})
		depth = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "queue_depth", Help: "Messages that wait in a queue.",
		}, []string{"cluster", "topic", "partition", "client"})
		load = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "worker_load_ratio", Help: "Part of the time that a worker is busy.",
		}, []string{"service", "pool", "worker", "zone", "version"})
		took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time to answer a request.", Buckets: prometheus.DefBuckets,
		}, []string{"service", "method", "route"})
		random = rand.New(rand.NewPCG(1, 2))
		moves  []func()
	)
	for i := range 5000 {
		n, service, zone := strconv.Itoa(i%100), fmt.Sprintf("service-%d", i/500), fmt.Sprintf("eu-west-%d", i%3)
		counter := requests.WithLabelValues(service, "GET", "/api/v1/items/"+n, strconv.Itoa(200+i%500/100), zone)
		bytes := written.WithLabelValues("kafka-a", "orders-"+n, strconv.Itoa(i/100), "client-"+strconv.Itoa(i%7))
		counter.Add(float64(random.IntN(1e6)))
		bytes.Add(float64(random.IntN(1e9)))
		if i%4 == 0 {
			moves = append(moves, counter.Inc, func() { bytes.Add(float64(random.IntN(1e5))) })
		}
	}
	for i := range 1500 {
		n := strconv.Itoa(i % 100)
		queue := depth.WithLabelValues("kafka-a", "orders-"+n, strconv.Itoa(i/100), "client-"+strconv.Itoa(i%7))
		worker := load.WithLabelValues(fmt.Sprintf("service-%d", i/150), "default", "worker-"+n, fmt.Sprintf("eu-west-%d", i%3), "v1.17.3")
		worker.Set(random.Float64())
		if i%2 == 0 {
			moves = append(moves, func() { queue.Set(float64(random.IntN(1000))) }, func() { worker.Set(random.Float64()) })
		}
	}
	for i := range 500 {
		h := took.WithLabelValues(fmt.Sprintf("service-%d", i/50), "GET", fmt.Sprintf("/api/v1/items/%d", i%50))
		h.Observe(random.ExpFloat64())
		if i%2 == 0 {
			moves = append(moves, func() { h.Observe(random.ExpFloat64()) })
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(requests, written, depth, load, took)
	render := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: openMetrics})
	ask := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	ask.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	ask.Header.Set("Accept-Encoding", "gzip")
	var pages [30]*httptest.ResponseRecorder
	for i := range pages {
		pages[i] = httptest.NewRecorder()
		render.ServeHTTP(pages[i], ask)
		for _, move := range moves {
			move()
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page := pages[time.Now().Unix()%int64(len(pages))]
		maps.Copy(w.Header(), page.Header())
		_, _ = w.Write(page.Body.Bytes())
	}))
	b.Cleanup(s.Close)
	return s
}
