package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// page is what a target answers to one scrape.
type page struct {
	status int    // 0: 200
	kind   string // Content-Type
	body   string
}

func textPage(body string) page { return page{kind: "text/plain; version=0.0.4", body: body} }

func openMetrics(body string) page {
	return page{kind: "application/openmetrics-text; version=1.0.0; charset=utf-8", body: body}
}

func (p page) serve(w http.ResponseWriter) {
	w.Header()["Content-Type"] = []string{p.kind}
	if p.kind == "" {
		w.Header()["Content-Type"] = nil
	}
	if p.status != 0 {
		w.WriteHeader(p.status)
	}
	_, _ = io.WriteString(w, p.body)
}

// scrapeRig is a Scrape on a log of its own, of a target that answers with one
// page after the other, the last one for ever.
type scrapeRig struct {
	*Scrape
	t       *testing.T
	log     *wal.Log
	reader  *wal.Reader
	server  *httptest.Server
	asked   http.Header // of the last request
	now     time.Time
	logged  *strings.Builder
	metrics *Metrics
	reg     *prometheus.Registry
}

func newScrapeRig(t *testing.T, pages ...page) *scrapeRig {
	t.Helper()
	if len(pages) == 0 {
		pages = []page{{}}
	}
	r := &scrapeRig{t: t, now: t0, logged: &strings.Builder{}, reg: prometheus.NewRegistry(), log: openLog(t)}
	r.reader = r.log.Reader(wal.Position{})
	t.Cleanup(func() { r.reader.Close() })
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked = req.Header.Clone()
		p := pages[0]
		if len(pages) > 1 {
			pages = pages[1:]
		}
		p.serve(w)
	}))
	t.Cleanup(r.server.Close)
	target, err := url.Parse(r.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	source := config.Source{
		Name: "db", Type: config.TypePrometheus, Job: "pg", Instance: "h:1", URL: target,
		Labels: labels.FromStrings("team", "shop"), Interval: time.Second, Timeout: time.Minute,
	}
	client, err := sources.OpenExposition(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	r.metrics = NewMetrics(r.reg)
	r.Scrape = NewScrape(ScrapeOptions{
		Source: source, Exposition: client, Log: r.log, Metrics: r.metrics,
		Logger: slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{ReplaceAttr: dropTime})),
		Clock:  func() time.Time { return r.now },
	})
	t.Cleanup(r.Scrape.Close)
	return r
}

// stepAt scrapes once and returns what that added to the log.
func (r *scrapeRig) stepAt(at time.Time) string {
	r.t.Helper()
	r.now = at
	_ = r.Step(r.t.Context(), at)
	addsUp(r.t, r.metrics)
	return printRound(newRound(r.t, r.reader))
}

// printedSample is a sample with all that goes with it.
type printedSample struct {
	labels    labels.Labels
	meta      wal.Metadata
	st, t     int64
	v         float64
	h         *histogram.Histogram
	exemplars []wal.Exemplar
}

// newRound returns the samples the reader has not seen.
func newRound(t *testing.T, reader *wal.Reader) (round []printedSample) {
	t.Helper()
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if err == io.EOF {
			return round
		}
		if err != nil {
			t.Fatal(err)
		}
		at := map[uint64]int{}
		for _, s := range f.Samples {
			at[uint64(s.Ref)] = len(round)
			round = append(round, printedSample{labels: f.Series[s.Ref].Labels, meta: f.Series[s.Ref].Metadata, st: s.ST, t: s.T, v: s.V})
		}
		for _, s := range f.Histograms {
			at[uint64(s.Ref)] = len(round)
			round = append(round, printedSample{labels: f.Series[s.Ref].Labels, meta: f.Series[s.Ref].Metadata, st: s.ST, t: s.T, v: s.H.Sum, h: s.H})
		}
		for _, e := range f.Exemplars {
			s := &round[at[uint64(e.Ref)]]
			s.exemplars = append(s.exemplars, wal.Exemplar{T: e.T, V: e.V, Labels: e.Labels})
		}
	}
}

