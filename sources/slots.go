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

// takeSlot waits for one of the slots that stand for a source's connections,
// at most as long as wait unless that is 0. The caller takes it out again. The
// wait is no part of the query's own time limit, which begins after it.
func takeSlot(ctx context.Context, slots chan struct{}, wait time.Duration) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	var overdue <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		overdue = timer.C
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-overdue:
		return &BusyError{cap(slots), wait}
	}
}
