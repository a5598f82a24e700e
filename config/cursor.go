package config

import (
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/common/model"
)

// CursorMark is what stands in a statement for the cursor.
const CursorMark = "{{cursor}}"

type cursorFields struct {
	object
	Cursor
}

var cursorTable = table[cursorFields]{
	fields: map[string]func(node, *cursorFields){
		"column":  func(n node, c *cursorFields) { n.string(&c.Column) },
		"start":   func(n node, c *cursorFields) { n.string(&c.Start) },
		"overlap": func(n node, c *cursorFields) { n.overlap(&c.Overlap) },
		"key":     func(n node, c *cursorFields) { n.string(&c.Key) },
	},
}

// finishCursor checks the cursor of a histogram that accumulates.
func (m *metric) finishCursor() {
	if !m.require("cursor", "name the column behind which rows are new, such as cursor: {column: id}, and write WHERE id > "+CursorMark+" into the query") {
		return
	}
	c := &cursorFields{Cursor: Cursor{Start: "0"}}
	c.object = decode(m.at("cursor"), cursorTable, c)
	c.require("column", "name the column behind which rows are new")
	m.cursor = c
	m.HistogramOptions.Cursor = &c.Cursor
}

// overlap sets *into to units of a column of numbers or, from a duration, to
// seconds of a column of times.
func (n node) overlap(into *float64) {
	s, ok := n.text()
	if !ok {
		return
	}
	if units, err := parseNumber(s); err == nil {
		if units >= 0 && !math.IsInf(units, 1) {
			*into = units
			return
		}
	} else if d, err := model.ParseDuration(s); err == nil {
		*into = float64(d) / 1e9
		return
	}
	n.fail(fmt.Sprintf("%q is not an overlap", s), "write a number of the column's units, such as 1000, or a duration for a column of times, such as 5m")
}

// checkCursor reports a statement whose cursor is not what its metrics need:
// the rows it returns are those that are new.
func (q *query) checkCursor() {
	var first *metric
	for _, m := range q.metrics {
		if m.cursor != nil {
			first = m
			break
		}
	}
	marked := strings.Contains(q.SQL, CursorMark)
	switch {
	case first == nil && marked:
		q.at("query").fail(CursorMark+" stands in the query of no histogram that accumulates",
			"delete it, or make a histogram of the rows with mode: accumulate and a cursor")
	case first != nil && !marked && q.SQL != "":
		first.cursor.fail(fmt.Sprintf("the query %s has no %s and would return rows that have been counted", q.Name, CursorMark),
			fmt.Sprintf("write WHERE %s > %s into it", first.cursor.Column, CursorMark))
	}
	if first == nil {
		return
	}
	for _, m := range q.metrics {
		switch {
		case m.cursor == nil && m.Name != "":
			m.at("query_ref").fail(fmt.Sprintf("the query %s returns the rows behind a cursor alone: %s would show only what is new in each run", q.Name, m.Name),
				"give it a query of its own, or make it a histogram of mode accumulate with the same cursor")
		case m.cursor != nil && m.cursor.Cursor != first.cursor.Cursor:
			m.cursor.fail(fmt.Sprintf("differs from the cursor of the same query on line %d, and a query has one", first.cursor.line),
				"write the same one, or give the metric a query of its own")
		}
	}
}
