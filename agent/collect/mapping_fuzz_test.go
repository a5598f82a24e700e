package collect

import (
	"io"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// everyType returns a metric of each type and mode, over the columns a to d.
func everyType(null config.OnNull, duplicate config.OnDuplicate) []config.Metric {
	histogram := func(name string, o config.HistogramOptions) config.Metric {
		o.Classic, o.Native = true, true
		return config.Metric{Name: name, Type: config.Histogram, KeyLabels: []string{"a"}, HistogramOptions: &o}
	}
	all := []config.Metric{
		{Name: "g", Type: config.Gauge, KeyLabels: []string{"a", "b"}, Values: []string{"c", "d"}, ValueLabel: "of", ValueMap: map[string]float64{"ok": 1}},
		{Name: "c_total", Type: config.Counter, KeyLabels: []string{"a"}, Values: []string{"c"}},
		{Name: "i", Type: config.Info, KeyLabels: []string{"a", "b"}},
		{Name: "s", Type: config.StateSet, KeyLabels: []string{"a"}, Values: []string{"b"}, States: []string{"ok", "off", ""}},
		{Name: "q", Type: config.Summary, KeyLabels: []string{"a"}, SummaryOptions: &config.SummaryOptions{Quantile: "b", Value: "c", Sum: "d", Count: "b"}},
		histogram("h1", config.HistogramOptions{Mode: config.HistogramBuckets, Le: "b", Bucket: "c", Sum: "d", Cumulative: true}),
		histogram("h2", config.HistogramOptions{Mode: config.HistogramBuckets, Le: "b", Bucket: "c", Count: "d"}),
		histogram("h3", config.HistogramOptions{Mode: config.HistogramBuckets, Sum: "b", Cumulative: true, Columns: []config.BucketColumn{{Le: 1, Column: "c"}, {Le: math.Inf(1), Column: "d"}}}),
		histogram("h4", config.HistogramOptions{Mode: config.HistogramSnapshot, Value: "c", Bounds: []float64{0, 1}}),
		histogram("h5", config.HistogramOptions{Mode: config.HistogramSnapshot, Value: "d", Schema: 2}),
	}
	for i := range all {
		all[i].OnNull, all[i].OnDuplicate = null, duplicate
		all[i].LabelLimits = config.LabelLimits{ValueLength: 20}
	}
	return all
}

// cells reads rows of four cells from bytes: a kind, and what it needs.
func cells(b []byte) (rows [][]sources.Value) {
	take := func(n int) []byte {
		n = min(n, len(b))
		taken := b[:n]
		b = b[n:]
		return taken
	}
	number := func() (x uint64) {
		for _, c := range take(2) {
			x = x<<8 | uint64(c)
		}
		return x
	}
	special := []float64{0, math.Copysign(0, -1), 0.5, 1, 2, -1, 1e300, math.Inf(1), math.Inf(-1), math.NaN()}
	for len(b) > 0 && len(rows) < 100 {
		row := make([]sources.Value, 4)
		for i := range row {
			kind := take(1)
			if len(kind) == 0 {
				break
			}
			switch kind[0] % 8 {
			case 0:
			case 1:
				row[i] = sources.BoolValue(number()%2 == 0)
			case 2:
				row[i] = sources.IntValue(int64(number()) - 100)
			case 3:
				row[i] = sources.UintValue(number())
			case 4:
				row[i] = sources.FloatValue(special[number()%uint64(len(special))])
			case 5:
				row[i] = sources.TextValue(take(int(number() % 32)))
			case 6:
				row[i] = sources.TimeValue(time.Unix(int64(number()), 0))
			case 7:
				row[i] = sources.TextValue([]byte([]string{"ok", "off", "+Inf", "0.5", "1"}[number()%5]))
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// FuzzRows maps rows of arbitrary cells by every type and policy. Whatever they
// are, the log takes each sample but those it counts, every cell and sample is
// accounted for, histograms are valid, labels legal, the page can be built, and
// nothing is left at the end.
func FuzzRows(f *testing.F) {
	f.Add(uint8(0), uint8(0), []byte{})
	f.Add(uint8(1), uint8(3), []byte("\x07\x00\x00\x04\x00\x02\x02\x00\x80\x02\x00\x90\x07\x00\x00\x04\x00\x03\x02\x00\x90\x02\x00\x90"))
	f.Add(uint8(2), uint8(2), []byte("\x05\x00\x03a\xffb\x00\x01\x00\x01\x06\x01\x00"))
	log, err := wal.Open(f.Context(), wal.Options{Path: f.TempDir(), Sync: wal.SyncNever, MaxBytes: 64 << 20}, t0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { log.Close() })
	nulls := []config.OnNull{config.OnNullSkip, config.OnNullZero, config.OnNullNaN}
	duplicates := []config.OnDuplicate{config.OnDuplicateFirst, config.OnDuplicateLast, config.OnDuplicateSum, config.OnDuplicateDrop}
	now := t0
	f.Fuzz(func(t *testing.T, null, duplicate uint8, b []byte) {
		rows := cells(b)
		columns := []string{"a", "b", "c", "d"}
		half := answer{columns: columns, rows: rows[:len(rows)/2]}
		limit := NewSeriesLimit(200)
		if len(b) > 0 {
			limit = NewSeriesLimit(int(b[len(b)-1])) // some are short of room
		}
		w := NewWorker(WorkerOptions{
			Source: dbSource(), Query: query(everyType(nulls[int(null)%3], duplicates[int(duplicate)%4])...),
			Client: &database{answers: []answer{{columns: columns, rows: rows}, half, {err: errDown}, {columns: columns, rows: rows}}},
			Health: NewHealth("db", discard), Log: log, Metrics: NewMetrics(prometheus.NewRegistry()), Limit: limit,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: func() time.Time { return now },
		})
		metrics := w.metrics.all
		page := NewPage(prometheus.NewRegistry(), prometheus.NewRegistry())
		page.Show(w)
		for round := range 4 {
			now = now.Add(time.Second)
			if err := w.Step(t.Context(), now); (err != nil) != (round == 2) {
				t.Fatalf("round %d: %v", round, err)
			}
			workersAddUp(t, metrics)
			for _, p := range w.values.last {
				if !p.series.handle.Labels().IsValid(model.UTF8Validation) {
					t.Fatalf("the labels %s are not legal", p.series.handle.Labels())
				}
				if p.h == nil {
					continue
				}
				if err := p.h.Validate(); err != nil {
					t.Fatalf("round %d: %s: %v", round, p.h, err)
				}
			}
			if _, err := page.Gather(); err != nil {
				t.Fatal(err)
			}
			if live := limit.Live(); live != len(w.values.last) {
				t.Fatalf("round %d: %d series are counted, and there are %d", round, live, len(w.values.last))
			}
		}
		w.Close()
		if limit.Live() != 0 {
			t.Fatalf("%d series are counted after the end", limit.Live())
		}
	})
}
