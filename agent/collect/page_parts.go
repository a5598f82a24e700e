package collect

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// assembly makes histograms and summaries of the series of one worker again.
// A family of which one metric is not whole, as may be of what was scraped, is
// shown series by series.
type assembly struct {
	families []*partFamily
	byName   map[string]*partFamily
	key      []byte
}

type partFamily struct {
	name    string
	about   *family
	kind    dto.MetricType
	metrics []*partMetric
	byKey   map[string]*partMetric
	all     []shown // for the case that it is not whole
	broken  bool
}

// partMetric is one histogram or summary.
type partMetric struct {
	labels labels.Labels // without those of parts
	bounds []measured    // of buckets or quantiles
	sum    *float64
	count  *float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
	series int
}

// take takes a series that is a part of something, and tells whether it is.
func (a *assembly) take(p shown) bool {
	name, part, kind, ok := partOf(p)
	if !ok {
		return false
	}
	f := a.byName[name]
	if f == nil {
		f = &partFamily{name: name, about: p.family, kind: kind, byKey: map[string]*partMetric{}}
		if a.byName == nil {
			a.byName = map[string]*partFamily{}
		}
		a.byName[name] = f
		a.families = append(a.families, f)
	}
	f.all = append(f.all, p)
	a.key = p.labels.BytesWithoutLabels(a.key, model.BucketLabel, model.QuantileLabel)
	m := f.byKey[string(a.key)]
	if m == nil {
		m = &partMetric{labels: labels.NewBuilder(p.labels).Del(model.BucketLabel, model.QuantileLabel).Labels()}
		f.byKey[string(a.key)] = m
		f.metrics = append(f.metrics, m)
	}
	m.series++
	f.broken = f.broken || f.kind != kind || !m.take(p, part)
	return true
}

// partOf tells which family a series is a part of, and which part.
func partOf(p shown) (name string, _ part, kind dto.MetricType, ok bool) {
	name = p.family.name
	native := p.h != nil || p.fh != nil
	bound := ""
	switch p.family.meta.Type {
	case model.MetricTypeGaugeHistogram:
		return name, part{}, dto.MetricType_GAUGE_HISTOGRAM, native
	case model.MetricTypeHistogram:
		kind = dto.MetricType_HISTOGRAM
	case model.MetricTypeSummary:
		kind, bound = dto.MetricType_SUMMARY, p.labels.Get(model.QuantileLabel)
	default: // a native histogram without a type is one all the same
		return name, part{}, dto.MetricType_HISTOGRAM, native
	}
	if native {
		return name, part{}, kind, kind == dto.MetricType_HISTOGRAM
	}
	role := roleOwn
	if bound == "" {
		for r := roleBucket; r < roles; r++ {
			if base, has := strings.CutSuffix(name, roleSuffixes[r]); has {
				name, role = base, r
				break
			}
		}
	}
	switch {
	case kind == dto.MetricType_HISTOGRAM && role == roleBucket:
		bound = p.labels.Get(model.BucketLabel)
	case role == roleBucket || role == roleOwn && bound == "":
		return "", part{}, 0, false
	}
	x := 0.0
	if bound != "" {
		var err error
		if x, err = strconv.ParseFloat(bound, 64); err != nil || math.IsNaN(x) {
			return "", part{}, 0, false
		}
	}
	return name, part{role, x}, kind, true
}

// take takes a part, and tells whether there was none like it.
func (m *partMetric) take(p shown, at part) bool {
	once := func(into **float64) bool {
		first := *into == nil
		*into = &p.v
		return first
	}
	switch {
	case p.h != nil || p.fh != nil:
		first := m.h == nil && m.fh == nil
		m.h, m.fh = p.h, p.fh
		return first
	case at.role == roleSum:
		return once(&m.sum)
	case at.role == roleCount:
		return once(&m.count)
	}
	m.bounds = append(m.bounds, measured{at, p.v})
	return true
}

// assembled adds a family that came in parts.
func (b *pageBuilder) assembled(f *partFamily) {
	made := make([]*dto.Metric, 0, len(f.metrics))
	for _, m := range f.metrics {
		if f.broken {
			break
		}
		var whole bool
		d := &dto.Metric{}
		if f.kind == dto.MetricType_SUMMARY {
			d.Summary, whole = m.summary()
		} else {
			d.Histogram, whole = m.histogram()
		}
		f.broken = !whole
		made = append(made, d)
	}
	if !f.broken {
		for i, m := range f.metrics {
			b.show(f.name, f.about, f.kind, m.labels, made[i], m.series)
		}
		return
	}
	for _, p := range f.all {
		if p.h == nil && p.fh == nil { // which no text has words for
			b.add(p)
		}
	}
}

// sorted puts the bounds in order, and tells whether each is there once.
func (m *partMetric) sorted() bool {
	slices.SortFunc(m.bounds, func(a, b measured) int { return cmp.Compare(a.bound, b.bound) })
	for i := 1; i < len(m.bounds); i++ {
		if m.bounds[i].bound == m.bounds[i-1].bound {
			return false
		}
	}
	return true
}

