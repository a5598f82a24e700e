package collect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/sources"
)

// Of a page that breaks off nothing is kept, and every series of the page
// before is marked stale, also those that come before the fault.
func TestMalformedPageLeavesNothing(t *testing.T) {
	r := newScrapeRig(t,
		openMetrics("a 1\nb 1\nc 1 0.5\n# EOF\n"),
		openMetrics("a 2 # {t=\"1\"} 1 1\nd 1\nc 1 1.5\n"),
		openMetrics("a 3 # {t=\"1\"} 1 1\nc 1 1.5\n# EOF\n"),
	)
	for i, want := range []string{
		ownSeries("a", "1 @now\n") + ownSeries("b", "1 @now\n") + ownSeries("c", "1 @500\n") + companions(1, 3, 3),
		ownSeries("a", "stale @now\n") + ownSeries("b", "stale @now\n") + companions(0, 3, 1),
		ownSeries("a", `3 @now # {t="1"} 1 @1000`+"\n") + ownSeries("c", "1 @1500\n") + companions(1, 2, 0),
	} {
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(r.stepAt(t0.Add(time.Duration(i)*time.Second)), "\n")); diff != "" {
			t.Errorf("page %d: %s", i+1, diff)
		}
	}
}

func TestScrapeRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		page   page
		reason string
		logged string
	}{
		"one series twice": {textPage("a 1\na 2\n"), "duplicate", `the page has a twice and the first one counts`},
		"own time far ahead": {
			textPage(fmt.Sprintf("a 1\nb 1 %d\n", t0.Add(time.Hour).UnixMilli())), "future", `the own time of b is more than 10m0s ahead`,
		},
		"own time goes back": {om("a 1\nb 1 20\nb 1 10\nb 1 5\n"), "not_newer", `the time of b is not after that of its last sample`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newScrapeRig(t, c.page)
			for i := range 3 {
				r.stepAt(t0.Add(time.Duration(i) * time.Second))
			}
			if n := booked(r.metrics, bookName{"db", "", bookScrape}).refusedFor(c.reason); n < 3 {
				t.Errorf("counted %v refusals, want one for each page", n)
			}
			if n := strings.Count(r.logged.String(), c.logged); n != 1 {
				t.Errorf("explained %d times, want once:\n%s", n, r.logged)
			}
		})
	}
}

// Failures are told apart, and logged when they change.
func TestScrapeFailures(t *testing.T) {
	r := newScrapeRig(t,
		page{status: http.StatusNotFound}, page{status: http.StatusForbidden}, textPage("a 1\n"), textPage("a one\n"),
	)
	for i := range 4 {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
		r.ended(nil, 0, 0)
	}
	r.server.Close()
	err := r.Step(t.Context(), t0.Add(time.Minute))
	var connect *sources.ConnectError
	if !errors.As(err, &connect) {
		t.Errorf("a target that is gone: %v, want a ConnectError", err)
	}
	for reason, want := range map[string]float64{"connect": 1, "timeout": 0, "query": 3, "append": 0} {
		if got := testutil.ToFloat64(r.Scrape.metrics.errors[failure(reason)]); got != want {
			t.Errorf("%s: counted %v failures, want %v", reason, got, want)
		}
	}
}

func TestScrapedPage(t *testing.T) {
	r := newScrapeRig(t, openMetrics(`# TYPE served counter
# HELP served Requests.
served_total{job="x",team="y"} 7 # {trace_id="z"} 1
served_created{job="x",team="y"} 1.7e9
# TYPE size histogram
# HELP size Sizes.
size_bucket{le="1"} 1
size_bucket{le="+Inf"} 1
size_sum 0.5
size_count 1
# TYPE build info
build_info{version="1"} 1
own 5 1.5
# EOF
`))
	r.stepAt(t0)
	reg := prometheus.NewRegistry()
	page := NewPage(reg, prometheus.NewRegistry())
	page.Show(r.Scrape)
	want := `# HELP build_info 
# TYPE build_info gauge
build_info{team="shop",version="1"} 1
# HELP own 
# TYPE own untyped
own{team="shop"} 5
# HELP served_total Requests.
# TYPE served_total counter
served_total{exported_team="y",job="x",team="shop"} 7
# HELP size Sizes.
# TYPE size histogram
size_bucket{team="shop",le="1"} 1
size_bucket{team="shop",le="+Inf"} 1
size_sum{team="shop"} 0.5
size_count{team="shop"} 1
`
	if diff := cmp.Diff(want, render(t, page)); diff != "" {
		t.Error(diff)
	}
}

