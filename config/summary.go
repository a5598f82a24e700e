package config

import "fmt"

type summaryFields struct {
	object
	SummaryOptions
}

var summaryTable = table[summaryFields]{
	fields: map[string]func(node, *summaryFields){
		"quantile": func(n node, s *summaryFields) { n.string(&s.Quantile) },
		"value":    func(n node, s *summaryFields) { n.string(&s.Value) },
		"sum":      func(n node, s *summaryFields) { n.string(&s.Sum) },
		"count":    func(n node, s *summaryFields) { n.string(&s.Count) },
	},
}

// finishSummary checks the block summary.
func (m *metric) finishSummary() {
	if !m.require("summary", "name its columns, such as summary: {quantile: q, value: v}") {
		return
	}
	s := &summaryFields{}
	s.object = decode(m.at("summary"), summaryTable, s)
	s.require("quantile", "name the column of the quantile, from 0 to 1")
	s.require("value", "name the column of the quantile's value")
	m.summary = s
	m.SummaryOptions = &s.SummaryOptions
}

// finishStateSet checks the states, and the column that holds one.
func (m *metric) finishStateSet() {
	m.States = keys(m.states)
	m.requireItems("states", "list all the states there are, such as [primary, replica]")
	unique(m.states, "a state", func(e entry) (string, node) { return e.key, e.value })
	if m.requireItems("values", "name the column that holds the state"); len(m.values) > 1 {
		m.at("values").fail(fmt.Sprintf("names %d columns where one holds the state", len(m.values)), "make a metric of each")
	}
}
