package collect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/config"
)

// parsed is what Prometheus reads of a page: its types, samples and native
// histograms.
func parsed(t *testing.T, page *Page, format expfmt.Format) (lines []string) {
	t.Helper()
	families, err := page.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	encoder := expfmt.NewEncoder(&body, format)
	for _, mf := range families {
		if err := encoder.Encode(mf); err != nil {
			t.Fatalf("encode %s: %v", mf.GetName(), err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p, err := textparse.New(body.Bytes(), string(format), labels.NewSymbolTable(), textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body.String())
		}
		var lset labels.Labels
		switch entry {
		case textparse.EntryType:
			name, kind := p.Type()
			lines = append(lines, fmt.Sprintf("# %s %s", name, kind))
		case textparse.EntrySeries:
			_, _, v := p.Series()
			p.Labels(&lset)
			lines = append(lines, fmt.Sprintf("%s%s %v", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), v))
		case textparse.EntryHistogram:
			_, _, h, _ := p.Histogram()
			p.Labels(&lset)
			lines = append(lines, fmt.Sprintf("%s%s %s", lset.Get("__name__"), lset.MatchLabels(false, "__name__"), h))
		}
	}
}

// showing returns a page with a worker for each metric, all of which have run
// once.
func showing(t *testing.T, shown ...*rig) (*Page, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	page := NewPage(prometheus.NewRegistry(), reg)
	var workers []Shown
	for _, r := range shown {
		workers = append(workers, r.Worker)
	}
	page.Show(workers...)
	return page, reg
}

