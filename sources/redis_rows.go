package sources

import (
	"bytes"
	"strconv"
	"strings"
)

// redisRows hands on the rows of one query. Its columns are those of the first
// row; of later rows, what has another name is left out and what is not there
// is NULL.
type redisRows struct {
	each func(*Row) error
	row  Row
	// lead are the first columns and their values, which are the same for all
	// rows of a reply: the key of a pattern, the node of a cluster.
	lead   []string
	values []Value
	joined []byte // holds texts that are put together
}

// begin names the columns behind those of lead, and makes them NULL.
func (w *redisRows) begin(columns ...string) {
	if w.row.Columns == nil {
		w.row.Columns = append(append(make([]string, 0, len(w.lead)+len(columns)), w.lead...), columns...)
		w.row.Values = make([]Value, len(w.row.Columns))
	}
	clear(w.row.Values[copy(w.row.Values, w.values):])
}

// set sets the column that stands at i behind those of lead.
func (w *redisRows) set(i int, v Value) {
	if at := len(w.lead) + i; at < len(w.row.Values) {
		w.row.Values[at] = v
	}
}

// setNamed sets a column by its name, which probably stands at i.
func (w *redisRows) setNamed(i int, name []byte, v Value) {
	columns := w.row.Columns[len(w.lead):]
	if i < len(columns) && columns[i] == string(name) {
		w.set(i, v)
		return
	}
	for i, column := range columns {
		if column == string(name) {
			w.set(i, v)
			return
		}
	}
}

// emit hands the row on.
func (w *redisRows) emit() error { return w.each(&w.row) }

// redisShape reads the reply to a command and hands on its rows.
type redisShape func(r *reply, args []string, w *redisRows) error

// shape returns how the reply to a command becomes rows.
func (s redisStatement) shape() redisShape {
	args := s.args
	switch s.name() {
	case "INFO":
		return infoRows
	case "CLUSTER INFO":
		return fieldsRow(":", "\n")
	case "CLIENT INFO", "CLIENT LIST":
		return lineRows
	case "CONFIG GET":
		return recordRow(secretSettings)
	case "MEMORY STATS", "XINFO STREAM":
		return recordRow(nil)
	case "XINFO GROUPS", "XINFO CONSUMERS", "MODULE LIST":
		return recordRows
	case "HGETALL", "PUBSUB NUMSUB", "PUBSUB SHARDNUMSUB":
		return pairRows("field", "value")
	case "SMEMBERS", "SINTER", "SUNION", "SDIFF":
		return memberRows("member")
	case "PUBSUB CHANNELS", "PUBSUB SHARDCHANNELS":
		return memberRows("channel")
	case "MGET":
		return namedRows("key", "value", 1)
	case "HMGET":
		return namedRows("field", "value", 2)
	case "ZMSCORE":
		return namedRows("member", "score", 2)
	case "SMISMEMBER":
		return namedRows("member", "value", 2)
	case "TIME":
		return tupleRow("seconds", "microseconds")
	case "SLOWLOG GET":
		return tupleRows("id", "timestamp", "duration", "command", "client", "name")
	case "LATENCY LATEST":
		return tupleRows("event", "timestamp", "latency", "max")
	case "LATENCY HISTORY":
		return tupleRows("timestamp", "latency")
	case "LATENCY HISTOGRAM":
		return histogramRows
	case "XRANGE", "XREVRANGE":
		return entryRows
	case "XPENDING":
		if len(args) > 3 {
			return tupleRows("id", "consumer", "idle", "deliveries")
		}
		return pendingRows
	}
	switch last := strings.ToUpper(args[len(args)-1]); {
	case strings.EqualFold(args[0], "HRANDFIELD") && last == "WITHVALUES":
		return pairRows("field", "value")
	case strings.HasPrefix(strings.ToUpper(args[0]), "Z") && hasWord(args, "WITHSCORES"):
		return pairRows("member", "score")
	}
	return anyRows
}

func hasWord(args []string, word string) bool {
	for _, a := range args {
		if strings.EqualFold(a, word) {
			return true
		}
	}
	return false
}

