package collect

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"sql2metrics/config"
)

// gather makes observations of the buckets that rows named, in whatever order
// they came.
func (h *histograms) gather(rows *histogramRows) *refused {
	// Equal ones stay in their order, for on_duplicate.
	slices.SortStableFunc(rows.buckets, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
	b, ok := h.unique(rows)
	if !ok {
		rows.refuse(refusedDuplicate)
		return nil
	}
	if h.metric.OnDuplicate == config.OnDuplicateSum {
		rows.repeated(b)
	}
	above, hasAbove := bucket{}, false
	if n := len(b); n > 0 && math.IsInf(b[n-1].le, 1) {
		above, hasAbove, b = b[n-1], true, b[:n-1]
	}
	rows.setBounds(b)
	rows.reset()
	below := uint64(0)
	for i, x := range b {
		n := x.n
		if h.options.Cumulative {
			if n < below {
				return countsGoDown(below, x)
			}
			n -= below
		}
		rows.counts[i] = n
		below += n
	}
	total := below
	switch {
	case hasAbove && !h.options.Cumulative:
		total += above.n
	case hasAbove:
		total = above.n
	case rows.rowCount.is:
		total = rows.rowCount.v
	}
	if total < below {
		return countsGoDown(below, bucket{le: math.Inf(1), n: total})
	}
	if rows.rowCount.is && rows.rowCount.v != total {
		return &refused{refusedInvalidHistogram, fmt.Errorf("column %q is %d and the buckets have %d: take both from one statement", h.options.Count, rows.rowCount.v, total)}
	}
	rows.counts[len(b)] = total - below
	rows.observations.count = total
	rows.sum = compensated{total: rows.rowSum.v}
	rows.noSum = !rows.rowSum.is
	return nil
}

func countsGoDown(below uint64, b bucket) *refused {
	return &refused{refusedInvalidHistogram, fmt.Errorf("the count goes down from %d to %d at le %v: each bucket has to count those below it, or set cumulative: false", below, b.n, b.le)}
}

// unique merges sorted buckets of one bound as on_duplicate says. It returns
// false if they cost the histogram.
func (h *histograms) unique(rows *histogramRows) ([]bucket, bool) {
	b, n := rows.buckets, 0
	for i, x := range b {
		if i == 0 || x.le != b[n-1].le {
			b[n] = x
			n++
			continue
		}
		last := &b[n-1]
		switch h.metric.OnDuplicate {
		case config.OnDuplicateLast:
			last.n = x.n
			h.lose(rows, refusedDuplicate, 1)
		case config.OnDuplicateSum:
			last.n += x.n
			last.sum.add(x.sum)
			last.count.add(x.count)
			if h.options.Le != "" {
				h.lose(rows, refusedDuplicate, 1)
			}
		default:
			h.use(-1)
			rows.cells--
			h.refuseDuplicate(fmt.Sprintf("of a histogram have le %v", x.le))
			if h.metric.OnDuplicate == config.OnDuplicateDrop {
				return nil, false
			}
		}
	}
	return b[:n], true
}

// repeated takes the sum and the count from the buckets, unless rows of their
// own had them. Each bucket's row may repeat those of its histogram, and where
// several were added up, each bucket has those of all; the highest one speaks.
func (rows *histogramRows) repeated(b []bucket) {
	if !rows.rowSum.is {
		for _, x := range b {
			if x.sum.is {
				rows.rowSum = x.sum
			}
		}
	}
	if !rows.rowCount.is {
		for _, x := range b {
			if x.count.is {
				rows.rowCount = x.count
			}
		}
	}
}

// setBounds makes the buckets' bounds those of the observations. They may be on
// the page, so other ones go to a slice of their own.
func (rows *histogramRows) setBounds(b []bucket) {
	if slices.EqualFunc(rows.bounds, b, func(le float64, x bucket) bool { return le == x.le }) {
		return
	}
	rows.bounds = make([]float64, len(b))
	for i, x := range b {
		rows.bounds[i] = x.le
	}
}
