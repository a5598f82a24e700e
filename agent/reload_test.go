package agent

import (
	"database/sql"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
)

// reloadable is an agent whose configuration is edited while it runs, with a
// receiver, and somebody who scrapes it all the while.
type reloadable struct {
	*testing.T
	file, text string
	load       func() (*config.Config, error)
	receiver   *receiver.Receiver
	page       string
	stop       func()
	scraper    *scraper
}

// The edits of the tests replace words of this configuration.
const reloadText = `
global: {scrape_interval: 1s, scrape_timeout: 1s}
remote_write: [{url: RECEIVER, name: test, queue_config: {batch_send_deadline: 100ms}}]
self: {enabled: false}
sources:
  - {name: shop, type: sqlite, path: shop.db, job: shop, instance: one, collectors: [kept, subject]}
collectors:
  - collector_name: kept
    metrics: [{metric_name: kept, type: gauge, help: Kept., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
  - collector_name: subject
    queries: [{query_name: q, query: "SELECT status, region, n FROM orders"}]
    metrics:
      - {metric_name: sibling, type: gauge, help: Sibling., key_labels: [status], values: [n], query_ref: q}
      - {metric_name: subject, type: gauge, help: Old., key_labels: [status], values: [n], query_ref: q}
`

func newReloadable(t *testing.T, edits ...string) *reloadable {
	t.Helper()
	folder := t.TempDir()
	r := &reloadable{T: t, file: filepath.Join(folder, "sql2metrics.yml"), receiver: receiver.Start(t, receiver.Options{})}
	r.exec(`CREATE TABLE orders (status TEXT, region TEXT, n INTEGER); INSERT INTO orders VALUES ('open', 'eu', 3)`)
	r.text = reloadText
	r.edit(append([]string{"RECEIVER", r.receiver.URL()}, edits...)...)
	r.load = func() (*config.Config, error) {
		c, err := config.Load(r.file, config.Options{StoragePath: filepath.Join(folder, "log")})
		if err == nil {
			patient(c)
		}
		return c, err
	}
	return r
}

// exec changes what is in the database.
func (r *reloadable) exec(statement string) {
	r.Helper()
	db, err := sql.Open("sqlite", filepath.Join(filepath.Dir(r.file), "shop.db"))
	if err != nil {
		r.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		r.Fatal(err)
	}
}

// start starts the agent.
func (r *reloadable) start() {
	r.Helper()
	c, err := r.load()
	if err != nil {
		r.Fatal(err)
	}
	r.page, r.stop = startAgentWith(r.T, Options{Config: c, Load: r.load, Lifecycle: true})
	await(r.T, r.page+"/-/ready", "is ready")
}

// edit replaces words of the configuration, in pairs of old and new.
func (r *reloadable) edit(edits ...string) {
	r.Helper()
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(r.text, edits[i]) {
			r.Fatalf("the configuration has no %q:\n%s", edits[i], r.text)
		}
		r.text = strings.ReplaceAll(r.text, edits[i], edits[i+1])
	}
	writeConfig(r, r.file, r.text)
}

