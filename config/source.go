package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"
)

// source is one database as it was read, and what it selects.
type source struct {
	object
	Source
	file       string        // path as it is written
	interval   time.Duration // scrape_interval
	timeout    time.Duration // scrape_timeout
	selectors  []entry
	labels     []entry
	params     []entry
	scrape     Scrape
	tls        object
	collectors []*collector
	databases  databases
}

var sourceTable = table[source]{
	fields: withScrape(withClient(func(s *source) *promconfig.HTTPClientConfig { return &s.HTTP }, map[string]func(node, *source){
		"name": func(n node, s *source) { n.string(&s.Name) },
		"type": func(n node, s *source) {
			oneOf(n, &s.Type, TypePostgres, TypeMySQL, TypeClickHouse, TypeRedis, TypeSQLite, TypeHTTPJSON, TypePrometheus)
		},
		"data_source_name": func(n node, s *source) { n.secret(&s.DSN) },
		"host":             func(n node, s *source) { n.expand(&s.Host) },
		"port":             func(n node, s *source) { n.port(&s.Port) },
		"user":             func(n node, s *source) { n.expand(&s.User) },
		"password":         func(n node, s *source) { n.secret(&s.Password) },
		"password_file":    func(n node, s *source) { n.fileName(&s.PasswordFile) },
		"password_command": func(n node, s *source) { s.PasswordCommand = n.command() },
		"addresses":        func(n node, s *source) { s.Addresses = n.addresses() },
		"database":         func(n node, s *source) { n.expand(&s.Database) },
		"databases":        func(n node, s *source) { s.decodeDatabases(n) },
		"path":             func(n node, s *source) { n.expand(&s.file) },
		"url":              func(n node, s *source) { n.httpURL(&s.URL) },
		"params":           func(n node, s *source) { s.params = n.entries() },
		"body_size_limit":  func(n node, s *source) { n.bodySize(&s.BodySizeLimit) },
		"allow_post":       func(n node, s *source) { n.bool(&s.AllowPost) },
		"scrape_interval":  func(n node, s *source) { n.duration(&s.interval) },
		"scrape_timeout":   func(n node, s *source) { n.duration(&s.timeout) },
		"sslmode": func(n node, s *source) {
			oneOf(n, &s.TLS.Mode, "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
		},
		// Its fields depend on the type, which may stand below it.
		"tls_config":      func(node, *source) {},
		"job":             func(n node, s *source) { n.string(&s.Job) },
		"instance":        func(n node, s *source) { n.expand(&s.Instance) },
		"labels":          func(n node, s *source) { s.labels = n.entries() },
		"collectors":      func(n node, s *source) { s.selectors = n.texts() },
		"max_connections": func(n node, s *source) { n.int(1, &s.MaxConnections) },

		"max_connection_lifetime": func(n node, s *source) { n.duration(&s.MaxConnectionLifetime) },
		"max_result_bytes":        func(n node, s *source) { n.bytes(&s.MaxResultBytes) },
		"startup_sql":             func(n node, s *source) { s.StartupSQL = n.words() },

		"protocol":    func(n node, s *source) { oneOf(n, &s.Protocol, ProtocolNative, ProtocolHTTP) },
		"compression": func(n node, s *source) { oneOf(n, &s.Compression, "none", "lz4", "zstd") },

		"cluster":                func(n node, s *source) { n.bool(&s.Cluster) },
		"sentinel_master":        func(n node, s *source) { n.expand(&s.SentinelMaster) },
		"sentinel_user":          func(n node, s *source) { n.expand(&s.SentinelUser) },
		"sentinel_password":      func(n node, s *source) { n.secret(&s.SentinelPassword) },
		"sentinel_password_file": func(n node, s *source) { n.fileName(&s.SentinelPasswordFile) },
	})),
	refused: refuseTargets(map[string]refusal{
		"read_only":            {"is not supported by this version: sources are always read-only", "delete it"},
		"proxy_connect_header": noConnectHeader,
		"sigv4":                {"belongs to remote_write", "delete it; a source logs in with basic_auth, authorization or oauth2"},
	}),
}

// Format implements [fmt.Formatter] for every verb and flag.
func (s Source) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s (%s at %s)", s.Name, s.Type, s.Instance)
}

// MarshalText implements encoding.TextMarshaler, and so JSON, XML and YAML.
func (s Source) MarshalText() ([]byte, error) { return fmt.Append(nil, s), nil }

// sourceKind is what has to be known of one type of source.
type sourceKind struct {
	// fields are those that have a meaning for it, beside the ones that every
	// source has.
	fields []string
	// finish fills in the defaults that depend on other fields and checks them.
	// It is told how many errors there were ahead of the source.
	finish func(s *source, before int)
}

// everySource are the fields that all sources have.
var everySource = []string{"name", "type", "job", "instance", "labels"}

