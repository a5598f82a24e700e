package sources

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

// jsonWork is what has been done for one answer, so that it ends: with its
// context, and before what is made of an answer fills the memory.
type jsonWork struct {
	limit int64 // of made; 0: none
	made  int64 // bytes that paths made, of the answer or of one row
	read  int   // bytes since the context was asked
}

const (
	// lookEvery is how many bytes are gone through before the context is asked,
	// which takes well below a millisecond.
	lookEvery = 64 << 10
	// rowWork is what a row costs that has no text, in bytes of it.
	rowWork = 256
	// elementWork is the same of an element.
	elementWork = 32
)

// pass is called where n bytes are gone through. It tells whether ctx has ended.
func (w *jsonWork) pass(ctx context.Context, n int) error {
	if w.read += n; w.read < lookEvery {
		return nil
	}
	w.read = 0
	return context.Cause(ctx)
}

// grow is called before n bytes are made.
func (w *jsonWork) grow(n int) error {
	w.made += int64(n)
	if w.limit > 0 && w.made > w.limit {
		return fmt.Errorf("what a path makes of the answer is over body_size_limit, %d bytes; ask for less, or raise it", w.limit)
	}
	return nil
}

// find returns the JSON to which a path leads from value, or nothing.
func (p jsonPath) find(ctx context.Context, w *jsonWork, value string) (found string, err error) {
	for _, s := range p {
		if err := w.pass(ctx, len(value)); err != nil {
			return "", err
		}
		switch {
		case s.follow != "":
			value = followJSON(value, s.follow)
		case s.elements != nil:
			value, err = s.elements.find(ctx, w, value)
		case s.modifier != "":
			value, err = modifyJSON(ctx, w, value, s.modifier)
		default:
			value, err = combineJSON(ctx, w, value, s.parts)
		}
		if value == "" || err != nil {
			return "", err
		}
	}
	return value, nil
}

// followJSON returns what gjson finds. Nothing is found in a value that has no
// members: gjson would look for the first bracket, be it inside of a string.
func followJSON(value, path string) string {
	if value[0] != '{' && value[0] != '[' {
		return ""
	}
	return strings.Trim(gjson.Get(value, path).Raw, jsonSpace)
}

// jsonMaker makes an array or an object.
type jsonMaker struct {
	work *jsonWork
	text []byte
}

// add adds an element, or a member if there is a name in quotes. No value ends
// with an open bracket: behind one is the first.
func (m *jsonMaker) add(name, value string) error {
	n := len(value) + len(",")
	if name != "" {
		n += len(name) + len(":")
	}
	if err := m.work.grow(n); err != nil {
		return err
	}
	if last := m.text[len(m.text)-1]; last != '[' && last != '{' {
		m.text = append(m.text, ',')
	}
	if name != "" {
		m.text = append(append(m.text, name...), ':')
	}
	m.text = append(m.text, value...)
	return nil
}

// end closes it with a bracket.
func (m *jsonMaker) end(bracket byte) string {
	m.text = append(m.text, bracket)
	return unsafe.String(unsafe.SliceData(m.text), len(m.text))
}

// find returns how many elements value has, those that fit, or what is in each.
// gjson would do so too, but at once, and note the place of each.
func (e *jsonElements) find(ctx context.Context, w *jsonWork, value string) (string, error) {
	if value[0] != '[' {
		return "", nil
	}
	var (
		m     = jsonMaker{w, []byte{'['}}
		alone []byte // an element, in an array of its own
		count = 0
	)
	for walk := walkJSON(value); ; count++ {
		_, element, ok := walk.next()
		if !ok {
			break
		}
		if err := w.pass(ctx, elementWork+len(element)); err != nil {
			return "", err
		}
		if e.query != "" {
			alone = append(append(append(alone[:0], '['), element...), ']')
			if !gjson.Get(unsafe.String(&alone[0], len(alone)), e.query).Exists() {
				continue
			}
			if !e.all {
				return element, nil
			}
		}
		found, err := e.rest.find(ctx, w, element)
		if err != nil {
			return "", err
		}
		if found == "" || e.query == "" && e.rest == nil {
			continue
		}
		if err := m.add("", found); err != nil {
			return "", err
		}
	}
	switch {
	case e.query == "" && e.rest == nil:
		return strconv.Itoa(count), nil
	case !e.all:
		return "", nil
	}
	return m.end(']'), nil
}

