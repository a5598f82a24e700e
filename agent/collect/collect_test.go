package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"go.uber.org/goleak"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is when tests begin.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// answer is what a database says to one run of a query.
type answer struct {
	columns []string
	rows    [][]sources.Value
	err     error // after the rows
}

// database is a source that gives one answer after the other, the last one for
// ever.
type database struct {
	answers []answer
	pings   []error
	pinged  int
}

func (d *database) Query(_ context.Context, _ config.Query, each func(*sources.Row) error) error {
	a := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	}
	for _, values := range a.rows {
		if err := each(&sources.Row{Columns: a.columns, Values: values}); err != nil {
			return err
		}
	}
	return a.err
}

func (d *database) Ping(context.Context) error {
	err := d.pings[d.pinged]
	d.pinged++
	return err
}

func (d *database) Close() error { return nil }

func text(s string) sources.Value { return sources.TextValue([]byte(s)) }

var null sources.Value

// rig is a worker on a log of its own, with a clock that stands still unless
// moved.
type rig struct {
	*Worker
	t       *testing.T
	log     *wal.Log
	dir     string // of log
	reader  *wal.Reader
	now     time.Time
	logged  *strings.Builder
	logger  *slog.Logger // into logged
	metrics *Metrics
	reg     *prometheus.Registry
	health  *Health
}

func newRig(t *testing.T, source config.Source, query config.Query, db sources.Source) *rig {
	t.Helper()
	r := &rig{t: t, now: t0, logged: &strings.Builder{}, reg: prometheus.NewRegistry(), dir: t.TempDir()}
	r.log = openLogIn(t, r.dir)
	r.reader = r.log.Reader(wal.Position{})
	t.Cleanup(func() { r.reader.Close() })
	r.metrics = NewMetrics(r.reg)
	r.logger = slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{ReplaceAttr: dropTime}))
	r.health = NewHealth(source.Name, r.logger)
	r.Worker = NewWorker(WorkerOptions{
		Source: source, Query: query, Client: db, Health: r.health,
		Log: r.log, Metrics: r.metrics,
		Logger: r.logger,
		Clock:  func() time.Time { return r.now },
	})
	t.Cleanup(r.Worker.Close)
	return r
}

// restart goes on with what a process that is killed has left in its log.
func (r *rig) restart(query config.Query, db sources.Source) {
	r.t.Helper()
	left := r.t.TempDir()
	if err := os.CopyFS(left, os.DirFS(r.dir)); err != nil {
		r.t.Fatal(err)
	}
	r.dir, r.reg, r.log = left, prometheus.NewRegistry(), openLogIn(r.t, left)
	reader := r.log.Reader(wal.Position{})
	r.t.Cleanup(func() { reader.Close() })
	newSamples(r.t, reader)
	r.metrics, r.reader = NewMetrics(r.reg), reader
	r.Worker = r.successor(query, db)
}

func openLog(t testing.TB) *wal.Log {
	t.Helper()
	return openLogIn(t, t.TempDir())
}

func openLogIn(t testing.TB, path string) *wal.Log {
	t.Helper()
	log, err := wal.Open(t.Context(), wal.Options{Path: path, Sync: wal.SyncNever, Logger: slog.New(slog.DiscardHandler)}, t0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// step runs the worker once, the n-th second after t0, and returns what that
// added to the log.
func (r *rig) step(n int) string {
	r.t.Helper()
	r.now = t0.Add(time.Duration(n) * time.Second)
	_ = r.Step(r.t.Context(), r.now)
	addsUp(r.t, r.metrics)
	return newSamples(r.t, r.reader)
}

// newSamples returns the samples the reader has not seen, one a line, with
// their time in seconds after t0.
func newSamples(t *testing.T, reader *wal.Reader) string {
	t.Helper()
	var b strings.Builder
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Samples {
			lset := f.Series[s.Ref].Labels
			v := fmt.Sprint(s.V)
			if value.IsStaleNaN(s.V) {
				v = "stale"
			}
			fmt.Fprintf(&b, "%s%s %s @%g\n", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), v, float64(s.T-t0.UnixMilli())/1000)
		}
	}
}

// refusedCount returns how many cells, or samples, were refused for a reason.
func (r *rig) refusedCount(reason string) float64 {
	return float64(booked(r.metrics, bookName{"db", "c", "q"}).refusedFor(reason))
}

// booked returns what one worker has done.
func booked(m *Metrics, name bookName) balanced {
	books, _ := m.books.look()
	for _, b := range books {
		if b.bookName == name {
			return b
		}
	}
	return balanced{}
}

// addsUp holds what m has counted against the equations, for a log that nobody
// else appends to.
func addsUp(t testing.TB, m *Metrics) {
	t.Helper()
	if b := workersAddUp(t, m); b.Log.Off() != 0 {
		t.Errorf("the log is off by %d: %+v", b.Log.Off(), b.Log)
	}
}

// workersAddUp leaves the log out.
func workersAddUp(t testing.TB, m *Metrics) Balance {
	t.Helper()
	b := m.Balance()
	for _, w := range b.Workers {
		if off := w.CellsOff(); off != 0 {
			t.Errorf("the cells of %s/%s are off by %d: %+v", w.Source, w.Query, off, w)
		}
		if off := w.SamplesOff(); off != 0 {
			t.Errorf("the samples of %s/%s are off by %d: %+v", w.Source, w.Query, off, w)
		}
	}
	return b
}

func (b balanced) refusedFor(why string) uint64 {
	return b.refused[slices.Index(reasonNames[:], why)]
}

func dbSource() config.Source {
	return config.Source{
		Name: "db", Type: config.TypePostgres, Job: "pg", Instance: "h:1",
		Labels: labels.FromStrings("team", "shop"), Interval: time.Second, Timeout: time.Second,
	}
}

func query(metrics ...config.Metric) config.Query {
	return config.Query{Name: "q", Collector: "c", SQL: "SELECT", Clock: config.Clock{Interval: time.Second}, Timeout: time.Second, Metrics: metrics}
}