// serverFields are those of a database that is logged in to over a network.
var serverFields = []string{
	"collectors", "data_source_name", "host", "port", "user", "password", "password_file", "password_command", "database",
	"sslmode", "tls_config", "max_connections", "max_connection_lifetime", "max_result_bytes", "startup_sql",
}

// sourceKinds has a row for each type of source.
func sourceKinds() map[SourceType]sourceKind {
	return map[SourceType]sourceKind{
		TypePostgres:   {append([]string{"databases"}, serverFields...), (*source).finishPostgres},
		TypeMySQL:      {append([]string{"databases"}, serverFields...), (*source).finishMySQL},
		TypeClickHouse: {append([]string{"addresses", "protocol", "compression"}, serverFields...), (*source).finishClickHouse},
		TypeRedis:      {redisFields(), (*source).finishRedis},
		TypeSQLite:     {[]string{"collectors", "data_source_name", "path", "max_connections", "max_result_bytes", "startup_sql"}, (*source).finishSQLite},
		TypeHTTPJSON:   {httpJSONFields(), (*source).finishHTTPJSON},
		TypePrometheus: {scrapeFields(), (*source).finishPrometheus},
	}
}

// decodeSource reads a source and checks what it can without the rest of the
// configuration.
func decodeSource(n node) *source {
	s := &source{scrape: defaultScrape(), Source: Source{
		MaxConnections:        defaultMaxConnections,
		MaxConnectionLifetime: defaultMaxConnectionLifetime,
		MaxResultBytes:        defaultMaxResultBytes,
	}}
	before := len(n.in.load.errs)
	s.object = decode(n, sourceTable, s)
	s.require("name", "give the source a name")
	s.require("type", "write postgres, mysql, clickhouse, redis, sqlite, http_json or prometheus")
	if kind, known := sourceKinds()[s.Type]; known {
		s.refuseOthers(kind)
		kind.finish(s, before)
	}
	if s.Job == "" {
		s.Job = string(s.Type)
	}
	values := map[string]string{}
	for _, l := range s.labels {
		var value string
		l.value.expand(&value)
		if l.value.ownLabel(l.key, onlyHere) && value != "" {
			values[l.key] = value
		}
	}
	s.Labels = labels.FromMap(values)
	return s
}

// refuseOthers reports the fields that belong to another type of source.
func (s *source) refuseOthers(kind sourceKind) {
	for _, f := range slices.Sorted(maps.Keys(sourceTable.fields)) {
		if s.has(f) && !slices.Contains(everySource, f) && !slices.Contains(kind.fields, f) {
			s.at(f).fail("has no meaning for type "+string(s.Type), "delete it, or correct the type")
		}
	}
}

// finish selects the source's queries and checks them against the source.
func (s *source) finish(g Global, d *document) {
	s.finishClocks(g)
	if s.Scrape != nil {
		s.Scrape.inheritLimits(d.global.layer)
	}
	for _, selector := range s.selectors {
		s.selectCollectors(selector, d)
	}
	for _, c := range s.collectors {
		s.Queries = append(s.Queries, c.resolve()...)
	}
	s.checkRequests()
	s.finishDatabases()
	for _, l := range s.labels {
		if m, at, found := s.maker(l.key); found {
			l.value.fail(fmt.Sprintf("label %q is made by the metric %s too, on %s", l.key, m.Name, at.place(l.value)), "rename one of the two")
		}
	}
}

// selectCollectors adds the collectors that a name or a glob means.
func (s *source) selectCollectors(selector entry, d *document) {
	var names []string
	matched := false
	for _, c := range d.collectors {
		matches, err := path.Match(selector.key, c.name)
		if err != nil {
			selector.value.fail(fmt.Sprintf("%q is not a pattern of names: a bracket is not closed", selector.key), "close it, or escape it with a backslash")
			return
		}
		if c.name == "" || !matches && c.name != selector.key {
			names = append(names, c.name)
			continue
		}
		matched = true
		if !slices.Contains(s.collectors, c) {
			s.collectors = append(s.collectors, c)
		}
	}
	switch {
	case matched || d.partial || slices.Contains(names, ""):
	case len(names) == 0:
		selector.value.fail(fmt.Sprintf("no collector is named %q, and there are none", selector.key), "define it under collectors, or name its file in collector_files")
	default:
		slices.Sort(names)
		selector.value.fail(fmt.Sprintf("no collector is named %q", selector.key), suggest(selector.key, slices.Compact(names)))
	}
}

// maker returns the metric of the source that makes the label, and where.
func (s *source) maker(label string) (*metric, node, bool) {
	for _, c := range s.collectors {
		for _, m := range c.metrics {
			for _, made := range m.labelNames() {
				if made.key == label {
					return m, made.value, true
				}
			}
		}
	}
	return nil, node{}, false
}
