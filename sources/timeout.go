package sources

import (
	"context"
	"errors"
	"time"
)

// timeoutGrace is how much later than the server the client gives up on a
// query: only when the server does not keep the limit it was given.
const timeoutGrace = time.Second

// timeoutError says that a query was stopped at its own time limit.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return "query timed out after " + e.after.String() }

// Is makes a timeout at the server the same as one at the client.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// withTimeout returns ctx with the client's own limit on a query, if it has
// one.
func withTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit+timeoutGrace, &timeoutError{limit})
}

// asTimeout replaces err by the cause for which ctx ended, if that is a
// timeout of the query.
func asTimeout(ctx context.Context, limit time.Duration, err error) error {
	var timeout *timeoutError
	if err != nil && errors.As(context.Cause(ctx), &timeout) {
		return timeout
	}
	return err
}
