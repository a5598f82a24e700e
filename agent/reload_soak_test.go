package agent

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// choices are what the reloads of a soak change, one or several at a time.
type choices struct {
	help, value      int
	counter          bool
	regions          bool // a label more
	bound            int  // of a bucket
	interval         int  // seconds
	connections      int  // of the source
	other, otherJob  bool // another source, and what it is called
	dead             bool // a source whose server is not there
	endpoint, faster bool
}

func (c *choices) change(rng *rand.Rand) {
	for range 1 + rng.IntN(3) {
		switch rng.IntN(11) {
		case 0:
			c.help++
		case 1:
			c.counter = !c.counter
		case 2:
			c.regions = !c.regions
		case 3:
			c.bound = 9 - c.bound // 4 or 5
		case 4:
			c.interval = 1 + rng.IntN(3)*rng.IntN(1200)
		case 5:
			c.value++
		case 6:
			c.connections = 5 - c.connections // 2 or 3
		case 7:
			c.other = !c.other
		case 8:
			c.otherJob = !c.otherJob
		case 9:
			c.dead = !c.dead
		case 10:
			c.endpoint, c.faster = rng.IntN(2) == 0, rng.IntN(2) == 0
		}
	}
}

func pick[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

// config is the text of a configuration with these choices.
func (c *choices) config(receiver string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
global: {scrape_interval: 1s, scrape_timeout: 1s}
remote_write: [{url: %s, name: %s, queue_config: {batch_send_deadline: %dms}}]
self: {enabled: false}
sources:
  - {name: still, type: sqlite, path: shop.db, job: still, instance: one, collectors: [kept]}
  - {name: shop, type: sqlite, path: shop.db, job: shop, instance: one, max_connections: %d, collectors: [subject]}
`, receiver, pick(c.endpoint, "one", "two"), pick(c.faster, 50, 100), c.connections)
	if c.other {
		fmt.Fprintf(&b, "  - {name: other, type: sqlite, path: shop.db, job: %s, instance: one, collectors: [other]}\n", pick(c.otherJob, "a", "b"))
	}
	if c.dead {
		b.WriteString("  - {name: dead, type: postgres, host: 127.0.0.1, port: 1, user: u, job: dead, instance: one, collectors: [other]}\n")
	}
	keys := pick(c.regions, "[status, region]", "[status]")
	fmt.Fprintf(&b, `
collectors:
  - collector_name: kept
    metrics: [{metric_name: kept, type: gauge, help: Kept., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
  - collector_name: other
    metrics: [{metric_name: other, type: gauge, help: Other., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
  - collector_name: subject
    queries: [{query_name: q, interval: %ds, query: "SELECT status, region, %d AS n, 4.5 AS took FROM orders"}]
    metrics:
      - {metric_name: sibling, type: gauge, help: Sibling., key_labels: [status], values: [took], query_ref: q}
      - {metric_name: subject, type: %s, help: Help %d., key_labels: %s, values: [n], query_ref: q}
      - {metric_name: times, type: histogram, help: Times., key_labels: [status], query_ref: q, histogram: {mode: snapshot, value: took, buckets: [1, %d]}}
`, c.interval, c.value, pick(c.counter, "counter", "gauge"), c.help, keys, c.bound)
	return b.String()
}

// page is what a scrape shows of them.
func (c *choices) page() string {
	var b strings.Builder
	b.WriteString("# HELP kept Kept.\n# TYPE kept gauge\nkept{status=\"open\"} 3\n")
	if c.other {
		b.WriteString("# HELP other Other.\n# TYPE other gauge\nother{status=\"open\"} 3\n")
	}
	b.WriteString("# HELP sibling Sibling.\n# TYPE sibling gauge\nsibling{status=\"open\"} 4.5\n")
	fmt.Fprintf(&b, "# HELP subject Help %d.\n# TYPE subject %s\nsubject{%sstatus=\"open\"} %d\n",
		c.help, pick(c.counter, "counter", "gauge"), pick(c.regions, `region="eu",`, ""), c.value)
	fmt.Fprintf(&b, "# HELP times Times.\n# TYPE times histogram\ntimes_bucket{status=\"open\",le=\"1\"} 0\ntimes_bucket{status=\"open\",le=\"%d\"} %d\n"+
		"times_bucket{status=\"open\",le=\"+Inf\"} 1\ntimes_sum{status=\"open\"} 4.5\ntimes_count{status=\"open\"} 1\n", c.bound, pick(c.bound == 5, 1, 0))
	return b.String()
}

// series are those of the log that come and go with them.
func (c *choices) series() map[string]bool {
	of := func(name, job, more string) string {
		return fmt.Sprintf(`{__name__="%s", instance="one", job="%s"%s}`, name, job, more)
	}
	all := map[string]bool{
		of("subject", "shop", pick(c.regions, `, region="eu"`, "")+`, status="open"`):  true,
		of("times_bucket", "shop", fmt.Sprintf(`, le="%d.0", status="open"`, c.bound)): true,
	}
	if c.other {
		all[of("other", pick(c.otherJob, "a", "b"), `, status="open"`)] = true
		all[of("up", pick(c.otherJob, "a", "b"), "")] = true
	}
	if c.dead {
		all[of("up", "dead", "")] = true
	}
	return all
}

// shown is what a page has of the metrics of choices.
func (c *choices) shown(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		for _, metric := range []string{"kept", "other", "sibling", "subject", "times"} {
			if strings.HasPrefix(name, metric) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// TestReloadsUnderLoad reloads a hundred times, with SOAK=1 a thousand, with
// changes of every kind, while the page is scraped and a receiver takes it all.
// Each page is that of the configuration before or of the one after; in the
// receiver a series ends with one stale marker each time that a reload takes it
// away, and never else; its values never go back to those of a configuration
// before. At the end nothing of those before is left.
func TestReloadsUnderLoad(t *testing.T) {
	reloads := 100
	if os.Getenv("SOAK") != "" {
		reloads = 1000
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOAK_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SOAK_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))

	r := newReloadable(t)
	c := choices{value: 1, bound: 4, interval: 1, connections: 2}
	write := func(text string) { writeConfig(t, r.file, text) }
	write(c.config(r.receiver.URL()))
	r.start()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, page := get(t, r.page+"/metrics"); c.shown(page) == c.page() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first values never come")
		}
	}

	r.scrape()
	pages := []string{c.page()} // of all configurations, in turn
	gone := map[string]int{}    // stale markers by series
	var early resources
	for i := range reloads {
		before := c
		c.change(rng)
		measured := i == reloads/5 || i == reloads-1
		if measured { // with as many sources each time
			c.other, c.dead = false, false
		}
		if !measured && rng.IntN(10) == 0 {
			c = before
			write(c.config(r.receiver.URL()) + "\nnonsense: {")
			if status, body := r.reload(); status != http.StatusInternalServerError {
				t.Fatalf("a broken file is taken: %d: %s", status, body)
			}
		} else {
			write(c.config(r.receiver.URL()))
			if status, body := r.reload(); status != http.StatusOK {
				t.Fatalf("reload %d answers %d: %s", i, status, body)
			}
			pages = append(pages, c.page())
		}
		is := c.series()
		for series := range before.series() {
			if !is[series] {
				gone[series]++
			}
		}
		if _, page := get(t, r.page+"/metrics"); c.shown(page) != c.page() {
			t.Fatalf("after reload %d, from %+v to %+v, (-want +got):\n%s", i, before, c, cmp.Diff(c.page(), c.shown(page)))
		}
		if i == reloads/5 {
			early = settled(resources{})
		}
	}
	scrapes := r.scraped()
	at := 0
	for i, page := range scrapes {
		was := at
		for at < len(pages) && pages[at] != c.shown(page) {
			at++
		}
		if at == len(pages) {
			t.Fatalf("page %d of %d is of no configuration from the one of the page before on:\n%s\n(-that +this):\n%s",
				i, len(scrapes), c.shown(page), cmp.Diff(pages[was], c.shown(page)))
		}
	}
	late := settled(early)
	t.Logf("%d reloads, %d scrapes; %v early, %v late", reloads, len(scrapes), early, late)
	if late.more(early) {
		t.Errorf("reloads leave something behind: %v early, %v late", early, late)
	}
	r.stop()

	marked := map[string]int{}
	for series, samples := range r.receiver.Samples(t, `{__name__!=""}`) {
		stale, value := false, 0.0
		for _, s := range samples {
			switch {
			case !s.Stale():
				if strings.Contains(series, `"subject"`) && s.V < value {
					t.Errorf("%s goes back from %v to %v", series, value, s.V)
				}
				value, stale = s.V, false
			case stale:
				t.Errorf("%s has two stale markers in a row", series)
			default:
				marked[series]++
				stale = true
			}
		}
	}
	if d := cmp.Diff(gone, marked); d != "" {
		t.Errorf("stale markers (-want +got):\n%s", d)
	}
}

// resources are what reloads must not leave behind.
type resources struct{ goroutines, descriptors int }

// spare is by how much resources vary with what a moment needs: connections
// that are idle, segments that are read. It is far below the number of reloads.
const spare = 8

func (r resources) more(than resources) bool {
	return r.goroutines > than.goroutines+spare || r.descriptors > than.descriptors+spare
}

// settled returns the resources when what ends by itself has ended: as soon as
// they are not more than wanted, or the least there were for a while.
func settled(wanted resources) (least resources) {
	for deadline := time.Now().Add(3 * time.Second); ; runtime.Gosched() {
		descriptors, _ := os.ReadDir("/proc/self/fd")
		now := resources{runtime.NumGoroutine(), len(descriptors)}
		if least == (resources{}) || now.goroutines+now.descriptors < least.goroutines+least.descriptors {
			least = now
		}
		if wanted != (resources{}) && !least.more(wanted) || time.Now().After(deadline) {
			return least
		}
	}
}
