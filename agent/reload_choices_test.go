package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// choices are what the reloads of a soak change, one or several at a time.
type choices struct {
	began            int64 // Unix seconds
	help, value      int
	counter          bool
	regions          bool // a label more
	bound            int  // of a bucket
	interval         int  // seconds
	cron             bool // instead
	cursor           int  // in the statement with one
	moving           bool // metrics of all types that change
	connections      int  // of the source
	other, otherJob  bool // another source, and what it is called
	dead             bool // a source whose server is not there
	mute             bool // one whose server takes connections and never answers
	port             int  // of that one
	endpoint, faster bool
	cluster          string // an external label
}

func newChoices() choices {
	return choices{began: time.Now().Unix() - 600, value: 1, bound: 4, interval: 1, connections: 2, moving: true}
}

func (c *choices) change(rng *rand.Rand) {
	for range 1 + rng.IntN(3) {
		switch rng.IntN(16) {
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
		case 11:
			c.cron = !c.cron
		case 12:
			c.cursor++
		case 13:
			c.moving = !c.moving
		case 14:
			c.cluster = []string{"", "a", "b"}[rng.IntN(3)]
		case 15:
			c.mute = !c.mute
		}
	}
}

func pick[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

// kind is a type of metric: how it is written, and what comes of it.
type kind struct {
	name, query, fields string
	typ                 string // on the page
	suffix              string // of the family there
	lines               []line // of the page
	timed               bool   // its series get no stale markers
}

// line is a series of a metric: what is behind its name, the label of its type,
// and its value.
type line struct{ suffix, label, is, value string }

// kinds are metrics of all types beside gauge and counter. BOUND is a bucket's.
func kinds(bound, n int) []kind {
	le := fmt.Sprint(bound)
	below := pick(bound == 5, "1", "0")
	classic := []line{
		{"_bucket", "le", "1", "0"}, {"_bucket", "le", le, below}, {"_bucket", "le", "+Inf", "1"}, {"_sum", "", "", "4.5"}, {"_count", "", "", "1"},
	}
	return []kind{
		{name: "accumulated", query: "behind", typ: "histogram", lines: classic,
			fields: fmt.Sprintf("type: histogram, histogram: {mode: accumulate, value: took, buckets: [1, %d]}, cursor: {column: id}", bound)},
		{name: "build", query: "q", typ: "gauge", suffix: "_info", fields: "type: info", lines: []line{{"_info", "", "", "1"}}},
		{name: "native", query: "q", typ: "histogram", fields: "type: histogram, histogram: {mode: snapshot, value: took, form: native}",
			lines: []line{{"_bucket", "le", "+Inf", "1"}, {"_sum", "", "", "4.5"}, {"_count", "", "", "1"}}},
		{name: "role", query: "q", typ: "gauge", fields: "type: stateset, values: [role], states: [primary, replica]",
			lines: []line{{"", "ROLE", "primary", "1"}, {"", "ROLE", "replica", "0"}}},
		{name: "seen", query: "q", typ: "gauge", timed: true, lines: []line{{"", "", "", fmt.Sprint(n)}},
			fields: "type: gauge, " + pick(n == 0, "values: [zero], timestamp_value: since", "values: [n], timestamp_value: at")},
		{name: "snapshot", query: "q", typ: "histogram", lines: classic,
			fields: fmt.Sprintf("type: histogram, histogram: {mode: snapshot, value: took, buckets: [1, %d]}", bound)},
		{name: "summed", query: "q", typ: "summary", fields: "type: summary, summary: {quantile: q, value: took, sum: took, count: one}",
			lines: []line{{"", "quantile", "0.5", "4.5"}, {"_sum", "", "", "4.5"}, {"_count", "", "", "1"}}},
	}
}

// edition is metrics of all kinds: those that never change, or those that do.
type edition struct {
	prefix, help string
	keys         map[string]string
	kinds        []kind
}

func (c *choices) editions() []edition {
	all := []edition{{"still_", "Still.", map[string]string{"status": "open"}, kinds(5, 0)}}
	if c.moving {
		all = append(all, edition{"moving_", fmt.Sprintf("Help %d.", c.help), c.keys(), kinds(c.bound, c.value)})
	}
	return all
}

// keys are the labels of rows.
func (c *choices) keys() map[string]string {
	return pick(c.regions, map[string]string{"status": "open", "region": "eu"}, map[string]string{"status": "open"})
}

func list(keys map[string]string) string {
	return "[" + strings.Join(slices.Sorted(maps.Keys(keys)), ", ") + "]"
}

// config is the text of a configuration with these choices.
func (c *choices) config(receiver string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
global: {scrape_interval: 1s, scrape_timeout: 1s%s}
remote_write: [{url: %s, name: %s, queue_config: {batch_send_deadline: %dms}}]
self: {enabled: false}
sources:
  - {name: still, type: sqlite, path: shop.db, job: still, instance: one, collectors: [kept]}
  - {name: shop, type: sqlite, path: shop.db, job: shop, instance: one, max_connections: %d, collectors: [subject]}
`, pick(c.cluster != "", ", external_labels: {cluster: '"+c.cluster+"'}", ""), receiver, pick(c.endpoint, "one", "two"), pick(c.faster, 50, 100), c.connections)
	if c.other {
		fmt.Fprintf(&b, "  - {name: other, type: sqlite, path: shop.db, job: %s, instance: one, collectors: [other]}\n", pick(c.otherJob, "a", "b"))
	}
	if c.dead {
		b.WriteString("  - {name: dead, type: postgres, host: 127.0.0.1, port: 1, user: u, job: dead, instance: one, collectors: [other]}\n")
	}
	if c.mute {
		fmt.Fprintf(&b, "  - {name: mute, type: postgres, host: 127.0.0.1, port: %d, user: u, job: mute, instance: one, collectors: [other]}\n", c.port)
	}
	clock := fmt.Sprintf("interval: %ds", c.interval)
	if c.cron {
		clock = "schedule: '*/7 * * * *', timezone: Europe/Berlin"
	}
	fmt.Fprintf(&b, `
collectors:
  - collector_name: kept
    metrics: [{metric_name: kept, type: gauge, help: Kept., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
  - collector_name: other
    metrics: [{metric_name: other, type: gauge, help: Other., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
  - collector_name: subject
    queries:
      - {query_name: q, %s, query: "SELECT status, region, %[2]d AS n, %[3]d AS at, %[4]d AS since, 0 AS zero, 1 AS one, 4.5 AS took, 0.5 AS q, 'primary' AS role FROM orders"}
      - {query_name: behind, query: "SELECT rowid AS id, status, region, 4.5 AS took, %[5]d AS version FROM orders WHERE rowid > {{cursor}} ORDER BY id"}
    metrics:
      - {metric_name: sibling, type: gauge, help: Sibling., key_labels: [status], values: [took], query_ref: q}
      - {metric_name: subject, type: %[6]s, help: Help %[7]d., key_labels: %[8]s, values: [n], query_ref: q}
`, clock, c.value, c.began+int64(c.value), c.began, c.cursor, pick(c.counter, "counter", "gauge"), c.help, list(c.keys()))
	for _, e := range c.editions() {
		for _, k := range e.kinds {
			fmt.Fprintf(&b, "      - {metric_name: %s, help: %s, key_labels: %s, query_ref: %s, %s}\n", e.prefix+k.name, e.help, list(e.keys), k.query, k.fields)
		}
	}
	return b.String()
}

// page is what a scrape shows of them.
func (c *choices) page() string {
	families := map[string]string{
		"kept":    "# HELP kept Kept.\n# TYPE kept gauge\nkept{status=\"open\"} 3\n",
		"sibling": "# HELP sibling Sibling.\n# TYPE sibling gauge\nsibling{status=\"open\"} 4.5\n",
		"subject": fmt.Sprintf("# HELP subject Help %d.\n# TYPE subject %s\nsubject{%sstatus=\"open\"} %d\n",
			c.help, pick(c.counter, "counter", "gauge"), pick(c.regions, `region="eu",`, ""), c.value),
	}
	if c.other {
		families["other"] = "# HELP other Other.\n# TYPE other gauge\nother{status=\"open\"} 3\n"
	}
	for _, e := range c.editions() {
		for _, k := range e.kinds {
			name := e.prefix + k.name
			text := fmt.Sprintf("# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n", name+k.suffix, e.help, k.typ)
			for _, l := range k.lines {
				text += fmt.Sprintf("%s{%s} %s\n", name+l.suffix, l.onPage(name, e.keys), l.value)
			}
			families[name+k.suffix] = text
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(families)) {
		b.WriteString(families[name])
	}
	return b.String()
}

// onPage are the labels of the line: bounds and quantiles are the last ones.
func (l line) onPage(name string, keys map[string]string) string {
	keys, last := maps.Clone(keys), ""
	switch l.label {
	case "":
	case "ROLE":
		keys[name] = l.is
	default:
		last = fmt.Sprintf(",%s=%q", l.label, l.is)
	}
	return strings.ReplaceAll(strings.Trim(labels.FromMap(keys).String(), "{}"), ", ", ",") + last
}

// series are those of the log that come and go with them.
func (c *choices) series() map[string]bool {
	all := map[string]bool{}
	add := func(name, job string, more map[string]string) {
		lset := map[string]string{"__name__": name, "job": job, "instance": "one"}
		maps.Copy(lset, more)
		all[labels.FromMap(lset).String()] = true
	}
	add("subject", "shop", c.keys())
	for _, e := range c.editions() {
		for _, k := range e.kinds {
			for _, l := range k.lines {
				keys := maps.Clone(e.keys)
				name := e.prefix + k.name + l.suffix
				switch {
				case k.timed:
					continue
				case k.name == "native":
					name = e.prefix + k.name
				case l.label == "ROLE":
					keys[name] = l.is
				case l.label == "le" && l.is != "+Inf":
					keys["le"] = l.is + ".0"
				case l.label != "":
					keys[l.label] = l.is
				}
				add(name, "shop", keys)
			}
		}
	}
	open := map[string]string{"status": "open"}
	if c.other {
		add("other", pick(c.otherJob, "a", "b"), open)
		add("up", pick(c.otherJob, "a", "b"), nil)
	}
	if c.dead {
		add("up", "dead", nil)
	}
	if c.mute {
		add("up", "mute", nil)
	}
	return all
}

// shown is what a page has of the metrics of choices.
func (c *choices) shown(page string) string {
	var b strings.Builder
	for text := range strings.Lines(page) {
		name := strings.TrimPrefix(strings.TrimPrefix(text, "# HELP "), "# TYPE ")
		for _, metric := range []string{"kept", "other", "sibling", "subject", "still_", "moving_"} {
			if strings.HasPrefix(name, metric) {
				b.WriteString(text)
			}
		}
	}
	return b.String()
}
