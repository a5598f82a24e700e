package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Error is one thing that is wrong with a configuration. It never holds a
// secret, not even a wrong one.
type Error struct {
	File    string // as the operator named it, or as a glob found it
	Line    int    // from 1; 0 if the file could not be read at all
	Field   string // path such as collectors[orders].metrics[2].type; empty for the file itself
	Problem string
	Remedy  string // what to do about it
}

// Error returns "file:line: field: problem; what to do".
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem + "; " + e.Remedy)
	return b.String()
}

// Errors is everything that is wrong with a configuration and the files it
// names, ordered by file and line. It is what [Load] returns, so that an
// operator mends a file once and not once per mistake.
type Errors []Error

// Error returns one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// sort orders the errors and removes those that an alias or a second use of
// the same text reported twice.
func (e Errors) sort() Errors {
	slices.SortFunc(e, func(a, b Error) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Field, b.Field),
			cmp.Compare(a.Problem, b.Problem),
		)
	})
	return slices.Compact(e)
}
