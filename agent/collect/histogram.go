package collect

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// histograms make one histogram of the rows with the same key labels. They
// take each row alone, in any order, and make the histogram at the end.
type histograms struct {
	gathering[histogramRows]
	options config.HistogramOptions
	sparse  *resolution // of native histograms with exponential buckets
	out     []measured
	scratch histogram.Histogram
	mixed   bool // in the round a row went back to a histogram, behind one of another
}

// histogramRows is what the rows of a histogram say.
type histogramRows struct {
	observations
	refused  bool   // as a whole
	why      reason // for that
	cells    int    // that are a part of it
	buckets  []bucket
	rowSum   given[float64]
	rowCount given[uint64]
	emitted  *histogram.Histogram // the native one of the round before
}

// refuse costs the histogram, for the first reason there is.
func (rows *histogramRows) refuse(why reason) {
	if !rows.refused {
		rows.refused, rows.why = true, why
	}
}

// given is what a column says that rows need not have.
type given[T float64 | uint64] struct {
	v  T
	is bool
}

// add adds what another row says.
func (g *given[T]) add(o given[T]) { g.v, g.is = g.v+o.v, g.is || o.is }

// bucket is a bucket as it is written in a row, which may have the sum and the
// count of its histogram as well.
type bucket struct {
	le    float64
	n     uint64
	sum   given[float64]
	count given[uint64]
}

func newHistograms(m *mapper) *histograms {
	h := &histograms{gathering: newGathering[histogramRows](m, model.BucketLabel), options: *m.metric.HistogramOptions}
	if o := h.options; o.Native && o.Mode != config.HistogramBuckets && len(o.Bounds) == 0 {
		h.sparse = newResolution(o.Schema)
	}
	return h
}

// columns are the observation, or the sum, the count and the buckets.
func (h *histograms) columns() []string {
	o := h.options
	switch {
	case o.Mode != config.HistogramBuckets:
		return []string{o.Value}
	case o.Le != "":
		return []string{o.Sum, o.Count, o.Le, o.Bucket}
	}
	all := []string{o.Sum, o.Count}
	for _, b := range o.Columns {
		all = append(all, b.Column)
	}
	return all
}

// Where the columns of mode buckets are in mapper.cells.
const (
	bucketsSum = iota
	bucketsCount
	bucketsFirst // of the buckets; or that of le, followed by that of the count
)

func (h *histograms) begin() {
	h.gathering.begin()
	h.mixed = false
}

func (h *histograms) row(r *sources.Row) {
	before := h.last
	g, first := h.of(r)
	if g == nil {
		return
	}
	h.mixed = h.mixed || !first && g != before
	rows := &g.rows
	if first {
		rows.begin(h)
	}
	switch {
	case h.options.Mode != config.HistogramBuckets:
		h.observe(r, rows)
	case h.options.Le != "":
		h.bucketRow(r, rows)
	case first:
		h.bucketColumns(r, rows)
	default:
		h.again(r, rows)
	}
}

func (rows *histogramRows) begin(h *histograms) {
	if h.options.Mode != config.HistogramBuckets {
		rows.bounds, rows.sparse = h.options.Bounds, h.sparse
	}
	rows.reset()
	rows.refused, rows.cells, rows.buckets = false, 0, rows.buckets[:0]
	rows.rowSum, rows.rowCount = given[float64]{}, given[uint64]{}
}

// observe takes a row that is an observation. One that is refused costs itself.
func (h *histograms) observe(r *sources.Row, rows *histogramRows) {
	x, ok := h.number(r, 0)
	if !ok {
		return
	}
	if err := rows.observe(x); err == nil {
		h.take(rows)
	} else if h.refuse(refusedNaN, 1) {
		h.explain(refusedNaN, fmt.Errorf("column %q: %w", h.options.Value, err))
	}
}

// take counts a cell that is a part of the histogram.
func (h *histograms) take(rows *histogramRows) {
	h.use(1)
	rows.cells++
}

