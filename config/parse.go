package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// What a document may grow to once its aliases are followed. A configuration
// of a thousand metrics has some thirty thousand nodes; a few lines of nested
// aliases can have billions.
const (
	maxNodes = 1 << 18
	maxDepth = 100
)

// file is one YAML file being read.
type file struct {
	name string // as printed in errors
	dir  string // what relative file names in it start from
	load *loader
}

// fail reports a problem with the file itself.
func (f *file) fail(line int, problem, remedy string) {
	f.load.report(Error{File: f.name, Line: line, Problem: problem, Remedy: remedy})
}

// parse returns the value of the file's only document. When it returns false
// it has reported why.
func (f *file) parse(data []byte) (node, bool) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF), err == nil && len(doc.Content) == 0:
		f.fail(1, "the file is empty", "write a configuration into it, or name another file")
		return node{}, false
	case err != nil:
		f.syntaxError(data, err)
		return node{}, false
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		f.fail(max(next.Line, 1), "a second document starts here", `put everything into one document and remove the "---"`)
		return node{}, false
	case !errors.Is(err, io.EOF):
		f.syntaxError(data, err)
		return node{}, false
	}
	root := doc.Content[0]
	if root.ShortTag() == "!!null" {
		f.fail(1, "the file is empty", "write a configuration into it, or name another file")
		return node{}, false
	}
	budget := maxNodes
	if wrong := measure(root, nil, &budget, 0); wrong != nil {
		f.fail(wrong.Line, wrong.Problem, wrong.Remedy)
		return node{}, false
	}
	return newNode(f, root, ""), true
}

// measure walks n as the decoder may, through aliases, and returns what is
// wrong with its shape: an alias inside its own anchor, or more than a
// configuration can mean. within holds the anchors that n lies in.
func measure(n *yaml.Node, within []*yaml.Node, budget *int, depth int) *Error {
	*budget--
	switch {
	case *budget < 0:
		return &Error{Line: n.Line, Problem: fmt.Sprintf("with its aliases followed, the file has more than %d values", maxNodes),
			Remedy: "write the part out instead of using aliases"}
	case depth > maxDepth:
		return &Error{Line: n.Line, Problem: fmt.Sprintf("the file is nested more than %d levels deep", maxDepth),
			Remedy: "no field needs that; remove brackets and indentation"}
	case n.Kind == yaml.AliasNode && slices.Contains(within, n.Alias):
		return &Error{Line: n.Line, Problem: fmt.Sprintf("alias *%s is used inside of what it stands for", n.Value),
			Remedy: "write the part out instead of using the alias"}
	case n.Kind == yaml.AliasNode:
		return measure(n.Alias, within, budget, depth+1)
	case n.Anchor != "":
		within = append(slices.Clip(within), n)
	}
	for _, c := range n.Content {
		if wrong := measure(c, within, budget, depth+1); wrong != nil {
			return wrong
		}
	}
	return nil
}

var (
	yamlError     = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?((?s:.*))$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError reports an error of the YAML library at the line where an
// editor shows it. The library counts lines from 0 in the errors of its
// parser, from 1 in those of its scanner, and leaves out the first.
func (f *file) syntaxError(data []byte, err error) {
	const remedy = "correct the YAML; look at indentation, quotes and brackets on this line and the one above"
	found := yamlError.FindStringSubmatch(err.Error())
	problem := found[2]
	line, _ := strconv.Atoi(found[1])
	if strings.HasPrefix(problem, "did not find expected") {
		line++
	}
	lineAt := func(offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }
	lines := lineAt(len(bytes.TrimRight(data, "\n")))

	if anchor := unknownAnchor.FindStringSubmatch(problem); anchor != nil {
		at := max(bytes.Index(data, []byte("*"+anchor[1])), 0)
		f.fail(lineAt(at), fmt.Sprintf("alias *%s has no anchor", anchor[1]),
			fmt.Sprintf("mark what it stands for with &%s above, or quote the value", anchor[1]))
		return
	}
	if !utf8.Valid(data) {
		at := 0
		for len(data[at:]) > 0 {
			r, size := utf8.DecodeRune(data[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		f.fail(lineAt(at), "the file is not UTF-8 text", "save it as UTF-8")
		return
	}
	if problem == "control characters are not allowed" {
		at := max(bytes.IndexFunc(data, isControl), 0)
		f.fail(lineAt(at), "a control character stands here", "remove it, or write it as an escape in double quotes")
		return
	}
	line = min(max(line, 1), lines)
	text := bytes.Split(data, []byte("\n"))
	for at := line; at <= min(line+1, lines); at++ {
		if bytes.HasPrefix(bytes.TrimLeft(text[at-1], " "), []byte("\t")) {
			f.fail(at, "a tab stands in the indentation", "indent with spaces; YAML takes no tabs there")
			return
		}
	}
	f.fail(line, "the file is not YAML: "+problem, remedy)
}

// isControl tells which runes YAML does not take as they are.
func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0 && r != 0x85
}
