package collect

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// durations are those of the issue: in buckets 0.2, 0.4, 0.6, 0.8 and 1 they
// are 7, 2, 1, 0 and 0.
var durations = []float64{0.02, 0.1, 0.15, 0.15, 0.16, 0.17, 0.18, 0.3, 0.35, 0.5}

var durationBounds = []float64{0.2, 0.4, 0.6, 0.8, 1}

// classicDurations is what every mode makes of them.
const classicDurations = `d_bucket{le="0.2"} 7
d_bucket{le="0.4"} 9
d_bucket{le="0.6"} 10
d_bucket{le="0.8"} 10
d_bucket{le="1.0"} 10
d_bucket{le="+Inf"} 10
d_sum{} 2.08
d_count{} 10
`

// cell makes a cell of what a test writes.
func cell(x any) sources.Value {
	switch x := x.(type) {
	case nil:
		return null
	case int:
		return sources.IntValue(int64(x))
	case float64:
		return sources.FloatValue(x)
	case bool:
		return sources.BoolValue(x)
	case string:
		return text(x)
	}
	panic(fmt.Sprintf("no cell for a %T", x))
}

// table is an answer with those columns and rows.
func table(columns string, rows ...[]any) answer {
	a := answer{columns: strings.Fields(columns)}
	for _, r := range rows {
		var values []sources.Value
		for _, x := range r {
			values = append(values, cell(x))
		}
		a.rows = append(a.rows, values)
	}
	return a
}

// plainRig is a rig whose series have no labels but their own. Its log shows
// no times.
type plainRig struct{ *rig }

func newPlainRig(t *testing.T, q config.Query, answers ...answer) plainRig {
	s := dbSource()
	s.Job, s.Instance, s.Labels = "", "", labels.EmptyLabels()
	return plainRig{newRig(t, s, q, &database{answers: answers})}
}

// round runs the worker once and returns what it appended, without times;
// native histograms as Prometheus prints them.
func (r plainRig) round(n int) string {
	r.t.Helper()
	r.now = t0.Add(time.Duration(n) * time.Second)
	_ = r.Step(r.t.Context(), r.now)
	addsUp(r.t, r.metrics)
	return frames(r.t, r.reader)
}

// frames returns all samples and histograms that the reader has not seen.
func frames(t *testing.T, reader *wal.Reader) string {
	t.Helper()
	var b strings.Builder
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Samples {
			lset := f.Series[s.Ref].Labels
			v := fmt.Sprint(s.V)
			if value.IsStaleNaN(s.V) {
				v = "stale"
			}
			fmt.Fprintf(&b, "%s%s %s\n", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), v)
		}
		for _, h := range f.Histograms {
			lset := f.Series[h.Ref].Labels
			fmt.Fprintf(&b, "%s%s %s\n", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), printHistogram(h.H))
		}
		for _, h := range f.FloatHistograms {
			lset := f.Series[h.Ref].Labels
			fmt.Fprintf(&b, "%s%s float %s\n", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), h.FH)
		}
	}
}

func printHistogram(h *histogram.Histogram) string {
	if value.IsStaleNaN(h.Sum) {
		return "stale histogram"
	}
	return fmt.Sprintf("schema %d %s", h.Schema, h)
}

// histogramOf returns a metric d of type histogram.
func histogramOf(o config.HistogramOptions, keys ...string) config.Metric {
	return config.Metric{Name: "d", Type: config.Histogram, Help: "Durations.", KeyLabels: keys, HistogramOptions: &o}
}

func bucketRows(o config.HistogramOptions) config.HistogramOptions {
	o.Mode, o.Le, o.Bucket = config.HistogramBuckets, "le", "c"
	return o
}

func bucketColumns(o config.HistogramOptions) config.HistogramOptions {
	o.Mode = config.HistogramBuckets
	for i, le := range append(slices.Clone(durationBounds), math.Inf(1)) {
		o.Columns = append(o.Columns, config.BucketColumn{Le: le, Column: fmt.Sprint("b", i)})
	}
	return o
}

