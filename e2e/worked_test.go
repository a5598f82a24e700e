package e2e

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// TestWorkedNumbers counts requests for two minutes, one sample per series and
// minute, and asks PromQL for what was added in the second.
func TestWorkedNumbers(t *testing.T) {
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 0)
	s.exec(t, "CREATE TABLE requests (handler TEXT, code INTEGER, n INTEGER)")
	s.exec(t, "INSERT INTO requests VALUES ('/handler1', 200, 100), ('/handler1', 500, 10), ('/handler2', 200, 50), ('/handler2', 400, 5)")
	p := newPipe(t, remoteWrite(r.URL())+`
sources:
  - {name: web, type: sqlite, path: `+s.path+`, job: web, instance: web-0, collectors: [requests]}
collectors:
  - collector_name: requests
    metrics:
      - metric_name: requests_total
        type: counter
        help: Requests by handler and code.
        key_labels: [handler, code]
        values: [n]
        query: SELECT handler, code, n FROM requests
`)
	second := time.Now().Truncate(time.Minute)
	first := second.Add(-time.Minute)

	p.collect(t, first)
	s.exec(t, "UPDATE requests SET n = CASE handler || code WHEN '/handler1200' THEN 300 WHEN '/handler1500' THEN 15 WHEN '/handler2200' THEN 150 ELSE 35 END")
	p.collect(t, second)
	p.ship(t)

	for promQL, want := range map[string][4]float64{
		"requests_total":                            {300, 15, 150, 35},
		"requests_total offset 1m":                  {100, 10, 50, 5},
		"requests_total - requests_total offset 1m": {200, 5, 100, 30},
		// Prometheus extrapolates to the edges of the range.
		"increase(requests_total[2m])": {300, 10, 150, 35},
	} {
		got := r.Query(t, "sum by (handler, code) ("+promQL+")", second)
		if diff := cmp.Diff(map[string]float64{
			`{code="200", handler="/handler1"}`: want[0],
			`{code="500", handler="/handler1"}`: want[1],
			`{code="200", handler="/handler2"}`: want[2],
			`{code="400", handler="/handler2"}`: want[3],
		}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", promQL, diff)
		}
	}
	labels := `{__name__="requests_total", code="200", handler="/handler1", instance="web-0", job="web"}`
	want := []receiver.Sample{{T: first.UnixMilli(), V: 100}, {T: second.UnixMilli(), V: 300}}
	if diff := cmp.Diff(want, r.Samples(t, "requests_total")[labels]); diff != "" {
		t.Errorf("samples of %s (-want +got):\n%s", labels, diff)
	}
}

// pipe is the way from rows to receiver without clocks: the steps of its
// workers are called by hand, with the times they are to see.
type pipe struct {
	log     *wal.Log
	workers []*collect.Worker
	shipper *remotewrite.Shipper
}

// newPipe builds what a configuration with one source and one endpoint says.
func newPipe(t *testing.T, yaml string) *pipe {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, config.Options{StoragePath: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	logger, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	log, err := wal.Open(t.Context(), wal.Options{Path: c.Storage.Path, Logger: logger}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, log.Close) })
	shipper, err := remotewrite.New(remotewrite.Options{Endpoint: c.RemoteWrite[0], Log: log, Logger: logger, UserAgent: "e2e", Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, shipper.Close) })
	source := c.Sources[0]
	client, err := sources.Open(source, sources.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, client.Close) })
	p := &pipe{log: log, shipper: shipper}
	metrics := collect.NewMetrics(registry)
	for _, q := range source.Queries {
		w := collect.NewWorker(collect.WorkerOptions{
			Source: source, Query: q, Client: client, Health: &collect.Health{},
			Log: log, Metrics: metrics, Logger: logger, Clock: time.Now,
		})
		t.Cleanup(w.Close)
		p.workers = append(p.workers, w)
	}
	return p
}

// collect runs every query once, at the given tick.
func (p *pipe) collect(t *testing.T, tick time.Time) {
	t.Helper()
	for _, w := range p.workers {
		if err := w.Step(t.Context(), tick); err != nil {
			t.Fatalf("collect: %v", err)
		}
	}
}

// ship sends what is in the log.
func (p *pipe) ship(t *testing.T) {
	t.Helper()
	if err := p.log.Sync(time.Now()); err != nil {
		t.Fatalf("sync: %v", err)
	}
	p.shipper.Flush(t.Context())
}

func closeAll(t *testing.T, closers ...func() error) {
	t.Helper()
	for _, c := range closers {
		if err := c(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
