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

	// formats has, by queryID, the result formats to ask for: []int16, one for all
	// columns or one for each. Where they do not fit, because the result's columns
	// have changed, it shows.
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

// run runs q with the result formats it needs. What they are the server is
// asked before the first run, which costs that one a round trip more: a query
// that had to be run to know them would be run twice.
func (p *postgres) run(ctx context.Context, c *pgConn, q config.Query, each func(*Row) error) error {
	if c.isConsole() {
		return c.show(ctx, q, each)
	}
	ctx, cancel := withTimeout(ctx, q.Timeout)
	defer cancel()
	id := queryID{q.Collector, q.Name}
	if known, ok := p.formats.Load(id); ok {
		formats := known.([]int16)
		err := c.query(ctx, p.source.Name, q, formats, each)
		changed := errors.Is(err, errFormats) || len(formats) > 1 && pgCode(err) == protocolViolation
		if !changed {
			return err
		}
		p.formats.Delete(id)
		if !c.alive() {
			return err
		}
	}
	formats, err := c.describe(ctx, p.source.Name, q)
	if err != nil {
		return err
	}
	p.formats.Store(id, formats)
	return c.query(ctx, p.source.Name, q, formats, each)
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

// query runs q and hands on its rows.
func (c *pgConn) query(ctx context.Context, source string, q config.Query, formats []int16, each func(*Row) error) error {
	send := func(pl *pgconn.Pipeline) {
		pl.SendQueryParams(comment(source, q.Name)+q.SQL, nil, nil, nil, formats)
	}
	return c.transaction(ctx, q.Timeout, send, func(results any) error {
		result, ok := results.(*pgconn.ResultReader)
		if !ok {
			return errOutOfStep
		}
		return c.readRows(result, each)
	})
}

// describe returns the formats in which the result of q can be read. The
// server parses q for that and does not run it.
func (c *pgConn) describe(ctx context.Context, source string, q config.Query) (formats []int16, err error) {
	send := func(pl *pgconn.Pipeline) {
		pl.SendPrepare("", comment(source, q.Name)+q.SQL, nil)
	}
	err = c.transaction(ctx, q.Timeout, send, func(results any) error {
		description, ok := results.(*pgconn.StatementDescription)
		if !ok {
			return errOutOfStep
		}
		formats = resultFormats(description.Fields)
		if !slices.Contains(formats, textFormat) {
			formats = allBinary
		}
		return nil
	})
	return formats, err
}

// transaction does what send sends in a read-only transaction of its own, which
// begins with startup_sql, and gives read the answer. All of it is sent at
// once, which makes one round trip. When a statement fails the server skips
// what follows up to the next Sync and leaves the transaction open, so the
// ROLLBACK stands behind a Sync of its own: it ends both a good and a failed
// transaction, and undoes what was set. Advisory locks of the session outlive
// it, so they are given up behind it, before the Sync at which a pooler may
// change the server's connection. That costs the server some 40 µs.
//
// The server holds its answers back until a Sync, or until they fill a buffer.
// The Flush makes it answer what sets the transaction up before it begins with
// the query, so that whoever got no answer knows that the query has not run.
//
// There is no prepared statement with a name, no startup parameter beyond the
// usual ones and nothing set outside the transaction, so a pooler in between
// is no obstacle, nor are those harmed who share it.
func (c *pgConn) transaction(ctx context.Context, timeout time.Duration, send func(*pgconn.Pipeline), read func(results any) error) error {
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()

	c.reached = false
	pl := c.StartPipeline(ctx)
	for _, statement := range c.before(timeout) {
		pl.SendQueryParams(statement, nil, nil, nil, nil)
	}
	pl.SendFlushRequest()
	send(pl)
	pl.SendPipelineSync()
	pl.SendQueryParams("ROLLBACK", nil, nil, nil, nil)
	pl.SendQueryParams("SELECT pg_advisory_unlock_all()", nil, nil, nil, nil)
	started := time.Now()
	err := pl.Sync()
	if err == nil {
		err = c.begun(pl)
	}
	if err == nil {
		var results any
		if results, err = pl.GetResults(); err == nil {
			err = read(results)
		}
	}
	if errors.As(err, new(*rowError)) || errors.As(err, new(*limitError)) || errors.Is(err, errFormats) {
		cancel()
	}
	// A server that refuses the unlocking has no such locks, or does not let
	// this user have them: the rows are good.
	if end := pl.Close(); err == nil && (pgCode(end) == "" || c.IsClosed()) {
		err = end
	}
	if pgCode(err) == queryCanceled && ctx.Err() == nil && time.Since(started) >= timeout {
		return &timeoutError{timeout}
	}
	return asConflict(asLimit(asTimeout(ctx, timeout, err)))
}

// before returns the statements that set up a transaction. Those of startup_sql
// stand between ours, so that they can undo neither: until its first query a
// transaction may still be made one that writes.
func (c *pgConn) before(timeout time.Duration) []string {
	limit := (timeout + time.Millisecond - 1) / time.Millisecond
	statements := append(make([]string, 0, len(c.startup)+3), "BEGIN READ ONLY")
	if len(c.startup) > 0 {
		statements = append(append(statements, c.startup...), "SET TRANSACTION READ ONLY")
	}
	return append(statements, "SET LOCAL statement_timeout = "+strconv.FormatInt(int64(limit), 10))
}

// begun reads the answers to the statements of before.
func (c *pgConn) begun(pl *pgconn.Pipeline) error {
	ours := 2
	if len(c.startup) > 0 {
		ours++
	}
	for i := range ours + len(c.startup) {
		results, err := pl.GetResults()
		if result, ok := results.(*pgconn.ResultReader); ok && err == nil {
			_, err = result.Close()
		}
		if err != nil && i > 0 && i <= len(c.startup) {
			return startupError(i-1, err)
		}
		if err != nil {
			return err
		}
		c.reached = true
	}
	return nil
}

// readRows hands on the rows of result.
func (c *pgConn) readRows(result *pgconn.ResultReader, each func(*Row) error) error {
	fields := result.FieldDescriptions()
	if !slices.EqualFunc(resultFormats(fields), fields, hasFormat) {
		return errFormats
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
	_, err := result.Close()
	return err
}

var (
	errOutOfStep = errors.New("read result: the server's answers are out of step")

	// errFormats comes before the first row.
	errFormats = errors.New("the columns of the result have other types than they had; the next run asks for them anew")
)

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
