package collect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// mapper turns the rows of a query into the samples of one metric. A cell it
// cannot use is refused alone: the other cells, rows and metrics go on.
type mapper struct {
	metric config.Metric
	meta   wal.Metadata
	target target
	values *values
	origin origin
	shape  shape
	refusals
	rounded rounding
	nulls   int // cells that on_null turned into numbers

	// Where the columns of the current result are. A result is recognised by
	// its Columns slice.
	columns []string
	keys    []int // of the key labels
	cells   []int // of shape.columns; -1: none is wanted
	missing error

	key  []byte // of the row, see rowKey
	text []byte // of a cell
}

// shape is what a type of metric makes of rows.
type shape interface {
	// columns are those it reads beside the key labels, for cells; an empty one
	// is not wanted.
	columns() []string
	begin()
	// row takes a row that has all columns, and whose key is in mapper.key.
	row(r *sources.Row)
	// end adds to the round what took more than one row. After cut, rows are
	// missing behind the last one.
	end(cut bool)
}

func newMapper(m config.Metric, t target, v *values, of origin) *mapper {
	all := &mapper{
		metric: m,
		meta:   wal.Metadata{Type: model.MetricType(m.Type), Help: m.Help, Unit: m.Unit},
		target: t,
		values: v,
		origin: of,
	}
	all.shape = newShape(all)
	return all
}

func newShape(m *mapper) shape {
	switch m.metric.Type {
	case config.Histogram:
		if accumulates(m.metric) {
			return newAccumulating(m)
		}
		return newHistograms(m)
	case config.Summary:
		return newSummaries(m)
	case config.StateSet:
		return newStateset(m)
	case config.Info:
		// OpenMetrics calls the family by its name without _info, and Prometheus
		// the series by that with it.
		one := 1.0
		return newScalar(m, strings.TrimSuffix(m.metric.Name, "_info")+"_info", &one)
	}
	if m.metric.TimestampValue != "" {
		return newTimestamped(m)
	}
	return newScalar(m, m.metric.Name, m.metric.StaticValue)
}

// name is that of the metric.
func (m *mapper) name() string { return m.metric.Name }

// begin prepares for the rows of a round.
func (m *mapper) begin() { m.shape.begin() }

// row adds the row's samples to the round, or keeps them for end.
func (m *mapper) row(r *sources.Row) {
	if !sameSlice(m.columns, r.Columns) {
		m.missing = m.resolve(r.Columns)
	}
	if m.missing != nil {
		cells := max(1, len(m.metric.Values))
		m.offer(cells)
		if m.refuse(refusedMissingColumn, cells) {
			m.explain(refusedMissingColumn, m.missing)
		}
		return
	}
	m.rowKey(r)
	m.shape.row(r)
}

// end comes after the last row of a good result, or with cut the last one
// before a limit, and before values.finish.
func (m *mapper) end(cut bool) { m.shape.end(cut) }

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

// number reads the cell of the i-th column, by on_null and value_map. A cell
// that is no number is refused.
func (m *mapper) number(r *sources.Row, i int) (float64, bool) {
	m.offer(1)
	v := r.Values[m.cells[i]]
	if v.IsNull() {
		return m.null(r, i)
	}
	if m.metric.ValueMap != nil {
		m.text = v.AppendText(m.text[:0])
		if x, ok := m.metric.ValueMap[string(m.text)]; ok {
			return x, true
		}
		if x, ok := m.metric.ValueMap[string(bytes.TrimSpace(m.text))]; ok {
			return x, true
		}
	}
	x, err := v.Float()
	if err != nil {
		m.refuseText(r, i, err)
		return 0, false
	}
	m.rounded.check(r.Columns[m.cells[i]], v, x)
	return x, true
}

// null is the number that the NULL in the i-th column stands for.
func (m *mapper) null(r *sources.Row, i int) (float64, bool) {
	switch m.metric.OnNull {
	case config.OnNullZero:
		m.nulls++
		return 0, true
	case config.OnNullNaN:
		m.nulls++
		return math.Float64frombits(value.NormalNaN), true
	}
	m.refuseNull(r, i)
	return 0, false
}

func (m *mapper) refuseNull(r *sources.Row, i int) {
	if m.refuse(refusedNull, 1) {
		m.explain(refusedNull, fmt.Errorf("column %q is NULL: leave such rows out of the query, or set on_null", r.Columns[m.cells[i]]))
	}
}

func (m *mapper) refuseText(r *sources.Row, i int, err error) {
	if m.refuse(refusedUnparsable, 1) {
		cell := m.cells[i]
		m.explain(refusedUnparsable, fmt.Errorf("column %q is %q: %w: convert it in the query, or name it in value_map",
			r.Columns[cell], r.Values[cell].AppendText(nil), err))
	}
}

// optional reads the cell of the i-th column, which may be NULL or not wanted.
func (m *mapper) optional(r *sources.Row, i int) (float64, bool) {
	if m.cells[i] < 0 || r.Values[m.cells[i]].IsNull() {
		return 0, false
	}
	return m.number(r, i)
}

var errNotUTF8 = errors.New("label values must be UTF-8: convert the column in the query")

// rowLabels returns the labels of the row that are not the target's.
func (m *mapper) rowLabels(r *sources.Row) (*labels.Builder, *refused) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for name, v := range m.metric.StaticLabels {
		lb.Set(name, v)
	}
	for j, k := range m.keys {
		text := r.Values[k].AppendText(nil)
		if !utf8.Valid(text) {
			return nil, &refused{refusedInvalidLabel, fmt.Errorf("column %q is %q: %w", r.Columns[k], text, errNotUTF8)}
		}
		lb.Set(m.metric.KeyLabels[j], string(text))
	}
	return lb, nil
}

// keyLabels returns what rowLabels has returned for the rows with a key; false:
// it is the key of other labels.
func (m *mapper) keyLabels(key []byte) (labels.Labels, bool) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for name, v := range m.metric.StaticLabels {
		lb.Set(name, v)
	}
	for _, name := range m.metric.KeyLabels {
		if len(key) < 4 || uint64(len(key)-4) < uint64(binary.LittleEndian.Uint32(key)) {
			return labels.EmptyLabels(), false
		}
		end := 4 + binary.LittleEndian.Uint32(key)
		text := string(key[4:end])
		if !utf8.ValidString(text) {
			return labels.EmptyLabels(), false
		}
		lb.Set(name, text)
		key = key[end:]
	}
	return lb.Labels(), len(key) == 0
}

// seriesOf takes a series from the log, unless its labels or their number are
// beyond a limit. lb is used up.
func (m *mapper) seriesOf(f *family, lb *labels.Builder) (*series, *refused) {
	inLog, onPage := m.target.attach(f.name, lb)
	if why := checkLabels(inLog, m.metric.LabelLimits); why != nil {
		return nil, why
	}
	if !m.values.limit.take(inLog) {
		return nil, overSeriesLimit
	}
	return &series{family: f, handle: m.values.log.Series(inLog, f.meta), page: onPage}, nil
}

// resolve finds the metric's columns in a result: by their exact names, else
// regardless of case, because some databases fold it.
func (m *mapper) resolve(columns []string) error {
	m.columns = columns
	var absent []string
	find := func(into []int, names []string) []int {
		for _, name := range names {
			if name == "" {
				into = append(into, -1)
				continue
			}
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
	m.keys = find(m.keys[:0], m.metric.KeyLabels)
	m.cells = find(m.cells[:0], m.shape.columns())
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
