package sources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"sql2metrics/config"
)

func TestJSONPathsRefused(t *testing.T) {
	s := config.Source{Type: config.TypeHTTPJSON, URL: parseURL(t, "http://es/")}
	for path, want := range map[string]string{
		"a|@fromstr":                          "has @fromstr, which is no modifier here; there are @flatten, @group, @keys",
		"items.@timestamp":                    `\@timestamp is a member of that name`,
		"@dig:a":                              "has @dig, which is no modifier",
		"@tostr|@tostr":                       "has @tostr",
		"@pretty":                             "has @pretty",
		"@key.a":                              "has @key",
		`@flatten:{"deep":true}`:              "an argument of @flatten, which is not supported",
		"$":                                   "begins with $ as JSONPath does",
		"$.items":                             "begins with $ as JSONPath does",
		"$.items[*]":                          "begins with $",
		"$[0]":                                "has [ inside of a name",
		"items[*]":                            "has [ inside of a name; write items.0 for an element, items.# for how many there are",
		"items.x[0]":                          `\[ for a member`,
		"x]":                                  "has ] inside of a name",
		"#(x":                                 "the query #(x is not closed",
		`#(x=="a)`:                            "is not closed",
		"#()":                                 "a query that asks for nothing",
		"#(x)y":                               "behind #(x) it has neither . nor |",
		"{a,b":                                "the multipath {a,b is not closed",
		"{a]":                                 "is not closed",
		"{}":                                  "has an empty step",
		"[a,]":                                "has an empty step",
		"[a]b":                                "behind [a] it has neither",
		"items.":                              "has an empty step; delete a dot",
		".items":                              "has an empty step",
		"..0":                                 "has an empty step",
		"a..b":                                "has an empty step",
		"a||b":                                "has an empty step",
		`a\`:                                  `ends with \`,
		"!foo":                                "has a literal, which is not supported",
		"[a,!true]":                           "has a literal",
		"*a*b*":                               "its name *a*b* has more than 2 stars",
		"x.a?***":                             "more than 2 stars",
		`a\*b*c*`:                             "more than 2 stars",
		`#(k%"*a?*b*")#`:                      `its pattern %"*a?*b*" has more than 2 stars`,
		`#(k!%"*a*b*")`:                       "more than 2 stars",
		"#(a.#(b%*x*y*))":                     "more than 2 stars",
		"#(@reverse.0==1)":                    "has @ in a query",
		"#(a.#.b.0==1)":                       "it has # and a dot in a query",
		"#({a}.a==1)":                         "has { in a query",
		strings.Repeat("a.", 64) + "a":        "more than 64 steps",
		"[" + strings.Repeat("a,", 64) + "a]": "more than 64 steps",
		strings.Repeat("[", 65) + "a" + strings.Repeat("]", 65): "more than 64 steps",
	} {
		for where, j := range map[string]*config.JSON{"of rows": jsonPaths(path, "v", "v"), "of column v": jsonPaths("", "v", path)} {
			err := CheckStatement(s, config.Query{SQL: "GET", JSON: j})
			if refused := "the path " + path + " " + where + " is refused: "; err == nil || !strings.HasPrefix(err.Error(), refused) {
				t.Errorf("%v, want %s", err, refused)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", path, err, want)
			}
		}
	}
	err := CheckStatement(s, config.Query{SQL: "GET", JSON: jsonPaths("", "v", "")})
	if err == nil || !strings.Contains(err.Error(), "column v has no path; write @this") {
		t.Error(err)
	}
}

