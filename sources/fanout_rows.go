package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PartialError says that a query succeeded in some databases of its source and
// failed in others, of which no row was handed on.
type PartialError struct {
	Of     int             // databases in which the query was to run
	Failed []DatabaseError // never empty, and fewer than Of
}

// DatabaseError is why a query failed in one database.
type DatabaseError struct {
	Database string
	Err      error
}

// Error implements error. Databases with the same error are named together.
func (e *PartialError) Error() string {
	var causes []string
	names := map[string][]string{}
	for _, d := range e.Failed {
		cause := d.cause().Error()
		if names[cause] == nil {
			causes = append(causes, cause)
		}
		names[cause] = append(names[cause], d.Database)
	}
	for i, cause := range causes {
		causes[i] = few(names[cause]) + ": " + cause
	}
	return fmt.Sprintf("failed in %d of %d databases, and the rows of the others are used: %s", len(e.Failed), e.Of, strings.Join(causes, "; "))
}

// whole returns the error of a query that failed in all databases.
func (e *PartialError) whole() error {
	first := e.Failed[0]
	return fmt.Errorf("failed in all %d databases, in %s: %w", len(e.Failed), first.Database, first.cause())
}

// cause returns the error without the name of the source, which is above it
// already. That the server could not be reached is not said of one database.
func (d DatabaseError) cause() error {
	var connect *ConnectError
	if errors.As(d.Err, &connect) {
		return connect.Err
	}
	return d.Err
}

// fewNames is how many databases an error names.
const fewNames = 5

func few(names []string) string {
	if len(names) <= fewNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:fewNames], ", "), len(names)-fewNames)
}

// rowBuffer holds the rows of one database until it is known that there is no
// error behind them. The zero value with a label is ready.
type rowBuffer struct {
	label   string   // the column with the database's name
	columns []string // of the first database, and the label behind them
	row     Row      // as the row function gets it

	database []string // columns of the database under way, of its first row
	values   []Value
	chunk    []byte // texts are copied into it; one that is full is left behind
}

// chunkBytes is the least that is allocated for texts at a time.
const chunkBytes = 16 << 10

func (b *rowBuffer) reset() {
	clear(b.values)
	b.database, b.values, b.chunk = nil, b.values[:0], b.chunk[:0]
}

// add copies a row.
func (b *rowBuffer) add(r *Row) error {
	if b.database == nil {
		if err := b.begin(r.Columns); err != nil {
			return err
		}
	}
	for _, v := range r.Values {
		if v.kind == Text && v.bits > 0 {
			v = TextValue(b.copy(v.bytes()))
		}
		b.values = append(b.values, v)
	}
	return nil
}

// begin takes note of a result's columns.
func (b *rowBuffer) begin(columns []string) error {
	switch {
	case slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, b.label) }):
		return fmt.Errorf("the result has a column %s, and databases adds one; rename it, or set label of databases", b.label)
	case b.columns == nil:
		b.columns = append(slices.Clone(columns), b.label)
		b.row = Row{b.columns, make([]Value, len(b.columns))}
	case !slices.Equal(columns, b.columns[:len(b.columns)-1]):
		return fmt.Errorf("the result has the columns %s, and in the databases before it had %s; name them in the query",
			strings.Join(columns, ", "), strings.Join(b.columns[:len(b.columns)-1], ", "))
	}
	b.database = columns
	return nil
}

func (b *rowBuffer) copy(text []byte) []byte {
	if len(text) > cap(b.chunk)-len(b.chunk) {
		b.chunk = make([]byte, 0, max(chunkBytes, len(text)))
	}
	start := len(b.chunk)
	b.chunk = append(b.chunk, text...)
	return b.chunk[start:len(b.chunk):len(b.chunk)]
}

// replay hands the rows on.
func (b *rowBuffer) replay(database string, each func(*Row) error) error {
	name := TextValue([]byte(database))
	width := len(b.columns) - 1
	for at := 0; at < len(b.values); at += width {
		copy(b.row.Values, b.values[at:at+width])
		b.row.Values[width] = name
		if err := each(&b.row); err != nil {
			return err
		}
	}
	return nil
}
