package collect

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Page gathers what /metrics shows: the agent's own registry and the last
// values of the workers it was told to show. Collected metrics are not in a
// registry, because a registry keeps descriptors for ever and a help text
// could never change; their families are built for each scrape, and none is
// kept.
//
// A collected family with the name of an own one, or with another type than an
// earlier one of its name, and a series with the labels of an earlier one, are
// left out and counted. They are shipped all the same. The names are those of
// the samples: a histogram d takes d_count, too.
type Page struct {
	own       prometheus.Gatherer
	workers   atomic.Pointer[[]Shown]
	conflicts prometheus.Counter
}

// Shown is a worker whose last values a Page shows: a [*Worker] or a [*Scrape].
type Shown interface{ points([]shown) []shown }

// NewPage returns a page over the agent's own registry that shows no worker
// yet. The counter of conflicts is registered with reg.
func NewPage(own prometheus.Gatherer, reg prometheus.Registerer) *Page {
	p := &Page{
		own: own,
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sql2metrics_exposition_conflicts_total",
			Help: "Series left out of an answer of /metrics because their name, type or labels collide with others.",
		}),
	}
	reg.MustRegister(p.conflicts)
	p.workers.Store(&[]Shown{})
	return p
}

// Show replaces the workers whose last values the page shows, at once and
// whole. Where series collide, the earlier worker's is shown.
func (p *Page) Show(workers ...Shown) { p.workers.Store(&workers) }

// Gather implements [prometheus.Gatherer]; any goroutine may call it.
func (p *Page) Gather() ([]*dto.MetricFamily, error) {
	b := pageBuilder{families: map[string]*pageFamily{}, claimed: map[string]*pageFamily{}}
	var points []shown
	for _, w := range *p.workers.Load() {
		points = w.points(points[:0])
		b.worker(points)
	}
	// The own registry comes last: it holds the counter of conflicts.
	own, err := p.gatherOwn(&b)
	all := append(own, b.collected()...)
	slices.SortFunc(all, func(x, y *dto.MetricFamily) int { return strings.Compare(x.GetName(), y.GetName()) })
	return all, err
}

// gatherOwn gathers the own registry, takes families of its names out of b,
// and counts the conflicts.
func (p *Page) gatherOwn(b *pageBuilder) ([]*dto.MetricFamily, error) {
	own, err := p.own.Gather()
	for _, mf := range own {
		for _, name := range sampleNames(mf.GetName(), mf.GetType()) {
			b.leaveOut(b.claimed[name])
		}
	}
	p.conflicts.Add(float64(b.conflicts))
	return own, err
}

// pageBuilder collects the families of one answer.
type pageBuilder struct {
	families  map[string]*pageFamily
	claimed   map[string]*pageFamily // by the names of their samples
	conflicts int
}

type pageFamily struct {
	proto  *dto.MetricFamily
	labels map[string]bool // label sets shown already
	key    []byte
	series int
}

// worker adds the last values of one worker.
func (b *pageBuilder) worker(points []shown) {
	var parts assembly
	for _, p := range points {
		if !parts.take(p) {
			b.add(p)
		}
	}
	for _, f := range parts.families {
		b.assembled(f)
	}
}

// add adds a series that is a metric of its own.
func (b *pageBuilder) add(p shown) {
	kind := pageType(p.family)
	m := &dto.Metric{}
	switch kind {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &p.v}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &p.v}
	default:
		m.Untyped = &dto.Untyped{Value: &p.v}
	}
	b.show(p.family.name, p.family, kind, p.labels, m, 1)
}

// show adds a metric that is so many series to its family, or counts them as
// conflicts.
func (b *pageBuilder) show(name string, about *family, kind dto.MetricType, lset labels.Labels, m *dto.Metric, series int) {
	f := b.family(name, about, kind)
	if f == nil || !f.add(lset, m) {
		b.conflicts += series
		return
	}
	f.series += series
}

// family returns the one of that name and type, nil if its name, or that of
// one of its samples, is another's.
func (b *pageBuilder) family(name string, about *family, kind dto.MetricType) *pageFamily {
	if f := b.families[name]; f != nil {
		if f.proto.GetType() != kind {
			return nil
		}
		return f
	}
	names := sampleNames(name, kind)
	for _, n := range names {
		if b.claimed[n] != nil {
			return nil
		}
	}
	f := &pageFamily{
		proto:  &dto.MetricFamily{Name: &name, Help: &about.meta.Help, Type: kind.Enum()},
		labels: map[string]bool{},
	}
	if about.meta.Unit != "" {
		f.proto.Unit = &about.meta.Unit
	}
	b.families[name] = f
	for _, n := range names {
		b.claimed[n] = f
	}
	return f
}

// add adds a metric unless there is one with its labels.
func (f *pageFamily) add(lset labels.Labels, m *dto.Metric) bool {
	f.key = lset.Bytes(f.key)
	if f.labels[string(f.key)] {
		return false
	}
	f.labels[string(f.key)] = true
	m.Label = pairs(lset)
	f.proto.Metric = append(f.proto.Metric, m)
	return true
}

// leaveOut takes a family off the page; nil is none.
func (b *pageBuilder) leaveOut(f *pageFamily) {
	if f == nil || b.families[f.proto.GetName()] != f {
		return
	}
	delete(b.families, f.proto.GetName())
	b.conflicts += f.series
}

func (b *pageBuilder) collected() []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, 0, len(b.families))
	for _, f := range b.families {
		all = append(all, f.proto)
	}
	return all
}

// sampleNames are the names that samples of a family have in text.
func sampleNames(name string, kind dto.MetricType) []string {
	switch kind {
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		return []string{name, name + "_bucket", name + "_sum", name + "_count"}
	case dto.MetricType_SUMMARY:
		return []string{name, name + "_sum", name + "_count"}
	}
	return []string{name}
}

// pageType is the type that a series is shown with by itself. OpenMetrics has
// types of their own for infos and statesets; the model that answers are made
// of has not, and as gauges they say the same. Parts of a histogram or a
// summary come here only when it is not whole: the page invents nothing.
func pageType(f *family) dto.MetricType {
	switch f.meta.Type {
	case model.MetricTypeCounter:
		return dto.MetricType_COUNTER
	case model.MetricTypeGauge, model.MetricTypeInfo, model.MetricTypeStateset:
		return dto.MetricType_GAUGE
	}
	return dto.MetricType_UNTYPED
}

func pairs(lset labels.Labels) []*dto.LabelPair {
	all := make([]*dto.LabelPair, 0, lset.Len())
	lset.Range(func(l labels.Label) {
		all = append(all, &dto.LabelPair{Name: &l.Name, Value: &l.Value})
	})
	return all
}
