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
	layer
	name    string
	metrics []*metric
	queries []*query
}

// query is one statement, of queries or of a metric that has its own.
type query struct {
	object
	layer
	Query               // as the sources run it, but for its metrics
	json    *jsonFields // nil: none
	metrics []*metric
}

var collectorTable = table[collector]{
	fields: withLayer(func(c *collector) *layer { return &c.layer }, map[string]func(node, *collector){
		"collector_name": func(n node, c *collector) { n.string(&c.name) },
		"interval":       func(n node, c *collector) { n.collectorInterval(c) },
		"min_interval":   func(n node, c *collector) { n.collectorInterval(c) },
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
	}, runFields, clockFields, cellFields),
}

// collectorInterval sets the interval of a collector. Zero is sql_exporter's
// word for the global one.
func (n node) collectorInterval(c *collector) {
	read(n, &c.interval, node.durationOrZero)
	if c.interval.value == 0 {
		c.interval = written[time.Duration]{}
	}
}

var queryTable = table[query]{
	fields: withLayer(func(q *query) *layer { return &q.layer }, map[string]func(node, *query){
		"query_name":            func(n node, q *query) { n.string(&q.Name) },
		"query":                 func(n node, q *query) { n.sql(&q.SQL) },
		"json":                  func(n node, q *query) { q.json = n.json() },
		"interval":              func(n node, q *query) { read(n, &q.interval, node.duration) },
		"requires":              func(n node, q *query) { decode(n, requiresTable, &q.Requires) },
		"server_version":        func(n node, q *query) { n.versionRange(&q.Requires.Version) },
		"no_prepared_statement": func(n node, _ *query) { n.bool(new(bool)) },
	}, runFields, clockFields),
	refused: refuse(refusal{"belongs to a metric", "write it there, or in the collector for all its metrics"}, nil, cellFields),
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
	c.exclusive("interval", "min_interval", "schedule")
	c.exclusive("align", "schedule")
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
	if q.json != nil && !q.has("query") {
		q.SQL = defaultRequest
	} else {
		q.require("query", "write the statement")
	}
	q.exclusive("interval", "schedule")
	q.exclusive("align", "schedule")
	return q
}

// check makes the checks that need the collector's metrics and queries
// together and joins them: afterwards every query has its clock and its
// metrics, and every metric its policies.
func (c *collector) check(g global) {
	unique(c.queries, "a query", func(q *query) (string, node) { return q.Name, q.at("query_name") })
	c.join()
	around, scheduled := c.layer.over(g.layer), false
	for _, q := range c.queries {
		l := q.layer.over(around)
		q.Clock, q.Timeout = l.clock(q.Name, g.Global)
		q.Policies = l.policies()
		if q.layer.timezone.is() {
			q.layer.timezone.at.withSchedule(l.schedule.is())
		}
		scheduled = scheduled || l.schedule.is()
		q.finishJSON()
		q.checkSeries()
		q.checkCursor()
	}
	if c.layer.timezone.is() {
		c.layer.timezone.at.withSchedule(scheduled)
	}
	for _, m := range c.metrics {
		m.setPolicies(m.layer.over(around))
	}
}

// withSchedule reports a time zone that nothing is read in.
func (n node) withSchedule(scheduled bool) {
	if !scheduled {
		n.fail("stands without a schedule", "delete it, or add the schedule")
	}
}

// join gives each query its metrics and makes a query of each metric's own
// statement. Of two queries with one name the first is meant.
func (c *collector) join() {
	var names []string
	byName, named := map[string]*query{}, c.queries
	for _, q := range named {
		if _, twice := byName[q.Name]; !twice && q.Name != "" {
			byName[q.Name] = q
			names = append(names, q.Name)
		}
	}
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
		case m.has("query"), m.json != nil:
			q := &query{object: m.object, Query: Query{Name: freeName(m.Name, byName), SQL: m.sql}, json: m.json, metrics: []*metric{m}}
			byName[q.Name] = q
			c.queries = append(c.queries, q)
		}
	}
	for _, q := range named {
		if len(q.metrics) == 0 && q.Name != "" && byName[q.Name] == q {
			q.at("query_name").fail(fmt.Sprintf("no metric uses the query %q", q.Name), "refer to it with query_ref, or delete it")
		}
	}
}

// checkSeries reports metrics of a query that make the same series from each row.
func (q *query) checkSeries() {
	first := map[string]*metric{}
	for _, m := range q.metrics {
		if other := first[m.identity()]; other != nil {
			m.fail(fmt.Sprintf("makes the same series as the metric on line %d", other.line), "delete one, or tell them apart by static_labels")
			continue
		}
		first[m.identity()] = m
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

// resolve returns the queries as a source runs them. Each call returns copies
// that share nothing that can be changed.
func (c *collector) resolve() []Query {
	var all []Query
	for _, q := range c.queries {
		r := q.Query
		r.Collector = c.name
		r.JSON = r.JSON.clone()
		r.Requires.Extensions = slices.Clone(r.Requires.Extensions)
		r.Requires.Version.Bounds = slices.Clone(r.Requires.Version.Bounds)
		for _, m := range q.metrics {
			r.Metrics = append(r.Metrics, m.clone())
		}
		all = append(all, r)
	}
	return all
}

// prometheusDuration prints d as it is written in a configuration.
func prometheusDuration(d time.Duration) string { return model.Duration(d).String() }
