package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// jsonFields is the block json of a query, or of a metric that has its own, as
// it was read.
type jsonFields struct {
	object
	rows    string
	columns []jsonColumn
}

type jsonColumn struct {
	JSONColumn
	at node
}

var jsonTable = table[jsonFields]{
	fields: map[string]func(node, *jsonFields){
		"rows": func(n node, j *jsonFields) { n.string(&j.rows) },
		"columns": func(n node, j *jsonFields) {
			for _, e := range n.entries() {
				c := jsonColumn{JSONColumn{Name: e.key}, e.value}
				e.value.string(&c.Path)
				j.columns = append(j.columns, c)
			}
		},
	},
}

func (n node) json() *jsonFields {
	j := &jsonFields{}
	j.object = decode(n, jsonTable, j)
	return j
}

// defaultRequest is what a query with json asks for that says nothing else: the
// URL of its source.
const defaultRequest = "GET"

// finishJSON gives the query every column that its metrics read. One that is
// written and read by none is an error and no warning: it is a name that is
// spelled differently there, where it would be looked for in vain.
func (q *query) finishJSON() {
	if q.json == nil {
		return
	}
	paths := map[string]string{}
	complete := len(q.metrics) > 0
	for _, m := range q.metrics {
		complete = complete && m.Type != ""
		for _, column := range m.columns() {
			paths[column.key] = gjson.Escape(column.key)
		}
	}
	read := slices.Sorted(maps.Keys(paths))
	for _, c := range q.json.columns {
		if slices.Contains(read, c.Name) {
			paths[c.Name] = c.Path
		} else if complete {
			c.at.fail(fmt.Sprintf("no metric of the query %s reads the column %q", q.Name, c.Name), readInstead(read))
		}
	}
	q.JSON = &JSON{Rows: q.json.rows}
	for _, name := range read {
		q.JSON.Columns = append(q.JSON.Columns, JSONColumn{name, paths[name]})
	}
}

// readInstead is the remedy for a column that is not among those that are read.
func readInstead(read []string) string {
	if len(read) == 0 {
		return "delete it, or name it in the metric, which reads no column"
	}
	return "delete it, or correct its name; columns that are read are " + strings.Join(read, ", ")
}

// clone returns a copy that shares nothing with j.
func (j *JSON) clone() *JSON {
	c := copied(j)
	if c != nil {
		c.Columns = slices.Clone(c.Columns)
	}
	return c
}