func writeConfig(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload asks for a reload and returns the answer.
func (r *reloadable) reload() (status int, body string) {
	r.Helper()
	return post(r, r.page+"/-/reload")
}

// end stops the agent when the receiver has what was collected so far: a stop
// itself leaves it but seconds for that.
func (r *reloadable) end() {
	r.Helper()
	accounts := func() soakAccounts {
		_, page := get(r.T, r.page+"/metrics")
		return accountsOf(familiesOf(r.T, page))
	}
	collected := accounts().appended
	for deadline := time.Now().Add(30 * time.Second); ; {
		a := accounts()
		if a.sent+a.dropped+a.unconfirmed >= collected {
			break
		}
		if time.Now().After(deadline) {
			r.Fatalf("%v samples are never shipped: %+v", collected, a)
		}
	}
	r.stop()
}

// scrape begins to scrape, over and over.
func (r *reloadable) scrape() {
	r.scraper = &scraper{page: r.page, enough: make(chan struct{}), done: make(chan struct{})}
	go r.scraper.run()
}

// scraped ends that and returns the answers.
func (r *reloadable) scraped() []string {
	r.Helper()
	close(r.scraper.enough)
	<-r.scraper.done
	if r.scraper.err != nil {
		r.Fatal(r.scraper.err)
	}
	return r.scraper.answers
}

// TestReload changes one thing after the other under somebody who scrapes. What
// did not change is on every page. What did goes from what it was to what it is
// from one page to the next, and each series that is gone has one stale marker.
func TestReload(t *testing.T) {
	const (
		kept     = `(?m)^kept\{status="open"\} 3$`
		sibling  = `(?m)^sibling\{status="open"\} 3$`
		subject  = `(?m)^subject\{status="open"\} 3$`
		absent   = `^$`
		inLog    = `{__name__="%", instance="one", job="shop", status="open"}`
		histoOld = `histogram: {mode: snapshot, value: n, buckets: [1, 5]}`
	)
	series := func(name string) string { return strings.Replace(inLog, "%", name, 1) }
	for name, c := range map[string]struct {
		begin, edit   []string
		before, after string // of the page; absent: no line of subject
		gone          []string
		changed       bool // kept and sibling as well: not looked for
		later         bool // not with the reload, but at the next tick
	}{
		"nothing": {before: subject, after: subject},
		"help": {
			edit:   []string{"Old.", "New."},
			before: `(?m)^# HELP subject Old\.\n# TYPE subject gauge\nsubject\{status="open"\} 3$`,
			after:  `(?m)^# HELP subject New\.\n# TYPE subject gauge\nsubject\{status="open"\} 3$`,
		},
		"type": {
			edit:   []string{"subject, type: gauge", "subject, type: counter"},
			before: `(?m)^# TYPE subject gauge\nsubject\{status="open"\} 3$`,
			after:  `(?m)^# TYPE subject counter\nsubject\{status="open"\} 3$`,
		},
		"labels": {
			edit:   []string{"help: Old., key_labels: [status]", "help: Old., key_labels: [status, region]"},
			before: subject,
			after:  `(?m)^subject\{region="eu",status="open"\} 3$`,
			gone:   []string{series("subject")},
		},
		"buckets": {
			begin:  []string{"subject, type: gauge, help: Old., key_labels: [status], values: [n]", "subject, type: histogram, help: Old., key_labels: [status], " + histoOld},
			edit:   []string{"[1, 5]", "[1, 4]"},
			before: `(?m)^subject_bucket\{status="open",le="5"\} 1\nsubject_bucket\{status="open",le="\+Inf"\} 1$`,
			after:  `(?m)^subject_bucket\{status="open",le="4"\} 1\nsubject_bucket\{status="open",le="\+Inf"\} 1$`,
			gone:   []string{`{__name__="subject_bucket", instance="one", job="shop", le="5.0", status="open"}`},
		},
		"interval": {
			edit:   []string{"query_name: q,", "query_name: q, interval: 1h,"},
			before: subject, after: subject,
		},
		"query": {
			edit:   []string{"region, n FROM", "region, n + 1 AS n FROM"},
			before: subject, after: `(?m)^subject\{status="open"\} 4$`, changed: true,
		},
		"name of the query": {
			edit:   []string{"query_name: q,", "query_name: p,", "query_ref: q", "query_ref: p"},
			before: subject, after: subject,
		},
		"a query that fails": {
			edit:   []string{"region, n FROM", "region, n FROM nowhere JOIN"},
			before: subject, after: absent, changed: true, later: true,
			gone: []string{series("subject"), series("sibling")},
		},
		"metric removed": {
			edit:   []string{"      - {metric_name: subject, type: gauge, help: Old., key_labels: [status], values: [n], query_ref: q}\n", ""},
			before: subject, after: absent,
			gone: []string{series("subject")},
		},
		"metric added": {
			begin:  []string{"      - {metric_name: subject, type: gauge, help: Old., key_labels: [status], values: [n], query_ref: q}\n", ""},
			edit:   []string{"values: [n], query_ref: q}\n", "values: [n], query_ref: q}\n      - {metric_name: subject, type: gauge, help: Old., key_labels: [status], values: [n], query_ref: q}\n"},
			before: absent, after: subject,
		},
		"collector removed": {
			edit:   []string{"[kept, subject]", "[kept]"},
			before: subject, after: absent, changed: true,
			gone: []string{series("subject"), series("sibling")},
		},
		"collector added": {
			begin:  []string{"[kept, subject]", "[kept]"},
			edit:   []string{"[kept]", "[kept, subject]"},
			before: absent, after: subject, changed: true,
		},
		"client of a source": {
			edit:   []string{"job: shop,", "job: shop, max_connections: 3,"},
			before: subject, after: subject,
		},
		"labels of a source": {
			edit:   []string{"job: shop,", "job: shop, labels: {team: a},"},
			before: subject, after: `(?m)^subject\{status="open",team="a"\} 3$`, changed: true,
			gone: []string{series("subject"), series("sibling"), series("kept"), `{__name__="up", instance="one", job="shop"}`},
		},
		"name of a source": {
			edit:   []string{"name: shop", "name: store"},
			before: subject, after: subject,
		},
		"source added, whose server is dead": {
			edit:   []string{"collectors: [kept, subject]}", "collectors: [kept, subject]}\n  - {name: dead, type: postgres, host: 127.0.0.1, port: 1, user: u, collectors: [kept]}"},
			before: subject, after: subject,
		},
		"endpoint": {
			edit:   []string{"batch_send_deadline: 100ms", "batch_send_deadline: 50ms"},
			before: subject, after: subject,
		},
		"name of an endpoint": {
			edit:   []string{"name: test", "name: renamed"},
			before: subject, after: subject,
		},
		"external labels": {
			edit:   []string{"scrape_timeout: 1s}", "scrape_timeout: 1s, external_labels: {cluster: eu1}}"},
			before: subject, after: subject,
		},
		"all of the agent's own metrics": {
			edit:   []string{"{enabled: false}", "{enabled: true, interval: 100ms, instance: me}"},
			before: subject, after: subject,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloadable(t, c.begin...)
			r.start()
			matches := func(pattern, page string) bool {
				if pattern == absent {
					return !strings.Contains(page, "\nsubject")
				}
				return regexp.MustCompile(pattern).MatchString(page)
			}
			await(t, r.page+"/metrics", kept)
			await(t, r.page+"/metrics", `(?m)^sql2metrics_source_up\{source="shop"\} 1$`) // and so is the series up
			if !c.changed {
				await(t, r.page+"/metrics", sibling)
			}
			if c.before != absent {
				await(t, r.page+"/metrics", c.before)
			}
			r.scrape()
			r.edit(c.edit...)
			if status, body := r.reload(); status != http.StatusOK {
				t.Fatalf("the reload answers %d: %s", status, body)
			}
			if _, page := get(t, r.page+"/metrics"); !c.later && !matches(c.after, page) {
				t.Errorf("the first page after the reload is not as it should be:\n%s", collected(page))
			}
			if c.later {
				await(t, r.page+"/metrics", `(?m)^sql2metrics_query_errors_total\{collector="subject",query="q",reason="query",source="shop"\} ([2-9]|\d\d+)$`)
			}
			pages := r.scraped()
			after := 0
			for i, page := range pages {
				was, is := matches(c.before, page), matches(c.after, page)
				if is && !was {
					after++
				}
				if !was && !is || was && !is && after > 0 {
					t.Errorf("page %d of %d is neither as before nor as after:\n%s", i, len(pages), collected(page))
				}
				if !c.changed && !(matches(kept, page) && matches(sibling, page)) {
					t.Errorf("page %d of %d lacks what did not change:\n%s", i, len(pages), collected(page))
				}
			}
			r.end()
			all := r.receiver.Samples(t, `{__name__!=""}`)
			maps.DeleteFunc(all, func(series string, _ []receiver.Sample) bool { // the agent's own
				return strings.Contains(series, `source="`) || strings.Contains(series, `job="sql2metrics"`)
			})
			slices.Sort(c.gone)
			if d := cmp.Diff(c.gone, ended(t, all)); d != "" {
				t.Errorf("stale markers (-want +got):\n%s", d)
			}
		})
	}
}

