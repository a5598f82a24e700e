package sources

import (
	"bytes"
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

// infoText goes through the fields of INFO. nested is nil for a plain one.
func infoText(text []byte, each func(section, field, value []byte, nested *infoPart, row []byte) error) error {
	var section []byte
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if title, is := bytes.CutPrefix(line, []byte("# ")); is {
			section = title
			if err := each(section, nil, nil, nil, nil); err != nil {
				return err
			}
			continue
		}
		field, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		var (
			nested *infoPart
			row    []byte
		)
		for i := range infoParts {
			if name, is := infoParts[i].row(section, field); is {
				nested, row = &infoParts[i], name
			}
		}
		if err := each(section, field, value, nested, row); err != nil {
			return err
		}
	}
	return nil
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
	var f fields
	err = infoText(text, func(section, field, value []byte, nested *infoPart, _ []byte) error {
		if field != nil && nested == nil {
			f.add(string(field), TextValue(value))
		}
		return nil
	})
	if err != nil {
		return err
	}
	plain := len(f.names)
	columns := f.names
	known := make(map[string]int, 2*plain)
	for i, name := range columns {
		known[name] = i
	}
	column := func(name string) {
		if _, there := known[name]; !there {
			known[name] = len(columns)
			columns = append(columns, name)
		}
	}
	_ = infoText(text, func(section, field, value []byte, nested *infoPart, _ []byte) error {
		for _, p := range infoParts {
			if field == nil && string(section) == p.section {
				for _, name := range p.columns {
					column(name)
				}
			}
		}
		if nested != nil {
			_ = pairs(value, "=", ",", func(name, _ []byte) error { column(string(name)); return nil })
		}
		return nil
	})
	if plain > 0 {
		w.begin(columns...)
		for i, v := range f.values {
			w.setNamed(i, []byte(f.names[i]), v)
		}
		if err := w.emit(); err != nil {
			return err
		}
	}
	return infoText(text, func(_, _, value []byte, nested *infoPart, row []byte) error {
		if nested == nil {
			return nil
		}
		w.begin(columns...)
		w.setNamed(known[nested.columns[0]], []byte(nested.columns[0]), TextValue(row))
		_ = pairs(value, "=", ",", func(name, value []byte) error {
			w.setNamed(known[string(name)], name, TextValue(value))
			return nil
		})
		return w.emit()
	})
}

// pairs goes through a text of names and values.
func pairs(text []byte, between, behind string, each func(name, value []byte) error) error {
	for len(text) > 0 {
		var pair []byte
		pair, text, _ = bytes.Cut(text, []byte(behind))
		name, value, found := bytes.Cut(pair, []byte(between))
		if !found {
			continue
		}
		if err := each(name, bytes.TrimRight(value, "\r")); err != nil {
			return err
		}
	}
	return nil
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
	err := pairs(text, between, behind, func(name, value []byte) error {
		f.add(string(name), TextValue(value))
		return nil
	})
	if err != nil {
		return err
	}
	return f.emit(w)
}
