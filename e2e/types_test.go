package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/e2e/receiver"
)

// typesConfig has a metric of every type over the tables that newTypesShop
// makes, and the same histogram in every mode, by what is at hand.
const typesConfig = `
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - {name: shop, type: sqlite, path: %s, instance: shop-0, collectors: [types]}
collectors:
  - collector_name: types
    queries:
      - {query_name: requests, query: SELECT seconds FROM requests}
      - {query_name: buckets, query: "SELECT le, below, alone, total, n FROM buckets ORDER BY random()"}
    metrics:
      - metric_name: by_rows_seconds
        type: histogram
        help: Cumulative buckets.
        unit: seconds
        histogram: {mode: buckets, form: both, le: le, bucket: below, sum: total, count: n}
        query_ref: buckets
      - metric_name: by_single_rows_seconds
        type: histogram
        help: Buckets alone.
        histogram: {mode: buckets, form: both, le: le, bucket: alone, cumulative: false, sum: total}
        query_ref: buckets
      - metric_name: by_columns_seconds
        type: histogram
        help: Buckets as columns.
        histogram: {mode: buckets, form: both, buckets: {0.2: a, 0.4: b, 0.6: c, 0.8: d, 1: e, +Inf: f}, sum: s, count: f}
        query: SELECT sum(seconds <= 0.2) AS a, sum(seconds <= 0.4) AS b, sum(seconds <= 0.6) AS c, sum(seconds <= 0.8) AS d, sum(seconds <= 1) AS e, count(*) AS f, sum(seconds) AS s FROM requests
      - metric_name: by_snapshot_seconds
        type: histogram
        help: An observation each row.
        histogram: {mode: snapshot, form: both, value: seconds, buckets: [0.2, 0.4, 0.6, 0.8, 1]}
        query_ref: requests
      - metric_name: by_accumulating_seconds
        type: histogram
        help: New rows.
        histogram: {mode: accumulate, form: both, value: seconds, buckets: [0.2, 0.4, 0.6, 0.8, 1]}
        cursor: {column: id, overlap: 3}
        query: SELECT rowid AS id, seconds FROM requests WHERE rowid > {{cursor}} ORDER BY id
      - metric_name: native_seconds
        type: histogram
        help: Exponential buckets.
        histogram: {mode: snapshot, form: native, value: seconds}
        query_ref: requests
      - metric_name: rpc_seconds
        type: summary
        help: Quantiles.
        summary: {quantile: q, value: v, sum: s, count: n}
        query: SELECT q, v, 2.08 AS s, 10 AS n FROM quantiles
      - {metric_name: node_role, type: stateset, help: Role., values: [role], states: [primary, replica], query: SELECT 'replica' AS role}
      - {metric_name: build, type: info, help: Version., key_labels: [version], query: SELECT '3.1' AS version}
      - {metric_name: health, type: gauge, help: Health., values: [state], value_map: {ok: 1, broken: 0}, query: SELECT 'ok' AS state}
      - {metric_name: shops, type: gauge, help: Shops., key_labels: [name], static_value: 1, query: SELECT 'corner' AS name}
      - {metric_name: requests_total, type: counter, help: Requests., values: [n], query: SELECT count(*) AS n FROM requests}
`

// newTypesShop has a table of ten requests with their durations, one of their
// buckets and one of their quantiles.
func newTypesShop(t *testing.T) *shop {
	s := newShop(t, 0)
	s.exec(t, "CREATE TABLE requests (seconds REAL)")
	s.exec(t, "INSERT INTO requests VALUES (0.02), (0.1), (0.15), (0.15), (0.16), (0.17), (0.18), (0.3), (0.35), (0.5)")
	s.exec(t, "CREATE TABLE buckets (le TEXT, below INTEGER, alone INTEGER, total REAL, n INTEGER)")
	s.exec(t, "INSERT INTO buckets VALUES ('0.2', 7, 7, 2.08, 10), ('0.4', 9, 2, 2.08, 10), ('0.6', 10, 1, 2.08, 10), ('0.8', 10, 0, 2.08, 10), ('1', 10, 0, 2.08, 10)")
	s.exec(t, "CREATE TABLE quantiles (q REAL, v REAL)")
	s.exec(t, "INSERT INTO quantiles VALUES (0.5, 0.165), (0.99, 0.49), (1, 0.5)")
	return s
}

