package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/config"
)

// ruledRig is a rig whose scrape is told something.
func ruledRig(t *testing.T, tell func(*config.Scrape), pages ...page) *scrapeRig {
	s := scrapedSource()
	tell(s.Scrape)
	return newScrapeRigOf(t, s, pages...)
}

// dropped drops series whose name is that.
func dropped(name string) []*relabel.Config {
	return []*relabel.Config{{
		SourceLabels: model.LabelNames{model.MetricNameLabel}, Separator: ";", Regex: relabel.MustNewRegexp(name),
		Action: relabel.Drop, NameValidationScheme: model.UTF8Validation,
	}}
}

// Of a page over a limit nothing is kept, and all of the page before is marked
// stale at once, whatever the page still has of it.
func TestPageOverLimitLeavesNothing(t *testing.T) {
	r := ruledRig(t, func(s *config.Scrape) { s.SampleLimit = 2 },
		textPage("a 1\nb 1\n"), textPage("a 2\nc 1\nb 2\n"), textPage("a 3\nc 1\nb 3\n"), textPage("a 4\n"),
	)
	for i, want := range []string{
		ownSeries("a", "1 @now\n") + ownSeries("b", "1 @now\n") + companions(1, 2, 2),
		ownSeries("a", "stale @now\n") + ownSeries("b", "stale @now\n") + companions(0, 3, 1),
		companions(0, 3, 0),
		ownSeries("a", "4 @now\n") + companions(1, 1, 0),
	} {
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(r.stepAt(t0.Add(time.Duration(i)*time.Second)), "\n")); diff != "" {
			t.Errorf("page %d: %s", i+1, diff)
		}
	}
}

// What a page fails for is said in words that stay short, counted under its
// reason, and so is what is dropped on purpose; the rest is discarded.
func TestRefusedPages(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		tell    func(*config.Scrape)
		page    page
		says    string
		failure failure
		refused map[string]uint64
		lost    uint64 // discarded
	}{
		"sample_limit": {
			func(s *config.Scrape) { s.SampleLimit = 2 }, textPage("a 1\nb 1\nc 1\nd 1\n"),
			"the page has more than 2 samples after metric_relabel_configs, the sample_limit: drop some there, or raise it",
			failedLimit, map[string]uint64{"limit": 2}, 2,
		},
		"label_limit": {
			func(s *config.Scrape) { s.LabelLimits.Count = 4 }, textPage("a 1\nb{x=\"" + huge + "\"} 1\nc 1\n"),
			`xxx… has 5 labels, and label_limit is 4: drop it by metric_relabel_configs, or raise the limit`,
			failedLimit, map[string]uint64{"label_limit": 1}, 1,
		},
		"label_name_length_limit": {
			func(s *config.Scrape) { s.LabelLimits.NameLength = 8 }, textPage("a{abcdefghi=\"1\"} 1\n"),
			`a: the label name "abcdefghi" has 9 bytes, and label_name_length_limit is 8: drop it by`,
			failedLimit, map[string]uint64{"label_limit": 1}, 0,
		},
		"label_value_length_limit": {
			func(s *config.Scrape) { s.LabelLimits.ValueLength = 10 }, textPage("a{b=\"" + huge + "\"} 1\n"),
			`a: the value of label b begins with "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" and has 1048576 bytes, and label_value_length_limit is 10: drop`,
			failedLimit, map[string]uint64{"label_limit": 1}, 0,
		},
		"native_histogram_bucket_limit": {
			func(s *config.Scrape) { s.ConvertToNHCB, s.BucketLimit = true, 1 },
			textPage("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 2\n"),
			`the native histogram h has more buckets than 1 however they are merged, the native_histogram_bucket_limit: raise it`,
			failedLimit, map[string]uint64{"limit": 1}, 0,
		},
		"no name": {
			func(s *config.Scrape) {
				s.MetricRelabel = []*relabel.Config{{Regex: relabel.MustNewRegexp("__name__"), Action: relabel.LabelDrop, NameValidationScheme: model.UTF8Validation}}
			}, textPage("a{b=\"" + huge + "\"} 1\n"), `xxx… has no metric name: correct metric_relabel_configs`,
			failedQuery, map[string]uint64{"invalid_label": 1}, 0,
		},
		"a histogram that is not valid": {
			func(s *config.Scrape) { s.NativeHistograms = true },
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 zero_threshold: 1 zero_count: 7 } }\n"),
			"the native histogram h is not valid: ", failedQuery, map[string]uint64{"invalid_histogram": 1}, 0,
		},
		"malformed":    {func(*config.Scrape) {}, textPage("a 1\nb{x=\"" + huge + "\"} one\n"), "parse the page: ", failedQuery, map[string]uint64{}, 1},
		"not protobuf": {func(*config.Scrape) {}, page{kind: protobufType, body: "a 1\n"}, "parse the page: ", failedQuery, map[string]uint64{}, 0},
		"on purpose": {
			func(s *config.Scrape) { s.MetricRelabel = dropped("b") }, textPage("a 1\nb 1\nb{x=\"1\"} 1\n"),
			"", "", map[string]uint64{"metric_relabel": 2}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := ruledRig(t, c.tell, c.page)
			r.now = t0
			err := r.Step(t.Context(), t0)
			if err == nil != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s", err, c.says)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if c.failure != "" {
				if n := testutil.ToFloat64(r.Scrape.metrics.errors[c.failure]); n != 1 {
					t.Errorf("counted %v failures as %s: %v", n, c.failure, err)
				}
			}
			addsUp(t, r.metrics)
			books := r.metrics.Balance().Workers[0]
			if books.Rows != uint64(r.exposition.scraped) {
				t.Errorf("the page has %d samples, counted %d rows", r.exposition.scraped, books.Rows)
			}
			if diff := cmp.Diff(c.refused, books.Refused); diff != "" || books.Discarded != c.lost {
				t.Errorf("refused %s, discarded %d, want %d", diff, books.Discarded, c.lost)
			}
			if strings.Contains(r.logged.String(), "metric_relabel") {
				t.Errorf("what is dropped on purpose is warned of: %s", r.logged)
			}
		})
	}
}

