package sources

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sql2metrics/config"
)

// jsonTable makes rows of one document.
type jsonTable struct {
	rows    jsonPath
	path    string // that of rows
	columns []jsonColumn
	members []jsonMember
	places  map[string]int // of members by name, where they are many
	keyed   bool           // a column is the name under which a row stands

	work  jsonWork
	row   Row
	turn  int    // of how many rows there were
	texts []byte // what had escapes in this row
	name  []byte // a name that had
}

// newJSONTable returns the table that j describes. Without one, every member of
// the rows is a column, or the row itself if it has none. What paths make of an
// answer, or of one row, may be limit bytes; 0: any number.
func newJSONTable(j *config.JSON, limit int64) (*jsonTable, error) {
	t := &jsonTable{work: jsonWork{limit: limit}}
	if j == nil {
		return t, nil
	}
	var err error
	t.path = j.Rows
	if t.rows, err = parseJSONPath(j.Rows); err != nil {
		return nil, fmt.Errorf("the path %s of rows is refused: %w", j.Rows, err)
	}
	for _, c := range j.Columns {
		column, err := newJSONColumn(c)
		if err != nil {
			return nil, err
		}
		t.keyed = t.keyed || c.Path == config.JSONKey
		t.columns = append(t.columns, column)
	}
	return t, nil
}

// read hands on the rows of a document that [checkJSON] has let pass. A column
// that no row has is left out. It ends soon after ctx, with the cause of that.
func (t *jsonTable) read(ctx context.Context, document string, each func(*Row) error) error {
	rows, err := t.find(ctx, strings.Trim(document, jsonSpace))
	if err != nil || rows == "null" {
		return err
	}
	if t.columns == nil {
		if err := t.addMembers(ctx, rows); err != nil {
			return err
		}
	}
	t.index()
	t.row.Values = make([]Value, len(t.columns))
	for r := t.walk(rows); t.misses() && r.next(); {
		if err := t.fill(ctx, r); err != nil {
			return err
		}
	}
	t.columns = slices.DeleteFunc(t.columns, func(c jsonColumn) bool { return c.seen == 0 })
	t.index()
	t.row = Row{make([]string, len(t.columns)), make([]Value, len(t.columns))}
	for i, c := range t.columns {
		t.row.Columns[i] = c.name
	}
	for r := t.walk(rows); r.next(); {
		if err := t.fill(ctx, r); err != nil {
			return err
		}
		if err := each(&t.row); err != nil {
			return err
		}
	}
	return nil
}

// misses tells whether there is a column that no row had so far.
func (t *jsonTable) misses() bool {
	return slices.ContainsFunc(t.columns, func(c jsonColumn) bool { return c.seen == 0 })
}

// find returns what is at the path of the rows.
func (t *jsonTable) find(ctx context.Context, document string) (string, error) {
	found, err := t.rows.find(ctx, &t.work, document)
	switch {
	case err != nil:
		return "", fmt.Errorf("follow the path %s of rows: %w", t.path, err)
	case found == "":
		return "", t.missing(ctx, document)
	case tooDeep(found):
		return "", fmt.Errorf("what the path %s of rows makes of the answer nests more than %d deep", t.path, maxJSONDepth)
	}
	return found, nil
}

// walk begins before the first row.
func (t *jsonTable) walk(rows string) *jsonRows {
	if rows[0] == '[' || rows[0] == '{' && t.keyed {
		return &jsonRows{walk: walkJSON(rows), index: -1}
	}
	return &jsonRows{only: rows, index: -1}
}

// jsonRows are the rows of a document, one after the other.
type jsonRows struct {
	walk jsonWalk
	only string // the one row, where there is no walk

	index int64
	name  string // with its quotes, if the row is a member
	value string
}

// next goes to the next row, if there is one.
func (r *jsonRows) next() (ok bool) {
	r.index++
	if r.only != "" {
		r.value = r.only
		return r.index == 0
	}
	r.name, r.value, ok = r.walk.next()
	return ok
}