// lose refuses n cells that were a part of the histogram.
func (h *histograms) lose(rows *histogramRows, why reason, n int) {
	h.withdraw(&refused{reason: why}, n)
	rows.cells -= n
}

// bucketRow takes a row that is a bucket. One that is refused costs the
// histogram: without it the others would say something else.
func (h *histograms) bucketRow(r *sources.Row, rows *histogramRows) {
	b := bucket{}
	had := h.sumAndCount(r, rows, &b.sum, &b.count)
	cell := r.Values[h.cells[bucketsFirst]]
	if cell.IsNull() && had {
		h.setSumAndCount(rows, b.sum, b.count) // a row for them alone
		return
	}
	if h.metric.OnDuplicate != config.OnDuplicateSum { // else see unique
		h.setSumAndCount(rows, b.sum, b.count)
	}
	le, err := cell.Float()
	if err != nil || math.IsNaN(le) || math.IsInf(le, -1) {
		rows.refuse(refusedInvalidHistogram)
		h.offer(1)
		switch {
		case cell.IsNull():
			h.refuseNull(r, bucketsFirst)
		case err != nil:
			h.refuseText(r, bucketsFirst, err)
		case h.refuse(refusedInvalidHistogram, 1):
			h.explain(refusedInvalidHistogram, fmt.Errorf("column %q is %v, which no observation is below", h.options.Le, le))
		}
		return
	}
	n, ok := h.countOf(r, bucketsFirst+1, refusedInvalidHistogram)
	if !ok {
		rows.refuse(refusedInvalidHistogram)
		return
	}
	h.take(rows)
	b.le, b.n = le, n
	rows.buckets = append(rows.buckets, b)
}

// bucketColumns takes a row that is a histogram.
func (h *histograms) bucketColumns(r *sources.Row, rows *histogramRows) {
	b := bucket{}
	h.sumAndCount(r, rows, &b.sum, &b.count)
	h.setSumAndCount(rows, b.sum, b.count)
	for i, c := range h.options.Columns {
		if n, ok := h.countOf(r, bucketsFirst+i, refusedInvalidHistogram); ok {
			h.take(rows)
			rows.buckets = append(rows.buckets, bucket{le: c.Le, n: n})
		} else {
			rows.refuse(refusedInvalidHistogram)
		}
	}
}

// again takes another row that is the same histogram, by on_duplicate.
func (h *histograms) again(r *sources.Row, rows *histogramRows) {
	switch h.metric.OnDuplicate {
	case config.OnDuplicateSum: // equal buckets are added up at the end
		before := rows.cells
		h.bucketColumns(r, rows)
		h.lose(rows, refusedDuplicate, rows.cells-before)
		return
	case config.OnDuplicateLast:
		h.lose(rows, refusedDuplicate, rows.cells)
		rows.begin(h)
		h.bucketColumns(r, rows)
		return
	case config.OnDuplicateDrop:
		rows.refuse(refusedDuplicate)
	}
	h.offer(1)
	h.refuseDuplicate("are the same histogram")
}

func (h *histograms) refuseDuplicate(what string) {
	if h.refuse(refusedDuplicate, 1) {
		h.explain(refusedDuplicate, fmt.Errorf("two rows %s: add a column to key_labels, aggregate in the query, or set on_duplicate", what))
	}
}

// sumAndCount reads those of the row and tells whether it has one of them.
func (h *histograms) sumAndCount(r *sources.Row, rows *histogramRows, sum *given[float64], count *given[uint64]) bool {
	if sum.v, sum.is = h.optional(r, bucketsSum); sum.is {
		h.take(rows)
	}
	if c := h.cells[bucketsCount]; c < 0 || r.Values[c].IsNull() {
		return sum.is
	}
	if count.v, count.is = h.countOf(r, bucketsCount, refusedInvalidHistogram); count.is {
		h.take(rows)
	} else {
		rows.refuse(refusedInvalidHistogram)
	}
	return true
}

