package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// metric is one metric of a collector.
type metric struct {
	object
	layer
	Metric
	sql       string // query
	ref       string // query_ref
	keyLabels []entry
	static    []entry
	values    []entry
}

var metricTable = table[metric]{
	fields: withLayer(func(m *metric) *layer { return &m.layer }, map[string]func(node, *metric){
		"metric_name":           func(n node, m *metric) { n.metricName(&m.Name) },
		"type":                  func(n node, m *metric) { n.metricType(&m.Type) },
		"help":                  func(n node, m *metric) { m.Help, _ = n.text() },
		"key_labels":            func(n node, m *metric) { m.keyLabels = n.texts() },
		"static_labels":         func(n node, m *metric) { m.static = n.entries() },
		"value_label":           func(n node, m *metric) { n.string(&m.ValueLabel) },
		"values":                func(n node, m *metric) { m.values = n.texts() },
		"query":                 func(n node, m *metric) { n.sql(&m.sql) },
		"query_ref":             func(n node, m *metric) { n.string(&m.ref) },
		"no_prepared_statement": func(n node, _ *metric) { n.bool(new(bool)) },
	}, cellFields),
	refused: refuse(ofQuery, map[string]refusal{
		"interval":        ofQuery,
		"static_value":    {"is not supported by this version", "write the value as a column of the query, such as SELECT 1 AS value, and name it in values"},
		"timestamp_value": {"is not supported by this version", "delete it; samples get the time of their collection"},
		"histogram":       notYet,
		"summary":         notYet,
		"states":          notYet,
		"json":            notYet,
		"value_map":       notYet,
		"cursor":          notYet,
	}, runFields, clockFields),
}

// ofQuery refuses the fields of a query.
var ofQuery = refusal{"belongs to a query", "write the statement under queries with it, and refer to it with query_ref"}

// metricType sets *into; upper case is taken as sql_exporter does.
func (n node) metricType(into *MetricType) {
	s, ok := n.text()
	switch t := MetricType(strings.ToLower(s)); {
	case !ok:
	case t == Gauge || t == Counter:
		*into = t
	case slices.Contains([]MetricType{"histogram", "summary", "info", "stateset"}, t):
		n.fail(fmt.Sprintf("type %s is not supported by this version", t), "write gauge or counter")
	default:
		n.fail(fmt.Sprintf("%q is not a type of metric", s), "write gauge or counter")
	}
}

// decodeMetric reads a metric and checks what it can alone.
func decodeMetric(n node) *metric {
	m := &metric{}
	m.object = decode(n, metricTable, m)
	m.require("metric_name", "name the metric")
	m.require("type", "write gauge or counter")
	m.exclusive("query", "query_ref")
	if !m.has("query_ref") {
		m.require("query", "write a statement, or query_ref with the name of one of the collector's queries")
	}
	m.checkLabels()
	m.checkValues()
	return m
}

// checkLabels reports labels that are not legal or that a row would get twice.
func (m *metric) checkLabels() {
	m.KeyLabels = keys(m.keyLabels)
	m.StaticLabels = map[string]string{}
	first := map[string]node{}
	claim := func(name, alsoIn string, at node) {
		if !at.ownLabel(name, alsoIn) {
			return
		}
		if other, twice := first[name]; twice {
			at.fail(fmt.Sprintf("label %q is there already, by %s on line %d", name, other.path, other.line), "keep one of the two, or rename one")
			return
		}
		first[name] = at
	}
	for _, e := range m.keyLabels {
		claim(e.key, queryAsWell, e.value)
	}
	for _, e := range m.static {
		claim(e.key, onlyHere, e.value)
		// An empty value is no label, here as everywhere in Prometheus.
		if value, _ := e.value.text(); value != "" {
			m.StaticLabels[e.key] = value
		}
	}
	if m.ValueLabel != "" {
		claim(m.ValueLabel, onlyHere, m.at("value_label"))
	}
}

// checkValues reports values that make no samples, or the same ones twice.
func (m *metric) checkValues() {
	m.Values = keys(m.values)
	m.requireItems("values", "name the column that holds the metric's number")
	if len(m.values) > 1 && !m.has("value_label") {
		m.at("values").fail(fmt.Sprintf("%d columns make the same series", len(m.values)),
			"add value_label: the label that tells them apart by the column's name")
	}
	unique(m.values, "a value", func(e entry) (string, node) { return e.key, e.value })
}

// setPolicies fills in what the metric and the levels around it say about bad cells.
func (m *metric) setPolicies(l layer) {
	m.OnNull, m.OnDuplicate = l.onNull.get(OnNullSkip), l.onDuplicate.get(OnDuplicateFirst)
	m.LabelLimits = l.labelLimits()
}

// labelNames returns every label the metric makes, with its place.
func (m *metric) labelNames() []entry {
	all := slices.Concat(m.keyLabels, m.static)
	if m.ValueLabel != "" {
		all = append(all, entry{m.ValueLabel, m.at("value_label")})
	}
	return all
}

// identity is the same for two metrics of one query that make the same series
// from every row.
func (m *metric) identity() string {
	id := []string{m.Name, m.ValueLabel}
	id = append(id, slices.Sorted(slices.Values(m.KeyLabels))...)
	for _, name := range slices.Sorted(maps.Keys(m.StaticLabels)) {
		id = append(id, name+"="+m.StaticLabels[name])
	}
	if m.ValueLabel != "" {
		id = append(id, slices.Sorted(slices.Values(m.Values))...)
	}
	return strings.Join(id, "\x00")
}

// clone returns a copy that shares nothing with m.
func (m *metric) clone() Metric {
	c := m.Metric
	c.KeyLabels = slices.Clone(c.KeyLabels)
	c.Values = slices.Clone(c.Values)
	c.StaticLabels = maps.Clone(c.StaticLabels)
	return c
}
