package collect

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/sources"
)

// role is what a series is in a histogram or a summary.
type role uint8

const (
	roleOwn    role = iota // of the metric's name: a native histogram, a quantile
	roleBucket             // _bucket
	roleSum                // _sum
	roleCount              // _count
	roles
)

var roleSuffixes = [roles]string{"", "_bucket", "_sum", "_count"}

// part names one series of a histogram or a summary by its role and what tells
// it from others of that: a bucket's upper bound, or the quantile.
type part struct {
	role  role
	bound float64
}

// measured is a part with its value.
type measured struct {
	part
	v float64
}

// gathering is what types that make several series of several rows share: it
// knows which rows belong together and which series they become. T is what is
// kept of the rows.
type gathering[T any] struct {
	*mapper
	families [roles]family
	bound    string // the label of part.bound
	known    map[string]*gathered[T]
	lasting  bool           // what is known stays so without series
	round    []*gathered[T] // those with rows in the round, in that order
	last     *gathered[T]   // the one of the row before
}

// gathered are the rows with one set of key labels. It is known for as long as
// one of its series is.
type gathered[T any] struct {
	key    string
	number uint64 // the last round it had rows in
	labels labels.Labels
	series map[part]*series
	rows   T
}

func newGathering[T any](m *mapper, bound string) gathering[T] {
	g := gathering[T]{mapper: m, bound: bound, known: map[string]*gathered[T]{}}
	for r := range roles {
		g.families[r] = family{m.metric.Name + roleSuffixes[r], m.meta}
	}
	return g
}

func (c *gathering[T]) begin() { c.round, c.last = c.round[:0], nil }

// of returns what the row belongs to, and whether it is the first of the round;
// nil if its labels are refused.
func (c *gathering[T]) of(r *sources.Row) (g *gathered[T], first bool) {
	g = c.last
	if g == nil || g.key != string(c.key) {
		g = c.known[string(c.key)]
	}
	if g == nil {
		lb, why := c.rowLabels(r)
		if why != nil {
			c.offer(1)
			c.refuseAs(why, 1)
			return nil, false
		}
		g = c.know(string(c.key), lb.Labels())
	}
	c.last = g
	if g.number == c.values.number {
		return g, false
	}
	g.number = c.values.number
	c.round = append(c.round, g)
	return g, true
}

func (c *gathering[T]) know(key string, lset labels.Labels) *gathered[T] {
	g := &gathered[T]{key: key, labels: lset, series: map[part]*series{}}
	c.known[key] = g
	return g
}

// emit adds the metric, which was made of so many cells, to the round, the
// native histogram too if there is one: all of it, or nothing.
func (c *gathering[T]) emit(g *gathered[T], cells int, all []measured, native *histogram.Histogram) {
	n := len(all)
	if native != nil {
		n++
	}
	if !c.values.fits(n) {
		c.withdraw(overLimit, cells)
		return
	}
	if why := c.learn(g, all, native != nil); why != nil {
		c.withdraw(why, cells)
		return
	}
	for _, m := range all {
		c.values.add(g.series[m.part], m.v)
	}
	if native != nil {
		c.values.addHistogram(g.series[part{}], 0, native, nil)
	}
}

// learn makes the series that g does not have yet, or none of them.
func (c *gathering[T]) learn(g *gathered[T], all []measured, native bool) *refused {
	var born []point
	take := func(p part) *refused {
		if g.series[p] != nil {
			return nil
		}
		s, why := c.newPart(g, p)
		if why == nil {
			born = append(born, point{series: s})
		}
		return why
	}
	var why *refused
	if native {
		why = take(part{})
	}
	for i := 0; i < len(all) && why == nil; i++ {
		why = take(all[i].part)
	}
	if why != nil {
		c.values.drop(born)
	}
	return why
}

func (c *gathering[T]) newPart(g *gathered[T], p part) (*series, *refused) {
	lb := labels.NewBuilder(g.labels)
	if p.role == roleBucket || p.role == roleOwn && c.bound == model.QuantileLabel {
		// Prometheus stores bounds and quantiles so, however a page spells them.
		lb.Set(c.bound, labels.FormatOpenMetricsFloat(p.bound))
	}
	s, why := c.seriesOf(&c.families[p.role], lb)
	if why != nil {
		return nil, why
	}
	s.forget = func(*series) {
		delete(g.series, p)
		c.forget(g)
	}
	g.series[p] = s
	return s, nil
}

// forget lets g go if it has no series.
func (c *gathering[T]) forget(g *gathered[T]) {
	if !c.lasting && len(g.series) == 0 && c.known[g.key] == g {
		delete(c.known, g.key)
	}
}

// settle comes after all have been emitted.
func (c *gathering[T]) settle() {
	for _, g := range c.round {
		c.forget(g) // one that was refused
	}
}
