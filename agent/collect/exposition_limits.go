package collect

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// pageLimitError says that a page has more of something than the source allows,
// and so fails as a whole.
type pageLimitError struct {
	err    error
	advice string
}

func (e *pageLimitError) Error() string { return e.err.Error() + ": " + e.advice }
func (e *pageLimitError) Unwrap() error { return e.err }

// fail counts the sample that a page fails for.
func (x *exposition) fail(err error) {
	x.offer(1)
	if errors.As(err, new(*pageLimitError)) {
		x.refuse(refusedLabelLimit, 1)
		return
	}
	x.refuse(refusedInvalidLabel, 1)
}

// fits tells whether a sample may be on the page, in the order of Prometheus: it
// has a native histogram's buckets merged before it asks how many there are, and
// that before it counts the sample. Beyond a limit the page is read to its end,
// so that its samples are counted, and fails then.
func (x *exposition) fits(r *reading, known bool) (bool, error) {
	if r.native {
		if r.h == nil && r.fh == nil {
			x.refuse(refusedInvalidHistogram, 1)
			return false, fmt.Errorf("%s is neither a histogram of integers nor one of floats", brief(r.raw))
		}
		switch small, err := x.merge(r); {
		case err != nil:
			x.refuse(refusedInvalidHistogram, 1)
			return false, fmt.Errorf("merge buckets of %s: %w", brief(r.raw), err)
		case !small:
			x.refuse(refusedLimit, 1)
			if x.over == nil {
				x.over = &pageLimitError{
					fmt.Errorf("the native histogram %s has more buckets than %d however they are merged, the native_histogram_bucket_limit", brief(r.raw), x.rules.BucketLimit),
					"raise it, or drop the histogram by metric_relabel_configs",
				}
			}
			return false, nil
		}
	}
	// A target that exposes the end of a series is let, as in Prometheus.
	if x.rules.SampleLimit == 0 || known && !r.native && value.IsStaleNaN(r.v) {
		return true, nil
	}
	x.limited++
	switch over := x.limited - x.rules.SampleLimit; {
	case over <= 0:
		return true, nil
	case over == 1:
		x.over = &pageLimitError{
			fmt.Errorf("the page has more than %d samples after metric_relabel_configs, the sample_limit", x.rules.SampleLimit),
			"drop some there, or raise it",
		}
	}
	x.refuse(refusedLimit, 1)
	return false, nil
}

// merge makes a native histogram coarser, as far as the source's limits ask for
// it; false: it cannot be coarse enough.
func (x *exposition) merge(r *reading) (small bool, err error) {
	switch {
	case x.rules.BucketLimit == 0 && x.finest == histogram.ExponentialSchemaMax:
		return true, nil
	case r.h != nil:
		return x.coarsen(&r.h.Schema, func() int { return len(r.h.PositiveBuckets) + len(r.h.NegativeBuckets) }, r.h.ReduceResolution)
	}
	return x.coarsen(&r.fh.Schema, func() int { return len(r.fh.PositiveBuckets) + len(r.fh.NegativeBuckets) }, r.fh.ReduceResolution)
}

// coarsen is merge for either kind. Buckets that are not exponential cannot be
// merged.
func (x *exposition) coarsen(schema *int32, buckets func() int, to func(schema int32) error) (small bool, err error) {
	if x.finest < histogram.ExponentialSchemaMax && histogram.IsExponentialSchemaReserved(*schema) && *schema > x.finest {
		if err := to(x.finest); err != nil {
			return false, err
		}
	}
	for x.rules.BucketLimit > 0 && buckets() > x.rules.BucketLimit {
		if !histogram.IsExponentialSchema(*schema) || *schema == histogram.ExponentialSchemaMin {
			return false, nil
		}
		if err := to(*schema - 1); err != nil {
			return false, err
		}
	}
	return true, nil
}

// valid returns an error for a native histogram that no database takes. It fails
// the page, as it does where Prometheus's own refuses it.
func (x *exposition) valid(r reading) (err error) {
	switch {
	case r.h != nil:
		err = r.h.Validate()
	case r.fh != nil:
		err = r.fh.Validate()
	}
	if err != nil {
		x.refuse(refusedInvalidHistogram, 1)
		return fmt.Errorf("the native histogram %s is not valid: %w", brief(r.raw), err)
	}
	return nil
}

// finestSchema returns the schema of the finest native histogram whose buckets
// grow by that factor at least.
func finestSchema(factor float64) int32 {
	if factor <= 1 {
		return histogram.ExponentialSchemaMax
	}
	schema := math.Floor(-math.Log2(math.Log2(factor)))
	return int32(min(max(schema, float64(histogram.ExponentialSchemaMin)), float64(histogram.ExponentialSchemaMax)))
}

// maxSaid bounds, in bytes, what an error repeats of a page.
const maxSaid = 120

// brief returns the beginning of what a page has, for an error.
func brief[T string | []byte](text T) string {
	if len(text) <= maxSaid {
		return strings.ToValidUTF8(string(text), "\ufffd")
	}
	return strings.ToValidUTF8(string(text[:maxSaid]), "\ufffd") + "…"
}