// TestPageOfAllTypes has Prometheus parse what every type is shown as, in each
// of the formats.
func TestPageOfAllTypes(t *testing.T) {
	both := snapshot(config.HistogramOptions{Native: true, Classic: true, Bounds: []float64{0.2, 1}})
	exponential := snapshot(config.HistogramOptions{Native: true, Schema: 0})
	one := 1.0
	metrics := map[string]struct {
		metric config.Metric
		answer answer
		text   string // and OpenMetrics, but for what is in openMetrics
		// The formats differ in the names of counters and the untyped.
		openMetrics string
		protobuf    string // if it says more
	}{
		"gauge":   {config.Metric{Type: config.Gauge, StaticValue: &one}, table("a", []any{"x"}), "# x gauge\nx{} 1", "", ""},
		"counter": {config.Metric{Name: "x_total", Type: config.Counter, StaticValue: &one}, table("a", []any{"x"}), "# x_total counter\nx_total{} 1", "# x counter\nx_total{} 1", ""},
		"info":    {config.Metric{Type: config.Info, KeyLabels: []string{"a"}}, table("a", []any{"x"}), "# x_info gauge\nx_info{a=\"x\"} 1", "", ""},
		"stateset": {
			config.Metric{Type: config.StateSet, Values: []string{"a"}, States: []string{"on", "off"}}, table("a", []any{"off"}),
			"# x gauge\nx{x=\"on\"} 0\nx{x=\"off\"} 1", "", "",
		},
		"summary": {
			config.Metric{Type: config.Summary, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v", Sum: "s", Count: "n"}},
			table("q v s n", []any{1, 3, 4, 2}, []any{0.5, 2, 4, 2}),
			"# x summary\nx{quantile=\"0.5\"} 2\nx{quantile=\"1.0\"} 3\nx_sum{} 4\nx_count{} 2", "", "# x summary\nx_count{} 2\nx_sum{} 4\nx{quantile=\"0.5\"} 2\nx{quantile=\"1.0\"} 3",
		},
		"summary without a sum": {
			config.Metric{Type: config.Summary, SummaryOptions: &config.SummaryOptions{Quantile: "q", Value: "v"}},
			table("q v", []any{0.5, 2}),
			"# x unknown\nx{quantile=\"0.5\"} 2", "", "",
		},
		"histogram": {
			config.Metric{Type: config.Histogram, HistogramOptions: new(bucketColumns(config.HistogramOptions{Classic: true, Cumulative: true, Sum: "s"}))},
			table("b0 b1 b2 b3 b4 b5 s", []any{7, 9, 10, 10, 10, 10, 2.08}),
			strings.TrimSpace("# x histogram\n" + strings.ReplaceAll(classicDurations, "d_", "x_")), "",
			"# x histogram\nx_count{} 10\nx_sum{} 2.08\nx_bucket{le=\"0.2\"} 7\nx_bucket{le=\"0.4\"} 9\nx_bucket{le=\"0.6\"} 10\nx_bucket{le=\"0.8\"} 10\nx_bucket{le=\"1.0\"} 10\nx_bucket{le=\"+Inf\"} 10",
		},
		"histogram without a sum": {
			config.Metric{Type: config.Histogram, HistogramOptions: new(bucketRows(config.HistogramOptions{Classic: true, Cumulative: true}))},
			table("le c", []any{1, 2}),
			"# x histogram\nx_bucket{le=\"1.0\"} 2\nx_bucket{le=\"+Inf\"} 2\nx_sum{} NaN\nx_count{} 2", "",
			"# x histogram\nx_count{} 2\nx_sum{} NaN\nx_bucket{le=\"1.0\"} 2\nx_bucket{le=\"+Inf\"} 2",
		},
		"native with custom buckets, and classic": {
			config.Metric{Type: config.Histogram, HistogramOptions: &both}, durationRows(),
			"# x histogram\nx_bucket{le=\"0.2\"} 7\nx_bucket{le=\"1.0\"} 10\nx_bucket{le=\"+Inf\"} 10\nx_sum{} 2.08\nx_count{} 10", "",
			"# x histogram\nx_count{} 10\nx_sum{} 2.08\nx_bucket{le=\"0.2\"} 7\nx_bucket{le=\"1.0\"} 10\nx_bucket{le=\"+Inf\"} 10",
		},
		"native with exponential buckets": {
			config.Metric{Type: config.Histogram, HistogramOptions: &exponential}, durationRows(),
			"# x histogram\nx_bucket{le=\"+Inf\"} 10\nx_sum{} 2.08\nx_count{} 10", "",
			"# x histogram\nx{} {count:10, sum:2.08, (0.015625,0.03125]:1, (0.0625,0.125]:1, (0.125,0.25]:5, (0.25,0.5]:3}",
		},
	}
	for name, c := range metrics {
		t.Run(name, func(t *testing.T) {
			if c.metric.Name == "" {
				c.metric.Name = "x"
			}
			c.metric.Help, c.metric.Unit = "Help.", ""
			r := newPlainRig(t, query(c.metric), c.answer)
			r.round(1)
			page, _ := showing(t, r.rig)
			if c.openMetrics == "" {
				c.openMetrics = c.text
			}
			if c.protobuf == "" {
				c.protobuf = c.text
			}
			for _, f := range []struct {
				format expfmt.Format
				want   string
			}{
				{expfmt.NewFormat(expfmt.TypeTextPlain), c.text},
				{expfmt.NewFormat(expfmt.TypeOpenMetrics), c.openMetrics},
				{expfmt.NewFormat(expfmt.TypeProtoDelim), c.protobuf},
			} {
				if diff := cmp.Diff(strings.Split(f.want, "\n"), parsed(t, page, f.format)); diff != "" {
					t.Errorf("%s: %s", f.format, diff)
				}
			}
		})
	}
}

// A family takes the names of all its samples. Of those that collide the first
// is shown, and the others are counted.
func TestPageConflictsOfTypes(t *testing.T) {
	one := 1.0
	histogram := config.Metric{Name: "d", Type: config.Histogram, HistogramOptions: new(snapshot(config.HistogramOptions{Classic: true, Bounds: []float64{1}}))}
	count := config.Metric{Name: "d_count", Type: config.Gauge, StaticValue: &one}
	gauge := config.Metric{Name: "d", Type: config.Gauge, StaticValue: &one}
	own := config.Metric{Name: "own_bucket", Type: config.Gauge, StaticValue: &one}
	for name, c := range map[string]struct {
		metrics   []config.Metric
		types     []string
		conflicts float64
	}{
		"the histogram first":                  {[]config.Metric{histogram, count}, []string{"# d histogram"}, 1},
		"the gauge first":                      {[]config.Metric{count, histogram}, []string{"# d_count gauge"}, 4},
		"a gauge with the name":                {[]config.Metric{gauge, histogram}, []string{"# d gauge"}, 4},
		"a part of a histogram of the agent's": {[]config.Metric{own, gauge}, []string{"# d gauge"}, 1},
		"the same twice":                       {[]config.Metric{histogram, histogram}, []string{"# d histogram"}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var rigs []*rig
			for _, m := range c.metrics {
				r := newPlainRig(t, query(m), table("v", []any{0.5}))
				r.round(1)
				rigs = append(rigs, r.rig)
			}
			page, reg := showing(t, rigs...)
			self := prometheus.NewRegistry()
			self.MustRegister(prometheus.NewHistogram(prometheus.HistogramOpts{Name: "own", Help: "Own."}))
			page.own = self
			var types []string
			for _, line := range parsed(t, page, expfmt.NewFormat(expfmt.TypeTextPlain)) {
				if strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "# own ") {
					types = append(types, line)
				}
			}
			if !slices.Equal(types, c.types) {
				t.Errorf("shows %q, want %q", types, c.types)
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			if n := families[0].Metric[0].Counter.GetValue(); n != c.conflicts {
				t.Errorf("counted %v conflicts, want %v", n, c.conflicts)
			}
		})
	}
}

