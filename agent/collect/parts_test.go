package collect

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// A cell that makes no part of a histogram, a summary or a stateset costs what
// it is a part of, and nothing else.
func TestRefusedParts(t *testing.T) {
	byRows := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true, Count: "n"}), "a")
	perBucket := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Count: "n"}), "a")
	byColumns := histogramOf(config.HistogramOptions{
		Mode: config.HistogramBuckets, Classic: true, Cumulative: true,
		Columns: []config.BucketColumn{{Le: 1, Column: "b1"}, {Le: 2, Column: "b2"}},
	}, "a")
	role := config.Metric{Name: "role", Type: config.StateSet, KeyLabels: []string{"a"}, Values: []string{"v"}, States: []string{"on", "off"}}
	rpc := config.Metric{Name: "rpc", Type: config.Summary, KeyLabels: []string{"a"}, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v"}}
	counted := rpc
	counted.SummaryOptions = &config.SummaryOptions{Quantile: "q", Value: "v", Count: "n"}
	const good = "d_bucket{a=\"good\", le=\"1.0\"} 1\nd_bucket{a=\"good\", le=\"2.0\"} 2\nd_bucket{a=\"good\", le=\"+Inf\"} 2\nd_count{a=\"good\"} 2\n"
	goodRows := func(rows ...[]any) answer {
		return table("a le c n", append([][]any{{"good", 1, 1, nil}}, append(rows, []any{"good", 2, 2, nil})...)...)
	}
	for name, c := range map[string]struct {
		metric config.Metric
		answer answer
		want   string
		reason string
		logged string
	}{
		"counts go down": {
			byRows, goodRows([]any{"bad", 2, 1, nil}, []any{"bad", 1, 3, nil}), good,
			"invalid_histogram", "the count goes down from 3 to 1 at le 2",
		},
		"the count is below the buckets": {
			byRows, goodRows([]any{"bad", 2, 5, 4}), good,
			"invalid_histogram", "the count goes down from 5 to 4 at le +Inf",
		},
		"the count is not that of +Inf": {
			byRows, goodRows([]any{"bad", "+Inf", 5, 6}), good,
			"invalid_histogram", `column \"n\" is 6 and the buckets have 5`,
		},
		"a count that is not whole": {
			byRows, goodRows([]any{"bad", 1, 1.5, nil}, []any{"bad", 2, 2, nil}), good,
			"invalid_histogram", `column \"c\" is 1.5`,
		},
		"a negative count": {
			byRows, goodRows([]any{"bad", 1, -1, nil}), good,
			"invalid_histogram", `column \"c\" is -1`,
		},
		"a bound that is no number": {
			byRows, goodRows([]any{"bad", "many", 1, nil}, []any{"bad", 2, 2, nil}), good,
			"unparsable", `column \"le\" is \"many\"`,
		},
		"a bound that is NaN": {
			byRows, goodRows([]any{"bad", math.NaN(), 1, nil}), good,
			"invalid_histogram", `column \"le\" is NaN`,
		},
		"a bound that is NULL": {
			byRows, goodRows([]any{"bad", nil, 1, nil}), good,
			"null", `column \"le\" is NULL`,
		},
		"a count that is NULL": {
			byRows, goodRows([]any{"bad", 1, nil, nil}, []any{"bad", 2, 2, nil}), good,
			"null", `column \"c\" is NULL`,
		},
		"not cumulative, and more buckets than the count": {
			perBucket, table("a le c n", []any{"bad", 1, 3, 2}, []any{"good", 1, 1, nil}, []any{"good", 2, 1, nil}), good,
			"invalid_histogram", "the count goes down from 3 to 2 at le +Inf",
		},
		"columns that go down": {
			byColumns, table("a b1 b2", []any{"bad", 2, 1}, []any{"good", 1, 2}), good,
			"invalid_histogram", "the count goes down from 2 to 1 at le 2",
		},
		"two rows for one histogram": {
			byColumns, table("a b1 b2", []any{"good", 1, 2}, []any{"good", 2, 3}), good,
			"duplicate", "two rows are the same histogram",
		},
		"two rows for one bucket": {
			byRows, goodRows([]any{"good", 2, 2, nil}), good,
			"duplicate", "two rows of a histogram have le 2",
		},
		"a label that is not UTF-8": {
			byRows, goodRows([]any{"a\xff", 1, 1, nil}), good,
			"invalid_label", `column \"a\" is \"a\\xff\"`,
		},
		"observations that are not finite": {
			histogramOf(snapshot(config.HistogramOptions{Classic: true, Bounds: []float64{1}}), "a"),
			table("a v", []any{"x", 0.5}, []any{"x", "nan"}, []any{"x", "+Inf"}, []any{"x", "-inf"}),
			"d_bucket{a=\"x\", le=\"1.0\"} 1\nd_bucket{a=\"x\", le=\"+Inf\"} 1\nd_sum{a=\"x\"} 0.5\nd_count{a=\"x\"} 1\n",
			"nan", `column \"v\": NaN and infinity leave`,
		},
		"a state that is not known": {
			role, table("a v", []any{"x", "off"}, []any{"y", "broken"}),
			"role{a=\"x\", role=\"on\"} 0\nrole{a=\"x\", role=\"off\"} 1\n",
			"unknown_state", `column \"v\" is \"broken\", and the states are \"on\", \"off\"`,
		},
		"a quantile out of range": {
			rpc, table("a q v", []any{"x", 0.5, 1}, []any{"x", 99, 2}),
			"rpc{a=\"x\", quantile=\"0.5\"} 1\n",
			"invalid_quantile", `column \"q\" is 99`,
		},
		"a count of a summary that is none": {
			counted, table("a q v n", []any{"x", 0.5, 1, -3}),
			"rpc{a=\"x\", quantile=\"0.5\"} 1\n",
			"invalid_summary", `column \"n\" is -3: it is a count`,
		},
		"a quantile twice": {
			rpc, table("a q v", []any{"x", 0.5, 1}, []any{"x", 0.5, 2}),
			"rpc{a=\"x\", quantile=\"0.5\"} 1\n",
			"duplicate", "two rows of a summary have the quantile 0.5",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(c.metric), c.answer)
			if diff := cmp.Diff(c.want, r.round(1)); diff != "" {
				t.Error(diff)
			}
			if n := r.refusedCount(c.reason); n < 1 {
				t.Errorf("counted %v refusals, want those of the bad row or histogram", n)
			}
			if !strings.Contains(r.logged.String(), c.logged) {
				t.Errorf("the log does not say %s:\n%s", c.logged, r.logged)
			}
		})
	}
}