// whole returns a count as the model has it, if it is one.
func whole(x float64) (uint64, bool) {
	return uint64(x), x >= 0 && x <= maxExact && x == math.Trunc(x)
}

// sumOrNaN is the sum, or the number that says of a native histogram that it has
// none: the formats know no family in which only some have one.
func (m *partMetric) sumOrNaN() *float64 {
	if m.sum == nil {
		none := math.NaN()
		return &none
	}
	return m.sum
}

func (m *partMetric) summary() (*dto.Summary, bool) {
	if m.count == nil || !m.sorted() {
		return nil, false
	}
	n, ok := whole(*m.count)
	s := &dto.Summary{SampleSum: m.sumOrNaN(), SampleCount: &n}
	for i := range m.bounds {
		s.Quantile = append(s.Quantile, &dto.Quantile{Quantile: &m.bounds[i].bound, Value: &m.bounds[i].v})
	}
	return s, ok
}

func (m *partMetric) histogram() (*dto.Histogram, bool) {
	native := m.h != nil || m.fh != nil
	d := &dto.Histogram{}
	if native {
		setNative(d, m.h, m.fh)
		if len(m.bounds) == 0 && m.sum == nil && m.count == nil {
			return d, true
		}
	}
	if !m.sorted() || m.count == nil || len(m.bounds) == 0 {
		return nil, false
	}
	n, ok := whole(*m.count)
	last := m.bounds[len(m.bounds)-1]
	if !ok || !math.IsInf(last.bound, 1) || last.v != *m.count {
		return nil, false
	}
	if !native {
		d.SampleSum, d.SampleCount = m.sumOrNaN(), &n
	}
	// As with client_golang there is no bucket for +Inf: it is the count.
	d.Bucket = make([]*dto.Bucket, 0, len(m.bounds)-1)
	below := uint64(0)
	for i := range m.bounds[:len(m.bounds)-1] {
		n, ok := whole(m.bounds[i].v)
		if !ok || n < below {
			return nil, false
		}
		below = n
		d.Bucket = append(d.Bucket, &dto.Bucket{UpperBound: &m.bounds[i].bound, CumulativeCount: &n})
	}
	return d, below <= n
}

// setNative sets what d has of a native histogram. Custom buckets have no place
// in the model but as classic ones, which say the same.
func setNative(d *dto.Histogram, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	if h != nil {
		d.SampleCount, d.SampleSum = &h.Count, &h.Sum
		if h.UsesCustomBuckets() {
			customBuckets(d, h.ToFloat(nil))
			return
		}
		d.Schema, d.ZeroThreshold, d.ZeroCount = &h.Schema, &h.ZeroThreshold, &h.ZeroCount
		d.PositiveSpan, d.PositiveDelta = protoSpans(h.PositiveSpans), h.PositiveBuckets
		d.NegativeSpan, d.NegativeDelta = protoSpans(h.NegativeSpans), h.NegativeBuckets
	} else {
		d.SampleCountFloat, d.SampleSum = &fh.Count, &fh.Sum
		if fh.UsesCustomBuckets() {
			customBuckets(d, fh)
			return
		}
		d.Schema, d.ZeroThreshold, d.ZeroCountFloat = &fh.Schema, &fh.ZeroThreshold, &fh.ZeroCount
		d.PositiveSpan, d.PositiveCount = protoSpans(fh.PositiveSpans), fh.PositiveBuckets
		d.NegativeSpan, d.NegativeCount = protoSpans(fh.NegativeSpans), fh.NegativeBuckets
	}
	if len(d.PositiveSpan)+len(d.NegativeSpan) == 0 {
		// By an empty span an empty histogram is known to be a native one.
		d.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
	}
}

// customBuckets sets the classic buckets that a histogram with custom ones has.
func customBuckets(d *dto.Histogram, fh *histogram.FloatHistogram) {
	counts := make([]float64, len(fh.CustomValues)+1)
	at, i := 0, 0
	for _, s := range fh.PositiveSpans {
		at += int(s.Offset)
		for range s.Length {
			counts[at] = fh.PositiveBuckets[i]
			at++
			i++
		}
	}
	below := 0.0
	for i := range fh.CustomValues {
		below += counts[i]
		bucket := &dto.Bucket{UpperBound: &fh.CustomValues[i]}
		if n, ok := whole(below); ok && d.SampleCountFloat == nil {
			bucket.CumulativeCount = &n
		} else {
			x := below
			bucket.CumulativeCountFloat = &x
		}
		d.Bucket = append(d.Bucket, bucket)
	}
}

func protoSpans(spans []histogram.Span) []*dto.BucketSpan {
	all := make([]*dto.BucketSpan, len(spans))
	for i := range spans {
		all[i] = &dto.BucketSpan{Offset: &spans[i].Offset, Length: &spans[i].Length}
	}
	return all
}
