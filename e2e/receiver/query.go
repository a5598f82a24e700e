package receiver

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Sample is one stored value: T in Unix milliseconds.
type Sample struct {
	T int64
	V float64
}

// Stale tells whether the sample is a stale marker.
func (s Sample) Stale() bool { return value.IsStaleNaN(s.V) }

// Equal compares times and bits, so that a stale marker equals itself and no
// other NaN.
func (s Sample) Equal(o Sample) bool {
	return s.T == o.T && math.Float64bits(s.V) == math.Float64bits(o.V)
}

// Query runs an instant query and returns its vector by label set; a scalar
// stands under the empty label set.
func (r *Receiver) Query(tb testing.TB, promQL string, at time.Time) map[string]float64 {
	tb.Helper()
	q, err := r.engine.NewInstantQuery(tb.Context(), r.db, nil, promQL, at)
	if err != nil {
		tb.Fatalf("query %q: %v", promQL, err)
	}
	defer q.Close()
	values := map[string]float64{}
	switch v := r.exec(tb, q).(type) {
	case promql.Vector:
		for _, s := range v {
			values[s.Metric.String()] = s.F
		}
	case promql.Scalar:
		values[labels.EmptyLabels().String()] = v.V
	default:
		tb.Fatalf("query %q: a %s is not an instant result", promQL, v.Type())
	}
	return values
}

// QueryRange runs a range query and returns its samples by label set.
func (r *Receiver) QueryRange(tb testing.TB, promQL string, from, to time.Time, step time.Duration) map[string][]Sample {
	tb.Helper()
	q, err := r.engine.NewRangeQuery(tb.Context(), r.db, nil, promQL, from, to, step)
	if err != nil {
		tb.Fatalf("query %q: %v", promQL, err)
	}
	defer q.Close()
	matrix, ok := r.exec(tb, q).(promql.Matrix)
	if !ok {
		tb.Fatalf("query %q: not a range result", promQL)
	}
	all := make(map[string][]Sample, len(matrix))
	for _, s := range matrix {
		for _, p := range s.Floats {
			key := s.Metric.String()
			all[key] = append(all[key], Sample{p.T, p.F})
		}
	}
	return all
}

func (r *Receiver) exec(tb testing.TB, q promql.Query) parser.Value {
	tb.Helper()
	res := q.Exec(tb.Context())
	if res.Err != nil {
		tb.Fatalf("run query: %v", res.Err)
	}
	return res.Value
}

// Samples returns everything stored for a selector, by label set and in order
// of time, stale markers with their own bits.
func (r *Receiver) Samples(tb testing.TB, selector string) map[string][]Sample {
	tb.Helper()
	matchers, err := r.parser.ParseMetricSelector(selector)
	if err != nil {
		tb.Fatalf("selector %q: %v", selector, err)
	}
	querier, err := r.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		tb.Fatalf("open querier: %v", err)
	}
	defer querier.Close()
	all := map[string][]Sample{}
	set := querier.Select(tb.Context(), false, nil, matchers...)
	for set.Next() {
		series := set.At()
		var samples []Sample
		it := series.Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind == chunkenc.ValFloat {
				t, v := it.At()
				samples = append(samples, Sample{t, v})
				continue
			}
			t, h := it.AtFloatHistogram(nil)
			samples = append(samples, Sample{t, h.Sum})
		}
		if err := it.Err(); err != nil {
			tb.Fatalf("read series %s: %v", series.Labels(), err)
		}
		if len(samples) > 0 { // a series is there a moment before its first sample
			all[series.Labels().String()] = samples
		}
	}
	if err := set.Err(); err != nil {
		tb.Fatalf("select %s: %v", selector, err)
	}
	return all
}
