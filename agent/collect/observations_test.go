package collect

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
)

// TestExponentialBucketsLikeClientGolang compares with the histogram that
// applications have, for numbers of all sizes and those on the very bounds.
func TestExponentialBucketsLikeClientGolang(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	numbers := []float64{0, 1, -1, 0.5, 2, 1024, math.MaxFloat64, -math.MaxFloat64, zeroThreshold, -zeroThreshold, math.Nextafter(zeroThreshold, 1)}
	for range 500 {
		numbers = append(numbers, random.NormFloat64()*math.Pow(10, float64(random.IntN(40)-20)))
	}
	for _, bound := range newResolution(3).bounds {
		numbers = append(numbers, bound, 2*bound, math.Nextafter(bound, 1), math.Nextafter(bound, 0))
	}
	for schema := int32(-4); schema <= 8; schema++ {
		ours := observations{sparse: newResolution(schema)}
		ours.reset()
		theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "x", Help: "X.",
			// Just above the growth from one bound to the next.
			NativeHistogramBucketFactor: math.Nextafter(math.Pow(2, math.Pow(2, -float64(schema))), math.Inf(1)),
		})
		for _, x := range numbers {
			if err := ours.observe(x); err != nil {
				t.Fatal(err)
			}
			theirs.Observe(x)
		}
		var m dto.Metric
		if err := theirs.Write(&m); err != nil {
			t.Fatal(err)
		}
		var h histogram.Histogram
		ours.native(&h)
		if got, want := schema, m.Histogram.GetSchema(); got != want {
			t.Fatalf("compared schema %d with %d", got, want)
		}
		d := &dto.Histogram{}
		setNative(d, &h, nil)
		if diff := cmp.Diff(bucketCounts(m.Histogram.PositiveSpan, m.Histogram.PositiveDelta), bucketCounts(d.PositiveSpan, d.PositiveDelta)); diff != "" {
			t.Errorf("schema %d, positive: %s", schema, diff)
		}
		if diff := cmp.Diff(bucketCounts(m.Histogram.NegativeSpan, m.Histogram.NegativeDelta), bucketCounts(d.NegativeSpan, d.NegativeDelta)); diff != "" {
			t.Errorf("schema %d, negative: %s", schema, diff)
		}
		if err := h.Validate(); err != nil {
			t.Errorf("schema %d: %v", schema, err)
		}
		if got, want := h.ZeroCount, m.Histogram.GetZeroCount(); got != want {
			t.Errorf("schema %d: %d in the zero bucket, want %d", schema, got, want)
		}
	}
}

// bucketCounts returns that of each bucket that has one, by its index.
func bucketCounts(spans []*dto.BucketSpan, deltas []int64) map[int32]int64 {
	all := map[int32]int64{}
	at, i, n := int32(0), 0, int64(0)
	for _, s := range spans {
		at += s.GetOffset()
		for range s.GetLength() {
			n += deltas[i]
			if n > 0 {
				all[at] = n
			}
			at++
			i++
		}
	}
	return all
}

// The sum of many small numbers does not depend on their order.
func TestCompensatedSum(t *testing.T) {
	var sum compensated
	for range 10_000_000 {
		sum.add(0.1)
	}
	if sum.value() != 1_000_000 {
		t.Errorf("the sum is %v", sum.value())
	}
}

// TestObserveRefuses what would leave no finite sum, and goes on without it.
func TestObserveRefuses(t *testing.T) {
	o := observations{bounds: []float64{1}, sparse: newResolution(3)}
	o.reset()
	for _, c := range []struct {
		x   float64
		err error
	}{
		{2, nil},
		{math.Inf(1), errNotFinite},
		{math.Inf(-1), errNotFinite},
		{math.NaN(), errNotFinite},
		{math.MaxFloat64, nil},
		{math.MaxFloat64, errOverflow},
		{-math.MaxFloat64, nil},
		{3, nil},
	} {
		if err := o.observe(c.x); !errors.Is(err, c.err) {
			t.Errorf("%v: %v, want %v", c.x, err, c.err)
		}
	}
	if o.count != 4 || o.total() != 5 {
		t.Errorf("%d observations with the sum %v, want 4 with 5", o.count, o.total())
	}
}

func TestObservationsAreWrittenAndRead(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, empty := range map[string]func() observations{
		"bounds":      func() observations { return observations{bounds: []float64{-1, 0, 2.5}} },
		"exponential": func() observations { return observations{sparse: newResolution(3)} },
		"both":        func() observations { return observations{bounds: []float64{1}, sparse: newResolution(-2)} },
		"no bounds":   func() observations { return observations{} },
	} {
		t.Run(name, func(t *testing.T) {
			want := empty()
			want.reset()
			for i := range 100 {
				b := want.appendTo([]byte("before"))
				got := empty()
				rest, err := got.decode(append(b, "after"...)[len("before"):])
				if err != nil || string(rest) != "after" {
					t.Fatalf("%d observations: %v, %q is left", i, err, rest)
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(observations{}, compensated{}, exponentialBucket{}, resolution{}), equateEmpty); diff != "" {
					t.Fatalf("%d observations: %s", i, diff)
				}
				if err := want.observe(random.NormFloat64() * 10); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	a := observations{bounds: []float64{1, 2}}
	a.reset()
	for name, other := range map[string]observations{
		"other bounds":     {bounds: []float64{1, 3}},
		"fewer bounds":     {bounds: []float64{1}},
		"a schema instead": {bounds: []float64{1, 2}, sparse: newResolution(0)},
	} {
		if _, err := other.decode(a.appendTo(nil)); err != errOtherBuckets {
			t.Errorf("%s: decode returned %v", name, err)
		}
	}
}

// equateEmpty takes nil and empty slices for equal.
var equateEmpty = cmp.FilterValues(func(a, b []exponentialBucket) bool { return len(a)+len(b) == 0 }, cmp.Ignore())

func FuzzDecodeObservations(f *testing.F) {
	o := observations{bounds: []float64{1}, sparse: newResolution(0)}
	o.reset()
	f.Add(o.appendTo(nil))
	for _, x := range durations {
		_ = o.observe(x)
	}
	f.Add(o.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := observations{bounds: []float64{1}, sparse: newResolution(0)}
		rest, err := o.decode(b)
		if err != nil {
			return
		}
		again := observations{bounds: []float64{1}, sparse: newResolution(0)}
		if left, err := again.decode(o.appendTo(nil)); err != nil || len(left) != 0 || len(rest) > len(b) {
			t.Fatalf("what was read and written is not read: %v", err)
		}
	})
}
