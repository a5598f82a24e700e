package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
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
	states    []entry
	histogram *histogramFields // nil: none
	summary   *summaryFields   // nil: none
	cursor    *cursorFields    // nil: none
	json      *jsonFields      // nil: none
}

var metricTable = table[metric]{
	fields: withLayer(func(m *metric) *layer { return &m.layer }, map[string]func(node, *metric){
		"metric_name":           func(n node, m *metric) { n.metricName(&m.Name) },
		"type":                  func(n node, m *metric) { n.metricType(&m.Type) },
		"help":                  func(n node, m *metric) { m.Help, _ = n.text() },
		"unit":                  func(n node, m *metric) { n.string(&m.Unit) },
		"key_labels":            func(n node, m *metric) { m.keyLabels = n.texts() },
		"static_labels":         func(n node, m *metric) { m.static = n.entries() },
		"value_label":           func(n node, m *metric) { n.string(&m.ValueLabel) },
		"values":                func(n node, m *metric) { m.values = n.texts() },
		"value_map":             func(n node, m *metric) { n.valueMap(&m.ValueMap) },
		"static_value":          func(n node, m *metric) { m.StaticValue = new(float64); n.number(m.StaticValue) },
		"timestamp_value":       func(n node, m *metric) { n.string(&m.TimestampValue) },
		"states":                func(n node, m *metric) { m.states = n.texts() },
		"query":                 func(n node, m *metric) { n.sql(&m.sql) },
		"query_ref":             func(n node, m *metric) { n.string(&m.ref) },
		"json":                  func(n node, m *metric) { m.json = n.json() },
		"no_prepared_statement": func(n node, _ *metric) { n.bool(new(bool)) },
		// Which of these a metric may have depends on its type, which may stand below.
		"histogram": func(node, *metric) {},
		"summary":   func(node, *metric) {},
		"cursor":    func(node, *metric) {},
		"timestamp": func(node, *metric) {},
	}, cellFields),
	refused: refuse(ofQuery, map[string]refusal{
		"interval":       ofQuery,
		"requires":       ofQuery,
		"server_version": ofQuery,
		"buckets":        {"belongs to the block histogram", "write histogram: {mode: snapshot, value: column, buckets: [0.1, 1, 10]}"},
	}, runFields, clockFields),
}

// ofQuery refuses the fields of a query.
var ofQuery = refusal{"belongs to a query", "write the statement under queries with it, and refer to it with query_ref"}

// ofTypes are the fields that some types alone have.
var ofTypes = map[string][]MetricType{
	"values":          {Gauge, Counter, StateSet},
	"value_label":     {Gauge, Counter},
	"value_map":       {Gauge, Counter},
	"static_value":    {Gauge, Counter},
	"timestamp_value": {Gauge, Counter},
	"timestamp":       {Gauge, Counter},
	"histogram":       {Histogram},
	"cursor":          {Histogram},
	"summary":         {Summary},
	"states":          {StateSet},
	"unit":            {Gauge, Counter, Histogram, Summary},
	"on_null":         {Gauge, Counter, Histogram, Summary, StateSet},
}

// instead says what a type has in place of values.
var instead = map[MetricType]string{
	Histogram: "delete it; a histogram names its columns in the block histogram",
	Summary:   "delete it; a summary names its columns in the block summary",
	Info:      "delete it; an info is its labels, and has the value 1",
}

// metricType sets *into; upper case is taken as sql_exporter does.
func (n node) metricType(into *MetricType) {
	oneOf(n, into, Gauge, Counter, Histogram, Summary, StateSet, Info)
}

// decodeMetric reads a metric and checks what it can alone.
func decodeMetric(n node) *metric {
	m := &metric{}
	m.object = decode(n, metricTable, m)
	m.require("metric_name", "name the metric")
	m.require("type", "write gauge, counter, histogram, summary, stateset or info")
	m.exclusive("query", "query_ref")
	switch {
	case m.has("query_ref") && m.json != nil:
		m.json.fail("stands beside query_ref, and belongs to the query", "write it there")
	case m.has("query_ref"), m.has("query"):
	case m.json != nil:
		m.sql = defaultRequest
	default:
		m.require("query", "write a statement, or query_ref with the name of one of the collector's queries")
	}
	m.checkFields()
	m.Values = keys(m.values)
	switch m.Type {
	case Gauge, Counter:
		m.checkValues()
		m.finishTimestamp()
	case Histogram:
		m.finishHistogram()
	case Summary:
		m.finishSummary()
	case StateSet:
		m.finishStateSet()
	}
	m.checkLabels()
	m.checkName()
	return m
}

// checkFields reports the fields that belong to other types.
func (m *metric) checkFields() {
	if m.Type == "" {
		return
	}
	for _, f := range slices.Sorted(maps.Keys(ofTypes)) {
		if !m.has(f) || slices.Contains(ofTypes[f], m.Type) {
			continue
		}
		remedy := "delete it, or correct the type"
		if text, is := instead[m.Type]; is && f == "values" {
			remedy = text
		}
		m.at(f).fail(fmt.Sprintf("has no meaning for type %s", m.Type), remedy)
	}
}

