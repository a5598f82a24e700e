package collect

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/config"
)

func keyed(change func(*config.Metric)) config.Metric {
	m := config.Metric{Name: "m", Type: config.Gauge, KeyLabels: []string{"a"}, Values: []string{"n"}}
	change(&m)
	return m
}

func TestNullAndDuplicatePolicies(t *testing.T) {
	null := table("a n", []any{"x", nil}, []any{"y", 1})
	twice := table("a n", []any{"x", 1}, []any{"y", 2}, []any{"x", 3}, []any{"x", 5})
	duplicates := func(p config.OnDuplicate) config.Metric {
		return keyed(func(m *config.Metric) { m.OnDuplicate = p })
	}
	nulls := func(p config.OnNull) config.Metric { return keyed(func(m *config.Metric) { m.OnNull = p }) }
	buckets := func(p config.OnDuplicate) config.Metric {
		m := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}))
		m.OnDuplicate = p
		return m
	}
	columns := func(p config.OnDuplicate) config.Metric {
		m := histogramOf(config.HistogramOptions{
			Mode: config.HistogramBuckets, Classic: true, Cumulative: true, Sum: "s", Count: "n",
			Columns: []config.BucketColumn{{Le: 1, Column: "b1"}},
		})
		m.OnDuplicate = p
		return m
	}
	twoBuckets := table("le c", []any{1, 2}, []any{2, 4}, []any{1, 3})
	twoRows := table("b1 s n", []any{1, 10, 2}, []any{2, 20, 3})
	histogram := func(a, b, inf string) string {
		return "d_bucket{le=\"1.0\"} " + a + "\nd_bucket{le=\"2.0\"} " + b + "\nd_bucket{le=\"+Inf\"} " + inf + "\nd_count{} " + inf + "\n"
	}
	wide := func(b, inf, sum string) string {
		return "d_bucket{le=\"1.0\"} " + b + "\nd_bucket{le=\"+Inf\"} " + inf + "\nd_sum{} " + sum + "\nd_count{} " + inf + "\n"
	}
	rpc := func(p config.OnDuplicate) config.Metric {
		return config.Metric{Name: "r", Type: config.Summary, OnDuplicate: p, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v"}}
	}
	quantiles := table("q v", []any{0.5, 1}, []any{0.9, 9}, []any{0.5, 2}, []any{0.5, 4})
	role := func(p config.OnDuplicate) config.Metric {
		return config.Metric{Name: "s", Type: config.StateSet, Values: []string{"v"}, States: []string{"on", "off"}, OnDuplicate: p}
	}
	states := table("v", []any{"on"}, []any{"off"})
	for name, c := range map[string]struct {
		metric  config.Metric
		answer  answer
		want    string
		refused map[string]float64
	}{
		"NULL is skipped": {nulls(""), null, "m{a=\"y\"} 1\n", map[string]float64{"null": 1}},
		"NULL is 0":       {nulls(config.OnNullZero), null, "m{a=\"x\"} 0\nm{a=\"y\"} 1\n", nil},
		"NULL is NaN":     {nulls(config.OnNullNaN), null, "m{a=\"x\"} NaN\nm{a=\"y\"} 1\n", nil},
		"NULL is a state of none": {keyed(func(m *config.Metric) {
			m.Type, m.States, m.OnNull, m.KeyLabels = config.StateSet, []string{"on", "off"}, config.OnNullZero, nil
		}), table("n", []any{nil}), "m{m=\"on\"} 0\nm{m=\"off\"} 0\n", nil},
		"first":                     {duplicates(config.OnDuplicateFirst), twice, "m{a=\"x\"} 1\nm{a=\"y\"} 2\n", map[string]float64{"duplicate": 2}},
		"first is the default":      {duplicates(""), twice, "m{a=\"x\"} 1\nm{a=\"y\"} 2\n", map[string]float64{"duplicate": 2}},
		"last":                      {duplicates(config.OnDuplicateLast), twice, "m{a=\"x\"} 5\nm{a=\"y\"} 2\n", map[string]float64{"duplicate": 2}},
		"sum":                       {duplicates(config.OnDuplicateSum), twice, "m{a=\"x\"} 9\nm{a=\"y\"} 2\n", map[string]float64{"duplicate": 2}},
		"drop":                      {duplicates(config.OnDuplicateDrop), twice, "m{a=\"y\"} 2\n", map[string]float64{"duplicate": 3}},
		"first bucket":              {buckets(config.OnDuplicateFirst), twoBuckets, histogram("2", "4", "4"), map[string]float64{"duplicate": 1}},
		"last bucket":               {buckets(config.OnDuplicateLast), twoBuckets, histogram("3", "4", "4"), map[string]float64{"duplicate": 1}},
		"sum of buckets":            {buckets(config.OnDuplicateSum), table("le c", []any{1, 1}, []any{2, 4}, []any{1, 2}), histogram("3", "4", "4"), map[string]float64{"duplicate": 1}},
		"a bucket dropped":          {buckets(config.OnDuplicateDrop), twoBuckets, "", map[string]float64{"duplicate": 3}},
		"first row of columns":      {columns(config.OnDuplicateFirst), twoRows, wide("1", "2", "10"), map[string]float64{"duplicate": 1}},
		"last row of columns":       {columns(config.OnDuplicateLast), twoRows, wide("2", "3", "20"), map[string]float64{"duplicate": 3}},
		"sum of rows of columns":    {columns(config.OnDuplicateSum), twoRows, wide("3", "5", "30"), map[string]float64{"duplicate": 3}},
		"both rows of columns gone": {columns(config.OnDuplicateDrop), twoRows, "", map[string]float64{"duplicate": 4}},
		"first quantile":            {rpc(""), quantiles, "r{quantile=\"0.5\"} 1\nr{quantile=\"0.9\"} 9\n", map[string]float64{"duplicate": 2}},
		"last quantile":             {rpc(config.OnDuplicateLast), quantiles, "r{quantile=\"0.5\"} 4\nr{quantile=\"0.9\"} 9\n", map[string]float64{"duplicate": 2}},
		"sum of quantiles":          {rpc(config.OnDuplicateSum), quantiles, "r{quantile=\"0.5\"} 7\nr{quantile=\"0.9\"} 9\n", map[string]float64{"duplicate": 2}},
		"a quantile dropped":        {rpc(config.OnDuplicateDrop), quantiles, "r{quantile=\"0.9\"} 9\n", map[string]float64{"duplicate": 3}},
		"first state":               {role(""), states, "s{s=\"on\"} 1\ns{s=\"off\"} 0\n", map[string]float64{"duplicate": 2}},
		"last state":                {role(config.OnDuplicateLast), states, "s{s=\"on\"} 0\ns{s=\"off\"} 1\n", map[string]float64{"duplicate": 2}},
		"both states":               {role(config.OnDuplicateSum), states, "s{s=\"on\"} 1\ns{s=\"off\"} 1\n", map[string]float64{"duplicate": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(c.metric), c.answer)
			for round := range 2 {
				if diff := cmp.Diff(c.want, r.round(round+1)); diff != "" {
					t.Errorf("round %d: %s", round+1, diff)
				}
			}
			for why := range reasons {
				if got, want := r.refusedCount(why.String()), 2*c.refused[why.String()]; got != want {
					t.Errorf("%s: counted %v in two rounds, want %v", why, got, want)
				}
			}
		})
	}
}

