package collect

import (
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/wal"
)

// bookCollector shows the books. All that one scrape says of them is of one
// moment.
type bookCollector struct {
	books   *books
	queries []bookMetric
	refused *prometheus.Desc
	handed  *prometheus.Desc
	fates   []fateMetric
}

// bookMetric is one number of a book.
type bookMetric struct {
	desc *prometheus.Desc
	rows bool // only of workers that read rows
	of   func(*counts) uint64
}

// fateMetric is what became of all that was handed over, as the log has it.
type fateMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(wal.Stats) wal.Totals
}

func newBookCollector(b *books) *bookCollector {
	query := []string{"source", "collector", "query"}
	desc := func(name, help string, extra ...string) *prometheus.Desc {
		return prometheus.NewDesc("sql2metrics_query_"+name, help, append(query[:3:3], extra...), nil)
	}
	fate := func(name, help string, kind prometheus.ValueType, of func(wal.Stats) wal.Totals) fateMetric {
		return fateMetric{prometheus.NewDesc("sql2metrics_handed_samples_"+name, help, []string{"kind"}, nil), kind, of}
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	return &bookCollector{
		books: b,
		queries: []bookMetric{
			{desc("rows_total", "Rows read."), true, func(c *counts) uint64 { return c.rows }},
			{desc("cells_total", "Cells that metrics looked for in the rows: the sum of used, refused and discarded ones."), true, func(c *counts) uint64 { return c.cells }},
			{desc("cells_used_total", "Cells that became a sample, or a part of one."), true, func(c *counts) uint64 { return c.used }},
			{desc("cells_discarded_total", "Cells of results that failed before their end, or came when nobody wanted them."), true, func(c *counts) uint64 { return c.discarded }},
			{desc("samples_mapped_total", "Samples and native histograms made of rows and handed to the log."), false, func(c *counts) uint64 { return c.mapped }},
			{desc("stale_markers_total", "Series marked stale because a result lacked them, the query failed, or a reload removed them."), false, func(c *counts) uint64 { return c.stale }},
			{desc("samples_resent_total", "Samples of a last result that were handed to the log again with a new timestamp."), false, func(c *counts) uint64 { return c.resent }},
			{desc("samples_total", "Samples appended to the log, stale markers and those emitted again included."), false, func(c *counts) uint64 { return both(c.appended) }},
			{desc("samples_kept_total", "Samples that the log could not write, and kept in memory."), false, func(c *counts) uint64 { return both(c.kept) }},
			{desc("samples_lost_total", "Samples that the log could not write, of rounds too large to keep."), false, func(c *counts) uint64 { return both(c.lost) }},
		},
		refused: desc("samples_refused_total", "Cells that became no sample, by reason: "+reasonList()+".", "reason"),
		handed:  desc("samples_handed_total", "Samples handed to the log, by kind: sample, histogram, exemplar.", "kind"),
		fates: []fateMetric{
			fate("appended_total", "Of all samples that were handed to the log since the start, those that are in it.", counter, func(s wal.Stats) wal.Totals { return s.Appended.Sub(s.Opened) }),
			fate("refused_total", "Of all samples that were handed to the log since the start, those it refused.", counter, func(s wal.Stats) wal.Totals { return s.Refused }),
			fate("lost_total", "Of all samples that were handed to the log since the start, those it could not write and gave up.", counter, func(s wal.Stats) wal.Totals { return s.Lost.NoSpace.Add(s.Lost.DiskError) }),
			fate("waiting", "Of all samples that were handed to the log since the start, those that wait in memory until it can write them.", gauge, func(s wal.Stats) wal.Totals { return s.Waiting }),
		},
	}
}

// Describe implements [prometheus.Collector].
func (c *bookCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.queries {
		ch <- m.desc
	}
	for _, m := range c.fates {
		ch <- m.desc
	}
	ch <- c.refused
	ch <- c.handed
}

// Collect implements [prometheus.Collector].
func (c *bookCollector) Collect(ch chan<- prometheus.Metric) {
	books, log := c.books.look()
	if len(books) == 0 {
		return
	}
	show := func(d *prometheus.Desc, n uint64, name bookName, extra ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{name.source, name.collector, name.query}, extra...)...)
	}
	for i := range books {
		b := &books[i]
		for _, m := range c.queries {
			if !m.rows || b.readsRows() {
				show(m.desc, m.of(&b.counts), b.bookName)
			}
		}
		for why := range reasons {
			if why.byLog() || b.readsRows() {
				show(c.refused, b.refused[why], b.bookName, why.String())
			}
		}
		eachKind(b.handed, func(kind string, n uint64) { show(c.handed, n, b.bookName, kind) })
	}
	if !log.TakenUp.IsZero() {
		eachKind(log.TakenUp, func(kind string, n uint64) { show(c.handed, n, bookName{query: bookTakenUp}, kind) })
	}
	for _, m := range c.fates {
		eachKind(m.of(log), func(kind string, n uint64) {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(n), kind)
		})
	}
}

func eachKind(t wal.Totals, show func(kind string, n uint64)) {
	show("sample", t.Samples)
	show("histogram", t.Histograms)
	show("exemplar", t.Exemplars)
}
