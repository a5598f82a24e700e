package collect

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Whatever a target answers, a page is taken whole or not at all, the same
// page again has nothing new, and a worker that is closed keeps nothing.
func FuzzExposition(f *testing.F) {
	for _, p := range []page{
		textPage(largePage(3)),
		textPage("# TYPE a counter\na{x=\"1\"} 1 1000\na{x=\"1\"} NaN 2000\n{\"b c\",d=\"e\"} -Inf\n"),
		textPage("a{job=\"x\",exported_job=\"y\",job=\"z\"} 1\n"),
		openMetrics("# TYPE a counter\n# UNIT a_seconds seconds\na_total 1 # {t=\"1\"} 1 1.5\na_created 1e9\n# TYPE a gauge\na_total 1\n# EOF\n"),
		openMetrics("# TYPE h histogram\nh_bucket{le=\"1\"} 1 1.0005 # {} 1\nh_created 1e300\nh_created{le=\"1\"} NaN\n# EOF\n"),
		{kind: "application/vnd.google.protobuf", body: "\x00\x05\x0a\x03abc"},
		{kind: "text/html", body: "<html>"},
	} {
		f.Add(p.kind, []byte(p.body))
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		v := &values{log: openLog(t)}
		x := newExposition("db", newTarget("pg", "h:1", labels.FromStrings("team", "shop")), scrapedSource().Scrape, v)
		for round := range 2 {
			tick := t0.Add(time.Duration(round) * time.Second)
			v.begin(tick)
			x.begin()
			err := x.parse(body, kind, tick)
			if err != nil {
				v.abandon()
				v.begin(tick)
			} else if round > 0 && x.added > 0 {
				t.Errorf("%d of %d series are new on a page that was there before", x.added, x.scraped)
			}
			if n := len(v.round.Samples) + len(v.round.Histograms) + len(v.timed.Samples) + len(v.timed.Histograms); n > x.scraped || err != nil && n > 0 {
				t.Errorf("%d samples on the page, %d in the round, error %v", x.scraped, n, err)
			}
			if _, _, err := v.finish(tick); err != nil {
				t.Fatal(err)
			}
			x.end(err == nil)
		}
		v.close()
		x.lines.close()
		if len(x.lines.known)+len(x.lines.series)+len(x.lines.starts) > 0 {
			t.Error("a closed worker keeps lines")
		}
	})
}
