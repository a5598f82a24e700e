package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"sql2metrics/config"
)

// jsonThis is the path of a row itself.
const jsonThis = "@this"

// A path is written by whoever writes the configuration, and run on what anybody
// may have sent. Its work grows with its steps, and a name or pattern with more
// stars costs the square of what it is held to.
const (
	maxJSONSteps = 64
	maxJSONStars = 2
)

// jsonModifiers are the modifiers there are. Those that format JSON, parse it or
// look for something at any depth are left out: rows need none of them, and what
// they make, or do, is many times as much as there was.
var jsonModifiers = []string{"flatten", "group", "keys", "reverse", "this", "values"}

// jsonPath is a path as the steps that it takes, one on what the other found.
type jsonPath []jsonStep

// jsonStep is one step, of one of four kinds.
type jsonStep struct {
	follow   string // names and places, which gjson follows
	elements *jsonElements
	modifier string     // without its @
	parts    []jsonPart // what a multipath puts together, in an array unless they have names
}

// jsonElements is a # and what follows it up to a |: how many elements there are,
// or what is in each.
type jsonElements struct {
	query string // that they fit, as gjson runs it on an array; empty: all do
	all   bool   // those that do, and not only the first
	rest  jsonPath
}

// jsonPart is one path of a multipath.
type jsonPart struct {
	name string // as JSON spells it; empty in an array
	path jsonPath
}

// checkJSONPaths refuses paths that lead nowhere, and those that cost too much.
func checkJSONPaths(j config.JSON) error {
	_, err := newJSONTable(&j, 0)
	return err
}

// parseJSONPath returns the steps of a path.
func parseJSONPath(path string) (jsonPath, error) {
	if path == "" {
		return nil, nil
	}
	return new(jsonPathParser).path(path)
}

type jsonPathParser struct {
	steps   int  // so far, inside of brackets too
	inQuery bool // what is there is gjson's alone
}

// path reads steps until text ends.
func (p *jsonPathParser) path(text string) (jsonPath, error) {
	steps, _, err := p.read(text, false)
	return steps, err
}

// read reads steps until text ends, or a | ends what is done for each element.
func (p *jsonPathParser) read(text string, each bool) (steps jsonPath, at int, err error) {
	separator := byte('|')
	for {
		step, n, err := p.step(text[at:])
		if err != nil {
			return nil, 0, err
		}
		at += n
		if e := step.elements; e != nil && e.all && at < len(text) && text[at] == '.' {
			if p.inQuery {
				return nil, 0, errors.New("it has # and a dot in a query, where that is not supported")
			}
			if e.rest, n, err = p.read(text[at+1:], true); err != nil {
				return nil, 0, err
			}
			at += len(".") + n
		}
		if last := len(steps) - 1; separator == '.' && step.follow != "" && steps[last].follow != "" {
			steps[last].follow += "." + step.follow
		} else {
			steps = append(steps, step)
		}
		if at == len(text) || each && text[at] == '|' {
			return steps, at, nil
		}
		separator = text[at]
		at++
	}
}

// step reads the first step of text, and returns its length.
func (p *jsonPathParser) step(text string) (step jsonStep, n int, err error) {
	if p.steps++; p.steps > maxJSONSteps {
		return step, 0, fmt.Errorf("it has more than %d steps", maxJSONSteps)
	}
	switch {
	case text == "" || text[0] == '.' || text[0] == '|':
		return step, 0, errors.New("it has an empty step; delete a dot")
	case text[0] == '!':
		return step, 0, errors.New(`it has a literal, which is not supported; write \! for a member whose name begins so`)
	case p.inQuery && strings.IndexByte("@[{", text[0]) >= 0:
		return step, 0, fmt.Errorf("it has %c in a query, where modifiers and multipaths are not supported; write \\%[1]c for a member whose name begins so", text[0])
	case text[0] == '@':
		step.modifier, n, err = jsonModifier(text)
	case text[0] == '[' || text[0] == '{':
		step.parts, n, err = p.multipath(text)
	case text[0] == '#' && len(text) > 1 && (text[1] == '(' || text[1] == '['):
		step.elements, n, err = p.query(text)
	case text == "#" || strings.HasPrefix(text, "#.") || strings.HasPrefix(text, "#|"):
		step.elements, n = &jsonElements{all: true}, 1
	default:
		n, err = jsonName(text)
		step.follow = text[:n]
	}
	if err == nil && n < len(text) && text[n] != '.' && text[n] != '|' {
		err = fmt.Errorf("behind %s it has neither . nor |", text[:n])
	}
	return step, n, err
}

// jsonModifier returns the modifier with which text begins.
func jsonModifier(text string) (name string, n int, err error) {
	if n = strings.IndexAny(text, ".|:"); n < 0 {
		n = len(text)
	}
	name = text[1:n]
	switch {
	case !slices.Contains(jsonModifiers, name):
		return "", 0, fmt.Errorf(`it has @%s, which is no modifier here; there are @%s, and \@%[1]s is a member of that name`, name, strings.Join(jsonModifiers, ", @"))
	case n < len(text) && text[n] == ':':
		return "", 0, fmt.Errorf("it has an argument of @%s, which is not supported; delete it", name)
	}
	return name, n, nil
}

