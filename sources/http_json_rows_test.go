package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

// jsonPaths returns how rows are at a path, of columns given as name and path.
func jsonPaths(rows string, columns ...string) *config.JSON {
	j := &config.JSON{Rows: rows}
	for pair := range slices.Chunk(columns, 2) {
		j.Columns = append(j.Columns, config.JSONColumn{Name: pair[0], Path: pair[1]})
	}
	return j
}

// readJSON hands on the rows of a document.
func readJSON(document string, j *config.JSON, each func(*Row) error) error {
	table, err := newJSONTable(j, 0)
	if err != nil {
		return err
	}
	return table.read(context.Background(), document, each)
}

// jsonLines returns the rows of a document, the columns first; cells have a
// letter for their kind.
func jsonLines(document string, j *config.JSON) ([]string, error) {
	if err := checkJSON(document); err != nil {
		return nil, err
	}
	var lines []string
	err := readJSON(document, j, func(r *Row) error {
		if lines == nil {
			lines = append(lines, strings.Join(r.Columns, "|"))
		}
		var line []byte
		for i, v := range r.Values {
			if i > 0 {
				line = append(line, '|')
			}
			line = append(line, "nbiuftT"[v.Kind()])
			line = v.AppendText(line)
		}
		lines = append(lines, string(line))
		return nil
	})
	return lines, err
}

