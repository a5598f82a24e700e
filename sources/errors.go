package sources

import (
	"context"
	"errors"
	"fmt"

	"sql2metrics/config"
)

// ErrClosed is what a query returns on a source that was closed before it or
// meanwhile.
var ErrClosed = errors.New("source is closed")

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

// limitError says that a result, or one row of it, is larger than the agent
// reads.
type limitError struct{ bytes int64 }

func (e *limitError) Error() string {
	return fmt.Sprintf("result is over the limit of %d bytes; select fewer rows or columns, or raise max_result_bytes", e.bytes)
}

// rowError carries an error of the caller's row function past everything that
// explains errors of the database.
type rowError struct{ err error }

func (e *rowError) Error() string { return e.err.Error() }

// queryError is the one place where an error gets the names of its source and
// its query. ctx is the query's, from [lifetime.begin].
func queryError(ctx context.Context, source string, q config.Query, err error) error {
	var (
		row     *rowError
		connect *ConnectError
		timeout *timeoutError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &row):
		return row.err
	case errors.As(err, &connect):
		return fmt.Errorf("query %s: %w", q.Name, err)
	case errors.As(err, &timeout):
		// The caller may have lost its patience meanwhile; this is what it waited for.
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return fmt.Errorf("query %s of source %s: %w", q.Name, source, err)
}