// A series that was there and is withdrawn goes stale; one that is new leaves
// nothing behind.
func TestDroppedDuplicatesGoStale(t *testing.T) {
	m := keyed(func(m *config.Metric) { m.OnDuplicate = config.OnDuplicateDrop })
	once := table("a n", []any{"x", 1}, []any{"y", 2})
	twice := table("a n", []any{"x", 1}, []any{"x", 1}, []any{"y", 2}, []any{"z", 1}, []any{"z", 2})
	r := newPlainRig(t, query(m), once, twice, twice, once)
	for i, want := range []string{
		"m{a=\"x\"} 1\nm{a=\"y\"} 2\n", "m{a=\"y\"} 2\nm{a=\"x\"} stale\n", "m{a=\"y\"} 2\n", "m{a=\"x\"} 1\nm{a=\"y\"} 2\n",
	} {
		if diff := cmp.Diff(want, r.round(i+1)); diff != "" {
			t.Errorf("round %d: %s", i+1, diff)
		}
		if known := r.mappers[0].shape.(*scalar).series; len(known) > 2 || i == 2 && len(known) != 1 {
			t.Errorf("round %d: %d series are known", i+1, len(known))
		}
	}
}

func TestNullsReplacedAreCounted(t *testing.T) {
	r := newPlainRig(t, query(keyed(func(m *config.Metric) { m.OnNull = config.OnNullZero })), table("a n", []any{"x", nil}, []any{"y", 0}))
	r.round(1)
	if n := testutil.ToFloat64(r.metrics.nulls.WithLabelValues("db", "c", "q")); n != 1 {
		t.Errorf("counted %v, want 1", n)
	}
}

