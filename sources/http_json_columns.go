package sources

import (
	"context"
	"fmt"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"

	"sql2metrics/config"
)

// jsonColumn is one column of a [jsonTable].
type jsonColumn struct {
	name, path string
	steps      jsonPath
	// If the path begins with the name of a member, that is member, and rest
	// leads on from there: the members of a row are gone through once for all
	// columns.
	member string
	rest   jsonPath
	seen   int // the turn in which the cell was there last; 0: never
}

// jsonMember is a member of a row to which columns lead, or through it.
type jsonMember struct {
	name    string
	columns []int
	passed  int // the turn in which it was there last
}

// newJSONColumn returns the column that c describes.
func newJSONColumn(c config.JSONColumn) (jsonColumn, error) {
	column := jsonColumn{name: c.Name, path: c.Path}
	switch c.Path {
	case "":
		return column, fmt.Errorf("column %s has no path; write %s for the row itself", c.Name, jsonThis)
	case config.JSONKey:
		return column, nil
	}
	var err error
	if column.steps, err = parseJSONPath(c.Path); err != nil {
		return column, fmt.Errorf("the path %s of column %s is refused: %w", c.Path, c.Name, err)
	}
	var rest string
	if column.member, rest = firstStep(c.Path); rest != "" {
		column.rest, err = parseJSONPath(rest)
	}
	return column, err
}

// manyMembers is above how many members a map finds one sooner than going
// through their names does.
const manyMembers = 8

// index makes the members of the columns.
func (t *jsonTable) index() {
	t.members, t.places = nil, map[string]int{}
	for i, c := range t.columns {
		if c.member == "" {
			continue
		}
		at, known := t.places[c.member]
		if !known {
			at = len(t.members)
			t.places[c.member] = at
			t.members = append(t.members, jsonMember{name: c.member})
		}
		t.members[at].columns = append(t.members[at].columns, i)
	}
}

// member returns the member of a name to which columns lead, or nil.
func (t *jsonTable) member(name string) *jsonMember {
	if len(t.members) > manyMembers {
		if at, ok := t.places[name]; ok {
			return &t.members[at]
		}
		return nil
	}
	for i := range t.members {
		if t.members[i].name == name {
			return &t.members[i]
		}
	}
	return nil
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

// maxMembers bounds how many columns an answer may have that nobody has named.
const maxMembers = 1000

// addMembers makes every member of every row a column.
func (t *jsonTable) addMembers(ctx context.Context, rows string) error {
	known := map[string]bool{}
	add := func(name, path string) error {
		switch {
		case name == "" || known[name]:
			return nil
		case len(t.columns) == maxMembers:
			return fmt.Errorf("the rows of the answer have more than %d different members; name those that are needed in columns of json", maxMembers)
		}
		name = strings.Clone(name)
		known[name] = true
		c := jsonColumn{name: name, path: path}
		if path == "" {
			c.member, c.steps = name, jsonPath{{follow: gjson.Escape(name)}}
		}
		t.columns = append(t.columns, c)
		return nil
	}
	for r := t.walk(rows); r.next(); {
		if err := t.work.pass(ctx, rowWork); err != nil {
			return err
		}
		if r.value[0] != '{' {
			if err := add("value", jsonThis); err != nil {
				return err
			}
			continue
		}
		for w := walkJSON(r.value); ; {
			name, value, ok := w.next()
			if !ok {
				break
			}
			if err := t.work.pass(ctx, len(name)+len(value)); err != nil {
				return err
			}
			if err := add(t.plain(name), ""); err != nil {
				return err
			}
		}
	}
	return nil
}
