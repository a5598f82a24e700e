package collect

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"sql2metrics/config"
)

// benchedScrape reads one page over and over, from its bytes to the log.
type benchedScrape struct {
	*exposition
	t    testing.TB
	page page
	body []byte
	tick time.Time
}

func newBenchedScrape(t testing.TB, p page, rules *config.Scrape) *benchedScrape {
	v := &values{log: openLog(t)}
	x := newExposition("db", newTarget("pg", "h:1", labels.FromStrings("team", "shop")), rules, v)
	// The parser of the text format adds a line feed, for which there is room in
	// what was read from a server.
	body := append(make([]byte, 0, len(p.body)+1), p.body...)
	return &benchedScrape{exposition: x, t: t, page: p, body: body, tick: time.Now()}
}

func (b *benchedScrape) step() {
	b.tick = b.tick.Add(time.Second)
	b.values.begin(b.tick)
	b.begin()
	if err := b.parse(b.body, b.page.kind, b.tick); err != nil {
		b.t.Fatal(err)
	}
	if _, _, err := b.values.finish(b.tick); err != nil {
		b.t.Fatal(err)
	}
	b.end(true)
}

// relabelled has rules that look at every series, drop some and change others.
func relabelled() *config.Scrape {
	s := *scrapedSource().Scrape
	s.MetricRelabel = []*relabel.Config{
		{SourceLabels: model.LabelNames{"__name__"}, Regex: relabel.MustNewRegexp("gauge_.*"), Action: relabel.Drop, Separator: ";", NameValidationScheme: model.UTF8Validation},
		{SourceLabels: model.LabelNames{"path"}, Regex: relabel.MustNewRegexp("/a/(.*)"), TargetLabel: "id", Replacement: "$1", Action: relabel.Replace, Separator: ";", NameValidationScheme: model.UTF8Validation},
	}
	return &s
}

// largePages are the same samples in every format.
func largePages(n int) map[string]page {
	return map[string]page{
		"text":        textPage(largePage(n)),
		"OpenMetrics": openMetrics(largePage(n) + "# EOF\n"),
		"protobuf":    largeProtobuf(n),
	}
}

// largeProtobuf is largePage in protobuf.
func largeProtobuf(n int) page {
	var b bytes.Buffer
	pair := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	served := &dto.MetricFamily{Name: proto.String("served_total"), Help: proto.String("Requests."), Type: dto.MetricType_COUNTER.Enum()}
	for i := range n {
		served.Metric = append(served.Metric, &dto.Metric{
			Label:   []*dto.LabelPair{pair("path", fmt.Sprintf("/a/%d", i)), pair("status", "200"), pair("method", "GET")},
			Counter: &dto.Counter{Value: proto.Float64(float64(i))},
		})
	}
	_, _ = protodelim.MarshalTo(&b, served)
	for i := range n / 50 {
		_, _ = protodelim.MarshalTo(&b, &dto.MetricFamily{
			Name: proto.String(fmt.Sprintf("gauge_%d", i)), Help: proto.String("A gauge."), Type: dto.MetricType_GAUGE.Enum(),
			Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(float64(i) + 0.5)}}},
		})
	}
	return page{kind: protobufType, body: b.String()}
}

// The way from the page to the round allocates per page, not per sample, and
// relabelling costs nothing where nothing has changed.
func TestUnchangedPageAllocatesNothing(t *testing.T) {
	for name, p := range largePages(2000) {
		for rules, s := range map[string]*config.Scrape{"": scrapedSource().Scrape, ", relabelled": relabelled()} {
			t.Run(name+rules, func(t *testing.T) {
				b := newBenchedScrape(t, p, s)
				for range 3 {
					b.step()
				}
				allocs := testing.AllocsPerRun(20, b.step)
				t.Logf("%.0f allocations for %d samples", allocs, b.scraped)
				if allocs > 60 {
					t.Errorf("%.0f allocations for %d samples, want a constant few", allocs, b.scraped)
				}
			})
		}
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
	for name, p := range largePages(10_000) {
		for rules, s := range map[string]*config.Scrape{"": scrapedSource().Scrape, ", relabelled": relabelled()} {
			b.Run(name+rules, func(b *testing.B) {
				s := newBenchedScrape(b, p, s)
				s.step()
				b.ReportAllocs()
				for b.Loop() {
					s.step()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(s.scraped*b.N), "ns/sample")
			})
		}
	}
}
