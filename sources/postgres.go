package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sql2metrics/config"
)

// confirmWait is how long a cancelled query may take to end before its
// connection is dropped.
const confirmWait = 2 * time.Second

// postgres is a PostgreSQL server, or anything that speaks its protocol.
type postgres struct {
	server[*pgConn]

	// formats has, by queryID, the result formats of queries that cannot be read
	// with binary results alone: []int16, one per column. Where they do not fit,
	// because another query has the name, it shows.
	formats sync.Map
}

// queryID tells queries apart. Their SQL may have a cursor in it and change from
// run to run.
type queryID struct{ collector, name string }

func openPostgres(s config.Source, o Options, now func() time.Time) (Source, error) {
	if _, err := pgConfig(s, s.Password); err != nil && !errors.As(err, new(*fileError)) {
		return nil, err
	}
	home := newPostgres(s, o, now)
	if s.Databases == nil {
		return home, nil
	}
	return newFanout(&home.server, postgresDatabases, func(database string) *server[*pgConn] {
		at := s
		at.Database = database
		return &newPostgres(at, o, now).server
	}), nil
}

// newPostgres returns the source that is one database.
func newPostgres(s config.Source, o Options, now func() time.Time) *postgres {
	p := &postgres{}
	p.server = server[*pgConn]{
		source: s,
		pool: newPool(s, o, now, func(ctx context.Context, all *sockets) (*pgConn, error) {
			return dialPostgres(ctx, s, all)
		}),
		query: p.run,
		ping:  p.answer,
		facts: p.facts,
	}
	return p
}

// run runs q with the result formats it is known to need.
func (p *postgres) run(ctx context.Context, c *pgConn, q config.Query, each func(*Row) error) error {
	if c.isConsole() {
		return c.show(ctx, q, each)
	}
	id, formats := queryID{q.Collector, q.Name}, allBinary
	if known, ok := p.formats.Load(id); ok {
		formats = known.([]int16)
	}
	err := c.query(ctx, p.source.Name, q, formats, each)
	if len(formats) > 1 && pgCode(err) == protocolViolation {
		// The result has another number of columns than it had.
		p.formats.Delete(id)
		err = c.query(ctx, p.source.Name, q, allBinary, each)
	}
	var other *formatsError
	if errors.As(err, &other) {
		p.formats.Store(id, other.wanted)
		err = c.query(ctx, p.source.Name, q, other.wanted, each)
	}
	return err
}

// answer has the server answer an empty statement.
func (p *postgres) answer(ctx context.Context, c *pgConn) error {
	ctx, cancel := withTimeout(ctx, p.source.Timeout)
	defer cancel()
	c.reached = false
	statement := comment(p.source.Name, pingName)
	if c.isConsole() {
		statement = "SHOW VERSION"
	}
	err := c.Exec(ctx, statement).Close()
	return asTimeout(ctx, p.source.Timeout, err)
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

	c.reached = false
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
	if errors.As(err, new(*rowError)) || errors.As(err, new(*limitError)) {
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
	return asConflict(asLimit(asTimeout(ctx, q.Timeout, err)))
}

// readRows hands on the rows of the third statement in pl.
func (c *pgConn) readRows(pl *pgconn.Pipeline, each func(*Row) error) error {
	for range 2 {
		if _, err := pl.GetResults(); err != nil {
			return err
		}
		c.reached = true
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
			return err
		}
	}
	_, err = result.Close()
	return err
}

// formatsError says that the result came in formats that cannot be read, and
// which ones to ask for instead. It comes before the first row.
type formatsError struct{ wanted []int16 }

func (e *formatsError) Error() string { return "result has columns in a format that cannot be read" }

// asConflict adds to a replica's word on why it ended a query what can be done.
func asConflict(err error) error {
	if pgCode(err) != serializationFailure {
		return err
	}
	return fmt.Errorf("%w; have the replica wait for queries with hot_standby_feedback or a longer max_standby_streaming_delay", err)
}

// Codes of the server's errors that something is decided on.
const (
	protocolViolation    = "08P01"
	serializationFailure = "40001" // which a query that reads gets on a replica only
	queryCanceled        = "57014" // for a time limit and for a cancel by somebody
)

// pgCode returns the code of a server's error, or nothing.
func pgCode(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
