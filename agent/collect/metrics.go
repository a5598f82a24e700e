package collect

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/sources"
)

// Metrics are the self metrics of all workers of an agent.
type Metrics struct {
	duration    *prometheus.HistogramVec
	lastRun     *prometheus.GaugeVec
	lastSuccess *prometheus.GaugeVec
	series      *prometheus.GaugeVec
	nulls       *prometheus.CounterVec
	rounded     *prometheus.CounterVec
	resets      *prometheus.CounterVec
	truncated   *prometheus.CounterVec
	errors      *prometheus.CounterVec
	skipped     *prometheus.CounterVec
	up          *prometheus.GaugeVec
	waits       *prometheus.CounterVec
	opened      *prometheus.CounterVec
	connections *prometheus.GaugeVec
	discarded   prometheus.Counter

	mu    sync.Mutex
	users map[string]int // workers by what names their metrics

	books *books // what is counted of rows and samples
}

// NewMetrics makes the metrics and registers them with reg; call it once per
// agent.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	query := []string{"source", "collector", "query"}
	counter := func(name, help string, extra ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(query[:3:3], extra...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, query)
	}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sql2metrics_query_duration_seconds",
			Help:    "Time a run took, from asking for a connection to the last row, failed runs included.",
			Buckets: []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 30, 60},
		}, query),
		lastRun:     gauge("sql2metrics_query_last_run_timestamp_seconds", "When the query last began to run."),
		lastSuccess: gauge("sql2metrics_query_last_success_timestamp_seconds", "When the query last began a run that succeeded."),
		series:      gauge("sql2metrics_query_series", "Series in the last good result."),
		nulls:       counter("sql2metrics_query_nulls_replaced_total", "Cells that are NULL and became a number by on_null."),
		rounded:     counter("sql2metrics_query_values_rounded_total", "Cells that are whole numbers beyond 2^53 and became the nearest one that a sample can have."),
		resets:      counter("sql2metrics_query_resets_total", "Counters whose value was below their last one; it is passed on as it is."),
		truncated:   counter("sql2metrics_query_truncated_total", "Results of which on_limit: truncate left out what came behind a limit."),
		errors:      counter("sql2metrics_query_errors_total", "Failed runs, by reason: connect, busy, timeout, query, limit, append, and partial: in some databases of the source.", "reason"),
		skipped:     counter("sql2metrics_query_skipped_total", "Ticks without a run, by reason: overrun, late, clock_back, and not_applicable: the server is not what the query requires.", "reason"),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sql2metrics_source_up",
			Help: "Whether the source answered when last asked; goes to remote write as up.",
		}, []string{"source"}),
		waits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sql2metrics_source_connection_wait_seconds_total",
			Help: "Time that queries waited because all connections of the source were busy.",
		}, []string{"source"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sql2metrics_source_connections_opened_total",
			Help: "Connections to the server that were opened.",
		}, []string{"source"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sql2metrics_source_connections",
			Help: "Connections to the server, by state: busy with a query, or idle.",
		}, []string{"source", "state"}),
		discarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sql2metrics_query_results_discarded_total",
			Help: "Results that came when a reload had replaced the query, or the agent was stopping.",
		}),
		users: map[string]int{},
		books: &books{all: map[bookName]*book{}},
	}
	reg.MustRegister(m.duration, m.lastRun, m.lastSuccess, m.series,
		m.nulls, m.rounded, m.resets, m.truncated, m.errors, m.skipped, m.up, m.waits, m.opened, m.connections, m.discarded, newBookCollector(m.books))
	return m
}

// queryMetrics are the metrics of one worker, looked up once.
type queryMetrics struct {
	all    *Metrics
	key    string // of its users
	labels prometheus.Labels

	duration    prometheus.Observer
	lastRun     prometheus.Gauge
	lastSuccess prometheus.Gauge
	series      prometheus.Gauge
	nulls       prometheus.Counter
	rounded     prometheus.Counter
	resets      prometheus.Counter
	truncated   prometheus.Counter
	errors      map[failure]prometheus.Counter
	overrun     prometheus.Counter
	late        prometheus.Counter
	clockBack   prometheus.Counter
	discarded   prometheus.Counter
}

func (m *Metrics) query(source, collector, query string) *queryMetrics {
	l := prometheus.Labels{"source": source, "collector": collector, "query": query}
	key := strings.Join([]string{source, collector, query}, "\xff")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[key]++
	errors := m.errors.MustCurryWith(l)
	skipped := m.skipped.MustCurryWith(l)
	q := &queryMetrics{
		all:         m,
		key:         key,
		labels:      l,
		duration:    m.duration.With(l),
		lastRun:     m.lastRun.With(l),
		lastSuccess: m.lastSuccess.With(l),
		series:      m.series.With(l),
		nulls:       m.nulls.With(l),
		rounded:     m.rounded.With(l),
		resets:      m.resets.With(l),
		truncated:   m.truncated.With(l),
		errors:      map[failure]prometheus.Counter{},
		overrun:     skipped.WithLabelValues("overrun"),
		late:        skipped.WithLabelValues("late"),
		clockBack:   skipped.WithLabelValues("clock_back"),
		discarded:   m.discarded,
	}
	for _, f := range []failure{failedConnect, failedBusy, failedTimeout, failedQuery, failedLimit, failedAppend, failedPartial} {
		q.errors[f] = errors.WithLabelValues(string(f))
	}
	q.errors[notApplicable] = skipped.WithLabelValues(string(notApplicable))
	return q
}

// sourceUp is for as many workers as call it, until each has called
// forgetSourceUp.
func (m *Metrics) sourceUp(source string) prometheus.Gauge {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[source]++
	return m.up.WithLabelValues(source)
}

// Connections makes o tell of the connections of a source, and of how long its
// queries waited for one.
func (m *Metrics) Connections(source string, o *sources.Options) {
	seconds := m.waits.WithLabelValues(source)
	o.Waited = func(d time.Duration) { seconds.Add(d.Seconds()) }
	o.Opened = m.opened.WithLabelValues(source).Inc
	states := map[sources.ConnectionState]prometheus.Gauge{}
	for _, state := range []sources.ConnectionState{sources.ConnectionIdle, sources.ConnectionBusy} {
		states[state] = m.connections.WithLabelValues(source, string(state))
	}
	o.Connections = func(state sources.ConnectionState, by int) { states[state].Add(float64(by)) }
}

func (m *Metrics) forgetSourceUp(source string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left(source) {
		m.up.DeleteLabelValues(source)
		m.waits.DeleteLabelValues(source)
		m.opened.DeleteLabelValues(source)
		m.connections.DeletePartialMatch(prometheus.Labels{"source": source})
	}
}

// left takes a user of the metrics of that key away, and tells whether it was
// the last one. In a reload the next one is there before the last one goes, and
// counts on.
func (m *Metrics) left(key string) bool {
	if m.users[key]--; m.users[key] > 0 {
		return false
	}
	delete(m.users, key)
	return true
}

// remove takes the worker's metrics off the registry's page, if no other worker
// has the same.
func (q *queryMetrics) remove() {
	m := q.all
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.left(q.key) {
		return
	}
	m.duration.DeletePartialMatch(q.labels)
	for _, g := range []*prometheus.GaugeVec{m.lastRun, m.lastSuccess, m.series} {
		g.DeletePartialMatch(q.labels)
	}
	for _, c := range []*prometheus.CounterVec{m.nulls, m.rounded, m.resets, m.truncated, m.errors, m.skipped} {
		c.DeletePartialMatch(q.labels)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
