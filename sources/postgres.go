package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"sql2metrics/config"
)

const (
	// confirmWait is how long a cancelled query may take to end before its
	// connection is dropped.
	confirmWait = 2 * time.Second

	// timeoutGrace is how much later than the server the client gives up on a
	// query: only when the server does not keep the limit it was given.
	timeoutGrace = time.Second
)

// postgres is a PostgreSQL server, or anything that speaks its protocol.
type postgres struct {
	name    string
	timeout time.Duration // of a ping
	log     *slog.Logger
	pool    *pgPool
	life    lifetime

	// formats has, by queryID, the result formats of queries that cannot be read
	// with binary results alone: []int16, one per column. Where they do not fit,
	// because another query has the name, it shows.
	formats sync.Map
}

// queryID tells queries apart. Their SQL may have a cursor in it and change from
// run to run.
type queryID struct{ collector, name string }

func openPostgres(s config.Source, o Options, now func() time.Time) (Source, error) {
	pool, err := newPgPool(s, o.Waited, now)
	if err != nil {
		return nil, err
	}
	return &postgres{name: s.Name, timeout: s.Timeout, log: o.Logger, pool: pool}, nil
}

// Query implements [Source].
func (p *postgres) Query(ctx context.Context, q config.Query, each func(*Row) error) error {
	if err := CheckStatement(config.TypePostgres, q.SQL); err != nil {
		return queryError(ctx, p.name, q, err)
	}
	ctx, end, err := p.life.begin(ctx)
	if err != nil {
		return queryError(ctx, p.name, q, err)
	}
	defer end()
	err = p.onConn(ctx, q.Timeout, func(c *pgConn) error {
		id, formats := queryID{q.Collector, q.Name}, allBinary
		if known, ok := p.formats.Load(id); ok {
			formats = known.([]int16)
		}
		err := c.query(ctx, p.name, q, formats, each)
		if len(formats) > 1 && pgCode(err) == protocolViolation {
			// The result has another number of columns than it had.
			p.formats.Delete(id)
			err = c.query(ctx, p.name, q, allBinary, each)
		}
		var other *formatsError
		if errors.As(err, &other) {
			p.formats.Store(id, other.wanted)
			err = c.query(ctx, p.name, q, other.wanted, each)
		}
		return err
	})
	return queryError(ctx, p.name, q, err)
}

// Ping implements [Source].
func (p *postgres) Ping(ctx context.Context) error {
	ping := config.Query{Name: "ping"}
	ctx, end, err := p.life.begin(ctx)
	if err != nil {
		return queryError(ctx, p.name, ping, err)
	}
	defer end()
	err = p.onConn(ctx, p.timeout, func(c *pgConn) error {
		ctx, cancel := withTimeout(ctx, p.timeout)
		defer cancel()
		err := c.Exec(ctx, comment(p.name, ping.Name)).Close()
		return asTimeout(ctx, p.timeout, err)
	})
	return queryError(ctx, p.name, ping, err)
}

// Close implements [Source].
func (p *postgres) Close() error {
	p.life.close()
	p.pool.close()
	return nil
}

// onConn runs fn on a connection of the pool. A pooled connection that turns
// out to be dead before it accepted the statement is replaced once by a new
// one, so that a restart of the server costs no round. A statement that was
// accepted is never run again: it may be what ended the connection.
func (p *postgres) onConn(ctx context.Context, wait time.Duration, fn func(*pgConn) error) error {
	for fresh := false; ; fresh = true {
		c, err := p.pool.acquire(ctx, wait, fresh)
		if err != nil {
			return err
		}
		pooled := c.used
		err = fn(c)
		c.used = true
		dead, accepted := c.IsClosed(), c.accepted
		p.pool.release(c)

		var row *rowError
		switch {
		case err == nil || !dead || ctx.Err() != nil:
			return err
		case errors.As(err, &row) || errors.Is(err, context.DeadlineExceeded):
			return err
		case accepted:
			return brokenOff(err)
		case !pooled || fresh:
			return &ConnectError{Source: p.name, Err: err}
		}
		p.log.Debug("idle connection was dead; the query goes to a new one", "err", err)
	}
}

