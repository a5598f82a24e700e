package sources

import (
	"bytes"
	"iter"
	"slices"
	"strings"
)

// infoPart is a section of INFO, each field of which holds fields of its own:
// db0:keys=1,expires=0. They become rows.
type infoPart struct {
	section string
	prefix  string // of the field's name; what follows it is the row's
	whole   bool   // the row has the field's whole name
	columns []string
}

// infoParts has the sections whose rows have columns even where a server has
// none of them yet. The first column is the row's name, spelled like the label
// that redis_exporter gives it.
var infoParts = []infoPart{
	{"Keyspace", "db", true, []string{"db", "keys", "expires", "avg_ttl"}},
	{"Commandstats", "cmdstat_", false, []string{"cmd", "calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"}},
	{"Errorstats", "errorstat_", false, []string{"err", "count"}},
	{"Latencystats", "latency_percentiles_usec_", false, []string{"cmd", "p50", "p99", "p99.9"}},
	{"Replication", "slave", true, []string{"slave", "ip", "port", "state", "offset", "lag"}},
	{"Sentinel", "master", true, []string{"master", "name", "status", "address", "slaves", "sentinels"}},
}

// row returns the name of the row that a field is, if it is one.
func (p infoPart) row(section, field []byte) ([]byte, bool) {
	name, found := bytes.CutPrefix(field, []byte(p.prefix))
	if string(section) != p.section || !found || len(name) == 0 {
		return nil, false
	}
	if p.whole {
		return field, strings.Trim(string(name), "0123456789") == ""
	}
	return name, true
}

// infoLine is a line of INFO.
type infoLine struct {
	section      []byte
	field, value []byte    // nil for the section's title
	part         *infoPart // whose row the field is; nil: it is a plain one
	row          []byte    // its name
}

// infoLines goes through INFO.
func infoLines(text []byte) iter.Seq[infoLine] {
	return func(yield func(infoLine) bool) {
		var section []byte
		for line := range bytes.Lines(text) {
			line = bytes.TrimRight(line, "\r\n")
			l := infoLine{section: section}
			if title, is := bytes.CutPrefix(line, []byte("# ")); is {
				section, l.section = title, title
			} else {
				var found bool
				if l.field, l.value, found = bytes.Cut(line, []byte(":")); !found {
					continue
				}
				for i := range infoParts {
					if name, is := infoParts[i].row(section, l.field); is {
						l.part, l.row = &infoParts[i], name
					}
				}
			}
			if !yield(l) {
				return
			}
		}
	}
}

// infoRows reads INFO: one row with a column for each plain field, and a row for
// each database, command, error and replica, in columns of their own. A row has
// NULL in the columns of the others, so that a metric takes the rows that have
// its column and passes over the rest.
func infoRows(r *reply, _ []string, w *redisRows) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	columns, plain := infoColumns(text)
	if plain > 0 {
		w.begin(columns...)
		at := 0
		for l := range infoLines(text) {
			if l.field != nil && l.part == nil {
				w.setNamed(at, l.field, TextValue(l.value))
				at++
			}
		}
		if err := w.emit(); err != nil {
			return err
		}
	}
	for l := range infoLines(text) {
		if l.part == nil {
			continue
		}
		w.begin(columns...)
		at := slices.Index(columns, l.part.columns[0])
		w.setNamed(at, []byte(l.part.columns[0]), TextValue(l.row))
		for name, value := range pairs(l.value, "=", ",") {
			at++
			w.setNamed(at, name, TextValue(value))
		}
		if err := w.emit(); err != nil {
			return err
		}
	}
	return nil
}

// infoColumns returns the plain fields in order, how many they are, and behind
// them the columns of the other rows: those of the sections that there are, and
// what else a row has.
func infoColumns(text []byte) (columns []string, plain int) {
	known := make(map[string]bool)
	add := func(name string) {
		if !known[name] {
			known[name] = true
			columns = append(columns, name)
		}
	}
	for l := range infoLines(text) {
		if l.field != nil && l.part == nil {
			add(string(l.field))
		}
	}
	plain = len(columns)
	for l := range infoLines(text) {
		for _, p := range infoParts {
			if l.field == nil && string(l.section) == p.section {
				for _, name := range p.columns {
					add(name)
				}
			}
		}
		if l.part != nil {
			for name := range pairs(l.value, "=", ",") {
				add(string(name))
			}
		}
	}
	return columns, plain
}

// pairs goes through a text of names and values.
func pairs(text []byte, between, behind string) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for pair := range bytes.SplitSeq(text, []byte(behind)) {
			name, value, found := bytes.Cut(pair, []byte(between))
			if found && !yield(name, bytes.TrimRight(value, "\r\n")) {
				return
			}
		}
	}
}

// fieldsRow reads a text of names and values as one row.
func fieldsRow(between, behind string) redisShape {
	return func(r *reply, _ []string, w *redisRows) error {
		text, err := r.text()
		if err != nil {
			return err
		}
		return textRow(text, between, behind, w)
	}
}

// lineRows reads a text, each line of which is a row of names and values.
func lineRows(r *reply, _ []string, w *redisRows) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		if err := textRow(line, "=", " ", w); err != nil {
			return err
		}
	}
	return nil
}

func textRow(text []byte, between, behind string, w *redisRows) error {
	var f fields
	for name, value := range pairs(text, between, behind) {
		f.add(string(name), TextValue(value))
	}
	return f.emit(w)
}