func snapshot(o config.HistogramOptions) config.HistogramOptions {
	o.Mode, o.Value = config.HistogramSnapshot, "v"
	return o
}

// durationRows is a row for each duration.
func durationRows() answer {
	a := table("v")
	for _, d := range durations {
		a.rows = append(a.rows, []sources.Value{cell(d)})
	}
	return a
}

// TestHistogramModes makes the same histogram in every way there is.
func TestHistogramModes(t *testing.T) {
	classic := config.HistogramOptions{Classic: true, Cumulative: true, Sum: "s", Count: "n"}
	perBucket := classic
	perBucket.Cumulative = false
	withoutCount := classic
	withoutCount.Count = ""
	perBucketWithoutCount := perBucket
	perBucketWithoutCount.Count = ""
	for name, c := range map[string]struct {
		options config.HistogramOptions
		answer  answer
	}{
		"rows, cumulative": {bucketRows(classic), table("le c s n",
			[]any{0.2, 7, 2.08, 10}, []any{0.4, 9, 2.08, 10}, []any{0.6, 10, 2.08, 10}, []any{0.8, 10, 2.08, 10}, []any{1, 10, 2.08, 10}, []any{"+Inf", 10, 2.08, 10})},
		"rows in any order, as texts": {bucketRows(classic), table("le c s n",
			[]any{"Infinity", "10", nil, nil}, []any{"1", "10", nil, nil}, []any{"0.40", "9", "2.08", "10"}, []any{"0.8", "10", nil, nil}, []any{"0.2", "7", nil, nil}, []any{"0.6", "10", nil, nil})},
		"+Inf completed from the count": {bucketRows(classic), table("le c s n",
			[]any{0.2, 7, 2.08, 10}, []any{0.4, 9, 2.08, 10}, []any{0.6, 10, 2.08, 10}, []any{0.8, 10, 2.08, 10}, []any{1, 10, 2.08, 10})},
		"+Inf completed from the last bucket": {bucketRows(withoutCount), table("le c s",
			[]any{0.2, 7, 2.08}, []any{0.4, 9, 2.08}, []any{0.6, 10, 2.08}, []any{0.8, 10, 2.08}, []any{1, 10, 2.08})},
		"rows, not cumulative": {bucketRows(perBucket), table("le c s n",
			[]any{0.2, 7, 2.08, 10}, []any{0.4, 2, 2.08, 10}, []any{0.6, 1, 2.08, 10}, []any{0.8, 0, 2.08, 10}, []any{1, 0, 2.08, 10}, []any{"+Inf", 0, 2.08, 10})},
		"rows, not cumulative, +Inf completed from the sum of buckets": {bucketRows(perBucketWithoutCount), table("le c s",
			[]any{1, 0, 2.08}, []any{0.2, 7, 2.08}, []any{0.4, 2, 2.08}, []any{0.6, 1, 2.08}, []any{0.8, 0, 2.08})},
		"sum and count in a row of their own": {bucketRows(classic), table("le c s n",
			[]any{0.2, 7, nil, nil}, []any{0.4, 9, nil, nil}, []any{0.6, 10, nil, nil}, []any{0.8, 10, nil, nil}, []any{1, 10, nil, nil}, []any{nil, nil, 2.08, 10})},
		"columns, cumulative":     {bucketColumns(classic), table("b0 b1 b2 b3 b4 b5 s n", []any{7, 9, 10, 10, 10, 10, 2.08, 10})},
		"columns, not cumulative": {bucketColumns(perBucket), table("s n b5 b4 b3 b2 b1 b0", []any{2.08, 10, 0, 0, 0, 1, 2, 7})},
		"snapshot":                {snapshot(config.HistogramOptions{Classic: true, Bounds: durationBounds}), durationRows()},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(histogramOf(c.options)), c.answer)
			for round := range 3 {
				if diff := cmp.Diff(classicDurations, r.round(round+1)); diff != "" {
					t.Errorf("round %d: %s", round+1, diff)
				}
			}
			if r.logged.Len() > 0 {
				t.Error(r.logged)
			}
		})
	}
}