// A sample has the nearest number that it can have, and the page says how often.
// A label has the number itself.
func TestRoundedValuesAreCounted(t *testing.T) {
	const odd = 1<<53 + 1
	r := newPlainRig(t, query(keyed(func(*config.Metric) {})),
		table("a n", []any{odd, odd}, []any{"even", odd + 1}, []any{"text", "-9007199254740993"}),
		table("a n", []any{odd, odd}), table("a n", []any{odd, 1}), table("a n", []any{odd, odd}))
	want := "m{a=\"9007199254740993\"} 9.007199254740992e+15\nm{a=\"even\"} 9.007199254740994e+15\nm{a=\"text\"} -9.007199254740992e+15\n"
	if diff := cmp.Diff(want, r.round(1)); diff != "" {
		t.Error(diff)
	}
	for i := range 3 {
		r.round(i + 2)
	}
	if n := testutil.ToFloat64(r.metrics.rounded.WithLabelValues("db", "c", "q")); n != 4 {
		t.Errorf("counted %v, want 4", n)
	}
	if n := strings.Count(r.logged.String(), "values are rounded"); n != 2 {
		t.Errorf("logged %d times, want once for each time it begins:\n%s", n, r.logged)
	}
	if !strings.Contains(r.logged.String(), "is 9007199254740993 and its sample 9007199254740992") {
		t.Error(r.logged)
	}
}

func TestResultLimits(t *testing.T) {
	rows := table("a n", []any{"x", 1}, []any{"y", 2}, []any{"z", 3})
	buckets := table("a le c", []any{"x", 1, 1}, []any{"y", 1, 1})
	byRows := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}), "a")
	const d = "d_bucket{a=\"x\", le=\"1.0\"} 1\nd_bucket{a=\"x\", le=\"+Inf\"} 1\nd_count{a=\"x\"} 1\n"
	gauge := keyed(func(*config.Metric) {})
	for name, c := range map[string]struct {
		metric    config.Metric
		policies  config.Policies
		answer    answer
		want      string
		over      string // what the error says
		truncated float64
	}{
		"as many as may be": {gauge, config.Policies{RowLimit: 3, SampleLimit: 3}, rows, "m{a=\"x\"} 1\nm{a=\"y\"} 2\nm{a=\"z\"} 3\n", "", 0},
		"rows":              {gauge, config.Policies{RowLimit: 2}, rows, "", "the result has more than 2 rows: return fewer, or raise row_limit", 0},
		"samples":           {gauge, config.Policies{SampleLimit: 2}, rows, "", "the result has more than 2 samples: return fewer, or raise sample_limit", 0},
		"rows, the rest cut off": {
			gauge, config.Policies{RowLimit: 2, OnLimit: config.OnLimitTruncate}, rows, "m{a=\"x\"} 1\nm{a=\"y\"} 2\n", "", 1,
		},
		"samples, the rest cut off": {
			gauge, config.Policies{SampleLimit: 2, OnLimit: config.OnLimitTruncate}, rows, "m{a=\"x\"} 1\nm{a=\"y\"} 2\n", "", 1,
		},
		"samples of histograms":                   {byRows, config.Policies{SampleLimit: 5}, buckets, "", "more than 5 samples", 0},
		"a histogram is cut off whole":            {byRows, config.Policies{SampleLimit: 5, OnLimit: config.OnLimitTruncate}, buckets, d, "", 1},
		"and so is one whose rows are cut":        {byRows, config.Policies{RowLimit: 2, OnLimit: config.OnLimitTruncate}, table("a le c", []any{"x", 1, 1}, []any{"y", 1, 1}, []any{"y", 2, 2}), d, "", 1},
		"a duplicate is no sample of its own":     {gauge, config.Policies{SampleLimit: 1}, table("a n", []any{"x", 1}, []any{"x", 2}), "m{a=\"x\"} 1\n", "", 0},
		"a refused cell is no sample of its own":  {gauge, config.Policies{SampleLimit: 1}, table("a n", []any{"x", nil}, []any{"y", 2}), "m{a=\"y\"} 2\n", "", 0},
		"a limit that is not one, the zero value": {gauge, config.Policies{}, rows, "m{a=\"x\"} 1\nm{a=\"y\"} 2\nm{a=\"z\"} 3\n", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			q := query(c.metric)
			q.Policies = c.policies
			r := newPlainRig(t, q, c.answer)
			if diff := cmp.Diff(c.want, r.round(1)); diff != "" {
				t.Error(diff)
			}
			r.now = t0.Add(2 * time.Second)
			err := r.Step(t.Context(), r.now)
			var over *limitError
			switch {
			case c.over == "" && err != nil:
				t.Errorf("the run failed: %v", err)
			case c.over != "" && !errors.As(err, &over):
				t.Errorf("the run returned %v, want a limitError", err)
			case c.over != "" && !strings.Contains(err.Error(), c.over):
				t.Errorf("the run returned %v, want %s", err, c.over)
			}
			if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues("db", "c", "q", "limit")); (n == 2) != (c.over != "") {
				t.Errorf("counted %v failures", n)
			}
			if n := testutil.ToFloat64(r.metrics.truncated.WithLabelValues("db", "c", "q")); n != 2*c.truncated {
				t.Errorf("counted %v truncated results, want %v", n, 2*c.truncated)
			}
		})
	}
}

