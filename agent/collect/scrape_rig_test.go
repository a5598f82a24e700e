package collect

import (
	"bytes"
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

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"

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

// protobuf has metric families as protobuf's own text format spells them, each
// as of "name: ...", separated by lines of dashes.
func protobuf(families string) page {
	var b bytes.Buffer
	for text := range strings.SplitSeq(families, "---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var f dto.MetricFamily
		if err := prototext.Unmarshal([]byte(text), &f); err != nil {
			panic(fmt.Sprintf("%v in %s", err, text))
		}
		if _, err := protodelim.MarshalTo(&b, &f); err != nil {
			panic(err)
		}
	}
	return page{kind: protobufType, body: b.String()}
}

const protobufType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

func openMetrics(body string) page {
	return page{kind: "application/openmetrics-text; version=1.0.0; charset=utf-8", body: body}
}

// om is openMetrics with the end of a page.
func om(body string) page { return openMetrics(body + "# EOF\n") }

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
	return newScrapeRigOf(t, scrapedSource(), pages...)
}

// scrapedSource has Prometheus's defaults, and no URL.
func scrapedSource() config.Source {
	return config.Source{
		Name: "db", Type: config.TypePrometheus, Job: "pg", Instance: "h:1",
		Labels: labels.FromStrings("team", "shop"), Interval: time.Second, Timeout: time.Minute,
		BodySizeLimit: 64 << 20,
		Scrape: &config.Scrape{
			Protocols: []config.ScrapeProtocol{
				config.OpenMetricsText1_0_0, config.OpenMetricsText0_0_1, config.PrometheusText1_0_0, config.PrometheusText0_0_4,
			},
			EscapingScheme: model.NoEscaping, Compression: true, HonorTimestamps: true,
		},
	}
}

// newScrapeRigOf is newScrapeRig for another source; its URL is that of the
// target.
func newScrapeRigOf(t *testing.T, source config.Source, pages ...page) *scrapeRig {
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
	var err error
	if source.URL, err = url.Parse(r.server.URL); err != nil {
		t.Fatal(err)
	}
	patient := source
	patient.Timeout = time.Minute // on a busy machine a page may take more than a second
	client, err := sources.OpenExposition(patient)
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
	fh        *histogram.FloatHistogram
	exemplars []wal.Exemplar
	bare      bool // it is none: the exemplars came without one
}

// attach adds an exemplar to the newest sample of its series in the round.
func attach(round []printedSample, lset labels.Labels, e wal.Exemplar) []printedSample {
	for i := range slices.Backward(round) {
		if labels.Equal(round[i].labels, lset) {
			round[i].exemplars = append(round[i].exemplars, e)
			return round
		}
	}
	return append(round, printedSample{labels: lset, exemplars: []wal.Exemplar{e}, bare: true})
}

// newRound returns the samples the reader has not seen.
func newRound(t *testing.T, reader *wal.Reader) (round []printedSample) {
	t.Helper()
	var f wal.Frame
	type exemplarOf struct {
		series labels.Labels
		wal.Exemplar
	}
	var exemplars []exemplarOf
	for {
		err := reader.Next(&f)
		if err == io.EOF {
			for _, e := range exemplars {
				round = attach(round, e.series, e.Exemplar)
			}
			return round
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Samples {
			round = append(round, printedSample{labels: f.Series[s.Ref].Labels, meta: f.Series[s.Ref].Metadata, st: s.ST, t: s.T, v: s.V})
		}
		for _, s := range f.Histograms {
			round = append(round, printedSample{labels: f.Series[s.Ref].Labels, meta: f.Series[s.Ref].Metadata, st: s.ST, t: s.T, v: s.H.Sum, h: s.H})
		}
		for _, s := range f.FloatHistograms {
			round = append(round, printedSample{labels: f.Series[s.Ref].Labels, meta: f.Series[s.Ref].Metadata, st: s.ST, t: s.T, v: s.FH.Sum, fh: s.FH})
		}
		for _, e := range f.Exemplars {
			exemplars = append(exemplars, exemplarOf{f.Series[e.Ref].Labels, wal.Exemplar{T: e.T, V: e.V, Labels: e.Labels}})
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
		switch {
		case s.h != nil:
			v = fmt.Sprintf("%s schema %d hint %d", s.h, s.h.Schema, s.h.CounterResetHint)
		case s.fh != nil:
			v = fmt.Sprintf("float %s schema %d hint %d", s.fh, s.fh.Schema, s.fh.CounterResetHint)
		}
		if name == "scrape_duration_seconds" {
			v = "some"
		}
		stale := value.IsStaleNaN(s.v)
		if stale {
			v = "stale"
		}
		line := fmt.Sprintf("%s%s %s @%s", name, s.labels.MatchLabels(false, "__name__"), v, when(s.t))
		if s.bare {
			line = fmt.Sprintf("%s%s without a sample", name, s.labels.MatchLabels(false, "__name__"))
		}
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
