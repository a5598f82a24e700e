package collect

import (
	"strings"
	"testing"
	"time"

	"sql2metrics/sources"
)

// TestTooLarge holds that a series which the log has no room for is refused
// for its size and not for its time, and costs no other.
func TestTooLarge(t *testing.T) {
	huge := strings.Repeat("x", 10_000_000)
	const says = "labels have more than about 4 MiB do not fit into the log: let label_value_length_limit refuse them"
	check := func(t *testing.T, m *Metrics, logged string, name bookName, samples uint64) {
		t.Helper()
		addsUp(t, m)
		b := booked(m, name)
		if n, late := b.refusedFor("too_large"), b.refusedFor("time"); n != samples || late != 0 {
			t.Errorf("%d samples are refused for their size, %d for their time; want %d and 0", n, late, samples)
		}
		if strings.Count(logged, says) != 1 || strings.Contains(logged, "clock") || strings.Contains(logged, "xxxx") {
			t.Errorf("logged %.1000s", logged)
		}
	}
	t.Run("query", func(t *testing.T) {
		r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{{columns: []string{"status", "n"}, rows: [][]sources.Value{
			{text("open"), sources.IntValue(1)}, {text(huge), sources.IntValue(2)},
		}}}})
		for n := range 2 {
			if got := r.step(n + 1); strings.Count(got, "\n") != 1 || !strings.Contains(got, "open") {
				t.Errorf("appended %.300q", got)
			}
		}
		check(t, r.metrics, r.logged.String(), r.values.entry.book.bookName, 2)
		for _, w := range r.metrics.Balance().Workers {
			if w.TooLarge != w.RefusedByLog() || len(w.Refused) > 0 || w.SamplesOff() != 0 {
				t.Errorf("%+v", w)
			}
		}
	})
	t.Run("page", func(t *testing.T) {
		r := newScrapeRig(t, textPage("a 1\nb{x=\""+huge+"\"} 1\nc{x=\""+huge+"\"} 1 "+"1700000000000\n"))
		r.now = t0
		if err := r.Step(t.Context(), t0); err != nil {
			t.Error(err)
		}
		check(t, r.metrics, r.logged.String(), bookName{source: scrapedSource().Name, query: bookScrape}, 2)
	})
}

// TestLate holds that the words for what the log has a newer sample of fit what
// was run.
func TestLate(t *testing.T) {
	for what, says := range map[string]string{
		"query":  "two queries make the same series, or the clock went back",
		"scrape": "the page's own times went back, another source makes the same series, or the clock went back",
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{{columns: []string{"status", "n"}, rows: [][]sources.Value{
				{text("open"), sources.IntValue(1)},
			}}}})
			r.what = what
			r.step(1)
			r.lastStamp = time.Time{}.UnixMilli()
			if err := r.Step(t.Context(), r.now); err != nil {
				t.Error(err)
			}
			if !strings.Contains(r.logged.String(), says) || booked(r.metrics, r.values.entry.book.bookName).refusedFor("time") != 1 {
				t.Errorf("logged %s", r.logged)
			}
		})
	}
}
