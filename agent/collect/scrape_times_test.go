package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A sample whose time the series does not take is as if it were not on the page:
// it takes no line from another one, and is neither new nor the end of a series.
func TestOwnTimesLikePrometheus(t *testing.T) {
	const tracked = "track_timestamps_staleness: true"
	at := func(seconds float64) string { return " " + soon(seconds) + "\n" }
	// A histogram with that sum, or one of floats, with a time.
	native := func(sum int, floats bool) page {
		count := "sample_count: 1 zero_threshold: 1 zero_count: 1"
		if floats {
			count = "sample_count_float: 1 zero_threshold: 1 zero_count_float: 1"
		}
		return protobuf(fmt.Sprintf("name: \"h\" type: HISTOGRAM\nmetric { histogram { %s sample_sum: %d } timestamp_ms: %d }\n", count, sum, soonMillis(-60)))
	}
	both := protobuf(fmt.Sprintf(`name: "h" type: HISTOGRAM
metric { histogram { sample_count: 1 zero_threshold: 1 zero_count: 1 } }
metric { label { name: "x" value: "" } histogram { sample_count: 2 zero_threshold: 1 zero_count: 2 } timestamp_ms: %d }
`, soonMillis(-60)))
	stale := func(name string) string {
		return fmt.Sprintf("name: %q type: GAUGE\nmetric { gauge { value: nan } }\n", name)
	}
	ended := func(families string) page {
		p := protobuf(families)
		p.body = strings.ReplaceAll(p.body, "\x01\x00\x00\x00\x00\x00\xf8\x7f", "\x02\x00\x00\x00\x00\x00\xf0\x7f")
		return p
	}
	compareScrapes(t, map[string]sideBySide{
		"refused, then without a time":                  {pages: []page{om("a{x=\"\"} 1\n"), om("a 5" + at(-60) + "a 7\n"), om("a 8\n")}},
		"refused on two pages":                          {pages: []page{om("a{x=\"\"} 1\n"), om("a 5" + at(-60)), om("a 5" + at(-60) + "a 7\n")}},
		"back in a new series":                          {pages: []page{om("a 1" + at(-60)), om("b 1\n"), om("a 2" + at(-70) + "b 1\n"), om("a 2" + at(-70) + "b 1\n"), om("a 2" + at(-50) + "b 1\n")}},
		"back":                                          {config: tracked, pages: []page{om("a 1" + at(-60)), om("a 2" + at(-70)), om("a 2" + at(-50))}},
		"another value of the same time":                {pages: []page{om("a 1" + at(-60)), om("a 2" + at(-60)), om("a 1" + at(-60))}},
		"likewise, tracked":                             {config: tracked, pages: []page{om("a 1" + at(-60)), om("a 2" + at(-60)), om("b 1\n")}},
		"another histogram of the same time":            {config: tracked + "\nscrape_native_histograms: true", pages: []page{native(1, false), native(1, false), native(2, false), textPage("b 1\n")}},
		"another float histogram of it":                 {config: tracked + "\nscrape_native_histograms: true", pages: []page{native(1, true), native(1, true), native(2, true), textPage("b 1\n")}},
		"behind a stale marker":                         {config: tracked, pages: []page{om("a 1" + at(-60)), om("b 1\n"), om("b 1\na 2" + at(-40)), om("b 1\na 2" + at(-30)), om("b 1\n")}},
		"behind a failed scrape":                        {config: tracked, pages: []page{om("a 1" + at(-60)), {status: 500}, om("a 1" + at(-60)), om("a 2" + at(-30)), {status: 500}}},
		"far ahead, tracked":                            {config: tracked, pages: []page{om("a 1" + at(-60)), om("a 2" + at(7200)), om("a 2" + at(-50))}},
		"ahead, tracked":                                {config: tracked, pages: []page{om("a 1" + at(300)), om("b 1\n"), om("a 1" + at(300))}},
		"ahead, then without a time":                    {pages: []page{om("a 1" + at(300)), om("a 2\n"), om("a 3\n"), om("b 3\n")}},
		"without a time, then ahead":                    {pages: []page{om("a 1\n"), om("a 1" + at(300)), om("b 1\n")}},
		"a time and none by turns":                      {pages: []page{om("a 1\n"), om("a 1" + at(-60)), om("a 1\n"), om("b 1\n")}},
		"two spellings, one without a time":             {pages: []page{om("a{x=\"\"} 1" + at(-60) + "a 2\n"), om("b 1\n")}},
		"two spellings, the last with a time":           {pages: []page{om("a 2\na{x=\"\"} 1" + at(-60)), om("b 1\n")}},
		"likewise, histograms, tracked":                 {config: tracked + "\nscrape_native_histograms: true", pages: []page{both, textPage("b 1\n")}},
		"two series made one":                           {config: "metric_relabel_configs:\n- {regex: x, action: labeldrop}", pages: []page{om("a{x=\"1\"} 1" + at(-60) + "a{x=\"2\"} 2\n"), om("b 1\n")}},
		"two spellings with times":                      {pages: []page{om("a{x=\"\"} 1" + at(-60) + "a 2" + at(-50)), om("b 1\n")}},
		"two spellings with times, tracked":             {config: tracked, pages: []page{om("a{x=\"\"} 1" + at(-60) + "a 2" + at(-50)), om("b 1\n")}},
		"before 1970":                                   {pages: []page{textPage("a 1 -1000\nb 1 0\nc 1\n"), textPage("a 1 -1000\nb 1 0\nc 1\n")}},
		"an end that the target tells, of a new series": {config: "sample_limit: 1", pages: []page{ended(stale("a")), ended(stale("a") + "---\nname: \"b\" type: GAUGE\nmetric { gauge { value: 1 } }\n")}},
		"such an end beyond the limit": {config: "sample_limit: 1", unmarked: []int{2}, pages: []page{
			ended("name: \"b\" type: GAUGE\nmetric { gauge { value: 1 } }\n"), ended("name: \"b\" type: GAUGE\nmetric { gauge { value: 1 } }\n---\n" + stale("a")),
		}},
		"a start on one page of two": {pages: []page{om("# TYPE a counter\na_total 1\na_created 7\n"), om("# TYPE a counter\na_total 1\n")}},
	})
}

// What is refused for its time is counted, and not among the series of the page.
func TestTimesThatGoBackAreCounted(t *testing.T) {
	r := newScrapeRig(t, om("a 1 20\nb 1\n"), om("a 1 10\nb 1\n"))
	for i := range 3 {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
	}
	if n := booked(r.metrics, bookName{"db", "", bookScrape}).refusedFor("not_newer"); n != 2 {
		t.Errorf("counted %d refusals, want one for each page that goes back", n)
	}
	if said := "the time of a is not after that of its last sample"; strings.Count(r.logged.String(), said) != 1 {
		t.Errorf("explained other than once:\n%s", r.logged)
	}
	if n := r.values.onPage(); n != 1 {
		t.Errorf("the page shows %d series, want b alone", n)
	}
}
