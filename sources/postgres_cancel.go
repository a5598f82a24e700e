package sources

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgCancel ends a query on its server when the query's context ends. Unlike
// pgconn's own handler it does not hang up on its request before the server
// has, not even when the query has ended meanwhile: pgbouncer 1.18 may die of
// that (its issue 801), and all its clients with it.
type pgCancel struct {
	conn *pgconn.PgConn
	done chan struct{} // the request has reached the server, or never will
}

// cancelLag is how long after a request was taken it may still arrive at the
// backend, where it would end the next query.
const cancelLag = 100 * time.Millisecond

// HandleCancel implements ctxwatch.Handler.
func (h *pgCancel) HandleCancel(context.Context) {
	h.done = make(chan struct{})
	deadline := time.Now().Add(confirmWait)
	_ = h.conn.Conn().SetDeadline(deadline)
	go func() {
		defer close(h.done)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		if err := h.conn.CancelRequest(ctx); err == nil {
			time.Sleep(cancelLag)
		}
	}()
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler.
func (h *pgCancel) HandleUnwatchAfterCancel() {
	<-h.done
	_ = h.conn.Conn().SetDeadline(time.Time{})
}
