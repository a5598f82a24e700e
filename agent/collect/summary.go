package collect

import (
	"fmt"
	"slices"

	"github.com/prometheus/common/model"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// summaries make one summary of the rows with the same key labels: a quantile
// each.
type summaries struct {
	gathering[summaryRows]
	options config.SummaryOptions
}

// summaryRows is what the rows of a summary say.
type summaryRows struct {
	samples []measured
	dropped []part // by on_duplicate: drop
	cells   int    // that were used
}

// Where the columns are in mapper.cells.
const (
	summaryQuantile = iota
	summaryValue
	summarySum
	summaryCount
)

func newSummaries(m *mapper) *summaries {
	return &summaries{newGathering[summaryRows](m, model.QuantileLabel), *m.metric.SummaryOptions}
}

func (s *summaries) columns() []string {
	o := s.options
	return []string{o.Quantile, o.Value, o.Sum, o.Count}
}

func (s *summaries) row(r *sources.Row) {
	g, first := s.of(r)
	if g == nil {
		return
	}
	rows := &g.rows
	if first {
		rows.samples, rows.dropped, rows.cells = rows.samples[:0], rows.dropped[:0], 0
	}
	sum, hasSum := s.optional(r, summarySum)
	if hasSum {
		s.take(rows)
		rows.set(part{role: roleSum}, sum)
	}
	hasCount := s.cells[summaryCount] >= 0 && !r.Values[s.cells[summaryCount]].IsNull()
	if hasCount {
		if n, ok := s.countOf(r, summaryCount, refusedInvalidSummary); ok {
			s.take(rows)
			rows.set(part{role: roleCount}, float64(n))
		}
	}
	if r.Values[s.cells[summaryQuantile]].IsNull() && (hasSum || hasCount) {
		return // a row for the sum and the count alone
	}
	q, err := r.Values[s.cells[summaryQuantile]].Float()
	if err != nil || !(q >= 0 && q <= 1) {
		s.offer(1)
	}
	switch {
	case r.Values[s.cells[summaryQuantile]].IsNull():
		s.refuseNull(r, summaryQuantile)
	case err != nil:
		s.refuseText(r, summaryQuantile, err)
	case !(q >= 0 && q <= 1):
		if s.refuse(refusedInvalidQuantile, 1) {
			s.explain(refusedInvalidQuantile, fmt.Errorf("column %q is %v: quantiles are from 0 to 1", s.options.Quantile, q))
		}
	default:
		if x, ok := s.number(r, summaryValue); ok {
			s.quantile(rows, part{roleOwn, q}, x)
		}
	}
}

// quantile takes one, by on_duplicate if there is one like it.
func (s *summaries) quantile(rows *summaryRows, p part, x float64) {
	at := rows.index(p)
	if at < 0 && !slices.Contains(rows.dropped, p) {
		s.take(rows)
		rows.samples = append(rows.samples, measured{p, x})
		return
	}
	n := 1
	switch s.metric.OnDuplicate {
	case config.OnDuplicateLast:
		rows.samples[at].v = x
	case config.OnDuplicateSum:
		rows.samples[at].v += x
	case config.OnDuplicateDrop:
		if at >= 0 {
			rows.samples = slices.Delete(rows.samples, at, at+1)
			rows.dropped = append(rows.dropped, p)
			rows.cells--
			s.use(-1)
			n = 2
		}
	}
	if s.refuse(refusedDuplicate, n) && s.metric.OnDuplicate != config.OnDuplicateLast && s.metric.OnDuplicate != config.OnDuplicateSum {
		s.explain(refusedDuplicate, fmt.Errorf("two rows of a summary have the quantile %v: add a column to key_labels, or set on_duplicate", p.bound))
	}
}

// take counts a cell that is a part of the summary.
func (s *summaries) take(rows *summaryRows) {
	s.use(1)
	rows.cells++
}

func (s *summaries) end(bool) {
	for _, g := range s.round {
		if len(g.rows.samples) > 0 {
			s.emit(g, g.rows.cells, g.rows.samples, nil)
		}
	}
	s.settle()
}

// set gives a part a value, or another one.
func (rows *summaryRows) set(p part, x float64) {
	if at := rows.index(p); at >= 0 {
		rows.samples[at].v = x
		return
	}
	rows.samples = append(rows.samples, measured{p, x})
}

func (rows *summaryRows) index(p part) int {
	return slices.IndexFunc(rows.samples, func(m measured) bool { return m.part == p })
}
