package sources

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sql2metrics/config"
)

// lookups is a context that ends when it was asked a number of times.
type lookups struct {
	context.Context
	asked, most int
}

func (c *lookups) Err() error {
	if c.asked++; c.asked > c.most {
		return context.Canceled
	}
	return nil
}

// Whatever is done for an answer ends soon after its context.
func TestJSONEndsWithItsContext(t *testing.T) {
	const size = 512 << 10
	many := func(element string) string { return strings.Repeat(element+",", size/(len(element)+1)) + element }
	members := "{" + many(`"a":1`) + "}"
	for name, test := range map[string]struct {
		document string
		json     *config.JSON
		parts    int // of the answer's size that are gone through at least
	}{
		"rows":                  {"[" + many(`{"a":1}`) + "]", jsonPaths("", "a", "a"), 1},
		"rows without a column": {"[" + many(`{"a":1}`) + "]", jsonPaths("", "a", "a", "b", "b", "c", "c.d"), 2},
		"rows without text":     {"[" + many(`1`) + "]", jsonPaths("", "v", "@this"), 50},
		"one row":               {members, jsonPaths("", "b", "b"), 1},
		"columns with paths":    {"[[" + many(`[1]`) + "]]", jsonPaths("", "a", "0", "b", "#", "c", "#(0==1)#"), 0},
		"rows that are members": {members, jsonPaths("", "k", "@key", "v", "@this"), 1},
		"rows nobody described": {"[" + many(`{"a":1}`) + "]", nil, 2},
		"row nobody described":  {members, nil, 1},
		"a path that is missed": {`{"a":{"b":` + members + "}}", jsonPaths("a.b.c"), 0},
		"elements":              {"[" + many(`1`) + "]", jsonPaths("#|x"), 10},
		"what is in elements":   {"[" + many(`[1]`) + "]", jsonPaths("#.0|x"), 5},
		"elements that fit":     {"[" + many(`[1]`) + "]", jsonPaths("#(0==1)#|x"), 5},
		"reverse":               {"[" + many(`[1]`) + "]", jsonPaths("@reverse|9999999"), 1},
		"keys":                  {members, jsonPaths("@keys|9999999"), 1},
		"flatten":               {"[" + many(`[1]`) + "]", jsonPaths("@flatten|9999999"), 1},
		"group":                 {`{"a":[` + many(`1`) + `],"b":[1]}`, jsonPaths("@group|9999999"), 1},
		"groups":                {"{" + many(`"a":[]`) + "}", jsonPaths("@group|9999999"), 1},
		"multipath":             {"[" + many(`1`) + "]", jsonPaths("[0,1,2,3]|#(x)"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			read := func(most int) (looked, rows int, err error) {
				ctx := &lookups{t.Context(), 0, most}
				table, err := newJSONTable(test.json, 0)
				if err != nil {
					t.Fatal(err)
				}
				err = table.read(ctx, test.document, func(*Row) error { rows++; return nil })
				return ctx.asked, rows, err
			}
			all, _, err := read(1 << 40)
			if errors.Is(err, context.Canceled) || all == 0 || all < test.parts*size/lookEvery/2 {
				t.Fatalf("asked %d times, %v", all, err)
			}
			for _, most := range []int{0, all / 2, all - 1} {
				looked, rows, err := read(most)
				if !errors.Is(err, context.Canceled) || looked > most+1 || rows > looked*lookEvery/rowWork {
					t.Errorf("ended at %d of %d: asked %d times, %d rows, %v", most, all, looked, rows, err)
				}
			}
		})
	}
}