// TestJSONPaths: paths lead where gjson says they do.
func TestJSONPaths(t *testing.T) {
	const document = `{"a":{"b c":[1,2,{"d":3}],"@t":4,"x[0]":5,"*a*b*c":6,"$":7},"list":[{"n":"x","v":[1,2]},{"n":"y","v":[3]},{"n":"xy"}],` +
		`"t":[1,2,3],"v":["p", "q"],"e":[],"o":{"k":{"n":1} , "l":2},"mixed":[1,[2, [3]],[ ],"s"],"text":"x"}`
	for path, want := range map[string]string{
		"":          document,
		"@this":     document,
		"a.b c.2.d": "3",
		"a|b c|#":   "3",
		`a.\@t`:     "4",
		`a.x\[0\]`:  "5",
		gjson.Escape("a") + "." + gjson.Escape("*a*b*c"): "6",
		`a.\$`:                      "7",
		"li*.1.n":                   `"y"`,
		"*is*.#":                    "3",
		"a.?t":                      "4",
		"list.#.n":                  `["x","y","xy"]`,
		"list.#.v.0":                "[1,3]",
		"list.#.v|0":                "[1,2]",
		`list.#(n=="y").v`:          "[3]",
		`list.#(n%"x*")#.n`:         `["x","xy"]`,
		`list.#(n!%"*y")#.n`:        `["x"]`,
		`list.#(v.#(>2))#|0.n`:      `"y"`,
		`list.#(n=="y").@keys`:      `["n","v"]`,
		`list.#(n=="gone")#`:        "[]",
		"list.#.@keys":              `[["n","v"],["n","v"],["n"]]`,
		"list.#.{n,v.0}|1":          `{"n":"y","0":3}`,
		"list.#.v.#":                "[2,1]",
		"list.#.v.#.@this|@flatten": "[1,2,3]",
		`list.#(v)#.v.#(>1)#`:       "[[2],[3]]",
		`list.#(v.#==2)#.n`:         `["x"]`,
		"o.#":                       "",
		"t.#(>=2)#":                 "[2,3]",
		`v.#(=="q")`:                `"q"`,
		`list.#(v==~null)#.n`:       `["xy"]`,
		"t.@reverse.0":              "3",
		"t|@reverse":                "[3,2,1]",
		"o.@reverse":                `{"l":2,"k":{"n":1}}`,
		"o.@keys":                   `["k","l"]`,
		"o.@keys.#":                 "2",
		"o.@values":                 `[{"n":1},2]`,
		"o.@values|#(n==1)#":        `[{"n":1}]`,
		"t.@values":                 "[1,2,3]",
		"mixed.@flatten":            `[1,2, [3],"s"]`,
		"mixed.@flatten|@flatten":   `[1,2,3,"s"]`,
		"e.@reverse":                "[]",
		"e.@flatten":                "[]",
		"text.@reverse":             "",
		"text.@keys":                "",
		"text.@this":                `"x"`,
		"list.@keys":                "",
		"o.@flatten":                "",
		"gone.@keys":                "",
		"text.0":                    "",
		"[t.0,gone,v.1]":            `[1,"q"]`,
		"{t.0,gone,v.1}":            `{"0":1,"1":"q"}`,
		`{"a b":t.0 , c:v.1, o.k, list.#, a.b c}`: `{"a b":1,"c":"q","k":{"n":1},"_":3,"b c":[1,2,{"d":3}]}`,
		`{a.\@t,"x":list.#(n=="x,}").n}`:          `{"@t":4}`,
		"{gone}":                                  "{}",
		"[[t.0],[gone]]":                          "[[1],[]]",
		"[t,v]|@flatten|#":                        "5",
		"[t.@reverse,o.@keys]":                    `[[3,2,1],["k","l"]]`,
		`{"t":t,"v":v}|@group`:                    `[{"t":1,"v":"p"},{"t":2,"v":"q"},{"t":3}]`,
		`{"o":o,"e":e,"v":v}|@group`:              `[{"v":"p"},{"v":"q"}]`,
		"o.@group":                                "[]",
		"t.@group":                                "",
		"{t,v}.t.1":                               "2",
		"{t,v}.@group.#.t":                        "[1,2,3]",
	} {
		steps, err := parseJSONPath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got, err := steps.find(t.Context(), &jsonWork{}, document)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", path, err, diff)
		}
	}
}

// TestJSONPathsOfGjson: what is done here is what gjson does, white space aside.
func TestJSONPathsOfGjson(t *testing.T) {
	const document = `{"t":[1,[2,"x\"]"],{"a":{"b":null}},[]], "v":["p",true], "o":{"k":[1],"l":{}}, "e":{}}`
	for _, path := range []string{
		"@reverse", "t.@reverse", "@keys", "o.@keys", "@values", "t.@values", "t.@flatten", "@group", "o|@group", "e.@keys", "e.@values", "e.@reverse", "e.@group",
		"[t,v,x]", "{t,v,x}", `{"a":t,"b":{v,o}}`, "{t.0,o.k.0}", "[t.@reverse,v]|@flatten", `{"x":t,"y":v}|@group|@reverse|0.y`, "[v.#(==\"p\"),o.*]",
	} {
		steps, err := parseJSONPath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got, err := steps.find(t.Context(), &jsonWork{}, document)
		if diff := cmp.Diff(gjson.Get(document, path).Raw, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", path, err, diff)
		}
	}
}

// FuzzJSONPaths: whatever a path is, it is refused or leads to JSON, and makes
// rows or an error.
func FuzzJSONPaths(f *testing.F) {
	for _, path := range []string{
		"a", `a\.b.0`, `#(a=="x")#|@this`, `{"t":a,"v":b.0}|@group`, "@this|@values", "a.#.b", `[a,b].@reverse`, "\\", "a.", "a|@flatten", "*", "#(a%x*)#.b", "{a,#(b.#(c))}|#", "#[a]", "a.#|0",
	} {
		f.Add(`[{"a":[1,{"b":"x"}],"b":{"a":null},"a.b":[true]}]`, path)
	}
	f.Fuzz(func(t *testing.T, document, path string) {
		steps, err := parseJSONPath(path)
		if checkJSON(document) != nil || err != nil {
			return
		}
		found, err := steps.find(t.Context(), &jsonWork{}, strings.Trim(document, jsonSpace))
		if err != nil || found != "" && !gjson.Valid(found) || found != strings.Trim(found, jsonSpace) {
			t.Errorf("%q %v", found, err)
		}
		err = readJSON(document, jsonPaths(path, "v", path, "w", "@this"), func(r *Row) error {
			for _, v := range r.Values {
				_ = v.AppendText(nil)
			}
			return nil
		})
		if path == "" && (err == nil || !strings.Contains(err.Error(), "has no path")) {
			t.Error(err)
		}
	})
}