func TestNativeModes(t *testing.T) {
	rows := table("le c s", []any{0.2, 7, 2.08}, []any{0.4, 9, 2.08}, []any{0.6, 10, 2.08}, []any{0.8, 10, 2.08}, []any{1, 10, 2.08})
	custom := `d{} schema -53 {count:10, sum:2.08, [-Inf,0.2]:7, (0.2,0.4]:2, (0.4,0.6]:1}
`
	for name, c := range map[string]struct {
		options config.HistogramOptions
		answer  answer
		want    string
	}{
		"custom buckets of rows":    {bucketRows(config.HistogramOptions{Native: true, Cumulative: true, Sum: "s"}), rows, custom},
		"and classic":               {bucketRows(config.HistogramOptions{Native: true, Classic: true, Cumulative: true, Sum: "s"}), rows, classicDurations + custom},
		"custom buckets of columns": {bucketColumns(config.HistogramOptions{Native: true, Cumulative: true, Sum: "s"}), table("b0 b1 b2 b3 b4 b5 s", []any{7, 9, 10, 10, 10, 10, 2.08}), custom},
		"custom buckets of a snapshot": {
			snapshot(config.HistogramOptions{Native: true, Bounds: durationBounds}), durationRows(), custom,
		},
		"exponential": {
			snapshot(config.HistogramOptions{Native: true, Schema: 0}), durationRows(),
			"d{} schema 0 {count:10, sum:2.08, (0.015625,0.03125]:1, (0.0625,0.125]:1, (0.125,0.25]:5, (0.25,0.5]:3}\n",
		},
		"zero, negative": {
			snapshot(config.HistogramOptions{Native: true, Schema: -4}),
			table("v", []any{0}, []any{-0.5}, []any{1e-40}),
			"d{} schema -4 {count:3, sum:-0.5, [-1,-1.52587890625e-05):1, [-2.938735877055719e-39,2.938735877055719e-39]:2}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(histogramOf(c.options)), c.answer)
			if diff := cmp.Diff(c.want, r.round(1)); diff != "" {
				t.Error(diff)
			}
			for _, h := range r.values.last {
				if h.h == nil {
					continue
				}
				if err := h.h.Validate(); err != nil {
					t.Errorf("Prometheus does not take it: %v", err)
				}
				if gauge := h.h.CounterResetHint == histogram.GaugeType; gauge != (c.options.Mode == config.HistogramSnapshot) {
					t.Errorf("its reset hint is %v", h.h.CounterResetHint)
				}
			}
		})
	}
}