// TestTypes lets the real agent read every type of metric and asks PromQL, the
// request log and the page for them.
func TestTypes(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newTypesShop(t)
	a := start(t, setup{config: fmt.Sprintf(typesConfig, remoteWrite(r.URL()), s.path)})
	for _, name := range []string{"by_rows_seconds_count", "by_single_rows_seconds_count", "by_columns_seconds_count", "by_snapshot_seconds_count", "by_accumulating_seconds_count", "rpc_seconds_count", "node_role", "build_info", "health", "shops", "requests_total"} {
		eventually(t, name, func() error { return atLeast(len(r.Samples(t, name)), 1) })
	}
	histograms := []string{"by_rows_seconds", "by_single_rows_seconds", "by_columns_seconds", "by_snapshot_seconds", "by_accumulating_seconds"}
	for _, native := range append(histograms, "native_seconds") {
		eventually(t, native, func() error { return atLeast(len(r.Query(t, native, time.Now())), 1) })
	}

	one := func(t *testing.T, promQL string) (value float64) {
		t.Helper()
		// There is none after a run that took too long.
		eventually(t, promQL, func() error {
			got := slices.Collect(maps.Values(r.Query(t, promQL, time.Now())))
			if len(got) != 1 {
				return fmt.Errorf("want one value, got %v", got)
			}
			value = got[0]
			return nil
		})
		return value
	}
	// Prometheus interpolates: the ninth of ten observations is at the upper end
	// of the bucket from 0.2 to 0.4.
	const ninety = 0.4
	near := func(t *testing.T, promQL string, want float64) {
		t.Helper()
		if got := one(t, promQL); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", promQL, got, want)
		}
	}
	for _, name := range histograms {
		t.Run(name, func(t *testing.T) {
			for le, want := range map[string]float64{"0.2": 7, "0.4": 9, "0.6": 10, "0.8": 10, "1.0": 10, "+Inf": 10} {
				near(t, fmt.Sprintf("%s_bucket{le=%q}", name, le), want)
			}
			near(t, name+"_sum", 2.08)
			near(t, name+"_count", 10)
			near(t, fmt.Sprintf("histogram_quantile(0.9, %s_bucket)", name), ninety)
			near(t, fmt.Sprintf("histogram_quantile(0.9, %s)", name), ninety)
			near(t, fmt.Sprintf("histogram_count(%s)", name), 10)
			near(t, fmt.Sprintf("histogram_sum(%s)", name), 2.08)
			near(t, fmt.Sprintf("histogram_fraction(-Inf, 0.2, %s)", name), 0.7)
		})
	}
	t.Run("native_seconds", func(t *testing.T) {
		near(t, "histogram_count(native_seconds)", 10)
		near(t, "histogram_sum(native_seconds)", 2.08)
		// A quantile lies in the bucket of its observation; the bounds of schema 3
		// are a factor of 2^(1/8) apart. The 0.9 quantile of ten may be anything
		// from the ninth to the tenth.
		factor := math.Pow(2, 1.0/8)
		for q, want := range map[float64][2]float64{0.05: {0.02, 0.02}, 0.25: {0.15, 0.15}, 0.85: {0.35, 0.35}, 0.9: {0.35, 0.5}} {
			got := one(t, fmt.Sprintf("histogram_quantile(%v, native_seconds)", q))
			if got < want[0]/factor || got > want[1]*factor {
				t.Errorf("the %v quantile is %v, not within a bucket of %v", q, got, want)
			}
		}
	})
	t.Run("others", func(t *testing.T) {
		for promQL, want := range map[string]float64{
			`rpc_seconds{quantile="0.5"}`: 0.165, `rpc_seconds{quantile="0.99"}`: 0.49, `rpc_seconds{quantile="1.0"}`: 0.5,
			"rpc_seconds_sum": 2.08, "rpc_seconds_count": 10,
			`node_role{node_role="primary"}`: 0, `node_role{node_role="replica"}`: 1,
			`build_info{version="3.1"}`: 1, "health": 1, `shops{name="corner"}`: 1, "requests_total": 10,
		} {
			near(t, promQL, want)
		}
	})
	t.Run("metadata", func(t *testing.T) { checkTypesMetadata(t, r) })
	t.Run("page", func(t *testing.T) { eventually(t, "the types", func() error { return checkTypesPage(a) }) })
	a.stop(t)
}

// checkTypesMetadata compares what the requests said of each metric.
func checkTypesMetadata(t *testing.T, r *receiver.Receiver) {
	got := map[string]string{}
	for _, request := range r.Requests() {
		for _, s := range request.Series {
			name, _, _ := strings.Cut(strings.TrimPrefix(s.Labels, `{__name__="`), `"`)
			if m := s.Metadata; name != "up" {
				got[name] = strings.TrimSpace(fmt.Sprintf("%s %s %s", m.Type, m.Help, m.Unit))
			}
		}
	}
	want := map[string]string{
		"native_seconds": "histogram Exponential buckets.",
		"rpc_seconds":    "summary Quantiles.", "rpc_seconds_sum": "summary Quantiles.", "rpc_seconds_count": "summary Quantiles.",
		"node_role": "stateset Role.", "build_info": "info Version.", "health": "gauge Health.", "shops": "gauge Shops.", "requests_total": "counter Requests.",
	}
	for name, about := range map[string]string{
		"by_rows_seconds": "histogram Cumulative buckets. seconds", "by_single_rows_seconds": "histogram Buckets alone.",
		"by_columns_seconds": "histogram Buckets as columns.", "by_snapshot_seconds": "histogram An observation each row.",
		"by_accumulating_seconds": "histogram New rows.",
	} {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			want[name+suffix] = about
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// checkTypesPage has Prometheus parse the local page. What a run that took too
// long would have shown is missing there.
func checkTypesPage(a *agent) error {
	body, err := a.get("/metrics")
	if err != nil {
		return err
	}
	p, err := textparse.New(body, "text/plain; version=0.0.4", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	want := map[string]model.MetricType{
		"by_rows_seconds": model.MetricTypeHistogram, "by_single_rows_seconds": model.MetricTypeHistogram,
		"by_columns_seconds": model.MetricTypeHistogram, "by_snapshot_seconds": model.MetricTypeHistogram,
		"by_accumulating_seconds": model.MetricTypeHistogram,
		"native_seconds":          model.MetricTypeHistogram, "rpc_seconds": model.MetricTypeSummary,
		"node_role": model.MetricTypeGauge, "build_info": model.MetricTypeGauge,
		"health": model.MetricTypeGauge, "shops": model.MetricTypeGauge, "requests_total": model.MetricTypeCounter,
	}
	got := map[string]model.MetricType{}
	for {
		entry, err := p.Next()
		if err != nil {
			break
		}
		if entry == textparse.EntryType {
			if name, kind := p.Type(); want[string(name)] != "" {
				got[string(name)] = kind
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}
