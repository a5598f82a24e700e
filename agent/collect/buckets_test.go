package collect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"

	"sql2metrics/config"
)

// TestHistogramsCut never shows a histogram that lacks buckets behind a limit.
func TestHistogramsCut(t *testing.T) {
	const x = "d_bucket{a=\"x\", le=\"1.0\"} 1\nd_bucket{a=\"x\", le=\"2.0\"} 2\nd_bucket{a=\"x\", le=\"+Inf\"} 2\nd_count{a=\"x\"} 2\n"
	for name, c := range map[string]struct {
		rows    [][]any
		want    string
		refused float64
		logged  string
	}{
		"together":  {[][]any{{"x", 1, 1}, {"x", 2, 2}, {"y", 1, 1}, {"y", 2, 2}}, x, 1, ""},
		"alternate": {[][]any{{"x", 1, 1}, {"y", 1, 1}, {"x", 2, 2}, {"y", 2, 2}}, "", 3, "ORDER BY with the key labels"},
	} {
		t.Run(name, func(t *testing.T) {
			q := query(histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}), "a"))
			q.Policies = config.Policies{RowLimit: 3, OnLimit: config.OnLimitTruncate}
			r := newPlainRig(t, q, table("a le c", c.rows...))
			if diff := cmp.Diff(c.want, r.round(1)); diff != "" {
				t.Error(diff)
			}
			if n := r.refusedCount("limit"); n < c.refused {
				t.Errorf("%v refused, want %v at least", n, c.refused)
			}
			if !strings.Contains(r.logged.String(), c.logged) {
				t.Errorf("the log says\n%s", r.logged)
			}
		})
	}
}

// TestHistogramsAddUp adds up whole histograms, their sums and counts too, however
// their rows have them.
func TestHistogramsAddUp(t *testing.T) {
	rows := bucketRows(config.HistogramOptions{Classic: true, Cumulative: true, Sum: "s", Count: "n"})
	columns := config.HistogramOptions{Classic: true, Cumulative: true, Sum: "s", Count: "n", Mode: config.HistogramBuckets}
	columns.Columns = []config.BucketColumn{{Le: 1, Column: "b1"}, {Le: 2, Column: "b2"}}
	for name, c := range map[string]struct {
		options config.HistogramOptions
		answer  answer
	}{
		"sum and count in each row": {rows, table("le c s n", []any{1, 1, 10, 3}, []any{2, 2, 10, 3}, []any{1, 2, 20, 5}, []any{2, 4, 20, 5})},
		"in some rows":              {rows, table("le c s n", []any{1, 1, 10, nil}, []any{1, 2, 20, nil}, []any{2, 2, nil, 3}, []any{2, 4, nil, 5})},
		"in rows of their own":      {rows, table("le c s n", []any{1, 1, nil, nil}, []any{2, 2, nil, nil}, []any{nil, nil, 10, 3}, []any{1, 2, nil, nil}, []any{2, 4, nil, nil}, []any{nil, nil, 20, 5})},
		"columns":                   {columns, table("b1 b2 s n", []any{1, 2, 10, 3}, []any{2, 4, 20, 5})},
	} {
		t.Run(name, func(t *testing.T) {
			m := histogramOf(c.options)
			m.OnDuplicate = config.OnDuplicateSum
			r := newPlainRig(t, query(m), c.answer)
			for n := range 2 {
				if diff := cmp.Diff("d_bucket{le=\"1.0\"} 3\nd_bucket{le=\"2.0\"} 6\nd_bucket{le=\"+Inf\"} 8\nd_sum{} 30\nd_count{} 8\n", r.round(n+1)); diff != "" {
					t.Errorf("round %d: %s", n+1, diff)
				}
			}
		})
	}
}

// TestSnapshotOfNothing is empty where it is one histogram, and stale where rows
// would say which ones there are.
func TestSnapshotOfNothing(t *testing.T) {
	options := snapshot(config.HistogramOptions{Classic: true, Bounds: []float64{1}})
	one := func(n int) string {
		return fmt.Sprintf("d_bucket{le=\"1.0\"} %d\nd_bucket{le=\"+Inf\"} %[1]d\nd_sum{} %[1]d\nd_count{} %[1]d\n", n)
	}
	r := newPlainRig(t, query(histogramOf(options)), table("v"), table("v", []any{1}), table("v"), table("w", []any{1}))
	for i, want := range []string{one(0), one(1), one(0)} {
		if diff := cmp.Diff(want, r.round(i+1)); diff != "" {
			t.Errorf("round %d: %s", i+1, diff)
		}
	}
	if got := r.round(4); strings.Count(got, "stale") != 4 {
		t.Errorf("without its column: %s", got)
	}
	r = newPlainRig(t, query(histogramOf(options, "a")), table("a v", []any{"x", 1}), table("a v"))
	r.round(1)
	if got := r.round(2); strings.Count(got, "stale") != 4 {
		t.Errorf("with a key label: %s", got)
	}
}

// TestPageWithoutOneSum keeps the type of a family of which some lack a sum.
func TestPageWithoutOneSum(t *testing.T) {
	summary := config.Metric{Name: "d", Type: config.Summary, KeyLabels: []string{"a"}, SummaryOptions: &config.SummaryOptions{Quantile: "le", Value: "c", Sum: "s", Count: "n"}}
	for name, c := range map[string]struct {
		metric config.Metric
		want   string
	}{
		"histogram": {
			histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true, Sum: "s", Count: "n"}), "a"),
			"# d histogram\nd_bucket{a=\"x\", le=\"1.0\"} 2\nd_bucket{a=\"x\", le=\"+Inf\"} 2\nd_sum{a=\"x\"} 1.5\nd_count{a=\"x\"} 2\n" +
				"d_bucket{a=\"y\", le=\"1.0\"} 2\nd_bucket{a=\"y\", le=\"+Inf\"} 2\nd_sum{a=\"y\"} NaN\nd_count{a=\"y\"} 2",
		},
		"summary": {
			summary,
			"# d summary\nd{a=\"x\", quantile=\"1.0\"} 2\nd_sum{a=\"x\"} 1.5\nd_count{a=\"x\"} 2\nd{a=\"y\", quantile=\"1.0\"} 2\nd_sum{a=\"y\"} NaN\nd_count{a=\"y\"} 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.metric.Help = "Help."
			r := newPlainRig(t, query(c.metric), table("a le c s n", []any{"x", 1, 2, 1.5, 2}, []any{"y", 1, 2, nil, 2}))
			if got := r.round(1); strings.Contains(got, "NaN") {
				t.Errorf("a sum that is not there is shipped:\n%s", got)
			}
			page, _ := showing(t, r.rig)
			for _, format := range []expfmt.Format{expfmt.NewFormat(expfmt.TypeTextPlain), expfmt.NewFormat(expfmt.TypeOpenMetrics)} {
				if diff := cmp.Diff(strings.Split(c.want, "\n"), parsed(t, page, format)); diff != "" {
					t.Errorf("%s: %s", format, diff)
				}
			}
		})
	}
}
