package config

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTypes loads a metric of each type and each way to make it.
func TestTypes(t *testing.T) {
	c, err := Load("testdata/good/types.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	number := 1.5
	histogram := func(name string, h HistogramOptions) Metric {
		return Metric{Name: name, Type: Histogram, HistogramOptions: &h}
	}
	behind := func(c Cursor) *Cursor { return &c }
	want := []Metric{
		histogram("new_v", HistogramOptions{Mode: HistogramAccumulate, Cumulative: true, Value: "v", Native: true, Schema: 3, Cursor: behind(Cursor{Column: "id", Start: "0"})}),
		histogram("new_w", HistogramOptions{Mode: HistogramAccumulate, Cumulative: true, Value: "w", Native: true, Schema: 3, Cursor: behind(Cursor{Column: "id", Start: "0"})}),
		{Name: "static", Type: Gauge, KeyLabels: []string{"a"}, StaticValue: &number},
		{Name: "state", Type: Gauge, Values: []string{"v"}, ValueMap: map[string]float64{"ok": 1, "": 0, "broken": math.Inf(-1)}},
		{Name: "build", Type: Info, KeyLabels: []string{"version"}},
		{Name: "role", Type: StateSet, Values: []string{"role"}, States: []string{"primary", "replica"}},
		{Name: "rpc_seconds", Type: Summary, Unit: "seconds", SummaryOptions: &SummaryOptions{Quantile: "q", Value: "v", Sum: "s", Count: "n"}},
		histogram("rows", HistogramOptions{Mode: HistogramBuckets, Le: "le", Bucket: "n", Sum: "s", Count: "c", Classic: true, Native: true, Schema: 3}),
		histogram("columns", HistogramOptions{
			Mode: HistogramBuckets, Columns: []BucketColumn{{0.1, "x"}, {1, "y"}, {math.Inf(1), "z"}},
			Cumulative: true, Classic: true, Schema: 3,
		}),
		histogram("counted", HistogramOptions{Mode: HistogramBuckets, Columns: []BucketColumn{{1, "y"}}, Count: "n", Cumulative: true, Native: true, Schema: 3}),
		histogram("ages", HistogramOptions{Mode: HistogramSnapshot, Cumulative: true, Value: "age", Bounds: []float64{0.5, 1, 1000}, Classic: true, Schema: 3}),
		histogram("fine", HistogramOptions{Mode: HistogramSnapshot, Cumulative: true, Value: "age", Native: true, Schema: -4}),
		histogram("paid", HistogramOptions{
			Mode: HistogramAccumulate, Cumulative: true, Value: "v", Bounds: []float64{1}, Classic: true, Native: true, Schema: 3,
			Cursor: behind(Cursor{Column: "id", Start: "7", Overlap: 1000, Key: "k"}),
		}),
		histogram("late", HistogramOptions{
			Mode: HistogramAccumulate, Cumulative: true, Value: "v", Native: true, Schema: 3,
			Cursor: behind(Cursor{Column: "at", Start: "2026-01-01 00:00:00", Overlap: 300}),
		}),
		{Name: "own_time", Type: Gauge, Values: []string{"v"}, TimestampValue: "at", Timestamp: Timestamp{Location: time.UTC, OnlyNewer: true}},
		{
			Name: "own_time_total", Type: Counter, Values: []string{"v"}, TimestampValue: "at",
			Timestamp: Timestamp{Unit: TimestampMilliseconds, Location: berlin, MaxAge: time.Hour},
		},
	}
	for i := range want {
		want[i].OnNull, want[i].OnDuplicate = OnNullSkip, OnDuplicateFirst
	}
	var got []Metric
	for _, q := range c.Sources[0].Queries {
		got = append(got, q.Metrics...)
	}
	if diff := cmp.Diff(want, got, asConfigured); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

// TestSQLExporterCollector loads a collector with every field that
// sql_exporter's own have.
func TestSQLExporterCollector(t *testing.T) {
	c, err := Load("testdata/good/sql_exporter.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Query{}
	for _, q := range c.Sources[0].Queries {
		got[q.Name] = q
	}
	if q := got["io_stall"]; len(q.Metrics) != 2 || q.Clock.Interval != 30*time.Second || q.Metrics[0].ValueLabel != "operation" {
		t.Errorf("got the named query %+v", q)
	}
	if m := got["mssql_hostname"].Metrics[0]; m.StaticValue == nil || *m.StaticValue != 1 || len(m.Values) > 0 {
		t.Errorf("got the metric with a static value %+v", m)
	}
	if m := got["mssql_backup_bytes"].Metrics[0]; m.TimestampValue != "finished" {
		t.Errorf("got the metric with its own time %+v", m)
	}
}

// TestWarnings: what is hardly meant is told and loads.
func TestWarnings(t *testing.T) {
	c, err := Load("testdata/good/warnings.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/good/warnings.txt", c.Warnings.Error()+"\n")
}