// fill makes t.row the row at which r is. Of members with one name the first
// counts.
func (t *jsonTable) fill(ctx context.Context, r *jsonRows) error {
	t.turn++
	t.texts = t.texts[:0]
	t.work.made = 0
	clear(t.row.Values)
	if err := t.work.pass(ctx, rowWork); err != nil {
		return err
	}
	object := r.value[0] == '{'
	for i := range t.columns {
		switch c := &t.columns[i]; {
		case c.member != "" && object:
		case c.path == jsonThis:
			t.set(i, r.value)
		case c.path != config.JSONKey:
			if err := t.setAt(ctx, i, r.value, c.steps); err != nil {
				return err
			}
		case r.name != "":
			t.set(i, r.name)
		case r.only == "":
			t.row.Values[i], c.seen = IntValue(r.index), t.turn
		}
	}
	if !object {
		return nil
	}
	left := len(t.members)
	for w := walkJSON(r.value); left > 0; {
		name, value, ok := w.next()
		if !ok {
			break
		}
		if err := t.work.pass(ctx, len(name)+len(value)); err != nil {
			return err
		}
		m := t.member(t.plain(name))
		if m == nil || m.passed == t.turn {
			continue
		}
		m.passed = t.turn
		left--
		if err := t.fillMember(ctx, m, value); err != nil {
			return err
		}
	}
	return nil
}

// fillMember sets the columns that lead to a member or through it.
func (t *jsonTable) fillMember(ctx context.Context, m *jsonMember, value string) error {
	for _, i := range m.columns {
		if t.columns[i].rest == nil {
			t.set(i, value)
		} else if err := t.setAt(ctx, i, value, t.columns[i].rest); err != nil {
			return err
		}
	}
	return nil
}

// set sets a cell to what raw spells.
func (t *jsonTable) set(column int, raw string) {
	t.row.Values[column], t.texts = jsonCell(raw, t.texts)
	t.columns[column].seen = t.turn
}

// setAt sets a cell to what a path leads to, if it leads to something.
func (t *jsonTable) setAt(ctx context.Context, column int, value string, path jsonPath) error {
	raw, err := path.find(ctx, &t.work, value)
	switch {
	case err != nil:
		return fmt.Errorf("follow the path %s of column %s: %w", t.columns[column].path, t.columns[column].name, err)
	case raw != "":
		t.set(column, raw)
	}
	return nil
}

// missing says how far the path of the rows leads, and what is there.
func (t *jsonTable) missing(ctx context.Context, document string) error {
	at, reached := document, "the answer"
	for end := range t.path {
		if t.path[end] != '.' && t.path[end] != '|' {
			continue
		}
		// A part that ends inside of a bracket or an escape is no path.
		steps, err := parseJSONPath(t.path[:end])
		if err != nil {
			continue
		}
		found, err := steps.find(ctx, &t.work, document)
		if err != nil {
			return err
		}
		if found == "" {
			break
		}
		at, reached = found, t.path[:end]
	}
	return fmt.Errorf("nothing is at the path %s of rows: %s is %s", t.path, reached, describeJSON(at))
}

// maxNamed is how many members an error names.
const maxNamed = 10

// describeJSON says what a value is, for an error.
func describeJSON(value string) string {
	switch value[0] {
	case '{', '[':
	case '"':
		return "a string"
	case 't', 'f':
		return "a bool"
	case 'n':
		return "null"
	default:
		return "a number"
	}
	var names []string
	count := 0
	for w := walkJSON(value); ; count++ {
		name, _, ok := w.next()
		if !ok {
			break
		}
		if name != "" && count < maxNamed {
			names = append(names, excerpt([]byte(name)))
		}
	}
	switch {
	case value[0] == '[':
		return "an array of " + strconv.Itoa(count) + " elements"
	case count == 0:
		return "an object without members"
	case count > maxNamed:
		names = append(names, fmt.Sprintf("and %d more", count-maxNamed))
	}
	return "an object with the members " + strings.Join(names, ", ")
}
