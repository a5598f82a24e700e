package remotewrite

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/wal"
)

const namespace = "sql2metrics_remote_write_"

// metrics are an endpoint's self metrics.
type metrics struct {
	registerer prometheus.Registerer // nil: not registered
	collectors []prometheus.Collector

	requests *prometheus.CounterVec
	retries  prometheus.Counter
	bytes    prometheus.Counter
	duration prometheus.Histogram

	metadataSent, metadataFailed prometheus.Counter
}

func newMetrics(s *Shipper, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "requests_total",
			Help: "Attempts to send a request, by status of the answer; error if there was none.",
		}, []string{"code"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: namespace + "retries_total",
			Help: "Attempts that sent the same bytes as one before.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: namespace + "bytes_total",
			Help: "Bytes of request bodies as sent, compressed, retries included.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    namespace + "request_duration_seconds",
			Help:    "Time from the beginning of an attempt to its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
	m.metadataSent = prometheus.NewCounter(prometheus.CounterOpts{
		Name: namespace + "metadata_sent_total",
		Help: "Metric families whose type and help the receiver accepted, in the requests of 1.0 that have nothing else. Under 2.0 they are with the samples.",
	})
	m.metadataFailed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: namespace + "metadata_failed_total",
		Help: "Metric families whose type and help the receiver did not accept; they go again with the next ones.",
	})
	m.collectors = []prometheus.Collector{m.requests, m.retries, m.bytes, m.duration, m.metadataSent, m.metadataFailed, newStatusCollector(s)}
	if r == nil {
		return m, nil
	}
	m.registerer = prometheus.WrapRegistererWith(prometheus.Labels{"endpoint": s.endpoint.Name}, r)
	for i, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			return m, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) landed(f *flight) {
	m.requests.WithLabelValues(f.answer.code()).Inc()
	m.bytes.Add(float64(len(f.body)))
	m.duration.Observe(f.took.Seconds())
}

// statusCollector shows a shipper's status. It takes one per scrape, so that
// what a scrape says adds up.
type statusCollector struct {
	shipper                         *Shipper
	kinds                           []kind
	backlog, bytes, state, protocol *prometheus.Desc
}

// kind is one of the three things that are counted.
type kind struct {
	of                                            func(wal.Totals) uint64
	appended, sent, dropped, unconfirmed, pending *prometheus.Desc
}

func newStatusCollector(s *Shipper) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+name, help, labels, nil)
	}
	describe := func(what string, of func(wal.Totals) uint64) kind {
		return kind{
			of:          of,
			appended:    desc(what+"_appended_total", "Number of "+what+" appended to the log since this endpoint's cursor began. It is the sum of sent, dropped, unconfirmed and pending."),
			sent:        desc(what+"_sent_total", "Number of "+what+" that the receiver accepted."),
			dropped:     desc(what+"_dropped_total", "Number of "+what+" that the receiver will not get, by reason.", "reason"),
			unconfirmed: desc(what+"_unconfirmed_total", "Number of "+what+" that the receiver refused in a request that an earlier attempt may already have stored, or of which it cannot be known what was stored."),
			pending:     desc(what+"_pending", "Number of "+what+" in the log that are still to be sent or answered."),
		}
	}
	return &statusCollector{
		shipper: s,
		kinds: []kind{
			describe("samples", func(t wal.Totals) uint64 { return t.Samples }),
			describe("histograms", func(t wal.Totals) uint64 { return t.Histograms }),
			describe("exemplars", func(t wal.Totals) uint64 { return t.Exemplars }),
		},
		backlog: desc("backlog_seconds", "Time since the oldest pending sample was appended; 0 if none is pending."),
		bytes:   desc("backlog_bytes", "Bytes of the log's files behind the position that the endpoint has acknowledged: frames as written, compressed, synced or not, and the headers and series tables of segments between them; 0 if nothing is pending. What was removed to keep a bound is not among them."),
		state: desc("endpoint_state", "1 for the state that the endpoint is in and 0 for the others: unknown (not asked since the start), up, throttled (it answers 429), "+
			"down (no answer, or one such as 503), misconfigured (it takes nothing as it is configured), stalled (the log cannot be read or the cursor not be saved).", "state"),
		protocol: desc("protocol_info", "The version of the protocol that is spoken with the endpoint.", "protocol"),
	}
}

// Describe implements [prometheus.Collector].
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, k := range c.kinds {
		for _, d := range []*prometheus.Desc{k.appended, k.sent, k.dropped, k.unconfirmed, k.pending} {
			ch <- d
		}
	}
	for _, d := range []*prometheus.Desc{c.backlog, c.bytes, c.state, c.protocol} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.shipper.Status()
	l := &st.Ledger
	for _, k := range c.kinds {
		counter := func(d *prometheus.Desc, t wal.Totals, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(k.of(t)), labels...)
		}
		counter(k.appended, l.Appended)
		counter(k.sent, l.Sent)
		counter(k.unconfirmed, l.Unconfirmed)
		for _, r := range reasons {
			counter(k.dropped, l.Dropped[r], string(r))
		}
		ch <- prometheus.MustNewConstMetric(k.pending, prometheus.GaugeValue, float64(k.of(l.Pending)))
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.backlog, l.Age(time.Now()).Seconds())
	gauge(c.bytes, float64(l.PendingBytes))
	for _, state := range endpointStates {
		in := 0.0
		if state == st.State {
			in = 1
		}
		gauge(c.state, in, string(state))
	}
	gauge(c.protocol, 1, l.Protocol)
}
