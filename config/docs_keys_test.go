package config

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// documentedKey is a key in a table of docs/configuration.md.
type documentedKey struct {
	path    string // such as queue_config.max_shards
	literal string // the default, if it is one that can be written
	where   string // the third cell
	kind    string // the heading within the section, such as PostgreSQL
}

var (
	ticked   = regexp.MustCompile("`([^`]*)`")
	literals = regexp.MustCompile("^`[^`]*`(, `[^`]*`)*")
)

// documentedKeys returns the keys of each section. The keys of a row after the
// first stand in the same mapping, unless they have a path of their own. A
// default that begins with a backtick is a literal: one for all keys of the row,
// or one for each.
func documentedKeys(t *testing.T) map[string][]documentedKey {
	t.Helper()
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]documentedKey{}
	section, kind, inKeys := "", "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if heading, is := strings.CutPrefix(line, "## "); is {
			section, kind = heading, ""
		}
		if heading, is := strings.CutPrefix(line, "### "); is {
			kind = heading
		}
		if !strings.HasPrefix(line, "|") {
			inKeys = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if strings.TrimSpace(cells[0]) == "key" {
			inKeys = true
			continue
		}
		if !inKeys || strings.HasPrefix(cells[0], "---") {
			continue
		}
		keys := ticked.FindAllStringSubmatch(cells[0], -1)
		defaults := ticked.FindAllStringSubmatch(literals.FindString(strings.TrimSpace(cells[1])), -1)
		if n := len(defaults); n > 1 && n != len(keys) {
			t.Errorf("%s: %d keys and %d defaults in %s", section, len(keys), n, line)
			continue
		}
		mapping := ""
		for i, match := range keys {
			k := documentedKey{path: match[1], kind: kind}
			if dot := strings.LastIndexByte(k.path, '.'); dot >= 0 {
				mapping = k.path[:dot+1]
			} else {
				k.path = mapping + k.path
			}
			if len(cells) > 2 {
				k.where = strings.TrimSpace(cells[2])
			}
			if len(defaults) > 0 {
				k.literal = defaults[min(i, len(defaults)-1)][1]
			}
			all[section] = append(all[section], k)
		}
	}
	return all
}

// within returns the keys of a table, each behind the path of its mapping.
func within[T any](mapping string, t table[T]) []string {
	var all []string
	for field := range t.fields {
		all = append(all, mapping+field)
	}
	return all
}

// Sections that others refer to: endpoints and scraped sources to the first,
// global, collectors, queries and metrics to the second, metrics to the third.
const (
	httpClients = "HTTP clients"
	collectors  = "collectors and collector_files"
	layers      = "Clocks and policies"
	metricTypes = "Types of metrics"
)

// readKeys returns the keys that Load reads, by the sections that document
// them: a key of an endpoint may stand in its own section or in that of clients.
func readKeys() map[string][]string {
	return map[string][]string{
		"global":  within("", globalTable),
		"self":    within("", selfTable),
		"limits":  within("", limitsTable),
		"storage": within("", storageTable),
		"sources": slices.Concat(within("", sourceTable), within("tls_config.", sourceTLSTable),
			within("databases.", databasesTable)),
		collectors: slices.Concat(within("", collectorTable),
			within("queries[].", queryTable), within("queries[].requires.", requiresTable), within("queries[].json.", jsonTable),
			within("metrics[].", metricTable)),
		"remote_write": slices.Concat(within("", endpointTable), within("queue_config.", queueTable),
			within("metadata_config.", metadataTable), within("sigv4.", sigv4Table),
			within("write_relabel_configs[].", relabelTable)),
		layers: slices.Concat(layerKeys(runFields), layerKeys(clockFields), layerKeys(cellFields)),
		metricTypes: slices.Concat(within("", metricTable), within("histogram.", histogramTable),
			within("cursor.", cursorTable), within("summary.", summaryTable), within("timestamp.", timestampTable)),
		httpClients: slices.Concat(within("", clientTable), within("basic_auth.", basicAuthTable),
			within("authorization.", authorizationTable), within("oauth2.", oauth2Table),
			within("tls_config.", tlsTable), within("http_headers.NAME.", headerTable)),
	}
}

func layerKeys(fields layerFields) []string { return slices.Sorted(maps.Keys(fields)) }

// TestEveryKeyIsDocumented: the tables of docs/configuration.md have the keys
// that Load reads, and no others.
func TestEveryKeyIsDocumented(t *testing.T) {
	documented := documentedKeys(t)
	clients := documented[httpClients]
	for section, keys := range readKeys() {
		there := documented[section]
		for _, k := range there {
			if !slices.Contains(keys, k.path) {
				t.Errorf("%s documents %s, which nobody reads", section, k.path)
			}
		}
		if section == "sources" || section == "remote_write" {
			there = slices.Concat(there, clients)
		}
		for _, key := range keys {
			last := key[strings.LastIndexByte(key, '.')+1:]
			if section != layers && covers(documented[layers], last) || section == collectors && covers(documented[metricTypes], last) {
				continue
			}
			if section == metricTypes && covers(documented[collectors], "metrics[]."+key) {
				continue
			}
			// follow_redirects and enable_http2 differ between the two.
			shared := section == httpClients && covers(documented["sources"], key) && covers(documented["remote_write"], key)
			if !shared && !covers(there, key) {
				t.Errorf("%s does not document %s", section, key)
			}
		}
	}
	for _, section := range within("", documentTable) {
		found := false
		for heading := range documented {
			found = found || slices.Contains(strings.Fields(heading), section)
		}
		if !found {
			t.Errorf("no section documents %s", section)
		}
	}
}