// printRound prints the samples of one round, sorted, one a line. Times are
// written relative to that of up, where they lie near, and scrapes take no
// time.
func printRound(round []printedSample) string {
	var stamp int64
	for _, s := range round {
		if s.labels.Get("__name__") == "up" {
			stamp = s.t
		}
	}
	when := func(t int64) string {
		if t == stamp {
			return "now"
		}
		return fmt.Sprintf("%d", t)
	}
	var lines []string
	for _, s := range round {
		name := s.labels.Get("__name__")
		v := fmt.Sprint(s.v)
		if s.h != nil {
			v = s.h.String()
		}
		if name == "scrape_duration_seconds" {
			v = "some"
		}
		stale := value.IsStaleNaN(s.v)
		if stale {
			v = "stale"
		}
		line := fmt.Sprintf("%s%s %s @%s", name, s.labels.MatchLabels(false, "__name__"), v, when(s.t))
		if s.st != 0 {
			line += fmt.Sprintf(" since %d", s.st)
		}
		if m := s.meta; !stale && m != (wal.Metadata{}) && m != (wal.Metadata{Type: "unknown"}) {
			line += fmt.Sprintf(" (%s, %q, %q)", m.Type, m.Unit, m.Help)
		}
		for _, e := range s.exemplars {
			line += fmt.Sprintf(" # %s %v @%s", e.Labels, e.V, when(e.T))
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// companions is what goes with each scrape.
func companions(up, scraped, added int) string {
	const at = `{instance="h:1", job="pg", team="shop"}`
	return fmt.Sprintf(`scrape_duration_seconds%[1]s some @now (gauge, "seconds", "Duration of the last scrape in seconds.")
scrape_samples_post_metric_relabeling%[1]s %[3]d @now (gauge, "samples", "Number of samples remaining after metric relabeling was applied.")
scrape_samples_scraped%[1]s %[3]d @now (gauge, "samples", "Number of samples last scraped.")
scrape_series_added%[1]s %[4]d @now (gauge, "series", "Number of series in the last scrape.")
up%[1]s %[2]d @now (gauge, "targets", "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed.")`, at, up, scraped, added)
}

// ownSeries is a line that printRound prints of a series of the target.
func ownSeries(name, rest string) string {
	return name + `{instance="h:1", job="pg", team="shop"} ` + rest
}

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

// A target may answer with protobuf although it is not asked for.
func TestNativeHistograms(t *testing.T) {
	native := func(h *dto.Histogram) page {
		var b bytes.Buffer
		if h != nil {
			_, err := protodelim.MarshalTo(&b, &dto.MetricFamily{
				Name: proto.String("h"), Help: proto.String("H."), Type: dto.MetricType_HISTOGRAM.Enum(),
				Metric: []*dto.Metric{{Histogram: h}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return page{kind: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", body: b.String()}
	}
	whole := &dto.Histogram{
		SampleCount: proto.Uint64(3), SampleSum: proto.Float64(4), Schema: proto.Int32(0),
		ZeroThreshold: proto.Float64(0.001), ZeroCount: proto.Uint64(1),
		PositiveSpan:     []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(1)}},
		PositiveDelta:    []int64{2},
		CreatedTimestamp: timestamppb.New(time.UnixMilli(1000)),
		Exemplars: []*dto.Exemplar{
			{Value: proto.Float64(2), Timestamp: timestamppb.New(time.UnixMilli(3000)), Label: []*dto.LabelPair{{Name: proto.String("t"), Value: proto.String("b")}}},
			{Value: proto.Float64(1), Timestamp: timestamppb.New(time.UnixMilli(2000)), Label: []*dto.LabelPair{{Name: proto.String("t"), Value: proto.String("a")}}},
		},
	}
	r := newScrapeRig(t, native(whole), native(whole), native(nil))
	what := `{count:3, sum:4, [-0.001,0.001]:1, (0.5,1]:2} @now since 1000 (histogram, "", "H.")`
	for i, want := range []string{
		ownSeries("h", what+` # {t="a"} 1 @2000 # {t="b"} 2 @3000`+"\n") + companions(1, 1, 1),
		ownSeries("h", what+"\n") + companions(1, 1, 0),
		ownSeries("h", "stale @now\n") + companions(1, 0, 0),
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
		"own time goes back": {
			openMetrics("a 1\nb 1 20\nb 1 10\n# EOF\n"), "time", `the log has samples of these series that are not older`,
		},
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
	if len(x.known) != 1 || len(x.series) != 1 || len(x.starts) != 0 || len(x.families) != 0 {
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

// The way from the page to the round allocates per page, not per sample.
func TestUnchangedPageAllocatesNothing(t *testing.T) {
	for name, p := range map[string]page{
		"text": textPage(largePage(2000)), "OpenMetrics": openMetrics(largePage(2000) + "# EOF\n"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newScrapeRig(t)
			tick := t0
			step := func() {
				tick = tick.Add(time.Second)
				r.values.begin(tick)
				r.exposition.begin()
				if err := r.exposition.parse([]byte(p.body), p.kind, tick); err != nil {
					t.Fatal(err)
				}
				if _, _, err := r.values.finish(tick); err != nil {
					t.Fatal(err)
				}
				r.exposition.end(true)
			}
			for range 3 {
				step()
			}
			allocs := testing.AllocsPerRun(20, step)
			t.Logf("%.0f allocations for %d samples", allocs, r.exposition.scraped)
			if allocs > 40 {
				t.Errorf("%.0f allocations for %d samples, want a constant few", allocs, r.exposition.scraped)
			}
		})
	}
}

// largePage has n counters and 2 gauges for each 100.
func largePage(n int) string {
	var b strings.Builder
	b.WriteString("# HELP served Requests.\n# TYPE served counter\n")
	for i := range n {
		fmt.Fprintf(&b, "served_total{path=\"/a/%d\",status=\"200\",method=\"GET\"} %d\n", i, i)
	}
	for i := range n / 50 {
		fmt.Fprintf(&b, "# HELP gauge_%d A gauge.\n# TYPE gauge_%d gauge\ngauge_%d %d.5\n", i, i, i, i)
	}
	return b.String()
}

func BenchmarkScrape(b *testing.B) {
	body := []byte(largePage(10_000) + "# EOF\n")
	kind := openMetrics("").kind
	v := &values{log: openLog(b)}
	x := newExposition("db", newTarget("pg", "h:1", labels.FromStrings("team", "shop")), v)
	tick := time.Now()
	step := func() {
		tick = tick.Add(time.Second)
		v.begin(tick)
		x.begin()
		if err := x.parse(body, kind, tick); err != nil {
			b.Fatal(err)
		}
		if _, _, err := v.finish(tick); err != nil {
			b.Fatal(err)
		}
		x.end(true)
	}
	step()
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(x.scraped*b.N)/b.Elapsed().Seconds(), "samples/s")
}