// TestPartsGoStale lets histograms and summaries vanish in part and as a whole.
func TestPartsGoStale(t *testing.T) {
	both := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Native: true, Cumulative: true}))
	two := table("le c", []any{1, 1}, []any{2, 2})
	for name, c := range map[string]struct {
		answers []answer
		want    []string
	}{
		"all of it": {
			[]answer{two, table("le c"), two},
			[]string{
				"d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd{} schema -53 {count:2, sum:NaN, [-Inf,1]:1, (1,2]:1}\n",
				"d_bucket{le=\"1.0\"} stale\nd_bucket{le=\"2.0\"} stale\nd_bucket{le=\"+Inf\"} stale\nd_count{} stale\nd{} stale histogram\n",
				"d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd{} schema -53 {count:2, sum:NaN, [-Inf,1]:1, (1,2]:1}\n",
			},
		},
		"a bucket": {
			[]answer{two, table("le c", []any{2, 2}), two},
			[]string{
				"d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd{} schema -53 {count:2, sum:NaN, [-Inf,1]:1, (1,2]:1}\n",
				"d_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd_bucket{le=\"1.0\"} stale\nd{} schema -53 {count:2, sum:NaN, [-Inf,2]:2}\n",
				"d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd{} schema -53 {count:2, sum:NaN, [-Inf,1]:1, (1,2]:1}\n",
			},
		},
		"refused": {
			[]answer{table("le c", []any{1, 0}), table("le c", []any{1, "none"}), table("le c", []any{1, 0})},
			[]string{
				"d_bucket{le=\"1.0\"} 0\nd_bucket{le=\"+Inf\"} 0\nd_count{} 0\nd{} schema -53 {count:0, sum:NaN}\n",
				"d_bucket{le=\"1.0\"} stale\nd_bucket{le=\"+Inf\"} stale\nd_count{} stale\nd{} stale histogram\n",
				"d_bucket{le=\"1.0\"} 0\nd_bucket{le=\"+Inf\"} 0\nd_count{} 0\nd{} schema -53 {count:0, sum:NaN}\n",
			},
		},
		"the query failed": {
			[]answer{two, {err: errDown}, {err: errDown}},
			[]string{
				"d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"2.0\"} 2\nd_bucket{le=\"+Inf\"} 2\nd_count{} 2\nd{} schema -53 {count:2, sum:NaN, [-Inf,1]:1, (1,2]:1}\n",
				"d_bucket{le=\"1.0\"} stale\nd_bucket{le=\"2.0\"} stale\nd_bucket{le=\"+Inf\"} stale\nd_count{} stale\nd{} stale histogram\n",
				"",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(both), c.answers...)
			for i, want := range c.want {
				if diff := cmp.Diff(want, r.round(i+1)); diff != "" {
					t.Errorf("round %d: %s", i+1, diff)
				}
			}
			r.Close()
			if known := r.mappers[0].shape.(*histograms).known; len(known) != 0 {
				t.Errorf("%d histograms are kept after the end", len(known))
			}
		})
	}
}

