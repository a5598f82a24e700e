package config

import "fmt"

// document is the main file as it was read, with the collectors of all files.
type document struct {
	object
	config     Config
	global     global
	storage    object
	endpoints  []*endpoint
	sources    []*source
	patterns   []entry // collector_files
	collectors []*collector
	// partial says that a collector file could not be read, so that a name
	// nobody defines may well be in it.
	partial bool
}

var documentTable = table[document]{
	fields: map[string]func(node, *document){
		"global":          func(n node, d *document) { d.global.object = decode(n, globalTable, &d.global) },
		"limits":          func(n node, d *document) { decode(n, limitsTable, &d.config.Limits) },
		"self":            func(n node, d *document) { decode(n, selfTable, &d.config.Self) },
		"storage":         func(n node, d *document) { d.storage = decode(n, storageTable, &d.config.Storage) },
		"collector_files": func(n node, d *document) { d.patterns = n.texts() },
		"remote_write": func(n node, d *document) {
			for _, item := range n.list() {
				d.endpoints = append(d.endpoints, decodeEndpoint(item))
			}
		},
		"sources": func(n node, d *document) {
			for _, item := range n.list() {
				d.sources = append(d.sources, decodeSource(item))
			}
		},
		"collectors": func(n node, d *document) {
			for _, item := range n.list() {
				d.collectors = append(d.collectors, decodeCollector(item))
			}
		},
	},
	refused: map[string]refusal{
		"target":         {"belongs to sql_exporter", "describe the database under sources"},
		"jobs":           {"belongs to sql_exporter", "describe each database under sources"},
		"scrape_configs": {"means nothing here: each source is described alone", "describe it under sources; an exporter is of type prometheus"},
	},
}

// global is the section of that name: what holds for all, and what collectors,
// queries and metrics leave open.
type global struct {
	object
	Global
	layer
}

var globalTable = table[global]{
	fields: withLayer(func(g *global) *layer { return &g.layer }, map[string]func(node, *global){
		"scrape_interval": func(n node, g *global) { n.duration(&g.ScrapeInterval) },
		"scrape_timeout":  func(n node, g *global) { n.duration(&g.ScrapeTimeout) },
		"external_labels": func(n node, g *global) { n.externalLabels(&g.ExternalLabels) },
	}, runFields, cellFields),
	refused: refuseOfSources(map[string]refusal{
		"interval":            {"is spelled scrape_interval here, as in Prometheus", "write scrape_interval"},
		"timeout":             {"is spelled scrape_timeout here, as in Prometheus", "write scrape_timeout"},
		"min_interval":        {"is spelled scrape_interval here, as in Prometheus", "write scrape_interval"},
		"schedule":            {"belongs to a collector or a query", "write it there"},
		"stale_after":         {"belongs to a collector or a query: it depends on the interval", "write it there"},
		"evaluation_interval": {"means nothing here: the agent evaluates no rules", "delete it"},
		"rule_query_offset":   {"means nothing here: the agent evaluates no rules", "delete it"},
		"query_log_file":      {"means nothing here: the agent answers no queries", "delete it"},
	}),
}

var limitsTable = table[Limits]{
	fields: map[string]func(node, *Limits){
		"max_series": func(n node, l *Limits) { n.int(1, &l.MaxSeries) },
	},
}

var selfTable = table[Self]{
	fields: map[string]func(node, *Self){
		"enabled":  func(n node, s *Self) { n.bool(&s.Enabled) },
		"interval": func(n node, s *Self) { n.duration(&s.Interval) },
		"job":      func(n node, s *Self) { n.string(&s.Job) },
		"instance": func(n node, s *Self) { n.expand(&s.Instance) },
	},
}