func TestTypes(t *testing.T) {
	one := 1.5
	for name, c := range map[string]struct {
		metric config.Metric
		answer answer
		want   string
	}{
		"a static value": {
			config.Metric{Name: "m", Type: config.Gauge, KeyLabels: []string{"a"}, StaticValue: &one},
			table("a b", []any{"x", 7}, []any{"y", nil}),
			"m{a=\"x\"} 1.5\nm{a=\"y\"} 1.5\n",
		},
		"a value map": {
			config.Metric{Name: "m", Type: config.Gauge, KeyLabels: []string{"a"}, Values: []string{"v"}, ValueMap: map[string]float64{"ok": 1, "fail": 0, "true": -1}},
			table("a v", []any{"1", "ok"}, []any{"2", "fail  "}, []any{"3", true}, []any{"4", "12"}, []any{"5", 3}),
			"m{a=\"1\"} 1\nm{a=\"2\"} 0\nm{a=\"3\"} -1\nm{a=\"4\"} 12\nm{a=\"5\"} 3\n",
		},
		"info": {
			config.Metric{Name: "build", Type: config.Info, KeyLabels: []string{"version"}},
			table("version", []any{"15.2"}),
			"build_info{version=\"15.2\"} 1\n",
		},
		"info whose name says so": {
			config.Metric{Name: "build_info", Type: config.Info, KeyLabels: []string{"version"}},
			table("version", []any{"15.2"}),
			"build_info{version=\"15.2\"} 1\n",
		},
		"stateset": {
			config.Metric{Name: "node_role", Type: config.StateSet, KeyLabels: []string{"node"}, Values: []string{"role"}, States: []string{"primary", "replica"}},
			table("node role", []any{"a", "replica  "}, []any{"b", "primary"}),
			`node_role{node="a", node_role="primary"} 0
node_role{node="a", node_role="replica"} 1
node_role{node="b", node_role="primary"} 1
node_role{node="b", node_role="replica"} 0
`,
		},
		"summary": {
			config.Metric{Name: "rpc", Type: config.Summary, KeyLabels: []string{"m"}, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v", Sum: "s", Count: "n"}},
			table("m q v s n", []any{"x", 0.5, 3, 10, 4}, []any{"y", 1, 7, nil, nil}, []any{"x", "0.99", 5, 11, 5}, []any{"y", nil, nil, 8, 2}),
			`rpc_sum{m="x"} 11
rpc_count{m="x"} 5
rpc{m="x", quantile="0.5"} 3
rpc{m="x", quantile="0.99"} 5
rpc{m="y", quantile="1.0"} 7
rpc_sum{m="y"} 8
rpc_count{m="y"} 2
`,
		},
		"summary without sum and count": {
			config.Metric{Name: "rpc", Type: config.Summary, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v"}},
			table("q v", []any{0.5, 3}, []any{0, 1}),
			"rpc{quantile=\"0.5\"} 3\nrpc{quantile=\"0.0\"} 1\n",
		},
		"histograms told apart by key labels, their rows mixed": {
			histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}), "a"),
			table("le a c", []any{1, "x", 1}, []any{1, "y", 2}, []any{2, "y", 3}, []any{2, "x", 4}),
			`d_bucket{a="x", le="1.0"} 1
d_bucket{a="x", le="2.0"} 4
d_bucket{a="x", le="+Inf"} 4
d_count{a="x"} 4
d_bucket{a="y", le="1.0"} 2
d_bucket{a="y", le="2.0"} 3
d_bucket{a="y", le="+Inf"} 3
d_count{a="y"} 3
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.metric.Help = "Help."
			r := newPlainRig(t, query(c.metric), c.answer)
			for round := range 2 {
				if diff := cmp.Diff(c.want, r.round(round+1)); diff != "" {
					t.Errorf("round %d: %s", round+1, diff)
				}
			}
			if r.logged.Len() > 0 {
				t.Error(r.logged)
			}
		})
	}
}

func TestCounterResetsPassAndAreCounted(t *testing.T) {
	m := config.Metric{Name: "m_total", Type: config.Counter, KeyLabels: []string{"a"}, Values: []string{"n"}}
	r := newPlainRig(t, query(m),
		table("a n", []any{"x", 5}, []any{"y", 5}), table("a n", []any{"x", 3}, []any{"y", 6}),
		table("a n", []any{"y", 7}), table("a n", []any{"x", 1}, []any{"y", 0}))
	for i, want := range []string{
		"m_total{a=\"x\"} 5\nm_total{a=\"y\"} 5\n", "m_total{a=\"x\"} 3\nm_total{a=\"y\"} 6\n",
		"m_total{a=\"y\"} 7\nm_total{a=\"x\"} stale\n", "m_total{a=\"x\"} 1\nm_total{a=\"y\"} 0\n",
	} {
		if diff := cmp.Diff(want, r.round(i+1)); diff != "" {
			t.Errorf("round %d: %s", i+1, diff)
		}
	}
	if n := testutil.ToFloat64(r.metrics.resets.WithLabelValues("db", "c", "q")); n != 2 {
		t.Errorf("counted %v resets, want 2: x in round 2, y in round 4", n)
	}
}
