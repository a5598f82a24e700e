package config

import (
	"fmt"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	tls        object
	collectors []*collector
}

var sourceTable = table[source]{
	fields: withClient(func(s *source) *promconfig.HTTPClientConfig { return &s.HTTP }, map[string]func(node, *source){
		"name":             func(n node, s *source) { n.string(&s.Name) },
		"type":             func(n node, s *source) { oneOf(n, &s.Type, TypePostgres, TypeSQLite, TypePrometheus) },
		"data_source_name": func(n node, s *source) { n.secret(&s.DSN) },
		"host":             func(n node, s *source) { n.expand(&s.Host) },
		"port":             func(n node, s *source) { n.port(&s.Port) },
		"user":             func(n node, s *source) { n.expand(&s.User) },
		"password":         func(n node, s *source) { n.secret(&s.Password) },
		"password_file":    func(n node, s *source) { n.fileName(&s.PasswordFile) },
		"database":         func(n node, s *source) { n.expand(&s.Database) },
		"path":             func(n node, s *source) { n.expand(&s.file) },
		"url":              func(n node, s *source) { n.httpURL(&s.URL) },
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
	}),
	refused: map[string]refusal{
		"databases":              notYet,
		"startup_sql":            notYet,
		"read_only":              {"is not supported by this version: sources are always read-only", "delete it"},
		"honor_labels":           {"is not supported by this version: a label that the source has too becomes exported_ and its name", "delete it"},
		"metric_relabel_configs": {"is not supported by this version", "use write_relabel_configs of the endpoint"},
		"relabel_configs":        {"means nothing here: there are no targets to choose from", "write job, instance and labels"},
		"sample_limit":           notYet,
		"body_size_limit":        notYet,
		"label_limit":            notYet,
		"metrics_path":           {"is part of url here", "write it there"},
		"scheme":                 {"is part of url here", "write it there"},
		"params":                 {"are part of url here", "write them there, after a question mark"},
		"proxy_connect_header":   noConnectHeader,
		"sigv4":                  {"belongs to remote_write", "delete it; a scrape logs in with the fields that Prometheus's scrape_configs have"},
	},
}

// Format implements [fmt.Formatter] for every verb and flag.
func (s Source) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s (%s at %s)", s.Name, s.Type, s.Instance)
}

// MarshalText implements encoding.TextMarshaler, and so JSON, XML and YAML.
func (s Source) MarshalText() ([]byte, error) { return fmt.Append(nil, s), nil }

var sourceTLSTable = table[TLS]{
	fields: map[string]func(node, *TLS){
		"ca_file":     func(n node, t *TLS) { n.fileName(&t.CAFile) },
		"cert_file":   func(n node, t *TLS) { n.fileName(&t.CertFile) },
		"key_file":    func(n node, t *TLS) { n.fileName(&t.KeyFile) },
		"server_name": func(n node, t *TLS) { n.expand(&t.ServerName) },
	},
	refused: map[string]refusal{
		"insecure_skip_verify": {"is spelled sslmode for a database", "delete it; sslmode: require encrypts without verifying"},
	},
}

// port sets *into to a port, which may come from the environment.
func (n node) port(into *int) {
	var s string
	if n.expand(&s); s == "" {
		return
	}
	port, err := strconv.Atoi(s)
	if err != nil || port < 1 || port > 65535 {
		n.fail("is not a port", "write a number from 1 to 65535")
		return
	}
	*into = port
}