// checkName warns of a name, and reports a unit, that is not what the type's
// readers expect.
func (m *metric) checkName() {
	if m.Type == Counter && m.Name != "" && !strings.HasSuffix(m.Name, "_total") {
		m.at("metric_name").warn(fmt.Sprintf("the counter %s does not end in _total, as counters do", m.Name),
			fmt.Sprintf("name it %s_total, unless dashboards depend on the name", m.Name))
	}
	if m.Unit != "" && m.Name != "" && !strings.HasSuffix(strings.TrimSuffix(m.Name, "_total"), "_"+m.Unit) {
		m.at("unit").fail(fmt.Sprintf("%s does not end in it", m.Name), fmt.Sprintf("name the metric so that it ends in _%s, or delete the unit", m.Unit))
	}
}

// checkLabels reports labels that are not legal or that a row would get twice.
func (m *metric) checkLabels() {
	m.KeyLabels = keys(m.keyLabels)
	m.StaticLabels = map[string]string{}
	first := map[string]node{}
	made := m.madeLabel()
	claim := func(name, alsoIn string, at node) {
		if !at.ownLabel(name, alsoIn) {
			return
		}
		if name == made {
			by := m.at("type")
			at.fail(fmt.Sprintf("label %q is made by the %s itself, by %s on line %d", name, m.Type, by.path, by.line), "choose another name"+alsoIn)
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
	if m.Type == StateSet && m.Name != "" {
		m.at("metric_name").ownLabel(m.Name, ": the name of a stateset is a label of it too")
	}
	for _, e := range m.valueColumns() {
		if i := slices.Index(m.KeyLabels, e.key); i >= 0 {
			key := m.keyLabels[i].value
			key.fail(fmt.Sprintf("column %q is a value too, by %s on line %d: each value would make a series of its own", e.key, e.value.path, e.value.line),
				"take it out of one of the two")
		}
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

// madeLabel returns the label that the type makes itself, or nothing.
func (m *metric) madeLabel() string {
	switch m.Type {
	case Histogram:
		return model.BucketLabel
	case Summary:
		return model.QuantileLabel
	case StateSet:
		return m.Name
	}
	return ""
}

// valueColumns returns the columns that are no labels, each with its place.
func (m *metric) valueColumns() []entry {
	all := slices.Concat(m.values, m.named("timestamp_value"))
	if m.histogram != nil {
		all = append(all, m.histogram.columns()...)
	}
	if m.summary != nil {
		all = append(all, m.summary.named("quantile", "value", "sum", "count")...)
	}
	if m.cursor != nil {
		all = append(all, m.cursor.named("column", "key")...)
	}
	return all
}

// columns returns the columns that the metric reads, each with its place.
func (m *metric) columns() []entry { return slices.Concat(m.keyLabels, m.valueColumns()) }

// checkValues reports values that make no samples, or the same ones twice.
func (m *metric) checkValues() {
	m.exclusive("static_value", "values")
	m.exclusive("static_value", "value_label")
	m.exclusive("static_value", "value_map")
	if !m.has("static_value") {
		m.requireItems("values", "name the column that holds the metric's number")
	}
	if len(m.values) > 1 && !m.has("value_label") {
		m.at("values").fail(fmt.Sprintf("%d columns make the same series", len(m.values)),
			"add value_label: the label that tells them apart by the column's name")
	}
	unique(m.values, "a value", func(e entry) (string, node) { return e.key, e.value })
}

// valueMap sets *into to the numbers that texts mean.
func (n node) valueMap(into *map[string]float64) {
	numbers := map[string]float64{}
	for _, e := range n.entries() {
		var number float64
		e.value.number(&number)
		numbers[e.key] = number
	}
	if len(numbers) == 0 && (n.isNull() || n.yaml.Kind == yaml.MappingNode) {
		n.fail("has no entries", "write a number for each text, such as {ok: 1, failed: 0}, or delete it")
	}
	*into = numbers
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
	if made := m.madeLabel(); made != "" {
		all = append(all, entry{made, m.at("type")})
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
	c.States = slices.Clone(c.States)
	c.ValueMap = maps.Clone(c.ValueMap)
	c.StaticValue = copied(c.StaticValue)
	c.SummaryOptions = copied(c.SummaryOptions)
	if c.HistogramOptions = copied(c.HistogramOptions); c.HistogramOptions != nil {
		h := c.HistogramOptions
		h.Columns, h.Bounds, h.Cursor = slices.Clone(h.Columns), slices.Clone(h.Bounds), copied(h.Cursor)
	}
	return c
}

// copied returns a pointer to a copy, or nil.
func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
