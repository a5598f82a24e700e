package sources

import (
	"bytes"
	"slices"
)

// secretSettings are those of CONFIG GET that hold passwords. They are NULL.
var secretSettings = []string{"requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"}

// fields are the names and values of one record, as they are read.
type fields struct {
	names  []string
	values []Value
}

func (f *fields) add(name string, v Value) {
	f.names = append(f.names, name)
	f.values = append(f.values, v)
}

// read reads a map, or the list of names and values that stands for one. A map
// in it lends its name to its fields: db.0 to db.0.overhead.hashtable.main. Of
// a list in it, its first value is taken: the id of a stream's first entry.
func (f *fields) read(r *reply, prefix string) error {
	n, err := r.list()
	if err != nil {
		return err
	}
	for range n / 2 {
		name, err := r.text()
		if err != nil {
			return err
		}
		look := *r
		e, err := look.next()
		switch {
		case err != nil:
			return err
		case e.kind == '%' || e.kind == '*' && bytes.HasPrefix(name, []byte("db.")):
			if err := f.read(r, prefix+string(name)+"."); err != nil {
				return err
			}
			continue
		case e.isList() && e.n > 0:
			e, err = look.next()
			if err != nil {
				return err
			}
		}
		var v Value
		if !e.isList() {
			if v, err = e.value(); err != nil {
				return err
			}
		}
		f.add(prefix+string(name), v)
		if err := r.skip(); err != nil {
			return err
		}
	}
	return nil
}

// emit hands the record on as a row with a column for each field.
func (f *fields) emit(w *redisRows) error {
	w.begin(f.names...)
	for i, name := range f.names {
		w.setNamed(i, []byte(name), f.values[i])
	}
	return w.emit()
}

// recordRow reads a map as one row with a column for each field. Those of
// hidden are NULL.
func recordRow(hidden []string) redisShape {
	return func(r *reply, _ []string, w *redisRows) error {
		var f fields
		if err := f.read(r, ""); err != nil {
			return err
		}
		for i, name := range f.names {
			if slices.Contains(hidden, name) {
				f.values[i] = Value{}
			}
		}
		if len(f.names) == 0 {
			return nil
		}
		return f.emit(w)
	}
}

// recordRows reads a list of maps, each as a row.
func recordRows(r *reply, _ []string, w *redisRows) error {
	n, err := r.list()
	if err != nil {
		return err
	}
	for range n {
		if w.row.Columns == nil {
			var f fields
			if err := f.read(r, ""); err != nil {
				return err
			}
			if err := f.emit(w); err != nil {
				return err
			}
			continue
		}
		if err := recordAgain(r, w); err != nil {
			return err
		}
	}
	return nil
}

// recordAgain reads one more map into columns that there are already, without
// a copy of their names.
func recordAgain(r *reply, w *redisRows) error {
	n, err := r.list()
	if err != nil {
		return err
	}
	w.begin()
	for i := range n / 2 {
		name, err := r.text()
		if err != nil {
			return err
		}
		look := *r
		e, err := look.next()
		if err != nil {
			return err
		}
		if !e.isList() {
			v, err := e.value()
			if err != nil {
				return err
			}
			w.setNamed(i, name, v)
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
	return w.emit()
}

// entryRows reads the entries of a stream: a row for each, of its id and its
// fields. The columns are the fields of the first.
func entryRows(r *reply, _ []string, w *redisRows) error {
	n, err := r.list()
	if err != nil {
		return err
	}
	for range n {
		var f fields
		if _, err := r.list(); err != nil {
			return err
		}
		id, err := r.value()
		if err != nil {
			return err
		}
		f.add("id", id)
		if err := f.read(r, ""); err != nil {
			return err
		}
		if err := f.emit(w); err != nil {
			return err
		}
	}
	return nil
}

// pendingRows reads the summary of XPENDING: for each consumer how many entries
// it has not acknowledged.
func pendingRows(r *reply, args []string, w *redisRows) error {
	if _, err := r.list(); err != nil {
		return err
	}
	for range 3 { // their number, the first and the last
		if err := r.skip(); err != nil {
			return err
		}
	}
	return tupleRows("consumer", "pending")(r, args, w)
}

// histogramRows reads LATENCY HISTOGRAM: for each command its buckets, with the
// upper bound in microseconds and the calls up to it, and all calls.
func histogramRows(r *reply, _ []string, w *redisRows) error {
	commands, err := r.list()
	if err != nil {
		return err
	}
	for range commands / 2 {
		command, err := r.value()
		if err != nil {
			return err
		}
		n, err := r.list()
		if err != nil {
			return err
		}
		var calls Value
		for range n / 2 {
			name, err := r.text()
			if err != nil {
				return err
			}
			if string(name) != "histogram_usec" {
				if calls, err = r.value(); err != nil {
					return err
				}
				continue
			}
			buckets, err := r.list()
			if err != nil {
				return err
			}
			for range buckets / 2 {
				w.begin("command", "calls", "usec", "count")
				w.set(0, command)
				w.set(1, calls)
				for i := 2; i < 4; i++ {
					v, err := r.value()
					if err != nil {
						return err
					}
					w.set(i, v)
				}
				if err := w.emit(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
