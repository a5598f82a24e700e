package collect

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// observations are what a histogram counts: how many there are in each bucket,
// how many in all, and their sum. One value of it is filled again and again,
// and allocates nothing for buckets it has had before.
type observations struct {
	// bounds are the upper bounds of the buckets, rising, without +Inf. They
	// may be shared, and are not written to by observe.
	bounds []float64
	// counts are those of each bucket alone, not of the ones below it. There is
	// one more than bounds: what is above them all.
	counts []uint64
	count  uint64
	sum    compensated
	noSum  bool // the sum is not known

	// With sparse, observe fills exponential buckets as well.
	sparse             *resolution
	zero               uint64
	positive, negative []exponentialBucket
}

// compensated is a sum of finite numbers that keeps what is lost to rounding
// (Neumaier), so that it does not depend on the order of many small observations.
type compensated struct{ total, lost float64 }

func (c *compensated) add(x float64) {
	t := c.total + x
	if math.Abs(c.total) >= math.Abs(x) {
		c.lost += c.total - t + x
	} else {
		c.lost += x - t + c.total
	}
	c.total = t
}

func (c *compensated) value() float64 { return c.total + c.lost }

// exponentialBucket is one bucket of a native histogram: its index, as the
// specification counts them, and what is in it.
type exponentialBucket struct {
	index int32
	count uint64
}

// zeroThreshold is the width of the zero bucket, that of client_golang.
const zeroThreshold = 0x1p-128

// resolution knows the exponential buckets of one schema.
type resolution struct {
	schema int32
	// bounds are the upper bounds in [0.5, 1) of a positive schema. Prometheus
	// draws each bound as a multiple of one of them.
	bounds []float64
}

// newResolution returns the resolution of a schema from -4 to 8.
func newResolution(schema int32) *resolution {
	r := &resolution{schema: schema}
	if schema <= 0 {
		return r
	}
	// The bounds are asked of Prometheus, to the last bit.
	n := 1 << schema
	h := histogram.Histogram{
		Schema:          schema,
		PositiveSpans:   []histogram.Span{{Offset: int32(-n), Length: uint32(n)}},
		PositiveBuckets: make([]int64, n),
	}
	for it := h.PositiveBucketIterator(); it.Next(); {
		r.bounds = append(r.bounds, it.At().Upper)
	}
	return r
}

// index returns the bucket of a finite number above zeroThreshold.
func (r *resolution) index(x float64) int32 {
	fraction, exponent := math.Frexp(x)
	if r.schema > 0 {
		within, _ := slices.BinarySearch(r.bounds, fraction)
		return int32(within + (exponent-1)*len(r.bounds))
	}
	if fraction == 0.5 {
		exponent--
	}
	round := 1<<-r.schema - 1
	return int32((exponent + round) >> -r.schema)
}

// reset empties all buckets and keeps their room.
func (o *observations) reset() {
	o.counts = slices.Grow(o.counts[:0], len(o.bounds)+1)[:len(o.bounds)+1]
	clear(o.counts)
	o.count, o.sum, o.noSum, o.zero = 0, compensated{}, false, 0
	o.positive, o.negative = o.positive[:0], o.negative[:0]
}

// set makes o a copy of another with the same buckets.
func (o *observations) set(from *observations) {
	o.bounds, o.sparse = from.bounds, from.sparse
	o.counts = append(o.counts[:0], from.counts...)
	o.count, o.sum, o.noSum, o.zero = from.count, from.sum, from.noSum, from.zero
	o.positive = append(o.positive[:0], from.positive...)
	o.negative = append(o.negative[:0], from.negative...)
}

var (
	errNotFinite = errors.New("NaN and infinity leave the histogram without a sum: leave such rows out of the query")
	errOverflow  = errors.New("the sum would be too large for a float64: leave such rows out of the query")
)

// observe counts one observation. It refuses one with which the sum would not
// be a finite number: none after it could bring it back.
func (o *observations) observe(x float64) error {
	if t := o.sum.total + x; math.IsInf(t, 0) || math.IsNaN(t) {
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return errNotFinite
		}
		return errOverflow
	}
	o.count++
	o.sum.add(x)
	at, _ := slices.BinarySearch(o.bounds, x)
	o.counts[at]++
	switch {
	case o.sparse == nil:
	case x > zeroThreshold:
		o.positive = countIn(o.positive, o.sparse.index(x))
	case x < -zeroThreshold:
		o.negative = countIn(o.negative, o.sparse.index(-x))
	default:
		o.zero++
	}
	return nil
}

func countIn(buckets []exponentialBucket, index int32) []exponentialBucket {
	at, there := slices.BinarySearchFunc(buckets, index, func(b exponentialBucket, i int32) int { return cmp.Compare(b.index, i) })
	if !there {
		buckets = slices.Insert(buckets, at, exponentialBucket{index: index})
	}
	buckets[at].count++
	return buckets
}

// total returns the sum, NaN if it is not known.
func (o *observations) total() float64 {
	if o.noSum {
		return math.NaN()
	}
	return o.sum.value()
}

// native writes the observations into h as a native histogram: of exponential
// buckets with sparse, else of custom ones. h's slices are used again.
func (o *observations) native(h *histogram.Histogram) {
	*h = histogram.Histogram{
		Count: o.count, Sum: o.total(), CounterResetHint: h.CounterResetHint,
		PositiveSpans: h.PositiveSpans[:0], PositiveBuckets: h.PositiveBuckets[:0],
		NegativeSpans: h.NegativeSpans[:0], NegativeBuckets: h.NegativeBuckets[:0],
	}
	if o.sparse == nil {
		h.Schema, h.CustomValues = histogram.CustomBucketsSchema, o.bounds
		s := spans{spans: h.PositiveSpans, deltas: h.PositiveBuckets}
		for i, n := range o.counts {
			s.add(int32(i), n)
		}
		h.PositiveSpans, h.PositiveBuckets = s.spans, s.deltas
		return
	}
	h.Schema, h.ZeroThreshold, h.ZeroCount = o.sparse.schema, zeroThreshold, o.zero
	p := spans{spans: h.PositiveSpans, deltas: h.PositiveBuckets}
	for _, b := range o.positive {
		p.add(b.index, b.count)
	}
	h.PositiveSpans, h.PositiveBuckets = p.spans, p.deltas
	n := spans{spans: h.NegativeSpans, deltas: h.NegativeBuckets}
	for _, b := range o.negative {
		n.add(b.index, b.count)
	}
	h.NegativeSpans, h.NegativeBuckets = n.spans, n.deltas
}

// spans collects buckets as native histograms have them: runs of neighbours,
// each count as the difference to the one before.
type spans struct {
	spans  []histogram.Span
	deltas []int64
	next   int32 // the index behind the last bucket
	last   int64 // its count
}

// add takes a bucket with an index above all before. Empty ones are left out.
func (s *spans) add(index int32, count uint64) {
	if count == 0 {
		return
	}
	if n := len(s.spans); n > 0 && index == s.next {
		s.spans[n-1].Length++
	} else {
		s.spans = append(s.spans, histogram.Span{Offset: index - s.next, Length: 1})
	}
	s.deltas = append(s.deltas, int64(count)-s.last)
	s.next, s.last = index+1, int64(count)
}