// What takes the square of an answer's size would not end here.
func TestJSONPathsTakeNoSquareOfTime(t *testing.T) {
	const size = 1 << 20
	long := strings.Repeat("a", size)
	unnamed := make([]string, 0, maxMembers)
	for n := range maxMembers {
		unnamed = append(unnamed, fmt.Sprintf(`"c%d":1`, n))
	}
	for name, test := range map[string]struct {
		document string
		json     *config.JSON
	}{
		"stars in a name":    {`{"` + long + `":1}`, jsonPaths("", "v", "*a*b", "w", "*aab*", "x", "?*a?b*")},
		"stars in a pattern": {`[{"k":"` + long + `"}]`, jsonPaths(`#(k%"*a?b*")#`)},
		"stars in names":     {`{"` + strings.Repeat(`aaaaaaaaaaaaaaaa":{"`, 900) + `b":1` + strings.Repeat("}", 901), jsonPaths("", "v", "*a*.*a*.*a*.*a*.x")},
		"nested queries":     {strings.Repeat("[", 999) + strings.Repeat("1,", size/2) + "1" + strings.Repeat("]", 999), jsonPaths("#(#(#(#(#(#(0==1))))))")},
		"arrays of arrays":   {strings.Repeat("[", 999) + strings.Repeat("1,", size/2) + "1" + strings.Repeat("]", 999), jsonPaths("#.#.#.#.#.#.0")},
		"groups that end":    {"{" + strings.Repeat(`"a":[],`, size/16) + `"b":[` + strings.Repeat("1,", size/4) + "1]}", jsonPaths("@group")},
		"unnamed columns":    {"[{" + strings.Join(unnamed, ",") + "},{" + strings.Repeat(`"c999":1,`, size/9) + `"c0":2}]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := readJSON(test.document, test.json, func(*Row) error { return nil }); err != nil && !strings.Contains(err.Error(), "nothing is at the path") {
				t.Error(err)
			}
		})
	}
}

// What paths make of an answer stays below the limit.
func TestJSONMadeIsBounded(t *testing.T) {
	const limit = 1 << 20
	ones := "[" + strings.Repeat("1,", limit/8) + "1]"
	for name, test := range map[string]struct {
		document, path string
		fits           bool
	}{
		"reverse":             {ones, "@reverse", true},
		"reversed often":      {ones, "@reverse|@reverse|@reverse|@reverse|@reverse", false},
		"multipath":           {ones, "[@this,@this]|0", true},
		"large multipath":     {ones, "[@this,@this,@this,@this,@this]|0", false},
		"multipaths of those": {ones, "[@this,@this]|[@this,@this]|[@this,@this]|0", false},
		"elements":            {ones, "#.@this|#(>0)#|0", true},
		"elements made often": {ones, "#.@this|#.@this|#.@this|#.@this|#.@this", false},
		"parts of elements":   {ones, "#.[@this,@this]|#", false},
		"flatten":             {"[" + ones + "]", "@flatten", true},
		"values":              {`{"a":` + ones + "}", "@values|@values|@values|@values|@values", true},
		"long keys":           {`{"` + strings.Repeat("k", limit/4) + `":[1,2,3,4,5]}`, "@group", false},
		"rows of a group":     {`{"key":` + ones + "}", "@group|0", false},
		"groups of nothing":   {"{" + strings.Repeat(`"a":[],`, limit/100) + `"a":[]}`, "@group", false},
	} {
		t.Run(name, func(t *testing.T) {
			for document, j := range map[string]*config.JSON{
				test.document:             jsonPaths(test.path, "v", "@this"),
				"[" + test.document + "]": jsonPaths("", "v", test.path),
			} {
				table, err := newJSONTable(j, limit)
				if err != nil {
					t.Fatal(err)
				}
				err = table.read(t.Context(), document, func(*Row) error { return nil })
				if test.fits != (err == nil) || err != nil && !strings.Contains(err.Error(), "over body_size_limit, 1048576 bytes") {
					t.Error(err)
				}
			}
		})
	}
}

// What is made of one row is not counted for the next.
func TestJSONMadeIsOfOneRow(t *testing.T) {
	table, err := newJSONTable(jsonPaths("", "v", "a.@reverse"), 100)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	document := "[" + strings.Repeat(`{"a":[1,2,3]},`, 1000) + `{}]`
	if err := table.read(t.Context(), document, func(*Row) error { rows++; return nil }); err != nil || rows != 1001 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

func TestJSONUnnamedColumns(t *testing.T) {
	document := func(members int) string {
		var text []string
		for n := range members {
			text = append(text, fmt.Sprintf(`{"c%d":%d}`, n, n))
		}
		return "[" + strings.Join(text, ",") + "]"
	}
	columns := 0
	if err := readJSON(document(maxMembers), nil, func(r *Row) error { columns = len(r.Columns); return nil }); err != nil || columns != maxMembers {
		t.Errorf("%d columns, %v", columns, err)
	}
	err := readJSON(document(maxMembers+1), nil, func(*Row) error { return errors.New("there is a row") })
	if err == nil || !strings.Contains(err.Error(), "have more than 1000 different members; name those that are needed") {
		t.Error(err)
	}
}
