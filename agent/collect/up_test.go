package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

var discard = slog.New(slog.DiscardHandler)

// replay is a source that hands out the same rows without making any.
type replay struct{ rows []sources.Row }

func (r replay) Query(_ context.Context, _ config.Query, each func(*sources.Row) error) error {
	for i := range r.rows {
		if err := each(&r.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r replay) Ping(context.Context) error { return nil }
func (r replay) Close() error               { return nil }

func TestUp(t *testing.T) {
	const up, down, unknown = "up", "down", ""
	for name, c := range map[string]struct {
		queries []string // what queries found out before each tick
		pings   []error
		want    []int
	}{
		"queries say it":             {[]string{up, down, up}, nil, []int{1, 0, 1}},
		"the ping when no query has": {[]string{unknown, unknown, unknown}, []error{nil, errDown, nil}, []int{1, 0, 1}},
		"connections that are all busy say what was known": {
			[]string{up, unknown, down, unknown}, []error{&sources.BusyError{}, &sources.BusyError{}}, []int{1, 1, 0, 0},
		},
		"old knowledge is asked anew": {
			[]string{up, unknown, unknown}, []error{errDown, nil}, []int{1, 0, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := openLog(t)
			reader := log.Reader(wal.Position{})
			defer reader.Close()
			health := NewHealth("db", discard)
			db := &database{pings: c.pings}
			metrics := NewMetrics(prometheus.NewRegistry())
			u := NewUp(UpOptions{
				Source: dbSource(), Client: db, Health: health, Log: log,
				Metrics: metrics, Logger: discard, Clock: time.Now,
			})
			defer u.Close()
			for i, want := range c.want {
				tick := t0.Add(time.Duration(i+1) * time.Minute)
				if c.queries[i] != unknown {
					var err error
					if c.queries[i] == down {
						err = errDown
					}
					health.saw(err, tick.Add(-time.Second))
				}
				_ = u.Step(t.Context(), tick)
				wantSample := fmt.Sprintf("up{instance=\"h:1\", job=\"pg\", team=\"shop\"} %d @%d\n", want, 60*(i+1))
				if diff := cmp.Diff(wantSample, newSamples(t, reader)); diff != "" {
					t.Error(diff)
				}
				if got := testutil.ToFloat64(metrics.up.WithLabelValues("db")); got != float64(want) {
					t.Errorf("sql2metrics_source_up is %v, want %v", got, want)
				}
			}
			if db.pinged != len(c.pings) {
				t.Errorf("pinged %d times, want %d", db.pinged, len(c.pings))
			}
		})
	}
}

// What a query finds out is what up says; a timeout says nothing, nor does a
// query that got no connection.
func TestWorkersTellHealth(t *testing.T) {
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{
		{err: errDown}, {err: context.DeadlineExceeded}, {err: &sources.BusyError{}}, {err: errors.New("no such table")}, rows,
	}})
	for i, want := range []bool{false, false, false, true, true} {
		r.step(i + 1)
		if err, ok := r.health.since(t0); (err == nil) != want || !ok {
			t.Errorf("after round %d: %v (known %v), want up %v", i+1, err, ok, want)
		}
	}
}

func TestSelf(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1, 2.5}})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", Help: "S.", Objectives: map[float64]float64{0.5: 0.1}})
	reg.MustRegister(counter, histogram, summary)
	counter.WithLabelValues("x").Add(3)
	histogram.Observe(2)
	summary.Observe(7)

	log := openLog(t)
	reader := log.Reader(wal.Position{})
	defer reader.Close()
	s := NewSelf(SelfOptions{
		Self:     config.Self{Enabled: true, Interval: time.Minute, Job: "sql2metrics", Instance: "pod:9399"},
		Gatherer: reg, Log: log, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: discard, Clock: func() time.Time { return t0 },
	})
	defer s.Close()
	if err := s.Step(t.Context(), t0.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	at := `instance="pod:9399", job="sql2metrics"`
	want := strings.ReplaceAll(`c_total{AT, l="x"} 3 @1
h_bucket{AT, le="1.0"} 0 @1
h_bucket{AT, le="2.5"} 1 @1
h_bucket{AT, le="+Inf"} 1 @1
h_sum{AT} 2 @1
h_count{AT} 1 @1
s{AT, quantile="0.5"} 7 @1
s_sum{AT} 7 @1
s_count{AT} 1 @1
up{AT} 1 @1
`, "AT", at)
	if diff := cmp.Diff(want, newSamples(t, reader)); diff != "" {
		t.Error(diff)
	}
	counter.Reset()
	if err := s.Step(t.Context(), t0.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := newSamples(t, reader); !strings.Contains(got, `c_total{`+at+`, l="x"} stale @2`) {
		t.Errorf("a series that left the registry is not marked stale:\n%s", got)
	}
}