// A page of one format says nothing of one of another: protobuf may name a
// metric as a text spells a series. Prometheus takes one for the other.
func TestFormatsAreToldApart(t *testing.T) {
	named := protobuf("name: \"c{x=\\\"1\\\"}\" type: GAUGE\nmetric { gauge { value: 1 } }\n")
	r := newScrapeRig(t, named, textPage("c{x=\"1\"} 2\n"), named)
	odd := `c{x="1"}{instance="h:1", job="pg", team="shop"} `
	plain := `c{instance="h:1", job="pg", team="shop", x="1"} `
	for i, want := range []string{
		odd + "1 @now (gauge, \"\", \"\")\n" + companions(1, 1, 1),
		plain + "2 @now\n" + odd + "stale @now\n" + companions(1, 1, 0),
		plain + "stale @now\n" + odd + "1 @now (gauge, \"\", \"\")\n" + companions(1, 1, 0),
	} {
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(r.stepAt(t0.Add(time.Duration(i)*time.Second)), "\n")); diff != "" {
			t.Errorf("page %d: %s", i+1, diff)
		}
	}
}

// One series that a relabelling renames does not cost the others of its family
// what is said of them.
func TestRenamedSeriesLeavesItsFamily(t *testing.T) {
	r := ruledRig(t, func(s *config.Scrape) {
		s.MetricRelabel = []*relabel.Config{{
			SourceLabels: model.LabelNames{"x"}, Separator: ";", Regex: relabel.MustNewRegexp("1"), TargetLabel: model.MetricNameLabel,
			Replacement: "b", Action: relabel.Replace, NameValidationScheme: model.UTF8Validation,
		}}
	}, textPage("# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n"))
	want := `a{instance="h:1", job="pg", team="shop", x="2"} 2 @now (gauge, "", "A.")` + "\n" +
		`b{instance="h:1", job="pg", team="shop", x="1"} 1 @now` + "\n" + companions(1, 2, 2)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(r.stepAt(t0), "\n")); diff != "" {
		t.Error(diff)
	}
}

