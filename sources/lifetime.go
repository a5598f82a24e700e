package sources

import (
	"context"
	"sync"
)

// lifetime lets a source's Close end what runs on it and wait for it.
type lifetime struct {
	mu      sync.Mutex
	closed  bool
	next    uint64
	running map[uint64]context.CancelCauseFunc
	queries sync.WaitGroup
}

// begin registers a query. The context it returns ends with ctx or, with
// [ErrClosed] as its cause, when the source is closed. The caller calls end
// when the query has left the server.
func (l *lifetime) begin(ctx context.Context) (_ context.Context, end func(), _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ctx, nil, ErrClosed
	}
	if l.running == nil {
		l.running = make(map[uint64]context.CancelCauseFunc)
	}
	id := l.next
	l.next++
	ctx, cancel := context.WithCancelCause(ctx)
	l.running[id] = cancel
	l.queries.Add(1)
	return ctx, func() {
		cancel(nil)
		l.mu.Lock()
		delete(l.running, id)
		l.mu.Unlock()
		l.queries.Done()
	}, nil
}

// close cancels every query and returns when all have ended. It tells whether
// it was the first to close.
func (l *lifetime) close() bool {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	for _, cancel := range l.running {
		cancel(ErrClosed)
	}
	l.mu.Unlock()
	l.queries.Wait()
	return first
}
