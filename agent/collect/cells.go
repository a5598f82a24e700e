package collect

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// cellSeries are the series of a metric whose rows each make their own: those
// of a row are told apart by a number.
type cellSeries struct {
	*mapper
	family family
	// label is what tells a row's i-th series from the others; without a name
	// there is none.
	label  func(i int) (name, value string)
	series map[string]*series // by the row's key and the number
	forget func(*series)      // takes one out of series; made once for all
	// Rows mostly come in the order of the round before, so each series knows
	// the one that came after it. Comparing that one's key is cheaper than
	// looking a key up.
	first  series  // its next is the first series of a round
	before *series // the one found last
	prefix int     // of mapper.key: what is the row's
}

func newCellSeries(m *mapper, name string, label func(i int) (name, value string)) cellSeries {
	known := map[string]*series{}
	return cellSeries{
		mapper: m, family: family{name, m.meta}, label: label, series: known,
		forget: func(s *series) { delete(known, s.key) },
	}
}

func (c *cellSeries) begin()   { c.before = &c.first }
func (c *cellSeries) end(bool) {}

// add adds the sample of the row's i-th series to the round, or refuses it.
func (c *cellSeries) add(r *sources.Row, i int, x float64) {
	c.key = binary.AppendUvarint(c.key[:c.prefix], uint64(i))
	s := c.find()
	if (s == nil || !c.values.has(s)) && !c.values.fits(1) {
		c.refuse(refusedLimit, 1)
		return
	}
	if s == nil {
		var why *refused
		if s, why = c.learn(r, i); why != nil {
			c.refuseAs(why, 1)
			return
		}
	}
	c.before.next = s
	c.before = s
	if c.values.add(s, x) {
		c.use(1)
	} else {
		c.duplicate(s, x)
	}
}

// find returns the series of the key, nil if it is new.
func (c *cellSeries) find() *series {
	if s := c.before.next; s != nil && !s.dropped && s.key == string(c.key) {
		return s
	}
	return c.series[string(c.key)]
}

// learn makes the series of the key.
func (c *cellSeries) learn(r *sources.Row, i int) (*series, *refused) {
	lb, why := c.rowLabels(r)
	if why != nil {
		return nil, why
	}
	if name, v := c.label(i); name != "" {
		lb.Set(name, v)
	}
	s, why := c.seriesOf(&c.family, lb)
	if why != nil {
		return nil, why
	}
	s.key, s.forget = string(c.key), c.forget
	c.series[s.key] = s
	return s, nil
}

// duplicate does with a second sample of a series what on_duplicate says. Each
// that is not one of its own is counted.
func (c *cellSeries) duplicate(s *series, x float64) {
	n, which := 1, ""
	switch c.metric.OnDuplicate {
	case config.OnDuplicateLast:
		c.values.replace(s, x)
	case config.OnDuplicateSum:
		if before := c.values.of(s); c.metric.Type == config.StateSet {
			x = max(before, x) // each state is on or off
		} else {
			x += before
		}
		c.values.replace(s, x)
	case config.OnDuplicateDrop:
		if c.values.withdraw(s) {
			c.use(-1)
			n = 2
		}
		which = "neither"
	default:
		which = "the first one"
	}
	if c.refuse(refusedDuplicate, n) && which != "" {
		c.explain(refusedDuplicate, fmt.Errorf("two rows have the labels %s and %s counts: add a column to key_labels, aggregate in the query, or set on_duplicate", s.page, which))
	}
}

// scalar is a gauge, a counter or an info: a sample for each column of values,
// or a static one.
type scalar struct {
	cellSeries
	static *float64
}

func newScalar(m *mapper, name string, static *float64) *scalar {
	return &scalar{static: static, cellSeries: newCellSeries(m, name, func(i int) (name, value string) {
		if m.metric.ValueLabel == "" {
			return "", ""
		}
		return m.metric.ValueLabel, m.metric.Values[i]
	})}
}

func (s *scalar) columns() []string { return s.metric.Values }

func (s *scalar) row(r *sources.Row) {
	s.prefix = len(s.key)
	if s.static != nil {
		s.offer(1)
		s.add(r, 0, *s.static)
		return
	}
	for i := range s.cells {
		if x, ok := s.number(r, i); ok {
			s.add(r, i, x)
		}
	}
}

// stateset has a series for each state there is, with the metric's name as a
// label. That of the row's state is 1. A cell that is a state counts once for
// each.
type stateset struct{ cellSeries }

func newStateset(m *mapper) *stateset {
	return &stateset{newCellSeries(m, m.metric.Name, func(i int) (name, value string) {
		return m.metric.Name, m.metric.States[i]
	})}
}

func (s *stateset) columns() []string { return s.metric.Values }

func (s *stateset) row(r *sources.Row) {
	s.prefix = len(s.key)
	cell := r.Values[s.cells[0]]
	on, off, ok := -1, 0.0, true
	if cell.IsNull() {
		off, ok = s.null(r, 0)
	} else {
		on, ok = s.state(r, cell)
	}
	if !ok {
		s.offer(1)
		return
	}
	s.offer(len(s.metric.States))
	for i := range s.metric.States {
		if i == on {
			s.add(r, i, 1)
		} else {
			s.add(r, i, off)
		}
	}
}

// state returns which state the cell has. Blanks behind it are the padding of
// char(n).
func (s *stateset) state(r *sources.Row, cell sources.Value) (int, bool) {
	s.text = bytes.TrimRight(cell.AppendText(s.text[:0]), " ")
	for i, name := range s.metric.States {
		if name == string(s.text) {
			return i, true
		}
	}
	if s.refuse(refusedUnknownState, 1) {
		s.explain(refusedUnknownState, fmt.Errorf("column %q is %q, and the states are %s: add it to states",
			r.Columns[s.cells[0]], s.text, quoted(s.metric.States)))
	}
	return 0, false
}