// Histograms, summaries and statesets that are known allocate per round, not
// per row or sample; a native one not even when it is made, as long as it stays
// the same.
func TestKnownPartsAllocateNothing(t *testing.T) {
	const n = 300
	rows := table("a le c s n v q role")
	for i := range n {
		a := text(string(rune('a'+i%26)) + string(rune('a'+i/26)))
		for le := range 10 {
			rows.rows = append(rows.rows, []sources.Value{a, cell(le), cell(le * i), cell(float64(i)), cell(9 * i), cell(float64(le) / 3), cell(float64(le) / 10), text("on")})
		}
	}
	metrics := []config.Metric{
		histogramOf(bucketRows(config.HistogramOptions{Classic: true, Native: true, Cumulative: true, Sum: "s", Count: "n"}), "a"),
		histogramOf(snapshot(config.HistogramOptions{Classic: true, Native: true, Bounds: durationBounds}), "a"),
		histogramOf(snapshot(config.HistogramOptions{Native: true, Schema: 3}), "a"),
		{Type: config.Summary, KeyLabels: []string{"a"}, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v", Sum: "s", Count: "n"}},
		{Type: config.StateSet, KeyLabels: []string{"a"}, Values: []string{"role"}, States: []string{"on", "off"}, OnDuplicate: config.OnDuplicateLast},
	}
	for i := range metrics {
		metrics[i].Name = string(rune('a' + i))
	}
	r := newPlainRig(t, query(metrics...), rows)
	second := 0
	step := func() {
		second++
		r.now = t0.Add(time.Duration(second) * time.Second)
		if err := r.Step(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		step()
	}
	// The test's database makes a Row for each row, and Prometheus's encoder a
	// buffer for each native histogram.
	allocs := testing.AllocsPerRun(10, step) - float64(len(rows.rows)+3*n)
	if perSample := allocs / float64(len(r.values.last)); perSample > 0.02 {
		t.Errorf("%.0f allocations for %d samples beside the rows, want a constant few", allocs, len(r.values.last))
	}
	if r.logged.Len() > 0 {
		t.Error(r.logged)
	}
}

// A page and a resend look at histograms for as long as they like: rounds that
// come after change nothing in them.
func TestEmittedHistogramsStayAsTheyAre(t *testing.T) {
	m := histogramOf(bucketRows(config.HistogramOptions{Native: true, Cumulative: true}))
	r := newPlainRig(t, query(m),
		table("le c", []any{1, 1}, []any{2, 2}), table("le c", []any{1, 7}, []any{2, 9}), table("le c", []any{3, 7}, []any{5, 9}))
	var kept []*histogram.Histogram
	var said []string
	for round := range 3 {
		r.round(round + 1)
		h := r.values.last[0].h
		kept, said = append(kept, h), append(said, h.String())
	}
	for i, h := range kept {
		if h.String() != said[i] {
			t.Errorf("round %d: it was %s and is %s", i+1, said[i], h)
		}
	}
}

func TestRefusedHistogramsAreForgotten(t *testing.T) {
	m := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}), "a")
	r := newPlainRig(t, query(m), table("a le c", []any{"x", 1, -1}, []any{"y", 1, -1}))
	r.round(1)
	if known := r.mappers[0].shape.(*histograms).known; len(known) != 0 {
		t.Errorf("%d refused histograms are kept", len(known))
	}
}