func TestJSONRows(t *testing.T) {
	const members = `{"b": {"v": 1}, "a": {"v": 2}, "a\u002eb": {"v": 3}}`
	for name, test := range map[string]struct {
		document string
		json     *config.JSON
		want     []string
	}{
		"array":                      {`[{"a":1,"b":"x"},{"b":"y","a":2}]`, jsonPaths("", "a", "a", "b", "b"), []string{"a|b", "i1|tx", "i2|ty"}},
		"white space":                {" [ {\n\"a\" :\t1 , \"b\": [ 1 ] } ] \r\n", jsonPaths("", "a", "a", "b", "b"), []string{"a|b", "i1|t[ 1 ]"}},
		"object":                     {`{"a":1,"b":true}`, jsonPaths("", "a", "a", "b", "b"), []string{"a|b", "i1|btrue"}},
		"object of objects":          {members, jsonPaths("", "k", "@key", "v", "v"), []string{"k|v", "tb|i1", "ta|i2", "ta.b|i3"}},
		"object of scalars":          {`{"a":1,"b":null}`, jsonPaths("", "k", "@key", "v", "@this"), []string{"k|v", "ta|i1", "tb|n"}},
		"keys of an array":           {`["x","y"]`, jsonPaths("", "k", "@key", "v", "@this"), []string{"k|v", "i0|tx", "i1|ty"}},
		"key of a scalar":            {`7`, jsonPaths("", "k", "@key", "v", "@this"), []string{"v", "i7"}},
		"scalar":                     {`{"n":7}`, jsonPaths("n", "v", "@this"), []string{"v", "i7"}},
		"scalar that looks like one": {`"x{\"v\":1}"`, jsonPaths("", "v", "v", "w", "@this"), []string{"w", `tx{"v":1}`}},
		"no elements":                {`{"data":[]}`, jsonPaths("data", "v", "v"), nil},
		"null":                       {`{"data":null}`, jsonPaths("data", "v", "v"), nil},
		"null alone":                 {`null`, jsonPaths("", "v", "v"), nil},
		"null among rows":            {`[{"v":1},null,3]`, jsonPaths("", "v", "v"), []string{"v", "i1", "n", "n"}},
		"nested rows and cells":      {`{"a":{"b.c":[{"x":{"y":[5,6]}},{"x":{"y":[]}}]}}`, jsonPaths(`a.b\.c`, "n", "x.y.#", "v", "x.y.1"), []string{"n|v", "i2|i6", "i0|n"}},
		"filter":                     {`[{"s":"up","v":1},{"s":"down","v":2},{"s":"up","v":3}]`, jsonPaths(`#(s=="up")#`, "v", "v"), []string{"v", "i1", "i3"}},
		"filter without a match":     {`[{"s":"up"}]`, jsonPaths(`#(s=="gone")#`, "v", "v"), nil},
		"columns put together":       {`{"t":[1,2],"v":[[3,4]]}`, jsonPaths(`{"t":t,"v":v.0}|@group`, "t", "t", "v", "v"), []string{"t|v", "i1|i3", "i2|i4"}},
		"elements by place":          {`[["x",1],["y",2]]`, jsonPaths("", "n", "0", "v", "1"), []string{"n|v", "tx|i1", "ty|i2"}},
		"one member for many":        {`[{"a":{"b":1,"c":2}}]`, jsonPaths("", "b", "a.b", "c", "a.c", "w", "a"), []string{"b|c|w", `i1|i2|t{"b":1,"c":2}`}},
		"first of two members":       {`[{"a":1,"a":2,"b":3}]`, jsonPaths("", "a", "a", "b", "b"), []string{"a|b", "i1|i3"}},
		"column that comes later":    {`[{"a":1},{"b":2,"a":null}]`, jsonPaths("", "a", "a", "b", "b"), []string{"a|b", "i1|n", "n|i2"}},
		"column that never comes":    {`[{"a":1},{"a":2}]`, jsonPaths("", "a", "a", "b", "b", "c", "c.d"), []string{"a", "i1", "i2"}},
		"byte order mark":            {withoutMark("\uFEFF[1]"), jsonPaths("", "v", "@this"), []string{"v", "i1"}},
		"escapes": {`[{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00|\ud800|\ud800\u0041","\u0062":"x\ty"}]`, jsonPaths("", "a", "a", "b", "b"),
			[]string{"a|b", "t\"\\/\b\f\n\r\té😀|\uFFFD|\uFFFDA|tx\ty"}},
		"invalid UTF-8": {"[\"a\xffb\"]", jsonPaths("", "v", "@this"), []string{"v", "ta\xffb"}},
		"numbers": {`[0,-0,1.5,-0.25,0.1,1.10,1e2,1e400,100000.5,1000000.5,0.0001,0.00001,-9223372036854775808,-9223372036854775809]`,
			jsonPaths("", "v", "@this"), []string{"v", "i0", "t-0", "f1.5", "f-0.25", "f0.1", "t1.10", "t1e2", "t1e400", "f100000.5", "t1000000.5", "f0.0001", "t0.00001", "i-9223372036854775808", "t-9223372036854775809"}},
		"large numbers": {`[9007199254740993,9223372036854775808,18446744073709551615,18446744073709551616,123456789012345678901234567890]`,
			jsonPaths("", "v", "@this"), []string{"v", "i9007199254740993", "u9223372036854775808", "u18446744073709551615", "t18446744073709551616", "t123456789012345678901234567890"}},
		"columns that nobody named":  {`[{"a":1,"b\n":2},{"c":3}]`, nil, []string{"a|b\n|c", "i1|i2|n", "n|n|i3"}},
		"scalars that nobody named":  {`[1,"x",null]`, nil, []string{"value", "i1", "tx", "n"}},
		"a name that is empty":       {`[{"":1,"a":2},3]`, nil, []string{"a|value", "i2|t{\"\":1,\"a\":2}", "n|i3"}},
		"an object nobody described": {`{"a":1,"b":{"c":2}}`, nil, []string{"a|b", `i1|t{"c":2}`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := jsonLines(test.document, test.json)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for name, test := range map[string]struct {
		document, rows string
		want           string
	}{
		"empty":              {" ", "", "it is empty"},
		"cut off":            {`[{"a":1},{"a"`, "", "its JSON is cut off after 13 bytes"},
		"cut off in a text":  {`["abc`, "", "its JSON is cut off after 5 bytes"},
		"two documents":      {"{}\n{}", "", "its JSON is wrong at byte 4"},
		"HTML":               {"<html>", "", "its JSON is wrong at byte 1"},
		"not a number":       {"[NaN]", "", "its JSON is wrong at byte 2"},
		"deep":               {deep, "", "nests more than 1000 deep"},
		"deep without end":   {strings.Repeat(`{"a":[`, 1<<20), "", "nests more than 1000 deep"},
		"nothing there":      {`{"data":{"items":[],"total":3}}`, "data.itemz", `nothing is at the path data.itemz of rows: data is an object with the members "items", "total"`},
		"nothing at first":   {`{"error":"x"}`, "data.items", `the answer is an object with the members "error"`},
		"through an array":   {`{"a":[1,2]}`, "a.b.c", "a is an array of 2 elements"},
		"through a number":   {`{"a":1}`, "a.b", "a is a number"},
		"through null":       {`{"a":null}`, "a.b", "a is null"},
		"through a text":     {`{"a":"x{\"b\":1}"}`, "a.b", "a is a string"},
		"no first match":     {`[{"a":1}]`, "#(a==2)", "the answer is an array of 1 elements"},
		"many members":       {`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1}`, "x", `"j", and 1 more`},
		"deep by a path":     {strings.Repeat("[", 999) + strings.Repeat("]", 999), "[@this]|[@this]", "makes of the answer nests more than 1000 deep"},
		"an empty object":    {`{}`, "x", "an object without members"},
		"escaped in a path":  {`{"a.b":{"c":1}}`, `a\.b.d`, `a\.b is an object with the members "c"`},
		"a bool in the path": {`{"a":true}`, "a.b.c", "a is a bool"},
	} {
		t.Run(name, func(t *testing.T) {
			rows := 0
			err := checkJSON(test.document)
			if err == nil {
				err = readJSON(test.document, jsonPaths(test.rows, "v", "v"), func(*Row) error { rows++; return nil })
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || rows > 0 {
				t.Errorf("%d rows, error is %v, want %s", rows, err, test.want)
			}
		})
	}
}

// Rows cost nothing once the first has been made, whatever is in them.
func TestJSONRowsAllocateNothing(t *testing.T) {
	document := func(rows int) string {
		return "[" + strings.Repeat(`{"name":"a\tb","v":1.25,"big":9007199254740993,"in":{"x":true},"tags":[1,2]},`, rows) + "null]"
	}
	few, many := document(10), document(1000)
	allocations := func(document string) float64 {
		j := jsonPaths("", "a", "name", "b", "v", "c", "big", "d", "tags", "e", "@key")
		return testing.AllocsPerRun(10, func() {
			if err := readJSON(document, j, func(*Row) error { return nil }); err != nil {
				t.Fatal(err)
			}
		})
	}
	if a, b := allocations(few), allocations(many); b > a {
		t.Errorf("%v allocations for 10 rows, %v for 1000", a, b)
	}
}

// modelJSON is a document as encoding/json reads it, the first of two members
// with one name kept.
type modelJSON struct {
	kind    json.Delim // 0: a scalar
	scalar  any
	names   []string
	members []modelJSON
}

func readModel(d *json.Decoder) modelJSON {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return modelJSON{scalar: token}
	}
	m := modelJSON{kind: delim}
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			if err != nil {
				panic(err)
			}
			m.names = append(m.names, name.(string))
		}
		m.members = append(m.members, readModel(d))
	}
	if _, err := d.Token(); err != nil {
		panic(err)
	}
	return m
}

func (m modelJSON) member(name string) (modelJSON, bool) {
	if i := slices.Index(m.names, name); i >= 0 {
		return m.members[i], true
	}
	return modelJSON{}, false
}

// rows are what a table of the columns key, this, a and a.b has, cells joined.
func (m modelJSON) rows() []string {
	var lines []string
	line := func(key string, row modelJSON) {
		a, hasA := row.member("a")
		b, hasB := a.member("b")
		text := key
		for _, cell := range []struct {
			modelJSON
			there bool
		}{{row, true}, {a, hasA}, {b, hasB}} {
			text += "|"
			if cell.there && cell.kind == 0 && cell.scalar != nil {
				text += withoutContainer(fmt.Sprint(cell.scalar))
			}
		}
		lines = append(lines, text)
	}
	switch m.kind {
	case '[':
		for i, row := range m.members {
			line(fmt.Sprint(i), row)
		}
	case '{':
		for i, row := range m.members {
			line(m.names[i], row)
		}
	}
	return lines
}

// FuzzJSONRows holds the rows of a document to what encoding/json reads there.
func FuzzJSONRows(f *testing.F) {
	for _, seed := range []string{
		`[{"a":1,"a":2},{"a":7,"a":{"b":1}},{"a":{"b":"\ud800x","b":1}},null,"x",1e400,-0,[1]]`,
		`{"k\u0061":{"a":18446744073709551616},"":{"a":{"b":true}},"x":{"\u0061":[{}]}}`,
		`[0.1,1.10,-0.0,9007199254740993,1E+2]`, " [ ] ", `{"a":{"a":{"b":1}}}`, `["a`, "[\"\xff\"]", `[{"a":"\\"}]`, "\uFEFF[]", `{"a":}`,
	} {
		f.Add([]byte(seed))
	}
	columns := jsonPaths("", "a", "a", "b", "a.b", "key", "@key", "this", "@this")
	f.Fuzz(func(t *testing.T, document []byte) {
		err := checkJSON(string(document))
		if valid := json.Valid(document); valid != (err == nil) && !tooDeep(string(document)) {
			t.Fatalf("valid is %v, error %v", valid, err)
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(document))
		d.UseNumber()
		model := readModel(d)
		var got []string
		err = readJSON(string(document), columns, func(r *Row) error {
			cells := map[string]string{}
			for i, v := range r.Values {
				cells[r.Columns[i]] = withoutContainer(string(v.AppendText(nil)))
			}
			got = append(got, cells["key"]+"|"+cells["this"]+"|"+cells["a"]+"|"+cells["b"])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := readJSON(string(document), nil, func(*Row) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if model.kind == 0 || !utf8.Valid(document) {
			return // one row, or texts that the model mends
		}
		if diff := cmp.Diff(model.rows(), got); diff != "" {
			t.Errorf("%s: %s", document, diff)
		}
	})
}

// withoutContainer leaves out what may be the JSON of an array or object, which
// the model has no words for.
func withoutContainer(text string) string {
	if trimmed := strings.TrimSpace(text); trimmed != "" && strings.IndexByte("{[", trimmed[0]) >= 0 && json.Valid([]byte(trimmed)) {
		return ""
	}
	return text
}
