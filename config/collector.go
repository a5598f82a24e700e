package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// collector is one collector, of the main file or of a file of its own.
type collector struct {
	object
	name     string
	interval time.Duration // 0: the global one
	metrics  []*metric
	queries  []*query
}

// query is one statement, of queries or of a metric that has its own.
type query struct {
	object
	name     string
	sql      string
	interval time.Duration // 0: the collector's
	timeout  time.Duration // 0: the global one
	metrics  []*metric
}

var collectorTable = table[collector]{
	fields: map[string]func(node, *collector){
		"collector_name": func(n node, c *collector) { n.string(&c.name) },
		"interval":       func(n node, c *collector) { n.anyDuration(&c.interval) },
		"min_interval":   func(n node, c *collector) { n.anyDuration(&c.interval) },
		"metrics": func(n node, c *collector) {
			for _, item := range n.list() {
				c.metrics = append(c.metrics, decodeMetric(item))
			}
		},
		"queries": func(n node, c *collector) {
			for _, item := range n.list() {
				c.queries = append(c.queries, decodeQuery(item))
			}
		},
	},
	refused: map[string]refusal{
		"schedule": notYet,
		"timezone": notYet,
	},
}

var queryTable = table[query]{
	fields: map[string]func(node, *query){
		"query_name":            func(n node, q *query) { n.string(&q.name) },
		"query":                 func(n node, q *query) { n.sql(&q.sql) },
		"interval":              func(n node, q *query) { n.duration(&q.interval) },
		"timeout":               func(n node, q *query) { n.duration(&q.timeout) },
		"no_prepared_statement": func(n node, _ *query) { n.bool(new(bool)) },
	},
	refused: map[string]refusal{
		"schedule": notYet,
		"timezone": notYet,
	},
}

// sql sets *into to a statement. Nothing in it is expanded: a dollar is SQL's.
func (n node) sql(into *string) {
	s, ok := n.text()
	switch {
	case !ok:
	case strings.TrimSpace(s) == "":
		n.fail("the query is empty", "write a statement that returns rows")
	default:
		*into = s
	}
}

// decodeCollector reads a collector and checks what it can alone. Its path in
// errors has its name, if there is one: collectors[orders].
func decodeCollector(n node) *collector {
	if name := n.peek("collector_name"); name != "" {
		n.path = "collectors[" + name + "]"
	}
	c := &collector{}
	c.object = decode(n, collectorTable, c)
	c.require("collector_name", "give the collector a name for sources to select it by")
	c.exclusive("interval", "min_interval")
	c.requireItems("metrics", "add a metric, or delete the collector")
	return c
}

// peek returns a text field of a mapping without reporting anything.
func (n node) peek(field string) string {
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		if n.yaml.Content[i].Value == field {
			return n.yaml.Content[i+1].Value
		}
	}
	return ""
}

func decodeQuery(n node) *query {
	q := &query{}
	q.object = decode(n, queryTable, q)
	q.require("query_name", "give the query a name for query_ref")
	q.require("query", "write the statement")
	return q
}

// check makes the checks that need the collector's metrics and queries
// together and joins them: afterwards every query has its metrics.
func (c *collector) check(g Global) {
	unique(c.queries, "a query", func(q *query) (string, node) { return q.name, q.at("query_name") })
	var names []string
	byName := map[string]*query{}
	for _, q := range c.queries {
		if _, twice := byName[q.name]; !twice && q.name != "" {
			byName[q.name] = q
			names = append(names, q.name)
		}
	}
	named := c.queries
	for _, m := range c.metrics {
		switch {
		case m.has("query_ref"):
			q := byName[m.ref]
			if q == nil {
				switch at := m.at("query_ref"); {
				case m.ref == "":
				case len(names) == 0:
					at.fail("the collector has no queries", "add the query under queries, or write it here as query")
				default:
					at.fail(fmt.Sprintf("no query of this collector is named %q", m.ref), suggest(m.ref, names))
				}
				continue
			}
			q.metrics = append(q.metrics, m)
		case m.has("query"):
			q := &query{object: m.object, name: freeName(m.Name, byName), sql: m.sql, metrics: []*metric{m}}
			byName[q.name] = q
			c.queries = append(c.queries, q)
		}
	}
	for _, q := range named {
		if len(q.metrics) == 0 && q.name != "" && byName[q.name] == q {
			q.at("query_name").fail(fmt.Sprintf("no metric uses the query %q", q.name), "refer to it with query_ref, or delete it")
		}
	}
	for _, q := range c.queries {
		first := map[string]*metric{}
		for _, m := range q.metrics {
			if other := first[m.identity()]; other != nil {
				m.fail(fmt.Sprintf("makes the same series as the metric on line %d", other.line), "delete one, or tell them apart by static_labels")
				continue
			}
			first[m.identity()] = m
		}
		if interval := c.intervalOf(q, g); q.timeout > interval {
			q.at("timeout").fail(fmt.Sprintf("is longer than the interval of %s", prometheusDuration(interval)),
				"make it at most as long as the interval, or the interval longer")
		}
	}
}

// freeName returns name, or name_2, name_3 and so on if it is taken.
func freeName(name string, taken map[string]*query) string {
	free := name
	for i := 2; taken[free] != nil; i++ {
		free = fmt.Sprintf("%s_%d", name, i)
	}
	return free
}

func (c *collector) intervalOf(q *query, g Global) time.Duration {
	switch {
	case q.interval > 0:
		return q.interval
	case c.interval > 0:
		return c.interval
	}
	return g.ScrapeInterval
}

// resolve returns the queries as a source runs them. Each call returns copies
// that share nothing.
func (c *collector) resolve(g Global) []Query {
	var all []Query
	for _, q := range c.queries {
		r := Query{Name: q.name, Collector: c.name, SQL: q.sql, Timeout: q.timeout, Clock: Clock{Interval: c.intervalOf(q, g), RunOnStart: true}}
		if r.Timeout == 0 {
			r.Timeout = min(g.ScrapeTimeout, r.Clock.Interval)
		}
		for _, m := range q.metrics {
			r.Metrics = append(r.Metrics, m.clone())
		}
		all = append(all, r)
	}
	return all
}

// checkTypes reports metrics that have one name and two types among the
// collectors that sources select.
func checkTypes(sources []*source) {
	first := map[string]*metric{}
	var seen []*collector
	for _, s := range sources {
		for _, c := range s.collectors {
			if slices.Contains(seen, c) {
				continue
			}
			seen = append(seen, c)
			for _, m := range c.metrics {
				other := first[m.Name]
				switch {
				case m.Name == "" || m.Type == "":
				case other == nil:
					first[m.Name] = m
				case other.Type != m.Type:
					m.at("type").fail(
						fmt.Sprintf("%s is a %s here and a %s on %s", m.Name, m.Type, other.Type, other.at("type").place(m.at("type"))),
						"give both one type, or rename one")
				}
			}
		}
	}
}

// prometheusDuration prints d as it is written in a configuration.
func prometheusDuration(d time.Duration) string { return model.Duration(d).String() }
