package wal

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the log's own. All but the sync times are read from Stats when
// they are asked for.
type metrics struct {
	log        *Log
	registerer prometheus.Registerer
	fsync      prometheus.Histogram

	appended, refused, evicted, waiting, lost, writeErrors, damagedBytes *prometheus.Desc
	segments, newerSegments, bytes, maxBytes, seriesNow                  *prometheus.Desc
}

// newMetrics registers the log's metrics; with a nil registerer they are kept
// and shown to nobody.
func newMetrics(l *Log, registerer prometheus.Registerer) (*metrics, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sql2metrics_wal_"+name, help, labels, nil)
	}
	m := &metrics{
		log:        l,
		registerer: registerer,
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sql2metrics_wal_fsync_duration_seconds",
			Help:    "Time that one sync of a segment to disk took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
		appended:      desc("appended_samples_total", "Samples in the log since it began, over restarts.", "kind"),
		refused:       desc("refused_samples_total", "Samples refused because their time was not after the last of their series, or they were too large.", "kind"),
		evicted:       desc("evicted_samples_total", "Samples removed to keep a bound of size, age or free space before every endpoint had passed them.", "kind"),
		waiting:       desc("waiting_samples", "Samples that could not be written and wait in memory.", "kind"),
		lost:          desc("lost_samples_total", "Samples that could not be written and fell out of memory, by what kept them from being written.", "kind", "reason"),
		writeErrors:   desc("write_errors_total", "Writes and syncs of the log that failed."),
		damagedBytes:  desc("damaged_bytes_total", "Bytes of the log that could not be read and were kept in its quarantine. Samples are counted per endpoint."),
		segments:      desc("segments", "Segments of the log on disk."),
		newerSegments: desc("newer_segments", "Segments of a newer format version, which are left alone."),
		bytes:         desc("size_bytes", "Size of everything under the storage path, dead letters included."),
		maxBytes:      desc("max_bytes", "Size that everything under the storage path may have; over it, the oldest segments are removed."),
		seriesNow:     desc("series", "Series that have a user or are in the open segment."),
	}
	if registerer == nil {
		return m, nil
	}
	if err := registerer.Register(m); err != nil {
		return nil, fmt.Errorf("register metrics of the log: %w", err)
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer != nil {
		m.registerer.Unregister(m)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.fsync.Describe(ch)
	for _, d := range []*prometheus.Desc{
		m.appended, m.refused, m.evicted, m.waiting, m.lost, m.writeErrors, m.damagedBytes,
		m.segments, m.newerSegments, m.bytes, m.maxBytes, m.seriesNow,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.fsync.Collect(ch)
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	totals := func(d *prometheus.Desc, as prometheus.ValueType, t Totals, labels ...string) {
		value(d, as, float64(t.Samples), append([]string{"sample"}, labels...)...)
		value(d, as, float64(t.Histograms), append([]string{"histogram"}, labels...)...)
		value(d, as, float64(t.Exemplars), append([]string{"exemplar"}, labels...)...)
	}
	s := m.log.Stats()
	totals(m.appended, prometheus.CounterValue, s.Appended)
	totals(m.refused, prometheus.CounterValue, s.Refused)
	totals(m.evicted, prometheus.CounterValue, s.Evicted)
	totals(m.waiting, prometheus.GaugeValue, s.Waiting)
	totals(m.lost, prometheus.CounterValue, s.Lost.NoSpace, "no_space")
	totals(m.lost, prometheus.CounterValue, s.Lost.DiskError, "disk_error")
	value(m.writeErrors, prometheus.CounterValue, float64(s.WriteErrors))
	value(m.damagedBytes, prometheus.CounterValue, float64(s.DamagedBytes))
	value(m.segments, prometheus.GaugeValue, float64(s.Segments))
	value(m.newerSegments, prometheus.GaugeValue, float64(s.NewerSegments))
	value(m.bytes, prometheus.GaugeValue, float64(s.Bytes))
	value(m.maxBytes, prometheus.GaugeValue, float64(s.MaxBytes))
	value(m.seriesNow, prometheus.GaugeValue, float64(s.Series))
}