// A line that was dropped holds none of those that came after it: a line that
// stays may hold it for ever.
func TestDroppedLinesHoldNoOthers(t *testing.T) {
	r := newScrapeRig(t, textPage("a 1\nb 1\nc 1\n"), textPage("a 1\n"))
	r.stepAt(t0)
	b := r.exposition.lines.known["b"]
	if b.next == nil {
		t.Fatal("no line is known to come after b")
	}
	r.stepAt(t0.Add(time.Second))
	if !b.gone || b.next != nil {
		t.Errorf("gone %v, and the next line is %v", b.gone, b.next)
	}
}

// A scrape that a reload replaces while it runs leaves nothing, and is counted.
func TestRetiredScrapeDiscardsItsPage(t *testing.T) {
	r := newScrapeRig(t, textPage("a 1\n"), om("# TYPE a counter\na_total 1 # {} 1 1\n"))
	r.stepAt(t0)
	if !r.Retire() {
		t.Fatal("it does not retire")
	}
	if err := r.Step(t.Context(), t0.Add(time.Second)); !errors.Is(err, errRetired) {
		t.Errorf("got %v", err)
	}
	if got := newRound(t, r.reader); len(got) > 0 {
		t.Errorf("the log gets %s", printRound(got))
	}
	if n := testutil.ToFloat64(r.Scrape.metrics.discarded); n != 1 {
		t.Errorf("counted %v discarded scrapes, want 1", n)
	}
	addsUp(t, r.metrics)
}

// A target whose lines never repeat does not fill the memory.
func TestScrapeForgets(t *testing.T) {
	var pages []page
	for i := range 20 {
		body := fmt.Sprintf("# TYPE f%d counter\nf%d_total{n=\"%d\"} 1\nf%d_created{n=\"%d\"} 1\nsame{%s} 1\n", i, i, i, i, i, []string{`a="1",b="2"`, `b="2",a="1"`}[i%2])
		if i%3 != 0 {
			body += "# EOF\n"
		}
		pages = append(pages, openMetrics(body))
	}
	r := newScrapeRig(t, append(pages, openMetrics("a 1\n# EOF\n"))...)
	for i := range 21 {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
	}
	x := &r.exposition.lines
	if len(x.known) != 1 || len(x.series) != 1 || len(x.starts) != 0 || len(x.families) != described {
		t.Errorf("kept %d lines, %d series, %d starts, %d families of a page with one line", len(x.known), len(x.series), len(x.starts), len(x.families))
	}
	r.Close()
	if len(x.known)+len(x.series) != 0 {
		t.Error("a closed worker keeps series")
	}
}

// A target that never shows a whole page does not either.
func TestScrapeForgetsBrokenPages(t *testing.T) {
	var pages []page
	for i := range 10 {
		var b strings.Builder
		for j := range 500 {
			fmt.Fprintf(&b, "a%d_%d 1\n", i, j)
		}
		pages = append(pages, textPage(b.String()+"broken"))
	}
	r := newScrapeRig(t, pages...)
	for i := range pages {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
		if n := len(r.exposition.lines.known); n > 1500 {
			t.Fatalf("kept %d lines after page %d", n, i+1)
		}
	}
}

func TestStoppedScrapeAppendsNothing(t *testing.T) {
	r := newScrapeRig(t, textPage("a 1\n"))
	r.stepAt(t0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Step(ctx, t0.Add(time.Second)); !errors.Is(err, context.Canceled) {
		t.Errorf("Step returned %v, want context.Canceled", err)
	}
	if got := printRound(newRound(t, r.reader)); got != "" {
		t.Errorf("a stopped worker appended %s", got)
	}
}
