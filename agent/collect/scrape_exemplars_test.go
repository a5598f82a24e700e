package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestExemplarsLikePrometheus(t *testing.T) {
	counter := func(line string) page { return om("# TYPE a counter\na_total" + line + "\n") }
	shown := func(exemplar string) page { return counter(" 1 # " + exemplar) }
	at := func(seconds float64) string { return " " + soon(seconds) }
	native := func(value int) page {
		return protobuf(fmt.Sprintf(`name: "h" type: HISTOGRAM
metric { histogram { sample_count: 1 zero_threshold: 1 zero_count: 1 exemplars { value: %d timestamp { seconds: 1700000003 } } } }
`, value))
	}
	compareScrapes(t, map[string]sideBySide{
		"comes back":                  {pages: []page{shown(`{t="1"} 1 100`), om("b 1\n"), shown(`{t="1"} 1 100`)}},
		"across a failed scrape":      {pages: []page{shown(`{t="1"} 1 100`), {status: 500}, shown(`{t="1"} 1 100`), shown(`{t="2"} 1 101`)}},
		"across a change of metadata": {pages: []page{shown(`{t="1"} 1 100`), om("# HELP a A.\n# TYPE a counter\na_total 1 # {t=\"1\"} 1 100\n"), shown(`{t="1"} 1 100`)}},
		"goes back":                   {pages: []page{shown(`{t="1"} 1 100`), shown(`{t="2"} 1 50`), shown(`{t="1"} 1 101`)}},
		"of one time": {pages: []page{
			shown(`{t="1"} 1 100`), shown(`{t="3"} 1 100`), shown(`{t="2"} 1 100`), shown(`{t="1"} 2 100`), shown(`{t="1"} 1 100`), shown(`{t="4"} 2 100`), shown(`{t="1"} 1 101`),
		}},
		"of one time, native":     {config: "scrape_native_histograms: true", pages: []page{native(1), native(2), native(2), native(1), native(3)}},
		"without labels":          {pages: []page{shown(`{} 1 100`), shown(`{} 2 100`), shown(`{a="b",a="c"} 2 101`), shown(`{a=""} 2 102`)}},
		"far ahead":               {pages: []page{shown(`{t="1"} 1` + at(7200)), shown(`{t="1"} 2 1e15`)}},
		"of a sample with a time": {pages: []page{counter(" 1" + at(-60) + ` # {t="1"} 1 1.5`), counter(" 1" + at(-60) + ` # {t="2"} 1 2.5`)}},
		"newer than its sample":   {pages: []page{counter(" 1" + at(-60) + ` # {t="1"} 1`), counter(" 1" + at(-60) + ` # {t="1"} 1`)}},
		"of samples that are refused": {pages: []page{
			counter(" 1" + at(7200) + ` # {t="1"} 1 100`), counter(" 1" + at(-60) + ` # {t="1"} 1 100`),
			counter(" 1" + at(-70) + ` # {t="2"} 1 200`), counter(` 1 # {t="2"} 1 200`),
		}},
		"one series twice": {pages: []page{
			om("# TYPE a counter\na_total 1 # {t=\"1\"} 1 100\na_total 2 # {t=\"2\"} 2 200\n"), shown(`{t="2"} 2 200`),
		}},
		"two spellings": {pages: []page{
			om("# TYPE a counter\na_total{x=\"\"} 1 # {t=\"1\"} 1 100\na_total 2 # {t=\"2\"} 2 200\n"), shown(`{t="2"} 2 200`), shown(`{t="3"} 2 300`),
		}},
		"two spellings, the older last": {pages: []page{
			om("# TYPE a counter\na_total{x=\"\"} 1 # {t=\"2\"} 2 200\na_total 2 # {t=\"1\"} 1 100\n"), shown(`{t="2"} 2 200`), shown(`{t="3"} 2 150`),
		}},
	})
}

// An exemplar of a page that is not taken is new on the next that has it, also
// where another one was before.
func TestExemplarsOfFailedPagesAreNotUsedUp(t *testing.T) {
	broken := "# TYPE a counter\na_total 1 # {t=\"2\"} 1 2\na_total{x=\"\"} 1 # {t=\"3\"} 1 3\nbroken one\n"
	whole := om("# TYPE a counter\na_total 1 # {t=\"2\"} 1 2\n")
	r := newScrapeRig(t, om("# TYPE a counter\na_total 1 # {t=\"1\"} 1 1\n"), openMetrics(broken), whole, whole)
	for i, want := range []int{1, 0, 1, 0} {
		round := r.stepAt(t0.Add(time.Duration(i) * time.Second))
		if got := strings.Count(round, " # "); got != want {
			t.Errorf("page %d: %d exemplars, want %d:\n%s", i+1, got, want, round)
		}
	}
}

// What was sent of a series, or is older, is not handed to the log again.
func TestExemplarsAreHandedOverOnce(t *testing.T) {
	var pages []page
	for _, e := range []string{`{t="1"} 2 100`, `{t="1"} 2 100`, `{t="1"} 1 100`, `{t="2"} 2 99`, `{t="2"} 2 100`, `{t="1"} 2 100`} {
		pages = append(pages, om("# TYPE a counter\na_total 1 # "+e+"\n"))
	}
	r := newScrapeRig(t, pages...)
	for i := range pages {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
	}
	if n := r.log.Stats().Refused.Exemplars; n > 0 {
		t.Errorf("the log refuses %d exemplars", n)
	}
}