var storageTable = table[Storage]{
	fields: map[string]func(node, *Storage){
		"path":                  func(n node, s *Storage) { n.string(&s.Path) },
		"max_bytes":             func(n node, s *Storage) { n.bytes(&s.MaxBytes) },
		"max_age":               func(n node, s *Storage) { n.duration(&s.MaxAge) },
		"min_free":              func(n node, s *Storage) { n.bytes(&s.MinFree) },
		"dead_letter_max_bytes": func(n node, s *Storage) { n.bytes(&s.DeadLetterMaxBytes) },
		"fsync":                 func(n node, s *Storage) { oneOf(n, &s.Fsync, FsyncInterval, FsyncAlways, FsyncNever) },
		"fsync_interval":        func(n node, s *Storage) { n.duration(&s.FsyncInterval) },
	},
}

// finish fills in the defaults that depend on other fields, makes the checks
// that need more than one part of the configuration, and puts it together.
func (d *document) finish() {
	g := &d.global.Global
	if g.ScrapeTimeout > g.ScrapeInterval {
		if d.global.has("scrape_timeout") {
			d.global.at("scrape_timeout").fail(fmt.Sprintf("is longer than the scrape interval of %s", prometheusDuration(g.ScrapeInterval)),
				"make it at most as long as the interval")
		}
		g.ScrapeTimeout = g.ScrapeInterval
	}
	d.config.Global = *g
	d.finishStorage()
	unique(d.endpoints, "an endpoint", func(e *endpoint) (string, node) { return e.Name, e.at("name") })
	checkAdoption(d.endpoints)
	unique(d.sources, "a source", func(s *source) (string, node) { return s.Name, s.at("name") })
	unique(d.collectors, "a collector", func(c *collector) (string, node) { return c.name, c.at("collector_name") })
	for _, c := range d.collectors {
		c.check(d.global)
	}
	for _, s := range d.sources {
		s.finish(*g, d)
	}
	checkFamilies(d.sources)
	checkTwins(d.sources)
	checkIdentities(d.sources)
	for _, e := range d.endpoints {
		d.config.RemoteWrite = append(d.config.RemoteWrite, e.RemoteWrite)
	}
	for _, s := range d.sources {
		d.config.Sources = append(d.config.Sources, s.Source)
	}
}

// finishStorage divides max_bytes between the log and the dead letters. A
// share that holds less than a few rounds would lose samples to eviction from
// the first minute on, and look like a working configuration.
func (d *document) finishStorage() {
	s := &d.config.Storage
	if s.MaxBytes < leastMaxBytes {
		d.storage.at("max_bytes").fail("is below 16MiB: the log evicts by whole segments, each up to an eighth of it, "+
			"and would drop what waits for a receiver after a few rounds",
			"write 16MiB or more: some 5 bytes for each sample of the longest outage to survive")
		return
	}
	switch {
	case !d.storage.has("dead_letter_max_bytes"):
		s.DeadLetterMaxBytes = min(s.DeadLetterMaxBytes, s.MaxBytes/4)
	case s.DeadLetterMaxBytes >= s.MaxBytes:
		d.storage.at("dead_letter_max_bytes").fail(fmt.Sprintf("is not below max_bytes, which is %d bytes and covers the dead letters too", s.MaxBytes),
			"make it a fraction of max_bytes")
	case s.MaxBytes-s.DeadLetterMaxBytes < leastLogBytes:
		d.storage.at("dead_letter_max_bytes").fail(fmt.Sprintf("leaves the log %d bytes of max_bytes, less than the 12MiB it needs",
			s.MaxBytes-s.DeadLetterMaxBytes), "make it a fraction of max_bytes")
	}
}

// unique reports every item whose name an earlier one has.
func unique[T any](items []T, what string, name func(T) (string, node)) {
	first := map[string]node{}
	for _, item := range items {
		s, at := name(item)
		if s == "" {
			continue
		}
		if other, twice := first[s]; twice {
			at.fail(fmt.Sprintf("%s named %q is there already, on %s", what, s, other.place(at)), "give each a name of its own")
			continue
		}
		first[s] = at
	}
}