// anyRows reads a reply by what it is: a value is a row of the column value; a
// list has a row (index, value) for each element; a set (member); a map (field,
// value); a list of lists a row for each, of column1, column2 and so on; a list
// of maps a row for each, its columns by name.
func anyRows(r *reply, args []string, w *redisRows) error {
	look := *r
	e, err := look.next()
	if err != nil {
		return err
	}
	switch e.kind {
	case '~':
		return memberRows("member")(r, args, w)
	case '%':
		return pairRows("field", "value")(r, args, w)
	case '*':
	default:
		v, err := r.value()
		if err != nil {
			return err
		}
		w.begin("value")
		w.set(0, v)
		return w.emit()
	}
	if e.n == 0 {
		return nil
	}
	switch e, err = look.next(); {
	case err == nil && e.kind == '%':
		return recordRows(r, args, w)
	case err == nil && e.kind == '*':
		columns := make([]string, e.n)
		for i := range columns {
			columns[i] = "column" + strconv.Itoa(i+1)
		}
		return tupleRows(columns...)(r, args, w)
	}
	n, err := r.list()
	if err != nil {
		return err
	}
	for i := range n {
		v, err := r.value()
		if err != nil {
			return err
		}
		w.begin("index", "value")
		w.set(0, IntValue(int64(i)))
		w.set(1, v)
		if err := w.emit(); err != nil {
			return err
		}
	}
	return nil
}

// memberRows reads a set, or a list that stands for one.
func memberRows(column string) redisShape {
	return func(r *reply, _ []string, w *redisRows) error {
		n, err := r.list()
		if err != nil {
			return err
		}
		for range n {
			v, err := r.value()
			if err != nil {
				return err
			}
			w.begin(column)
			w.set(0, v)
			if err := w.emit(); err != nil {
				return err
			}
		}
		return nil
	}
}

// pairRows reads a map, or the list of names and values, or of pairs, that
// stands for one.
func pairRows(name, value string) redisShape {
	return func(r *reply, args []string, w *redisRows) error {
		look := *r
		n, err := look.list()
		if err != nil {
			return err
		}
		if e, err := look.next(); n > 0 && err == nil && e.kind == '*' {
			return tupleRows(name, value)(r, args, w)
		}
		if _, err := r.list(); err != nil {
			return err
		}
		for range n / 2 {
			first, err := r.value()
			if err != nil {
				return err
			}
			second, err := r.value()
			if err != nil {
				return err
			}
			w.begin(name, value)
			w.set(0, first)
			w.set(1, second)
			if err := w.emit(); err != nil {
				return err
			}
		}
		return nil
	}
}

// namedRows reads a list of values, each of which belongs to one of the
// arguments.
func namedRows(name, value string, firstArg int) redisShape {
	return func(r *reply, args []string, w *redisRows) error {
		n, err := r.list()
		if err != nil {
			return err
		}
		for i := range n {
			v, err := r.value()
			if err != nil {
				return err
			}
			w.begin(name, value)
			if at := firstArg + i; at < len(args) {
				w.set(0, TextValue([]byte(args[at])))
			}
			w.set(1, v)
			if err := w.emit(); err != nil {
				return err
			}
		}
		return nil
	}
}

// tupleRow reads a list that is one row.
func tupleRow(columns ...string) redisShape {
	return func(r *reply, _ []string, w *redisRows) error {
		n, err := r.list()
		if err != nil {
			return err
		}
		w.begin(columns...)
		w.joined = w.joined[:0]
		for i := range n {
			v, err := w.cell(r)
			if err != nil {
				return err
			}
			w.set(i, v)
		}
		return w.emit()
	}
}

// tupleRows reads a list of lists, each of which is a row.
func tupleRows(columns ...string) redisShape {
	row := tupleRow(columns...)
	return func(r *reply, args []string, w *redisRows) error {
		n, err := r.list()
		if err != nil {
			return err
		}
		for range n {
			if err := row(r, args, w); err != nil {
				return err
			}
		}
		return nil
	}
}

// cell reads a value. A list of texts, such as the arguments of a command that
// was slow, becomes one text with blanks between.
func (w *redisRows) cell(r *reply) (Value, error) {
	e, err := r.next()
	if err != nil || !e.isList() {
		if err != nil {
			return Value{}, err
		}
		return e.value()
	}
	from := len(w.joined)
	for i := range e.n {
		text, err := r.text()
		if err != nil {
			return Value{}, err
		}
		if i > 0 {
			w.joined = append(w.joined, ' ')
		}
		w.joined = append(w.joined, text...)
	}
	return TextValue(bytes.Clone(w.joined[from:])), nil
}