// combineJSON puts together what the parts of a multipath find. What is not
// there is left out.
func combineJSON(ctx context.Context, w *jsonWork, value string, parts []jsonPart) (string, error) {
	open, closed := byte('['), byte(']')
	if parts[0].name != "" {
		open, closed = '{', '}'
	}
	m := jsonMaker{w, []byte{open}}
	for _, p := range parts {
		found, err := p.path.find(ctx, w, value)
		if err != nil {
			return "", err
		}
		if found == "" {
			continue
		}
		if err := m.add(p.name, found); err != nil {
			return "", err
		}
	}
	return m.end(closed), nil
}

// modifyJSON runs a modifier. Where it has nothing to change there is nothing.
func modifyJSON(ctx context.Context, w *jsonWork, value, modifier string) (string, error) {
	array, object := value[0] == '[', value[0] == '{'
	switch {
	case modifier == "this", modifier == "values" && array:
		return value, nil
	case modifier == "reverse" && (array || object):
		return reverseJSON(ctx, w, value)
	case modifier == "group" && object:
		return groupJSON(ctx, w, value)
	case modifier == "keys" && object, modifier == "values" && object, modifier == "flatten" && array:
	default:
		return "", nil
	}
	m := jsonMaker{w, []byte{'['}}
	for walk := walkJSON(value); ; {
		name, element, ok := walk.next()
		if !ok {
			return m.end(']'), nil
		}
		if err := w.pass(ctx, len(name)+len(element)); err != nil {
			return "", err
		}
		if modifier == "keys" {
			element = name
		}
		if modifier == "flatten" && element[0] == '[' {
			if element = strings.Trim(element[1:len(element)-1], jsonSpace); element == "" {
				continue
			}
		}
		if err := m.add("", element); err != nil {
			return "", err
		}
	}
}

// reverseJSON returns the elements or members of value from the last to the
// first. They are written from the end: to keep where each is would take many
// times as much memory as they do.
func reverseJSON(ctx context.Context, w *jsonWork, value string) (string, error) {
	if err := w.grow(len(value)); err != nil {
		return "", err
	}
	text := make([]byte, len(value))
	at := len(text)
	put := func(s string) {
		at -= len(s)
		copy(text[at:], s)
	}
	put(value[len(value)-1:])
	separator := ""
	for walk := walkJSON(value); ; separator = "," {
		name, element, ok := walk.next()
		if !ok {
			break
		}
		if err := w.pass(ctx, len(name)+len(element)); err != nil {
			return "", err
		}
		put(separator)
		put(element)
		if name != "" {
			put(":")
			put(name)
		}
	}
	put(value[:1])
	return unsafe.String(&text[at], len(text)-at), nil
}

// jsonGroup is one array of an object that is grouped.
type jsonGroup struct {
	name, element string
	walk          jsonWalk
}

// groupWork is about what a jsonGroup takes, while a slice of it grows.
const groupWork = 128

// groupJSON makes rows of an object's arrays: the nth has the nth element of
// each that is so long.
func groupJSON(ctx context.Context, w *jsonWork, value string) (string, error) {
	var groups []jsonGroup
	for walk := walkJSON(value); ; {
		name, element, ok := walk.next()
		if !ok {
			break
		}
		if err := w.pass(ctx, len(name)+len(element)); err != nil {
			return "", err
		}
		if element[0] != '[' {
			continue
		}
		if err := w.grow(groupWork); err != nil {
			return "", err
		}
		groups = append(groups, jsonGroup{name: name, walk: walkJSON(element)})
	}
	m := jsonMaker{w, []byte{'['}}
	for {
		groups = nextOfGroups(groups)
		if len(groups) == 0 {
			return m.end(']'), nil
		}
		if err := m.add("", "{"); err != nil {
			return "", err
		}
		for _, g := range groups {
			if err := w.pass(ctx, len(g.element)); err != nil {
				return "", err
			}
			if err := m.add(g.name, g.element); err != nil {
				return "", err
			}
		}
		m.text = append(m.text, '}')
	}
}

// nextOfGroups goes to the next element of each group, and leaves out those that
// have none: to ask them again for every row would take the square of the time.
func nextOfGroups(groups []jsonGroup) []jsonGroup {
	left := groups[:0]
	for _, g := range groups {
		var ok bool
		if _, g.element, ok = g.walk.next(); ok {
			left = append(left, g)
		}
	}
	return left
}