// What was scraped is put together where it is whole, and shown one by one
// where it is not.
func TestPageOfScrapedParts(t *testing.T) {
	for name, c := range map[string]struct {
		page string
		want string
	}{
		"whole": {`# TYPE h histogram
h_bucket{a="1",le="1"} 1
h_bucket{a="1",le="+Inf"} 2
h_sum{a="1"} 3
h_count{a="1"} 2
# TYPE s summary
s{quantile="0.5"} NaN
s_sum 3
s_count 2
`, `# h histogram
h_bucket{a="1", le="1.0"} 1
h_bucket{a="1", le="+Inf"} 2
h_sum{a="1"} 3
h_count{a="1"} 2
# s summary
s{quantile="0.5"} NaN
s_sum{} 3
s_count{} 2`},
		"no +Inf": {"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 1\n", `# h_bucket unknown
h_bucket{le="1.0"} 1
# h_count unknown
h_count{} 1
# h_sum unknown
h_sum{} 3`},
		"one of two is not whole": {"# TYPE s summary\ns_sum{a=\"1\"} 1\ns_count{a=\"1\"} 1\ns_sum{a=\"2\"} 1\n", `# s_count unknown
s_count{a="1"} 1
# s_sum unknown
s_sum{a="1"} 1
s_sum{a="2"} 1`},
		"one of two has no sum": {"# TYPE s summary\ns_sum{a=\"1\"} 1\ns_count{a=\"1\"} 1\ns_count{a=\"2\"} 1\n", `# s summary
s_sum{a="1"} 1
s_count{a="1"} 1
s_sum{a="2"} NaN
s_count{a="2"} 1`},
		"a part at two times": {"# TYPE s summary\ns_sum 1 1000\ns_count 1 1000\ns_sum 2 2000\n", `# s_count unknown
s_count{} 1
# s_sum unknown
s_sum{} 1`},
		"counts go down": {"# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", `# h_bucket unknown
h_bucket{le="1.0"} 3
h_bucket{le="+Inf"} 2
# h_count unknown
h_count{} 2
# h_sum unknown
h_sum{} 3`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newScrapeRig(t, textPage(c.page))
			r.Scrape.exposition.lines.target = target{}
			r.stepAt(t0)
			page := NewPage(prometheus.NewRegistry(), prometheus.NewRegistry())
			page.Show(r.Scrape)
			if diff := cmp.Diff(strings.Split(c.want, "\n"), parsed(t, page, expfmt.NewFormat(expfmt.TypeTextPlain))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An empty native histogram is known by an empty span.
func TestPageOfEmptyNativeHistogram(t *testing.T) {
	for name, p := range map[string]shown{
		"integer": {h: &histogram.Histogram{}},
		"float":   {fh: &histogram.FloatHistogram{}},
	} {
		d := &dto.Histogram{}
		setNative(d, p.h, p.fh)
		if len(d.PositiveSpan) != 1 {
			t.Errorf("%s: has the spans %v", name, d.PositiveSpan)
		}
	}
}