// TestDocumentedLevels: the table of what may stand on several levels names
// the ones that it may stand on.
func TestDocumentedLevels(t *testing.T) {
	for _, k := range documentedKeys(t)[layers] {
		var where []string
		for _, level := range []struct {
			name string
			keys []string
		}{
			{"global", within("", globalTable)},
			{"collector", within("", collectorTable)},
			{"query", within("", queryTable)},
			{"metric", within("", metricTable)},
		} {
			if slices.Contains(level.keys, k.path) {
				where = append(where, level.name)
			}
		}
		if want := strings.Join(where, ", "); k.where != want {
			t.Errorf("%s is documented for %s, but may stand in %s", k.path, k.where, want)
		}
	}
}

// covers tells whether the key, or a key inside it, is among the documented.
func covers(documented []documentedKey, key string) bool {
	return slices.ContainsFunc(documented, func(k documentedKey) bool {
		return k.path == key || strings.HasPrefix(k.path, key+".") || strings.HasPrefix(k.path, key+"[")
	})
}

// TestDocumentedDefaults: a default that is written out means what the key
// means when it is not written.
func TestDocumentedDefaults(t *testing.T) {
	const (
		endpoint = "remote_write: [{url: 'http://receiver/push', %s}]"
		scraped  = "sources: [{name: s, type: prometheus, url: 'http://exporter', %s}]"
		selected = "sources: [{name: s, type: sqlite, path: a.db, collectors: [c]}]\n"
		metric   = "metrics: [{metric_name: m, type: gauge, values: [v], query: SELECT 1 AS v}]"
		typed    = selected + "collectors: [{collector_name: c, metrics: [{metric_name: m, query: '%s', type: %s}]}]"
	)
	// The configurations that a section's keys stand in: each belongs to one at least.
	frames := map[string][]string{
		"global":  {"global: {%s}"},
		"self":    {"self: {%s}"},
		"storage": {"storage: {%s}"},
		"sources": {"sources: [{name: s, type: postgres, user: u, %s}]", scraped},
		"limits":  {"limits: {%s}"},
		layers:    {selected + "collectors: [{collector_name: c, " + metric + ", %s}]"},
		metricTypes: {
			fmt.Sprintf(typed, "SELECT 1", "gauge, values: [v], timestamp_value: t, %s"),
			fmt.Sprintf(typed, "SELECT 1", "histogram, %s"),
			fmt.Sprintf(typed, "SELECT {{cursor}}", "histogram, histogram: {mode: accumulate, value: v, form: native}, %s"),
		},
		"remote_write": {endpoint},
		httpClients:    {endpoint, scraped},
		// What a kind of source has under the heading of its own.
		"sources/MySQL and MariaDB": {"sources: [{name: s, type: mysql, user: u, %s}]"},
		"sources/ClickHouse":        {"sources: [{name: s, type: clickhouse, user: u, %s}]"},
		"sources/Redis":             {"sources: [{name: s, type: redis, %s}]"},
		"sources/HTTP JSON":         {"sources: [{name: s, type: http_json, url: 'http://api', %s}]"},
		"sources/Prometheus":        {scraped},
	}
	// What a mapping has beside the key, so that it is valid.
	companions := map[string]string{
		"sigv4": "region: eu-west-1", "write_relabel_configs[]": "target_label: a", "cursor": "column: id",
		"histogram.cumulative": "mode: buckets, le: a, bucket: b",
		"histogram.form":       "mode: snapshot, value: v, buckets: [1]",
		"histogram.schema":     "mode: snapshot, value: v, form: native",
	}
	parse := func(frame, field string) (*Config, error) {
		return load("docs.yml", fmt.Appendf(nil, frame, field), Options{Getenv: testEnv})
	}
	checked := 0
	for section, keys := range documentedKeys(t) {
		for _, k := range keys {
			if k.literal == "" {
				continue
			}
			mapping, key, nested := strings.Cut(k.path, ".")
			with, without := fmt.Sprintf("%s: '%s'", k.path, k.literal), ""
			if nested {
				without = cmp.Or(companions[k.path], companions[mapping])
				with = fmt.Sprintf("%s: '%s', %s", key, k.literal, without)
				open, end := "{", "}"
				if name, list := strings.CutSuffix(mapping, "[]"); list {
					mapping, open, end = name, "[{", "}]"
				}
				with, without = mapping+": "+open+with+end, mapping+": "+open+without+end
			}
			var errs []error
			around, own := frames[section+"/"+k.kind]
			if !own {
				around = frames[section]
			}
			for _, frame := range around {
				got, err := parse(frame, with)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				want, err := parse(frame, without)
				if err != nil {
					t.Fatalf("%s without %s: %v", section, k.path, err)
				}
				if diff := gocmp.Diff(want, got, asConfigured); diff != "" {
					t.Errorf("%s: %s is not the default of %s (-default +documented):\n%s", section, k.literal, k.path, diff)
				}
				checked++
			}
			if len(errs) == len(around) {
				t.Errorf("%s: %s with its default %s is refused: %v", section, k.path, k.literal, errs)
			}
		}
	}
	if checked < 30 {
		t.Errorf("checked %d defaults, fewer than there are", checked)
	}
}
