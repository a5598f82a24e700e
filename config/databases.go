package config

import (
	"fmt"

	"github.com/prometheus/prometheus/model/relabel"
)

// Databases has each query of a source run in every database of the server
// that is selected, with the database's name as one more label.
type Databases struct {
	// Include and Exclude are anchored; the zero value selects all, and leaves
	// out none.
	Include, Exclude relabel.Regexp
	// Label is the name of the label, and of the column that makes it, which is
	// in KeyLabels of every metric of the source; datname for postgres, schema
	// for mysql.
	Label string
}

// Holds tells whether the database name is selected.
func (d *Databases) Holds(name string) bool {
	return (d.Include.Regexp == nil || d.Include.MatchString(name)) &&
		(d.Exclude.Regexp == nil || !d.Exclude.MatchString(name))
}

// databases is the block as it was read.
type databases struct {
	object
	Databases
}

var databasesTable = table[databases]{
	fields: map[string]func(node, *databases){
		"include": func(n node, d *databases) { n.regex(&d.Include) },
		"exclude": func(n node, d *databases) { n.regex(&d.Exclude) },
		"label":   func(n node, d *databases) { n.string(&d.Label) },
	},
}

// decodeDatabases reads the block databases.
func (s *source) decodeDatabases(n node) {
	s.databases.object = decode(n, databasesTable, &s.databases)
	s.Databases = copied(&s.databases.Databases)
}

// finishDatabases gives every metric of the source the label, and reports what
// cannot have it.
func (s *source) finishDatabases() {
	d := s.Databases
	if d == nil {
		return
	}
	if d.Label == "" {
		d.Label = map[SourceType]string{TypePostgres: "datname", TypeMySQL: "schema"}[s.Type]
	}
	at := s.databases.at("label")
	if d.Label == "" || !at.ownLabel(d.Label, "") {
		return
	}
	if m, made, found := s.maker(d.Label); found {
		at.fail(fmt.Sprintf("label %q is made by the metric %s too, on %s", d.Label, m.Name, made.place(at)),
			"choose another name with label, or run what is about the whole server in a source without databases")
	}
	for _, l := range s.labels {
		if l.key == d.Label {
			at.fail(fmt.Sprintf("label %q is there already, by %s on line %d", d.Label, l.value.path, l.value.line), "rename one of the two")
		}
	}
	for _, c := range s.collectors {
		for _, m := range c.metrics {
			if m.cursor != nil {
				at.fail(fmt.Sprintf("the metric %s has one cursor for all databases, on %s", m.Name, m.at("cursor").place(at)),
					"run it in a source for each database")
			}
		}
	}
	for i := range s.Queries {
		for j := range s.Queries[i].Metrics {
			m := &s.Queries[i].Metrics[j]
			m.KeyLabels = append(m.KeyLabels, d.Label)
		}
	}
}