func TestLabelLimits(t *testing.T) {
	rows := table("a n", []any{"x", 1}, []any{"longer", 2})
	for name, c := range map[string]struct {
		limits config.LabelLimits
		want   string
		logged string
	}{
		"none":         {config.LabelLimits{}, "m{a=\"x\"} 1\nm{a=\"longer\"} 2\n", ""},
		"as they are":  {config.LabelLimits{Count: 2, NameLength: 8, ValueLength: 6}, "m{a=\"x\"} 1\nm{a=\"longer\"} 2\n", ""},
		"value length": {config.LabelLimits{ValueLength: 5}, "m{a=\"x\"} 1\n", `the value of label a begins with \"longer\" and has 6 bytes, and label_value_length_limit is 5`},
		"name length":  {config.LabelLimits{NameLength: 7}, "", `the label name \"__name__\" has 8 bytes, and label_name_length_limit is 7`},
		"count":        {config.LabelLimits{Count: 1}, "", "has 2 labels, and label_limit is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlainRig(t, query(keyed(func(m *config.Metric) { m.LabelLimits = c.limits })), rows)
			if diff := cmp.Diff(c.want, r.round(1)); diff != "" {
				t.Error(diff)
			}
			if got, want := r.refusedCount("label_limit"), 2-strings.Count(c.want, "\n"); got != float64(want) {
				t.Errorf("counted %v refusals, want %d", got, want)
			}
			if !strings.Contains(r.logged.String(), c.logged) {
				t.Errorf("the log does not say %s:\n%s", c.logged, r.logged)
			}
		})
	}
}

// Workers share one limit. What is known goes on above it, what is new is
// refused, and what goes makes room.
func TestSeriesLimit(t *testing.T) {
	limit := NewSeriesLimit(4)
	gauge := keyed(func(*config.Metric) {})
	byRows := histogramOf(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}))
	first := newPlainRig(t, query(gauge), table("a n", []any{"x", 1}, []any{"y", 2}), table("a n", []any{"y", 2}), table("a n"))
	second := newPlainRig(t, query(byRows), table("le c", []any{1, 1}))
	first.values.limit, second.values.limit = limit.share(), limit.share()
	for i, c := range []struct {
		rig     plainRig
		want    string
		refused float64
		live    int
	}{
		{first, "m{a=\"x\"} 1\nm{a=\"y\"} 2\n", 0, 2},
		{second, "", 1, 2}, // a histogram of 3 series has no room, and no part of it is there
		{first, "m{a=\"y\"} 2\nm{a=\"x\"} stale\n", 0, 1},
		{second, "d_bucket{le=\"1.0\"} 1\nd_bucket{le=\"+Inf\"} 1\nd_count{} 1\n", 1, 4},
		{first, "m{a=\"y\"} stale\n", 0, 3},
	} {
		if diff := cmp.Diff(c.want, c.rig.round(i+1)); diff != "" {
			t.Errorf("round %d: %s", i+1, diff)
		}
		if n := c.rig.refusedCount("series_limit"); n != c.refused {
			t.Errorf("round %d: counted %v refusals, want %v", i+1, n, c.refused)
		}
		if limit.Live() != c.live {
			t.Errorf("round %d: %d series are counted, want %d", i+1, limit.Live(), c.live)
		}
	}
	first.Close()
	second.Close()
	if limit.Live() != 0 {
		t.Errorf("%d series are counted after the end", limit.Live())
	}
}

func TestSeriesLimitOfScrapes(t *testing.T) {
	r := newScrapeRig(t, textPage("a 1\nb 1\nc 1\n"), textPage("c 1\na 1\n"), textPage("a 1\n"))
	limit := NewSeriesLimit(2)
	r.Scrape.values.limit = limit.share()
	for i, live := range []int{2, 1, 1} { // b makes room for c at the end of the page
		r.stepAt(t0.Add(time.Duration(i+1) * time.Second))
		if limit.Live() != live {
			t.Errorf("page %d: %d series are counted, want %d", i+1, limit.Live(), live)
		}
	}
	if n := booked(r.metrics, bookName{"db", "", bookScrape}).refusedFor("series_limit"); n != 2 {
		t.Errorf("counted %v refusals, want 2", n)
	}
}