// jsonName returns the length of the name with which text begins.
func jsonName(text string) (n int, err error) {
	wild := false
	for ; n < len(text) && text[n] != '.' && text[n] != '|'; n++ {
		switch text[n] {
		case '\\':
			if n++; n == len(text) {
				return 0, errors.New(`it ends with \`)
			}
		case '*', '?':
			wild = true
		case '[', ']':
			return 0, fmt.Errorf(`it has %c inside of a name; write items.0 for an element, items.# for how many there are, and \%[1]c for a member with that in its name`, text[n])
		}
	}
	switch name := text[:n]; {
	case name == "$":
		return 0, errors.New(`it begins with $ as JSONPath does; delete that, the first step is a member of the document, and write \$ for a member of that name`)
	case wild && strings.Count(name, "*") > maxJSONStars:
		return 0, fmt.Errorf("its name %s has more than %d stars", name, maxJSONStars)
	}
	return n, nil
}

// query returns the query with which text begins, and its length.
func (p *jsonPathParser) query(text string) (*jsonElements, int, error) {
	end, operator := closingBracket(text[1:], "([", ")]", "!=<>%")
	if end < 0 {
		return nil, 0, fmt.Errorf("the query %s is not closed", text)
	}
	path, right := text[2:end+1], ""
	if operator > 0 {
		path, right = text[2:operator+1], text[operator+1:end+1]
	}
	path = strings.TrimFunc(path, func(r rune) bool { return r <= ' ' })
	switch {
	case path == "" && right == "":
		return nil, 0, errors.New("it has a query that asks for nothing")
	case strings.HasPrefix(strings.TrimPrefix(right, "!"), "%") && strings.Count(right, "*") > maxJSONStars:
		return nil, 0, fmt.Errorf("its pattern %s has more than %d stars", right, maxJSONStars)
	case path != "":
		outer := p.inQuery
		p.inQuery = true
		if _, err := p.path(path); err != nil {
			return nil, 0, err
		}
		p.inQuery = outer
	}
	n := end + 2
	elements := &jsonElements{query: text[:n]}
	if n < len(text) && text[n] == '#' {
		elements.all = true
		n++
	}
	return elements, n, nil
}

// multipath returns the parts of the multipath with which text begins, and its
// length.
func (p *jsonPathParser) multipath(text string) (parts []jsonPart, n int, err error) {
	end, _ := closingBracket(text, "([{", ")]}", "")
	if end < 0 || text[end] != text[0]+2 {
		return nil, 0, fmt.Errorf("the multipath %s is not closed", text)
	}
	for _, inside := range splitOutside(text[1:end], ',') {
		name, path := "", inside
		if named := splitOutside(inside, ':'); len(named) > 1 {
			name, path = named[0], inside[len(named[0])+len(":"):]
		}
		name, path = strings.TrimSpace(name), strings.TrimSpace(path)
		part := jsonPart{}
		if part.path, err = p.path(path); err != nil {
			return nil, 0, err
		}
		switch {
		case text[0] == '[':
		case name == "":
			part.name = quotedName(lastStep(path))
		default:
			part.name = quotedName(name)
		}
		parts = append(parts, part)
	}
	return parts, end + 1, nil
}

// quotedName returns a name as JSON spells it, which it may do already.
func quotedName(name string) string {
	if name[0] == '"' && gjson.Valid(name) {
		return name
	}
	return string(gjson.AppendJSONString(nil, name))
}

// closingBracket returns where the bracket at the beginning of text is closed,
// -1 if nowhere, and where the first of marks is directly inside of it, 0 if
// none is.
func closingBracket(text, open, closed, marks string) (end, mark int) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case depth == 1 && mark == 0 && strings.IndexByte(marks, c) >= 0:
			mark = i
		case c == '\\':
			i++
		case c == '"':
			i = skipString(text, i) - 1
		case strings.IndexByte(open, c) >= 0:
			depth++
		case strings.IndexByte(closed, c) >= 0:
			if depth--; depth == 0 {
				return i, mark
			}
		}
	}
	return -1, mark
}

// splitOutside splits text at each mark that is outside of brackets and quotes.
func splitOutside(text string, mark byte) []string {
	var parts []string
	depth, from := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == mark && depth == 0:
			parts = append(parts, text[from:i])
			from = i + 1
		case c == '\\':
			i++
		case c == '"':
			i = skipString(text, i) - 1
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		}
	}
	return append(parts, text[from:])
}

// lastStep returns the name with which a path ends, or _ if it is none.
func lastStep(path string) string {
	last := 0
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			i++
		case '.', '|':
			last = i + 1
		}
	}
	if name, _ := firstStep(path[last:]); name != "" && !strings.ContainsAny(path[last:], ")]}") {
		return name
	}
	return "_"
}

// firstStep splits a path that begins with the name of a member into that name
// and the rest. Of any other path the name is empty.
func firstStep(path string) (name, rest string) {
	var plain []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '.':
			return string(plain), path[i+1:]
		case '\\':
			if i++; i == len(path) {
				return "", ""
			}
			plain = append(plain, path[i])
		case '@', '!', '#', '|', '*', '?', '{', '[', '(', '"':
			return "", ""
		default:
			plain = append(plain, c)
		}
	}
	return string(plain), ""
}
