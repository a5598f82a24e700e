package sources

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	prometheusconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"sql2metrics/config"
)

// TestExpositionAsksAsPrometheus: what a target is told of formats, names,
// compression and time is what Prometheus's own scrape loop tells it.
func TestExpositionAsksAsPrometheus(t *testing.T) {
	protobufFirst := append([]config.ScrapeProtocol{config.PrometheusProto}, defaultProtocols...)
	cases := map[string]struct {
		prometheus string // in scrape_configs
		source     *config.Scrape
		timeout    time.Duration // 1s
	}{
		"default":           {source: &config.Scrape{Protocols: defaultProtocols, Compression: true}},
		"nothing_said":      {},
		"native_histograms": {"scrape_native_histograms: true", &config.Scrape{Protocols: protobufFirst, Compression: true}, 0},
		"one": {
			"scrape_protocols: [PrometheusText0.0.4]",
			&config.Scrape{Protocols: []config.ScrapeProtocol{config.PrometheusText0_0_4}, Compression: true}, 0,
		},
		"other_order": {
			"scrape_protocols: [PrometheusText1.0.0, PrometheusProto, OpenMetricsText1.0.0]",
			&config.Scrape{Compression: true, Protocols: []config.ScrapeProtocol{
				config.PrometheusText1_0_0, config.PrometheusProto, config.OpenMetricsText1_0_0,
			}}, 0,
		},
		"underscores": {"metric_name_escaping_scheme: underscores", &config.Scrape{EscapingScheme: model.UnderscoreEscaping, Compression: true}, 0},
		"dots":        {"metric_name_escaping_scheme: dots", &config.Scrape{EscapingScheme: model.DotsEscaping, Compression: true}, 0},
		"values":      {"metric_name_escaping_scheme: values", &config.Scrape{EscapingScheme: model.ValueEncodingEscaping, Compression: true}, 0},
		"identity":    {"enable_compression: false", &config.Scrape{}, 0},
		"timeout":     {"scrape_timeout: 250ms", nil, 250 * time.Millisecond},
	}
	scrapes := "scrape_configs:\n"
	for name, c := range cases {
		scrapes += fmt.Sprintf("- {job_name: %s, scrape_interval: 1s, metrics_path: /%[1]s, %s}\n", name, c.prometheus)
	}
	theirs := askedByPrometheus(t, scrapes, len(cases))
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			asked := make(chan http.Header, 1)
			e := openExposition(t, serve(t, func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Clone() }), time.Minute)
			e.source.Scrape, e.source.Timeout = c.source, time.Second
			if c.timeout != 0 {
				e.source.Timeout = c.timeout
			}
			e, err := OpenExposition(e.source)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			e.source.Timeout = time.Minute // which goes by its clock, and not by what it has told the target
			if _, _, err := e.Scrape(t.Context()); err != nil {
				t.Fatal(err)
			}
			ours := <-asked
			want := theirs[name].Clone()
			if !strings.HasPrefix(want.Get("User-Agent"), "Prometheus/") || !strings.HasPrefix(ours.Get("User-Agent"), "sql2metrics/") {
				t.Errorf("asked as %q, Prometheus as %q", ours.Get("User-Agent"), want.Get("User-Agent"))
			}
			want.Del("User-Agent")
			ours.Del("User-Agent")
			if diff := cmp.Diff(want, ours); diff != "" {
				t.Errorf("asked otherwise than Prometheus (-theirs +ours):\n%s", diff)
			}
		})
	}
}

// askedByPrometheus returns the headers of the first request for each job.
func askedByPrometheus(t *testing.T, scrapes string, jobs int) map[string]http.Header {
	t.Helper()
	var (
		mu    sync.Mutex
		asked = map[string]http.Header{}
		all   = make(chan struct{})
	)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		job := strings.TrimPrefix(r.URL.Path, "/")
		if _, known := asked[job]; known {
			return
		}
		if asked[job] = r.Header.Clone(); len(asked) == jobs {
			close(all)
		}
	}))
	defer server.Close()
	cfg, err := prometheusconfig.Load(scrapes, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m, err := scrape.NewManager(&scrape.Options{DiscoveryReloadInterval: model.Duration(10 * time.Millisecond)},
		nil, nil, nil, nowhere{}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ApplyConfig(cfg); err != nil {
		t.Fatal(err)
	}
	groups := map[string][]*targetgroup.Group{}
	for _, c := range cfg.ScrapeConfigs {
		address := model.LabelValue(strings.TrimPrefix(server.URL, "http://"))
		groups[c.JobName] = []*targetgroup.Group{{Targets: []model.LabelSet{{model.AddressLabel: address}}}}
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- groups
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(targets) })
	defer running.Wait()
	defer m.Stop()
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Fatal("Prometheus has not scraped every job")
	}
	return asked
}

// nowhere stores nothing of what Prometheus appends.
type nowhere struct{}

func (nowhere) AppenderV2(context.Context) storage.AppenderV2 { return nowhere{} }

func (nowhere) Append(storage.SeriesRef, labels.Labels, int64, int64, float64, *histogram.Histogram, *histogram.FloatHistogram, storage.AppendV2Options) (storage.SeriesRef, error) {
	return 0, nil
}

func (nowhere) Commit() error   { return nil }
func (nowhere) Rollback() error { return nil }