// decodeSource reads a source and checks what it can without the rest of the
// configuration.
func decodeSource(n node) *source {
	s := &source{Source: Source{MaxConnections: defaultMaxConnections}}
	before := len(n.in.load.errs)
	s.object = decode(n, sourceTable, s)
	s.require("name", "give the source a name")
	s.require("type", "write postgres, sqlite or prometheus")
	switch s.Type {
	case TypePostgres:
		s.refuse("path")
		s.refuse(scrapeFields("tls_config")...)
		s.finishPostgres()
	case TypeSQLite:
		s.refuse("host", "port", "user", "password", "password_file", "database", "sslmode")
		s.refuse(scrapeFields()...)
		s.finishSQLite()
	case TypePrometheus:
		s.refuse("data_source_name", "host", "port", "user", "password", "password_file", "database", "path", "sslmode",
			"collectors", "max_connections")
		s.selectors = nil
		s.finishPrometheus(before)
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

// refuse reports the fields that belong to another type of source.
func (s *source) refuse(fields ...string) {
	for _, f := range fields {
		if s.has(f) {
			s.at(f).fail("has no meaning for type "+string(s.Type), "delete it, or correct the type")
		}
	}
}

func (s *source) finishSQLite() {
	if s.has("data_source_name") {
		s.exclusive("data_source_name", "path")
		if s.Instance == "" {
			s.Instance, _, _ = strings.Cut(strings.TrimPrefix(s.DSN.Reveal(), "file:"), "?")
		}
		return
	}
	if !s.require("path", "write the name of the database file") || s.file == "" {
		return
	}
	if s.file == ":memory:" {
		s.at("path").fail("a database in memory belongs to the process that made it", "write the name of a database file")
	}
	s.Path = s.file
	if !filepath.IsAbs(s.Path) {
		s.Path = filepath.Join(s.in.dir, s.Path)
	}
	// The instance is the name as it is written, so that it does not change
	// with the folder the agent is started in.
	if s.Instance == "" {
		s.Instance = s.file
	}
}

func (s *source) finishPostgres() {
	if s.has("tls_config") {
		s.tls = decode(s.at("tls_config"), sourceTLSTable, &s.TLS)
	}
	s.exclusive("password", "password_file")
	if s.has("data_source_name") {
		for _, f := range []string{"host", "port", "user", "database", "sslmode", "tls_config"} {
			if s.has(f) {
				s.at(f).fail("stands beside data_source_name, which holds it already", "keep one of the two")
			}
		}
		if !s.DSN.IsSet() {
			return
		}
		host, port, err := postgresAddress(s.DSN.Reveal())
		if err != nil {
			s.at("data_source_name").fail(err.Error(), "write postgres://user@host:5432/database or host=... user=... dbname=..., or the fields host, user and database")
			return
		}
		if s.Instance == "" {
			s.Instance = net.JoinHostPort(host, port)
		}
		return
	}
	s.require("user", "name the role to log in as")
	if s.Host == "" {
		s.Host = defaultPostgresHost
	}
	if s.Port == 0 {
		s.Port = defaultPostgresPort
	}
	switch {
	case strings.Contains(s.Host, "://"):
		s.at("host").fail("is a URL", "write it as data_source_name, or the host's name only")
	case strings.Count(s.Host, ":") == 1 && !strings.HasPrefix(s.Host, "/"):
		s.at("host").fail("holds a port", "write the port as port")
	}
	if s.Instance == "" {
		s.Instance = net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	}
	s.finishTLS()
}

func (s *source) finishTLS() {
	if s.tls.has("cert_file") != s.tls.has("key_file") {
		s.at("tls_config").fail("has one of cert_file and key_file", "write both, or delete it")
	}
	if s.TLS.Mode == "disable" && s.has("tls_config") {
		s.at("tls_config").fail("stands beside sslmode: disable", "keep one of the two")
	}
	switch {
	case s.TLS.Mode != "":
	case s.TLS.CAFile != "":
		s.TLS.Mode = "verify-full"
	default:
		s.TLS.Mode = "prefer"
	}
}

// finish selects the source's queries and checks them against the source.
func (s *source) finish(g Global, d *document) {
	s.finishClocks(g)
	for _, selector := range s.selectors {
		s.selectCollectors(selector, d)
	}
	for _, c := range s.collectors {
		s.Queries = append(s.Queries, c.resolve()...)
	}
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