// setSumAndCount takes what a row says of the whole histogram: of several rows
// the last counts, or with on_duplicate: sum all of them.
func (h *histograms) setSumAndCount(rows *histogramRows, sum given[float64], count given[uint64]) {
	if h.metric.OnDuplicate == config.OnDuplicateSum {
		rows.rowSum.add(sum)
		rows.rowCount.add(count)
		return
	}
	if sum.is {
		rows.rowSum = sum
	}
	if count.is {
		rows.rowCount = count
	}
}

// countOf reads a count of observations, which else is refused for why.
func (m *mapper) countOf(r *sources.Row, i int, why reason) (uint64, bool) {
	x, ok := m.number(r, i)
	if !ok {
		return 0, false
	}
	if !(x >= 0 && x <= maxExact) || x != math.Trunc(x) {
		if m.refuse(why, 1) {
			m.explain(why, fmt.Errorf("column %q is %v: it is a count, a whole number from 0 to 2^53", r.Columns[m.cells[i]], x))
		}
		return 0, false
	}
	return uint64(x), true
}

// errScattered is why a limit costs all histograms of a result. Of those whose
// rows are together it costs the last one alone.
var errScattered = &refused{refusedLimit, errors.New("the result was cut by a limit, and the rows of its histograms were not together, so that each may lack some: add ORDER BY with the key labels to the query, or raise the limit")}

func (h *histograms) end(cut bool) {
	switch {
	case h.options.Mode == config.HistogramSnapshot && len(h.round) == 0 && h.offered == 0:
		h.empty()
	case h.options.Mode != config.HistogramBuckets || !cut:
	case h.mixed:
		for _, g := range h.round {
			if rows := &g.rows; !rows.refused {
				h.withdraw(errScattered, rows.cells)
				rows.refused, rows.cells = true, 0
			}
		}
	case h.last != nil:
		h.last.rows.refuse(refusedLimit) // its buckets may not be all there
	}
	for _, g := range h.round {
		rows := &g.rows
		if h.options.Mode == config.HistogramBuckets && !rows.refused {
			if why := h.gather(rows); why != nil {
				h.withdraw(why, rows.cells)
				continue
			}
		}
		if rows.refused {
			h.lose(rows, rows.why, rows.cells)
		} else {
			h.emitHistogram(g)
		}
	}
	h.settle()
}

// empty makes a histogram of no rows, where it is known which one they would
// make: without key labels there is one alone, as of count(*) in SQL.
func (h *histograms) empty() {
	if len(h.metric.KeyLabels) > 0 {
		return
	}
	g := h.known[""]
	if g == nil {
		lset, _ := h.keyLabels(nil)
		g = h.know("", lset)
	}
	g.number = h.values.number
	g.rows.begin(h)
	h.round = append(h.round, g)
}

// emitHistogram adds the observations of g to the round, in the forms that are
// wanted.
func (h *histograms) emitHistogram(g *gathered[histogramRows]) {
	o := &g.rows.observations
	h.out = h.out[:0]
	if h.options.Classic {
		below := uint64(0)
		for i, le := range o.bounds {
			below += o.counts[i]
			h.out = append(h.out, measured{part{roleBucket, le}, float64(below)})
		}
		h.out = append(h.out, measured{part{roleBucket, math.Inf(1)}, float64(o.count)})
		if !o.noSum {
			h.out = append(h.out, measured{part{role: roleSum}, o.total()})
		}
		h.out = append(h.out, measured{part{role: roleCount}, float64(o.count)})
	}
	if !h.options.Native {
		h.emit(g, g.rows.cells, h.out, nil)
		return
	}
	if h.options.Mode == config.HistogramSnapshot {
		h.scratch.CounterResetHint = histogram.GaugeType // the next may well have fewer
	}
	o.native(&h.scratch)
	// What was emitted is not written to again: it is on the page, and may be
	// sent once more.
	if g.rows.emitted == nil || !g.rows.emitted.Equals(&h.scratch) {
		g.rows.emitted = h.scratch.Copy()
	}
	h.emit(g, g.rows.cells, h.out, g.rows.emitted)
}
