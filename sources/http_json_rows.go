package sources

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"

	"sql2metrics/config"
)

// jsonTable makes rows of one document.
type jsonTable struct {
	rows    string // path
	columns []jsonColumn
	keyed   bool // a column is the name under which a row stands

	row   Row
	turn  int    // of how many rows there were
	texts []byte // what had escapes in this row
	name  []byte // a name that had
}

// jsonColumn is one column of a [jsonTable].
type jsonColumn struct {
	name, path string
	// If the path begins with the name of a member, that is member, and rest
	// leads on from there: the members of a row are gone through once for all
	// columns.
	member, rest string
	passed       int // the turn in which the member was there last
	seen         int // the same of the cell; 0: never
}

// newJSONTable returns the table that j describes. Without one, every member of
// the rows is a column, or the row itself if it has none.
func newJSONTable(j *config.JSON) *jsonTable {
	t := &jsonTable{}
	if j == nil {
		return t
	}
	t.rows = j.Rows
	for _, c := range j.Columns {
		column := jsonColumn{name: c.Name, path: c.Path}
		column.member, column.rest = firstStep(c.Path)
		t.keyed = t.keyed || c.Path == config.JSONKey
		t.columns = append(t.columns, column)
	}
	return t
}

// read hands on the rows of a document that [checkJSON] has let pass. A column
// that no row has is left out.
func (t *jsonTable) read(document string, each func(*Row) error) error {
	rows, err := t.find(strings.Trim(document, jsonSpace))
	if err != nil || rows == "null" {
		return err
	}
	if t.columns == nil {
		t.addMembers(rows)
	}
	t.row.Values = make([]Value, len(t.columns))
	for r := t.walk(rows); t.misses() && r.next(); {
		t.fill(r)
	}
	t.columns = slices.DeleteFunc(t.columns, func(c jsonColumn) bool { return c.seen == 0 })
	t.row = Row{make([]string, len(t.columns)), make([]Value, len(t.columns))}
	for i, c := range t.columns {
		t.row.Columns[i] = c.name
	}
	for r := t.walk(rows); r.next(); {
		t.fill(r)
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
func (t *jsonTable) find(document string) (string, error) {
	if t.rows == "" {
		return document, nil
	}
	found, ok := findJSON(document, t.rows)
	switch {
	case !ok:
		return "", missingRows(document, t.rows)
	case tooDeep(found) || !gjson.Valid(found):
		return "", fmt.Errorf("what the path %s of rows makes of the answer is not JSON", t.rows)
	}
	return found, nil
}

// maxMembers bounds how many columns an answer may have that nobody has named.
const maxMembers = 1000

// addMembers makes every member of every row a column.
func (t *jsonTable) addMembers(rows string) {
	spelled, known := map[string]bool{}, map[string]bool{}
	for r := t.walk(rows); r.next(); {
		if r.value[0] != '{' {
			if !known["value"] {
				known["value"] = true
				t.columns = append(t.columns, jsonColumn{name: "value", path: jsonThis})
			}
			continue
		}
		for w := walkJSON(r.value); ; {
			name, _, ok := w.next()
			if !ok || len(t.columns) == maxMembers {
				break
			}
			if spelled[name] {
				continue
			}
			spelled[name] = true
			if plain := strings.Clone(t.plain(name)); plain != "" && !known[plain] {
				known[plain] = true
				t.columns = append(t.columns, jsonColumn{name: plain, path: gjson.Escape(plain), member: plain})
			}
		}
	}
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
func (t *jsonTable) fill(r *jsonRows) {
	t.turn++
	t.texts = t.texts[:0]
	clear(t.row.Values)
	members := 0
	for i := range t.columns {
		switch c := &t.columns[i]; {
		case c.member != "" && r.value[0] == '{':
			members++
		case c.path == jsonThis:
			t.set(i, r.value)
		case c.path != config.JSONKey:
			t.setAt(i, r.value, c.path)
		case r.name != "":
			t.set(i, r.name)
		case r.only == "":
			t.row.Values[i], c.seen = IntValue(r.index), t.turn
		}
	}
	if members == 0 {
		return
	}
	for w := walkJSON(r.value); members > 0; {
		name, value, ok := w.next()
		if !ok {
			return
		}
		members -= t.fillMember(t.plain(name), value)
	}
}

// plain returns what a name in quotes says, until the next call.
func (t *jsonTable) plain(name string) string {
	inside := name[1 : len(name)-1]
	if strings.IndexByte(inside, '\\') < 0 {
		return inside
	}
	t.name = appendUnescaped(t.name[:0], inside)
	return unsafe.String(unsafe.SliceData(t.name), len(t.name))
}

// fillMember sets the columns that lead to a member or through it, and tells how
// many those are.
func (t *jsonTable) fillMember(name, value string) (columns int) {
	for i := range t.columns {
		c := &t.columns[i]
		if c.member != name || c.member == "" || c.passed == t.turn {
			continue
		}
		c.passed = t.turn
		columns++
		if c.rest == "" {
			t.set(i, value)
		} else {
			t.setAt(i, value, c.rest)
		}
	}
	return columns
}

// set sets a cell to what raw spells.
func (t *jsonTable) set(column int, raw string) {
	t.row.Values[column], t.texts = jsonCell(raw, t.texts)
	t.columns[column].seen = t.turn
}

// setAt sets a cell to what a path leads to, if it leads to something.
func (t *jsonTable) setAt(column int, value, path string) {
	if raw, ok := findJSON(value, path); ok {
		t.set(column, raw)
	}
}

// missingRows says how far a path leads, and what is there.
func missingRows(document, path string) error {
	at, reached, rest := document, "", path
	for {
		name, behind := firstStep(rest)
		step := strings.TrimSuffix(rest, "."+behind)
		found, ok := findJSON(at, step)
		if name == "" || behind == "" || !ok {
			break
		}
		at, rest = found, behind
		reached = strings.TrimPrefix(reached+"."+step, ".")
	}
	if reached == "" {
		reached = "the answer"
	}
	return fmt.Errorf("nothing is at the path %s of rows: %s is %s", path, reached, describeJSON(at))
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
