package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// node is a value in a file together with its place, so that whatever finds
// fault with it, now or when all files are read, reports where.
type node struct {
	in   *file
	yaml *yaml.Node // aliases followed
	line int        // of the alias, if it came by one
	path string     // from the root of the file
}

func newNode(f *file, y *yaml.Node, path string) node {
	n := node{in: f, yaml: y, line: y.Line, path: path}
	for n.yaml.Kind == yaml.AliasNode {
		n.yaml = n.yaml.Alias
	}
	return n
}

// fail reports a problem with n and what to do about it.
func (n node) fail(problem, remedy string) {
	n.in.load.report(Error{File: n.in.name, Line: n.line, Field: n.path, Problem: problem, Remedy: remedy})
}

// warn reports what works and is hardly meant.
func (n node) warn(problem, remedy string) {
	n.in.load.warnings = append(n.in.load.warnings, Error{File: n.in.name, Line: n.line, Field: n.path, Problem: problem, Remedy: remedy})
}

// place names n in an error about another node, which stands at from.
func (n node) place(from node) string {
	if n.in.name == from.in.name {
		return "line " + strconv.Itoa(n.line)
	}
	return n.in.name + ":" + strconv.Itoa(n.line)
}

// child returns the place of a field of n, whose value is y.
func (n node) child(y *yaml.Node, key string) node {
	path := key
	if key == "" {
		path = `""`
	}
	if n.path != "" {
		path = n.path + "." + path
	}
	return newNode(n.in, y, path)
}

func (n node) isNull() bool { return n.yaml.ShortTag() == "!!null" }

func (n node) isEmptyList() bool {
	return n.isNull() || n.yaml.Kind == yaml.SequenceNode && len(n.yaml.Content) == 0
}

// requireItems reports a list that was not written or has no items.
func (o object) requireItems(field, remedy string) {
	if o.require(field, remedy) && o.at(field).isEmptyList() {
		o.at(field).fail("is an empty list", remedy)
	}
}

// what names the kind of value n is.
func (n node) what() string {
	switch n.yaml.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.yaml.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	default:
		return "text"
	}
}

func (n node) wrongType(want, example string) {
	n.fail("holds "+n.what()+" where "+want+" belongs", "write "+example)
}

// entry is one key of a mapping with the place of its value, or one text of a
// list with its own.
type entry struct {
	key   string
	value node
}

// entries returns the keys of a mapping in the file's order, those of merged
// mappings ("<<") last. It reports what is no mapping, keys that are not text
// and keys that occur twice. A null is an empty mapping: all its lines may be
// commented out.
func (n node) entries() []entry {
	if n.isNull() {
		return nil
	}
	if n.yaml.Kind != yaml.MappingNode {
		n.wrongType("a mapping", "fields as \"name: value\"")
		return nil
	}
	var (
		all    []entry
		merged []node
		first  = map[string]int{}
	)
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		key, value := newNode(n.in, n.yaml.Content[i], n.path), n.yaml.Content[i+1]
		switch {
		case key.yaml.ShortTag() == "!!merge":
			merged = append(merged, n.child(value, "<<"))
			continue
		case key.yaml.Kind != yaml.ScalarNode:
			key.fail("a name of a field is "+key.what(), "write text before the colon")
			continue
		}
		name := key.yaml.Value
		at := n.child(value, name)
		if line, twice := first[name]; twice {
			at.line = key.line
			at.fail(fmt.Sprintf("occurs twice, first on line %d", line), "keep one of the two")
			continue
		}
		first[name] = key.line
		all = append(all, entry{name, at})
	}
	for _, m := range merged {
		for _, e := range m.mergeEntries() {
			if _, has := first[e.key]; !has {
				first[e.key] = e.value.line
				e.value.path = n.child(e.value.yaml, e.key).path
				all = append(all, e)
			}
		}
	}
	return all
}

// mergeEntries returns what a merge key brings: one mapping or a list of them.
func (n node) mergeEntries() []entry {
	if n.yaml.Kind != yaml.SequenceNode {
		return n.entries()
	}
	var all []entry
	for _, item := range n.list() {
		all = append(all, item.entries()...)
	}
	return all
}

// list returns the items of a list. A null is an empty list.
func (n node) list() []node {
	if n.isNull() {
		return nil
	}
	if n.yaml.Kind != yaml.SequenceNode {
		n.wrongType("a list", "[a, b], or one \"- item\" per line")
		return nil
	}
	items := make([]node, len(n.yaml.Content))
	for i, y := range n.yaml.Content {
		items[i] = newNode(n.in, y, n.path+"["+strconv.Itoa(i)+"]")
	}
	return items
}

// table says how the fields of a mapping are decoded into a T.
type table[T any] struct {
	fields map[string]func(n node, into *T)
	// refused are fields that other programs, or later versions, have.
	refused map[string]refusal
}

// refusal says why a field is not taken and what to do about it.
type refusal struct{ problem, remedy string }

// object is a decoded mapping; it keeps where each field stands for checks
// that need more than one field.
type object struct {
	node
	fields map[string]node
}

// has tells whether the field was written.
func (o object) has(field string) bool { _, has := o.fields[field]; return has }

// at returns the place of a field: where it stands or, if it was not written,
// where the mapping starts.
func (o object) at(field string) node {
	if n, has := o.fields[field]; has {
		return n
	}
	n := o.child(o.yaml, field)
	n.line = o.line
	return n
}

// exclusive reports every field after the first of those that may not stand
// beside each other.
func (o object) exclusive(fields ...string) {
	first := ""
	for _, f := range fields {
		switch {
		case !o.has(f):
		case first == "":
			first = f
		default:
			o.at(f).fail(fmt.Sprintf("stands beside %s on line %d", first, o.at(first).line), "keep one of the two")
		}
	}
}

// require reports a field that was not written and tells whether it was. What
// is no mapping has been reported already.
func (o object) require(field, remedy string) bool {
	if !o.has(field) && (o.isNull() || o.yaml.Kind == yaml.MappingNode) {
		o.at(field).fail("is missing", remedy)
	}
	return o.has(field)
}

// decode reads the mapping n by the table t. Fields that are wrong have been
// reported and leave *into as it was.
func decode[T any](n node, t table[T], into *T) object {
	o := object{node: n, fields: map[string]node{}}
	for _, e := range n.entries() {
		if set, known := t.fields[e.key]; known {
			o.fields[e.key] = e.value
			set(e.value, into)
		} else if r, refused := t.refused[e.key]; refused {
			e.value.fail(r.problem, r.remedy)
		} else {
			e.value.fail("unknown field", suggest(e.key, slices.Sorted(maps.Keys(t.fields))))
		}
	}
	return o
}
