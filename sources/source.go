// Package sources runs queries on databases and hands their rows on, one file
// per kind of source. Drivers' types never leave it: a cell is a [Value].
//
// To add a source, write one file with a type that implements [Source], add
// its case to [Open] and its row to the conformance table.
package sources

import (
	"context"

	"sql2metrics/config"
)

// Source is one database. All methods may be called from several goroutines.
type Source interface {
	// Query runs q and calls each once per result row, in order. The Row is
	// valid until each returns. Query stops at the first error from each, or
	// when ctx ends, and returns that error unchanged. It never leaves a
	// query running on the server: q.Timeout goes to the server as its own
	// limit, and the end of ctx is sent to it as a cancel.
	//
	// An error because the server could not be reached, or refused the login,
	// is a [*ConnectError].
	Query(ctx context.Context, q config.Query, each func(*Row) error) error

	// Ping asks the server for nothing but an answer. It uses a connection of
	// the pool, like a query does.
	Ping(ctx context.Context) error

	// Close ends all connections. Queries still running are cancelled and
	// Close waits for them.
	Close() error
}

// ConnectError says that the server could not be reached or refused the
// login: the query never ran. It is what decides the series up.
type ConnectError struct {
	Source string
	Err    error // says where to and what to do
}

// Error implements error.
func (e *ConnectError) Error() string { return "connect to source " + e.Source + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Row is one result row. Columns and Values are of equal length.
type Row struct {
	// Columns are the names as the server spelled them. For all rows of one
	// result it is the same slice, so a caller may look names up once.
	Columns []string
	Values  []Value
}