// TestRefusedReload edits the configuration so that it cannot be taken up: all
// runs on as before, and the reason is told.
func TestRefusedReload(t *testing.T) {
	r := newReloadable(t)
	r.start()
	await(t, r.page+"/metrics", `(?m)^subject\{status="open"\} 3$`)
	await(t, r.page+"/metrics", `(?m)^kept\{status="open"\} 3$`)
	good := r.text
	r.scrape()
	for name, c := range map[string]struct {
		edit []string
		why  string
	}{
		"not YAML":            {[]string{"global: {", "global: {{"}, "sql2metrics.yml:2"},
		"a word nobody knows": {[]string{"scrape_timeout", "scrape_time"}, "scrape_time"},
		"no such statement":   {[]string{"type: sqlite, path: shop.db", "type: postgres, data_source_name: 'postgres://u:secret@h/db?sslmode=wat'"}, "source shop"},
		"another bound":       {[]string{"self:", "storage: {max_bytes: 2GiB}\nself:"}, "restart"},
	} {
		r.edit(c.edit...)
		status, body := r.reload()
		if status != http.StatusInternalServerError || !strings.Contains(body, c.why) || strings.Contains(body, "secret@") {
			t.Errorf("%s: the reload answers %d: %s", name, status, body)
		}
		await(t, r.page+"/metrics", `(?m)^sql2metrics_config_last_reload_successful 0$`)
		r.text = good
	}
	r.edit()
	if status, body := r.reload(); status != http.StatusOK {
		t.Errorf("a good configuration after bad ones: %d: %s", status, body)
	}
	await(t, r.page+"/metrics", `(?m)^sql2metrics_config_last_reload_successful 1$`)
	for _, page := range r.scraped() {
		if !strings.Contains(page, `subject{status="open"} 3`) || !strings.Contains(page, `kept{status="open"} 3`) {
			t.Errorf("a page lacks what did not change:\n%s", collected(page))
		}
	}
	r.end()
	for series, samples := range r.receiver.Samples(t, `{__name__!=""}`) {
		if slices.ContainsFunc(samples, receiver.Sample.Stale) {
			t.Errorf("%s has a stale marker", series)
		}
	}
}

// collected is what a page has of the test's metrics.
func collected(page string) string {
	var lines []string
	for line := range strings.Lines(page) {
		if regexp.MustCompile(`^(# \w+ )?(kept|sibling|subject)`).MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// ended returns the series that have a stale marker, once for each, sorted. None
// may have a sample behind it.
func ended(t *testing.T, all map[string][]receiver.Sample) []string {
	t.Helper()
	var gone []string
	for series, samples := range all {
		for i, s := range samples {
			if s.Stale() {
				gone = append(gone, series)
				if i < len(samples)-1 {
					t.Errorf("%s goes on behind its stale marker", series)
				}
			}
		}
	}
	slices.Sort(gone)
	return gone
}
