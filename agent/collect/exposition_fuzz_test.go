package collect

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/config"
)

// Whatever a target answers, a page is taken whole or not at all, the same
// page again has nothing new, a worker that is closed keeps nothing, and
// Prometheus's parser finds as many samples.
func FuzzExposition(f *testing.F) {
	for i, p := range []page{
		textPage(largePage(3)),
		textPage("# TYPE a counter\na{x=\"1\"} 1 1000\na{x=\"1\"} NaN 2000\n{\"b c\",d=\"e\"} -Inf\n"),
		textPage("a{job=\"x\",exported_job=\"y\",job=\"z\"} 1\n"),
		textPage("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\nh 1\n"),
		openMetrics("# TYPE a counter\n# UNIT a_seconds seconds\na_total 1 # {t=\"1\"} 1 1.5\na_created 1e9\n# TYPE a gauge\na_total 1\n# EOF\n"),
		openMetrics("# TYPE h histogram\nh_bucket{le=\"1\"} 1 1.0005 # {} 1\nh_created 1e300\nh_created{le=\"1\"} NaN\n# EOF\n"),
		{kind: protobufType, body: "\x00\x05\x0a\x03abc"},
		protobuf(metricKinds), protobuf(nativeKinds), protobuf(stamped(1000, 1)), largeProtobuf(3),
		{kind: "text/html", body: "<html>"},
	} {
		for rules := range uint8(8) {
			f.Add(p.kind, []byte(p.body), rules^uint8(8*i))
		}
	}
	// All runs share a log, which takes longer to open than a page to read: each
	// is another target, later than the one before.
	log, now := openLog(f), t0
	f.Fuzz(func(t *testing.T, kind string, body []byte, bits uint8) {
		rules := fuzzedRules(bits)
		v := &values{log: log}
		x := newExposition("db", newTarget("pg", fmt.Sprint("h:", now.Unix()), labels.FromStrings("team", "shop")), rules, v)
		for round := range 2 {
			now = now.Add(time.Second)
			tick := now
			v.begin(tick)
			x.begin()
			err := x.parse(body, kind, tick)
			if err != nil {
				v.abandon()
				v.begin(tick)
			} else if round > 0 && x.added > 0 && x.counts == [reasons]int{} {
				t.Errorf("%d of %d series are new on a page that was there before", x.added, x.scraped)
			}
			if n := len(v.round.Samples) + len(v.round.Histograms) + len(v.timed.Samples) + len(v.timed.Histograms); n > x.kept || x.kept > x.scraped || err != nil && n > 0 {
				t.Errorf("%d samples on the page, %d after relabelling, %d in the round, error %v", x.scraped, x.kept, n, err)
			}
			if n := len(v.round.Samples) + len(v.round.Histograms); rules.SampleLimit > 0 && n > rules.SampleLimit {
				t.Errorf("%d samples are over the limit of %d", n, rules.SampleLimit)
			}
			if want, whole := fuzzedSamples(kind, body, rules); err == nil && (!whole || want != x.scraped) || !whole && err == nil {
				t.Errorf("%d samples on the page, Prometheus's parser finds %d, whole %v", x.scraped, want, whole)
			}
			var books counts
			x.count(&books)
			refused := uint64(0)
			for _, n := range books.refused {
				refused += n
			}
			if books.cells != books.used+refused {
				t.Errorf("%d cells are %d used and %d refused", books.cells, books.used, refused)
			}
			if _, _, err := v.finish(tick); err != nil {
				t.Fatal(err)
			}
			x.end(err == nil)
			x.refusals.end(func(reason, int, error) {})
		}
		v.close()
		x.lines.close()
		if len(x.lines.known)+len(x.lines.series)+len(x.lines.starts) > 0 {
			t.Error("a closed worker keeps lines")
		}
	})
}

// fuzzedRules are as the bits say.
func fuzzedRules(bits uint8) *config.Scrape {
	is := func(bit int) bool { return bits&(1<<bit) != 0 }
	rules := &config.Scrape{
		HonorTimestamps: is(0), NativeHistograms: is(1), ConvertToNHCB: is(2),
		ClassicHistograms: is(3), HonorLabels: is(4), TrackTimestampsStaleness: is(5),
	}
	if is(6) {
		rules.SampleLimit, rules.BucketLimit, rules.MinBucketFactor = 4, 2, math.Sqrt2
	}
	if is(7) {
		rules.MetricRelabel = relabelled().MetricRelabel
	}
	return rules
}

// fuzzedSamples returns how many samples the parser of Prometheus finds in a
// page, up to its end or a fault, as its scrape loop has it.
func fuzzedSamples(kind string, body []byte, rules *config.Scrape) (n int, whole bool) {
	if len(body) == 0 {
		return 0, true
	}
	p, err := textparse.New(body, kind, labels.NewSymbolTable(), textparse.ParserOptions{
		IgnoreNativeHistograms: !rules.NativeHistograms, ConvertClassicHistogramsToNHCB: rules.ConvertToNHCB,
		KeepClassicOnClassicAndNativeHistograms: rules.ClassicHistograms, OpenMetricsSkipSTSeries: true,
	})
	if err != nil {
		return 0, false
	}
	for {
		switch entry, err := p.Next(); {
		case err != nil:
			return n, errors.Is(err, io.EOF)
		// The parser of protobuf goes on from what it was asked for.
		case entry == textparse.EntryHistogram:
			p.Histogram()
			n++
		case entry == textparse.EntrySeries:
			p.Series()
			n++
		}
	}
}
