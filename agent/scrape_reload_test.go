package agent

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scrapedSource takes the place of the database in reloadText.
const (
	shopSource = "{name: shop, type: sqlite, path: shop.db, job: shop, instance: one, collectors: [kept, subject]}"
	scraped    = "{name: db, type: prometheus, url: EXPOSITION, job: pg, instance: 'h:1', labels: {team: shop}, metric_relabel_configs: [RULES]}"
)

// TestReloadOfScrape changes what becomes of one page. What it becomes no longer
// gets one stale marker, and the rest goes on without.
func TestReloadOfScrape(t *testing.T) {
	const dropB = "{source_labels: [__name__], regex: b, action: drop}"
	for name, c := range map[string]struct {
		edit []string
		gone []string
		kept []string
	}{
		"a series is dropped": {
			edit: []string{"[RULES]", "[" + dropB + "]"},
			gone: []string{`{__name__="b", instance="h:1", job="pg", team="shop"}`},
			kept: []string{`{__name__="a", instance="h:1", job="pg", team="shop", x="1"}`, `{__name__="up", instance="h:1", job="pg", team="shop"}`},
		},
		"a series is renamed": {
			edit: []string{"[RULES]", "[{source_labels: [__name__], regex: b, target_label: __name__, replacement: c}]"},
			gone: []string{`{__name__="b", instance="h:1", job="pg", team="shop"}`},
			kept: []string{`{__name__="c", instance="h:1", job="pg", team="shop"}`, `{__name__="a", instance="h:1", job="pg", team="shop", x="1"}`},
		},
		"labels are honoured": {
			edit: []string{"[RULES]", "[], honor_labels: true"},
			gone: []string{`{__name__="d", exported_job="own", instance="h:1", job="pg", team="shop"}`},
			kept: []string{`{__name__="d", instance="h:1", job="own", team="shop"}`, `{__name__="b", instance="h:1", job="pg", team="shop"}`},
		},
		"a label of the source": {
			edit: []string{"[RULES]", "[]", "labels: {team: shop}", "labels: {}"},
			gone: []string{
				`{__name__="a", instance="h:1", job="pg", team="shop", x="1"}`, `{__name__="b", instance="h:1", job="pg", team="shop"}`,
				`{__name__="d", exported_job="own", instance="h:1", job="pg", team="shop"}`,
				`{__name__="scrape_duration_seconds", instance="h:1", job="pg", team="shop"}`,
				`{__name__="scrape_samples_post_metric_relabeling", instance="h:1", job="pg", team="shop"}`,
				`{__name__="scrape_samples_scraped", instance="h:1", job="pg", team="shop"}`,
				`{__name__="scrape_series_added", instance="h:1", job="pg", team="shop"}`, `{__name__="up", instance="h:1", job="pg", team="shop"}`,
			},
			kept: []string{`{__name__="b", instance="h:1", job="pg"}`, `{__name__="up", instance="h:1", job="pg"}`},
		},
		"a limit it is over": {
			edit: []string{"[RULES]", "[], sample_limit: 2"},
			gone: []string{
				`{__name__="a", instance="h:1", job="pg", team="shop", x="1"}`, `{__name__="b", instance="h:1", job="pg", team="shop"}`,
				`{__name__="d", exported_job="own", instance="h:1", job="pg", team="shop"}`,
			},
			kept: []string{`{__name__="up", instance="h:1", job="pg", team="shop"}`},
		},
		"nothing that shows": {
			edit: []string{"[RULES]", "[], sample_limit: 3"},
			kept: []string{`{__name__="a", instance="h:1", job="pg", team="shop", x="1"}`, `{__name__="b", instance="h:1", job="pg", team="shop"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exposition := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; version=0.0.4")
				_, _ = io.WriteString(w, "a{x=\"1\"} 1\nb 2\nd{job=\"own\"} 3\n")
			}))
			t.Cleanup(exposition.Close)
			r := newReloadable(t, shopSource, scraped, "EXPOSITION", exposition.URL, "[RULES]", "[] # RULES\n   ")
			r.start()
			await(t, r.page+"/metrics", `(?m)^b\{.*\} 2$`)
			r.scrape()
			r.edit(append([]string{"[] # RULES\n   ", "[RULES]"}, c.edit...)...)
			if status, body := r.reload(); status != http.StatusOK {
				t.Fatalf("the reload answers %d: %s", status, body)
			}
			r.scraped()
			r.end()
			all := r.receiver.Samples(t, `{__name__!=""}`)
			slices.Sort(c.gone)
			if d := cmp.Diff(c.gone, ended(t, all)); d != "" {
				t.Errorf("stale markers (-want +got):\n%s", d)
			}
			for _, series := range c.kept {
				if len(all[series]) == 0 {
					t.Errorf("%s has no samples; there are:\n%s", series, strings.Join(slices.Sorted(maps.Keys(all)), "\n"))
				}
			}
		})
	}
}

// The worker that enters has a client of its own, as the one that leaves may be
// asking; one that stays keeps its.
func TestReloadedScrapeHasItsOwnClient(t *testing.T) {
	r := newReloadable(t, shopSource, scraped, "EXPOSITION", "http://127.0.0.1:1/metrics", "[RULES]", "[]")
	a := runInside(t, r.load)
	for _, labels := range []string{"{team: shop}", "{team: other}"} {
		before := a.sources[0]
		r.edit("{team: shop}", labels)
		n, err := a.prepare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if same := n.sources[0].client == before.client; same != (labels == "{team: shop}") {
			t.Errorf("labels %s: the client is the one before: %v", labels, same)
		}
		a.swap(t.Context(), n)
	}
}
