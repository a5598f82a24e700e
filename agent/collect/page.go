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
// left out and counted. They are shipped all the same.
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
	b := pageBuilder{families: map[string]*pageFamily{}}
	var points []shown
	for _, w := range *p.workers.Load() {
		points = w.points(points[:0])
		for _, pt := range points {
			b.add(pt)
		}
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
		if f := b.families[mf.GetName()]; f != nil {
			delete(b.families, mf.GetName())
			b.conflicts += len(f.proto.Metric)
		}
	}
	p.conflicts.Add(float64(b.conflicts))
	return own, err
}

type pageBuilder struct {
	families  map[string]*pageFamily
	conflicts int
}

type pageFamily struct {
	proto  *dto.MetricFamily
	labels map[string]bool // label sets shown already
	key    []byte
}

func (b *pageBuilder) add(p shown) {
	kind := pageType(p.family)
	f := b.families[p.family.name]
	if f == nil {
		f = &pageFamily{
			proto: &dto.MetricFamily{
				Name: &p.family.name,
				Help: &p.family.meta.Help,
				Type: kind.Enum(),
			},
			labels: map[string]bool{},
		}
		b.families[p.family.name] = f
	}
	f.key = p.labels.Bytes(f.key)
	if f.proto.GetType() != kind || f.labels[string(f.key)] {
		b.conflicts++
		return
	}
	f.labels[string(f.key)] = true
	m := &dto.Metric{Label: pairs(p.labels)}
	switch kind {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &p.v}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &p.v}
	default:
		m.Untyped = &dto.Untyped{Value: &p.v}
	}
	f.proto.Metric = append(f.proto.Metric, m)
}

func (b *pageBuilder) collected() []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, 0, len(b.families))
	for _, f := range b.families {
		all = append(all, f.proto)
	}
	return all
}

// pageType is the type that a series is shown with. Those of a scraped
// histogram or summary are shown one by one, without a type: what was scraped
// need not be whole, and the page invents nothing.
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
