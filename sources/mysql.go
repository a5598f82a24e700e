package sources

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"sql2metrics/config"
)

// killAgain is how long a query that was killed may go on before it is killed
// once more: a kill that comes between two statements is lost.
const killAgain = 100 * time.Millisecond

// mysqlServer is a MySQL or MariaDB server, or anything that speaks their
// protocol.
type mysqlServer struct{ server[*mysqlConn] }

func openMySQL(s config.Source, o Options, now func() time.Time) (Source, error) {
	if _, err := mysqlConfig(s, s.Password); err != nil && !errors.As(err, new(*fileError)) {
		return nil, err
	}
	home := newMySQL(s, o, now)
	if s.Databases == nil {
		return home, nil
	}
	return newFanout(&home.server, mysqlDatabases, func(database string) *server[*mysqlConn] {
		at := s
		at.Database = database
		return &newMySQL(at, o, now).server
	}), nil
}

// newMySQL returns the source whose connections have one default database.
func newMySQL(s config.Source, o Options, now func() time.Time) *mysqlServer {
	m := &mysqlServer{}
	m.server = server[*mysqlConn]{
		source: s,
		pool: newPool(s, o, now, func(ctx context.Context, all *sockets) (*mysqlConn, error) {
			return dialMySQL(ctx, s, all)
		}),
		query: m.run,
		ping:  m.answer,
		facts: m.facts,
	}
	return m
}

// answer has the server answer an empty command.
func (m *mysqlServer) answer(ctx context.Context, c *mysqlConn) error {
	ctx, cancel := withTimeout(ctx, m.source.Timeout)
	defer cancel()
	err := c.begin()
	if err == nil {
		err = c.Ping(ctx)
	}
	return asTimeout(ctx, m.source.Timeout, c.explain(err))
}

// run runs q. The session is read-only and commits by itself, so that each
// statement is a read-only transaction of its own: that makes one round trip,
// and refuses DDL too, which in a transaction that was started as read-only
// commits it and goes through.
//
// The driver would answer the end of ctx by closing the socket, of which the
// server takes no notice while it computes. So it does not see ctx: a query is
// ended by a kill from another connection, and keeps its own.
func (m *mysqlServer) run(ctx context.Context, c *mysqlConn, q config.Query, each func(*Row) error) error {
	ctx, cancel := withTimeout(ctx, q.Timeout)
	defer cancel()
	if err := c.begin(); err != nil {
		return err
	}
	left, killed := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		m.kill(c, left)
	})
	started := time.Now()
	err := c.query(m.source.Name, q, func(r *Row) error {
		err := each(r)
		if err != nil {
			cancel()
		}
		return err
	})
	took := time.Since(started)
	close(left)
	if !stop() {
		<-killed
		c.killed(err)
		// Some functions, such as SLEEP, take a kill for an early end.
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	if q.Timeout > 0 && took >= q.Timeout && ctx.Err() == nil && (err == nil || overLimit(err)) {
		// And so they do with the server's time limit.
		return &timeoutError{q.Timeout}
	}
	// ctx is asked last: it may end at any moment.
	return asTimeout(ctx, q.Timeout, c.explain(err))
}

// kill has the server end what runs on c, until left is closed. What it cannot
// end in time is left to the server's own limit, and c is given up.
func (m *mysqlServer) kill(c *mysqlConn, left <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), confirmWait)
	defer cancel()
	again := time.NewTicker(killAgain)
	defer again.Stop()
	for {
		err := m.pool.outside(ctx, func(k *mysqlConn) error {
			return k.exec(ctx, "KILL QUERY "+c.id)
		})
		if err != nil {
			_ = c.socket.Close()
			return
		}
		select {
		case <-left:
			return
		case <-again.C:
		}
	}
}

// query runs q and hands on its rows. The time limit goes with the statement
// where the server knows such a limit; otherwise the session is told when the
// limit is another than it has.
func (c *mysqlConn) query(source string, q config.Query, each func(*Row) error) error {
	statement := comment(source, q.Name) + q.SQL
	switch limit := (q.Timeout + time.Millisecond - 1) / time.Millisecond; {
	case limit <= 0 || c.limits == limitNone:
	case c.limits == limitStatement:
		statement = fmt.Sprintf("SET STATEMENT max_statement_time=%d.%03d FOR %s", limit/1000, limit%1000, statement)
	case c.limit != limit:
		err := c.exec(context.Background(), "SET SESSION max_execution_time="+strconv.FormatInt(int64(limit), 10))
		switch {
		case mysqlCode(err) == unknownVariable:
			c.limits = limitNone
		case err != nil:
			return err
		}
		c.limit = limit
	}
	c.taken = true
	c.locked = strings.Contains(strings.ToLower(q.SQL), "get_lock")
	c.socket.allow()
	rows, err := c.QueryContext(context.Background(), statement, nil)
	if err == nil {
		err = c.readRows(rows, each)
		// What is left of a result that was not read to its end is skipped.
		if end := rows.Close(); err == nil {
			err = end
		}
	}
	return c.doubt(err)
}

func (c *mysqlConn) readRows(rows driver.Rows, each func(*Row) error) error {
	c.prepareRow(rows)
	for {
		switch err := rows.Next(c.cells); {
		case err == io.EOF && c.IsValid():
			return nil
		case err != nil:
			return err
		}
		c.decodeRow()
		if err := each(&c.row); err != nil {
			return err
		}
		c.socket.allow()
	}
}

// doubt gives the connection up after an error that neither the server nor the
// caller has made: it may be out of step. For a packet that is too short the
// driver has the error with which results end; there is then more to read.
func (c *mysqlConn) doubt(err error) error {
	if err == nil || mysqlCode(err) != 0 || errors.As(err, new(*rowError)) {
		return err
	}
	c.spoiled = true
	if err == io.EOF {
		return mysql.ErrMalformPkt
	}
	return err
}

// Codes of the server's errors that something is decided on.
const (
	unknownVariable  = 1193
	queryInterrupted = 1317 // by a kill
	mariadbOverLimit = 1969
	mysqlOverLimit   = 3024
)

// mysqlCode returns the code of a server's error, or 0.
func mysqlCode(err error) uint16 {
	var said *mysql.MySQLError
	if errors.As(err, &said) {
		return said.Number
	}
	return 0
}

// overLimit tells whether the server has ended a query at its time limit.
func overLimit(err error) bool {
	code := mysqlCode(err)
	return code == mariadbOverLimit || code == mysqlOverLimit
}