// Whoever scrapes the page attaches job and instance, unless they are the
// series' own.
func TestScrapedPageOfRules(t *testing.T) {
	exposed := textPage("a{job=\"own\",instance=\"i\",team=\"t\"} 1\na{instance=\"\"} 2\na{job=\"pg\"} 4\nb 3\n")
	for name, c := range map[string]struct {
		tell func(*config.Scrape)
		page page
		want string
	}{
		"honoured": {func(s *config.Scrape) { s.HonorLabels = true }, exposed, `# HELP a 
# TYPE a untyped
a{instance="i",job="own",team="t"} 1
a{team="shop"} 2
a{job="pg",team="shop"} 4
# HELP b 
# TYPE b untyped
b{team="shop"} 3
`},
		"overridden": {func(*config.Scrape) {}, exposed, `# HELP a 
# TYPE a untyped
a{exported_team="t",instance="i",job="own",team="shop"} 1
a{team="shop"} 2
a{job="pg",team="shop"} 4
# HELP b 
# TYPE b untyped
b{team="shop"} 3
`},
		"relabelled": {func(s *config.Scrape) {
			s.HonorLabels = true
			s.MetricRelabel = append(dropped("b"), &relabel.Config{
				SourceLabels: model.LabelNames{"team"}, Separator: ";", Regex: relabel.MustNewRegexp("(.*)"), TargetLabel: "crew",
				Replacement: "$1", Action: relabel.Replace, NameValidationScheme: model.UTF8Validation,
			})
		}, exposed, `# HELP a 
# TYPE a untyped
a{crew="t",instance="i",job="own",team="t"} 1
a{crew="shop",team="shop"} 2
a{crew="shop",job="pg",team="shop"} 4
`},
		"native histograms": {
			func(s *config.Scrape) { s.NativeHistograms = true },
			protobuf("name: \"h\" help: \"H.\" type: HISTOGRAM\nmetric { histogram { sample_count: 3 sample_sum: 4 schema: 0 zero_threshold: 0.001 zero_count: 1 positive_span { offset: 0 length: 1 } positive_delta: 2 exemplars { value: 1 timestamp { seconds: 1 } } } }\n"),
			"# HELP h H.\n# TYPE h histogram\nh_bucket{team=\"shop\",le=\"+Inf\"} 3\nh_sum{team=\"shop\"} 4\nh_count{team=\"shop\"} 3\n",
		},
		"tracked": {func(s *config.Scrape) { s.TrackTimestampsStaleness = true }, textPage("a 1 1000\nb 2\n"),
			"# HELP a \n# TYPE a untyped\na{team=\"shop\"} 1\n# HELP b \n# TYPE b untyped\nb{team=\"shop\"} 2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ruledRig(t, c.tell, c.page)
			r.stepAt(t0)
			page := NewPage(prometheus.NewRegistry(), prometheus.NewRegistry())
			page.Show(r.Scrape)
			if diff := cmp.Diff(c.want, render(t, page)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A series that goes on under other circumstances ends nothing.
func TestScrapeOfManySpellingsForgets(t *testing.T) {
	r := ruledRig(t, func(s *config.Scrape) { s.MetricRelabel = dropped("d.*") },
		textPage("a{x=\"1\"} 1\nd1 1\nd2 1\n"), protobuf("name: \"a\" type: GAUGE\nmetric { label { name: \"x\" value: \"1\" } gauge { value: 1 } }\n"),
		openMetrics("# TYPE a gauge\na{x=\"1\"} 1\nd3 1\n# EOF\n"), textPage("a{x=\"1\"} 1\n"))
	for i := range 4 {
		if got := r.stepAt(t0.Add(time.Duration(i) * time.Second)); strings.Contains(got, "stale") {
			t.Errorf("page %d ends a series that it has: %s", i+1, got)
		}
	}
	if x := &r.exposition.lines; len(x.known) != 1 || len(x.series) != 1 {
		t.Errorf("kept %d lines, %d series of a page with one line", len(x.known), len(x.series))
	}
}

// What goes with each scrape has the labels that Prometheus gives it.
func TestCompanionLabels(t *testing.T) {
	tg := newTarget("pg", "h:1", labels.FromStrings("exported_a", "1", "a", "2", "team", "3", "exported_team", "4"))
	want := `{__name__="up", a="2", exported_a="1", instance="h:1", job="pg", team="3"}`
	if got := fmt.Sprint(tg.report("up")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
