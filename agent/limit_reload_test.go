package agent

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// shownSeries are the collected series of a page, without their values.
func shownSeries(page string) (all []string) {
	for line := range strings.Lines(collected(page)) {
		if series, _, is := strings.Cut(line, "} "); is && !strings.HasPrefix(line, "#") {
			all = append(all, series+"}")
		}
	}
	slices.Sort(all)
	return all
}

const manyRows = "SELECT value AS status, 'eu' AS region, 1 AS n FROM json_each('[1,2,3,4,5,6,7,8,9]')"

// TestMaxSeriesAndReloads edits descriptions with as many series as there may
// be: those there are stay, and no reload makes room for more.
func TestMaxSeriesAndReloads(t *testing.T) {
	r := newReloadable(t, "global: {", "limits: {max_series: 12}\nglobal: {",
		"SELECT status, region, n FROM orders", manyRows, "SELECT status, n FROM orders", manyRows)
	r.start()
	before := shownSeries(await(t, r.page+"/metrics", `(?s)(.*\n(kept|sibling|subject)\{[^\n]*){12}`))
	if len(before) != 12 {
		t.Fatalf("shown are %q", before)
	}
	for _, edits := range [][]string{
		{"Old.", "New."},
		{"Kept.", "Again."},
		{"New.", "Newer.", "Again.", "Once more."},
		// What is new gets nothing of what is taken.
		{"[kept, subject]", "[more, kept, subject]", "collectors:\n  - collector_name: kept", "collectors:\n  - collector_name: more\n" +
			"    metrics: [{metric_name: more, type: gauge, help: More., key_labels: [status], values: [n], query: \"" + manyRows + "\"}]\n  - collector_name: kept", "Newer.", "Newest."},
		// A bound that is lower costs nobody anything.
		{"max_series: 12", "max_series: 3", "Sibling.", "Its sibling."},
	} {
		r.edit(edits...)
		if status, body := r.reload(); status != 200 {
			t.Fatalf("the reload answers %d: %s", status, body)
		}
		_, page := get(t, r.page+"/metrics")
		if after := shownSeries(page); !slices.Equal(before, after) || strings.Contains(page, "more{") {
			t.Errorf("after %q: %q, were %q", edits, after, before)
		}
	}
	r.end()
	for series, samples := range r.receiver.Samples(t, `{__name__!=""}`) {
		if slices.ContainsFunc(samples, receiver.Sample.Stale) {
			t.Errorf("%s has a stale marker", series)
		}
	}
}

// TestMaxSeriesOfOtherLabels has all series of two metrics replaced by others, of
// which there would be many more: those that go make room at once.
func TestMaxSeriesOfOtherLabels(t *testing.T) {
	r := newReloadable(t, "global: {", "limits: {max_series: 4}\nglobal: {", "SELECT status, region, n FROM orders", manyRows)
	a := runInside(t, r.load)
	awaitSeries(t, a, 4)
	r.edit("[status]", "[status, region]", "SELECT status, n FROM", "SELECT status, region, n FROM")
	if err := a.reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if n := a.limit.Live(); n != 4 {
		t.Errorf("%d series, and max_series is 4", n)
	}
	a.departing.Wait()
	if n := a.limit.Live(); n != 4 {
		t.Errorf("%d series when those before are gone, and max_series is 4", n)
	}
}

// TestMaxSeriesAndAFailingQuery edits a query so that it fails, and then does
// not: its series are there all the while, though there is no room for more.
func TestMaxSeriesAndAFailingQuery(t *testing.T) {
	r := newReloadable(t, "global: {", "limits: {max_series: 3}\nglobal: {", "query_name: q,", "query_name: q, on_error: keep,")
	r.start()
	await(t, r.page+"/metrics", `(?m)^kept\{`)
	before := shownSeries(await(t, r.page+"/metrics", `(?m)^subject\{`))
	if len(before) != 3 {
		t.Fatalf("shown are %q", before)
	}
	r.edit("n FROM orders\"}]\n    metrics:\n", "n FROM later\"}]\n    metrics:\n")
	if status, body := r.reload(); status != 200 {
		t.Fatalf("the reload answers %d: %s", status, body)
	}
	r.scrape()
	r.exec("CREATE TABLE later AS SELECT status, region, 4 AS n FROM orders")
	await(t, r.page+"/metrics", `(?m)^subject\{status="open"\} 4$`)
	for i, page := range r.scraped() {
		if after := shownSeries(page); !slices.Equal(before, after) {
			t.Errorf("page %d has %q", i, after)
		}
	}
	r.end()
	for series, samples := range r.receiver.Samples(t, `{__name__!=""}`) {
		if slices.ContainsFunc(samples, receiver.Sample.Stale) {
			t.Errorf("%s has a stale marker", series)
		}
	}
}

// awaitSeries waits for the first rounds.
func awaitSeries(t *testing.T, a *Agent, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); a.limit.Live() < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("there are never %d series", n)
		}
	}
}