// brokenOff explains the end of a connection during a statement.
func brokenOff(err error) error {
	var long *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &long) {
		return fmt.Errorf("a row of %d bytes is over the limit of %d bytes; select fewer or shorter columns", long.ActualBodyLen, long.MaxExpectedBodyLen)
	}
	return fmt.Errorf("connection ended during the statement; the server's log may say why: %w", err)
}

// comment returns the comment by which a DBA finds out whose statement it is.
// It cannot be ended by what stands in the names.
func comment(source, query string) string {
	plain := func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("_-.:@", r):
			return r
		}
		return '_'
	}
	return "/* sql2metrics source=" + strings.Map(plain, source) + " query=" + strings.Map(plain, query) + " */ "
}

// query runs q in a read-only transaction of its own. All of it is sent at
// once, which makes one round trip. When the query fails the server skips
// what follows up to the next Sync and leaves the transaction open, so the
// ROLLBACK stands behind a Sync of its own: it ends both a good and a failed
// transaction. Advisory locks of the session outlive it, so they are given up
// behind it, before the Sync at which a pooler may change the server's
// connection. That costs the server some 40 µs.
//
// The server holds its answers back until a Sync, or until they fill a buffer.
// The Flush makes it answer BEGIN and SET before it begins with q, so that
// whoever got no answer knows that q has not run.
//
// There is no prepared statement with a name and no startup parameter beyond
// the usual ones, so a pooler in between is no obstacle.
func (c *pgConn) query(ctx context.Context, source string, q config.Query, formats []int16, each func(*Row) error) error {
	ctx, cancel := withTimeout(ctx, q.Timeout)
	defer cancel()
	limit := (q.Timeout + time.Millisecond - 1) / time.Millisecond

	pl := c.StartPipeline(ctx)
	pl.SendQueryParams("BEGIN READ ONLY", nil, nil, nil, nil)
	pl.SendQueryParams("SET LOCAL statement_timeout = "+strconv.FormatInt(int64(limit), 10), nil, nil, nil, nil)
	pl.SendFlushRequest()
	pl.SendQueryParams(comment(source, q.Name)+q.SQL, nil, nil, nil, formats)
	pl.SendPipelineSync()
	pl.SendQueryParams("ROLLBACK", nil, nil, nil, nil)
	pl.SendQueryParams("SELECT pg_advisory_unlock_all()", nil, nil, nil, nil)
	started := time.Now()
	err := pl.Sync()
	if err == nil {
		err = c.readRows(pl, each)
	}
	var row *rowError
	if errors.As(err, &row) {
		cancel()
	}
	// A server that refuses the unlocking has no such locks, or does not let
	// this user have them: the rows are good.
	if end := pl.Close(); err == nil && (pgCode(end) == "" || c.IsClosed()) {
		err = end
	}
	if pgCode(err) == queryCanceled && ctx.Err() == nil && time.Since(started) >= q.Timeout {
		return &timeoutError{q.Timeout}
	}
	return asTimeout(ctx, q.Timeout, err)
}

// readRows hands on the rows of the third statement in pl.
func (c *pgConn) readRows(pl *pgconn.Pipeline, each func(*Row) error) error {
	for range 2 {
		if _, err := pl.GetResults(); err != nil {
			return err
		}
		c.accepted = true
	}
	results, err := pl.GetResults()
	if err != nil {
		return err
	}
	result, ok := results.(*pgconn.ResultReader)
	if !ok {
		return errors.New("read result: the server's answers are out of step")
	}
	fields := result.FieldDescriptions()
	if wanted := resultFormats(fields); !slices.EqualFunc(wanted, fields, hasFormat) {
		if _, err := result.Close(); c.IsClosed() {
			return err
		}
		return &formatsError{wanted}
	}
	c.prepareRow(fields)
	for result.NextRow() {
		if err := c.decodeRow(result.Values()); err != nil {
			return err
		}
		if err := each(&c.row); err != nil {
			return &rowError{err}
		}
	}
	_, err = result.Close()
	return err
}

// formatsError says that the result came in formats that cannot be read, and
// which ones to ask for instead. It comes before the first row.
type formatsError struct{ wanted []int16 }

func (e *formatsError) Error() string { return "result has columns in a format that cannot be read" }

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

// Codes of the server's errors that something is decided on.
const (
	protocolViolation = "08P01"
	queryCanceled     = "57014" // for a time limit and for a cancel by somebody
)

// pgCode returns the code of a server's error, or nothing.
func pgCode(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
