package collect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// mapper turns the rows of a query into the samples of one metric. A cell it
// cannot use is refused alone: the other cells, rows and metrics go on.
type mapper struct {
	metric config.Metric
	family family
	target target
	values *values
	refusals

	series map[string]*series // by the key that rowKey makes
	// Rows mostly come in the order of the round before, so each series knows
	// the one that came after it. Comparing that one's key is cheaper than
	// looking a key up.
	first  series  // its next is the first series of a round
	before *series // the one found last

	// Where the columns of the current result are. A result is recognised by
	// its Columns slice.
	columns []string
	keys    []int
	cells   []int
	missing error

	key []byte
}

// target is what a scrape would have attached to every series of a source.
type target struct {
	labels labels.Labels // config.Source.Labels: also on the page
	remote labels.Labels // job and instance: only in the log
}

func newTarget(job, instance string, extra labels.Labels) target {
	return target{
		labels: extra,
		remote: labels.FromStrings(model.JobLabel, job, model.InstanceLabel, instance),
	}
}

// attach returns the label set for the log and the one for the page. lb holds
// the series' own labels, and is used up.
func (t target) attach(name string, lb *labels.Builder) (log, page labels.Labels) {
	t.labels.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	page = lb.Labels()
	lb.Set(model.MetricNameLabel, name)
	t.remote.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	return lb.Labels(), page
}

// override returns the label set for the log and the one for the page of a
// series that was scraped whole. A label that the target has too keeps its
// value as exported_<name>, as Prometheus does it without honor_labels; the
// page does not yet do so for job and instance, which it does not attach.
func (t target) override(exposed labels.Labels) (log, page labels.Labels) {
	lb := labels.NewBuilder(exposed)
	override(lb, exposed, t.labels)
	page = lb.Del(model.MetricNameLabel).Labels()
	lb.Reset(exposed)
	override(lb, exposed, t.labels, t.remote)
	return lb.Labels(), page
}

func override(lb *labels.Builder, exposed labels.Labels, attached ...labels.Labels) {
	var conflicts []labels.Label
	for _, lset := range attached {
		lset.Range(func(l labels.Label) {
			if v := exposed.Get(l.Name); v != "" {
				conflicts = append(conflicts, labels.Label{Name: l.Name, Value: v})
			}
			lb.Set(l.Name, l.Value)
		})
	}
	// Shorter names first, so that a label of the target that is itself called
	// exported_ is found taken.
	slices.SortStableFunc(conflicts, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range conflicts {
		name := model.ExportedLabelPrefix + l.Name
		for lb.Get(name) != "" {
			name = model.ExportedLabelPrefix + name
		}
		lb.Set(name, l.Value)
	}
}

func newMapper(m config.Metric, t target, v *values) *mapper {
	return &mapper{
		metric: m,
		family: family{m.Name, wal.Metadata{Type: model.MetricType(m.Type), Help: m.Help}},
		target: t,
		values: v,
		series: map[string]*series{},
	}
}

// row adds the row's samples to the round.
func (m *mapper) row(r *sources.Row) {
	if !sameSlice(m.columns, r.Columns) {
		m.missing = m.resolve(r.Columns)
	}
	if m.missing != nil {
		if m.refuse(refusedMissingColumn, len(m.metric.Values)) {
			m.explain(refusedMissingColumn, m.missing)
		}
		return
	}
	m.rowKey(r)
	prefix := len(m.key)
	for i, cell := range m.cells {
		x, err := r.Values[cell].Float()
		if err != nil {
			m.refuseValue(r, cell, err)
			continue
		}
		m.key = binary.AppendUvarint(m.key[:prefix], uint64(i))
		s := m.find()
		if s == nil {
			if s, err = m.newSeries(r, i); err != nil {
				if m.refuse(refusedInvalidLabel, len(m.cells)-i) {
					m.explain(refusedInvalidLabel, err)
				}
				return
			}
		}
		m.before.next = s
		m.before = s
		if !m.values.add(s, x) && m.refuse(refusedDuplicate, 1) {
			m.explain(refusedDuplicate, fmt.Errorf("two rows have the labels %s and the first one counts: add a column to key_labels or aggregate in the query", s.page))
		}
	}
}

// begin prepares for the rows of a round.
func (m *mapper) begin() { m.before = &m.first }

// find returns the series of m.key, nil if it is new.
func (m *mapper) find() *series {
	if s := m.before.next; s != nil && !s.dropped && s.key == string(m.key) {
		return s
	}
	return m.series[string(m.key)]
}

// rowKey sets m.key to the label cells of the row, each behind its length so
// that no two rows run into each other.
func (m *mapper) rowKey(r *sources.Row) {
	m.key = m.key[:0]
	for _, k := range m.keys {
		start := len(m.key)
		m.key = append(m.key, 0, 0, 0, 0)
		m.key = r.Values[k].AppendText(m.key)
		binary.LittleEndian.PutUint32(m.key[start:], uint32(len(m.key)-start-4))
	}
}

func (m *mapper) refuseValue(r *sources.Row, cell int, err error) {
	switch v := r.Values[cell]; {
	case v.IsNull():
		if m.refuse(refusedNull, 1) {
			m.explain(refusedNull, fmt.Errorf("column %q is NULL", r.Columns[cell]))
		}
	case m.refuse(refusedUnparsable, 1):
		m.explain(refusedUnparsable, fmt.Errorf("column %q is %q: %w", r.Columns[cell], v.AppendText(nil), err))
	}
}

var errNotUTF8 = errors.New("label values must be UTF-8: convert the column in the query")

// newSeries makes the series of the i-th value column in the row and keeps it
// under m.key.
func (m *mapper) newSeries(r *sources.Row, i int) (*series, error) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for name, v := range m.metric.StaticLabels {
		lb.Set(name, v)
	}
	for j, k := range m.keys {
		text := r.Values[k].AppendText(nil)
		if !utf8.Valid(text) {
			return nil, fmt.Errorf("column %q is %q: %w", r.Columns[k], text, errNotUTF8)
		}
		lb.Set(m.metric.KeyLabels[j], string(text))
	}
	if m.metric.ValueLabel != "" {
		lb.Set(m.metric.ValueLabel, m.metric.Values[i])
	}
	inLog, onPage := m.target.attach(m.family.name, lb)
	key := string(m.key)
	s := &series{
		key:    key,
		family: &m.family,
		handle: m.values.log.Series(inLog, m.family.meta),
		page:   onPage,
		forget: func() { delete(m.series, key) },
	}
	m.series[key] = s
	return s, nil
}

// resolve finds the metric's columns in a result: by their exact names, else
// regardless of case, because some databases fold it.
func (m *mapper) resolve(columns []string) error {
	m.columns = columns
	m.keys, m.cells = m.keys[:0], m.cells[:0]
	var absent []string
	find := func(into []int, names []string) []int {
		for _, name := range names {
			at := slices.Index(columns, name)
			if at < 0 {
				at = slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, name) })
			}
			if at < 0 {
				absent = append(absent, fmt.Sprintf("%q", name))
			}
			into = append(into, at)
		}
		return into
	}
	m.keys = find(m.keys, m.metric.KeyLabels)
	m.cells = find(m.cells, m.metric.Values)
	if len(absent) > 0 {
		return fmt.Errorf("the result has no column %s; it has %s", strings.Join(absent, ", "), quoted(columns))
	}
	return nil
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}

// sameSlice tells whether known is the slice that is there. One without
// elements is not recognised: it costs nothing to look at again.
func sameSlice(known, there []string) bool {
	return len(known) == len(there) && len(known) > 0 && &known[0] == &there[0]
}
