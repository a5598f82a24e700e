package sources

import (
	"context"
	"fmt"
	"time"
)

// BusyError says that all connections of a source ran other queries for as
// long as this one waits for one: it never ran.
type BusyError struct {
	Connections int // there may be
	After       time.Duration
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("all %d connections were busy for %s; raise max_connections or spread the queries", e.Connections, e.After)
}

// slots stand for the connections that a source may have.
type slots struct {
	taken  chan struct{}
	waited func(time.Duration) // see Options
}

func newSlots(n int, waited func(time.Duration)) slots {
	if waited == nil {
		waited = func(time.Duration) {}
	}
	return slots{make(chan struct{}, max(n, 1)), waited}
}

// take waits for a slot, at most as long as wait unless that is 0. The caller
// gives it back. The wait is no part of a query's own time limit, which begins
// after it.
func (s slots) take(ctx context.Context, wait time.Duration) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	default:
	}
	began := time.Now()
	defer func() { s.waited(time.Since(began)) }()
	var overdue <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		overdue = timer.C
	}
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-overdue:
		return &BusyError{cap(s.taken), wait}
	}
}

func (s slots) give() { <-s.taken }
