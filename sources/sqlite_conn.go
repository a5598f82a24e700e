package sources

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"strings"
	"time"

	"modernc.org/libc"
	_ "modernc.org/sqlite" // sets up the library for the platform
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteConn is one connection of the SQLite library itself. Its database/sql
// driver would copy and box each cell, cannot interrupt a query between two
// rows, and opens the library read-write below a read-only URI.
//
// One goroutine at a time uses a connection; only interrupt may come from
// another.
type sqliteConn struct {
	tls    *libc.TLS
	db     uintptr // sqlite3*
	file   os.FileInfo
	row    Row
	bad    bool // not to be used again
	locked bool // the query under way waits for another connection's lock

	bystander bool  // makes no files
	longest   int32 // bytes of a value or row that SQLite makes
}

const (
	// busyStep is how often a locked database is tried again, and
	// interruptStep how often a query that should stop is told so: SQLite
	// forgets an interrupt that comes just before a statement's first step.
	busyStep      = 10 * time.Millisecond
	interruptStep = 10 * time.Millisecond
)

// openSQLiteConn opens the file at path, and no character in the path has a
// meaning, for results of up to limit bytes. Nothing is read yet.
func openSQLiteConn(path string, file os.FileInfo, limit int64) (*sqliteConn, error) {
	c := &sqliteConn{tls: libc.NewTLS(), file: file, bystander: bystander(file)}
	// A result that is small may be made of rows that are not.
	c.longest = int32(min(max(limit, maxMessage), math.MaxInt32))
	var (
		flags int32 = sqlite3.SQLITE_OPEN_READONLY | sqlite3.SQLITE_OPEN_NOMUTEX
		spelt       = path
		vfs   uintptr
		err   error
	)
	if c.bystander {
		flags |= sqlite3.SQLITE_OPEN_URI
		spelt = bystanderURI(path)
		vfs, err = bystanderVFS()
	}
	name, nameErr := libc.CString(spelt)
	if err := errors.Join(err, nameErr); err != nil {
		c.tls.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer libc.Xfree(c.tls, name)
	slot := c.tls.Alloc(pointerSize)
	defer c.tls.Free(pointerSize)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, slot, flags, vfs)
	c.db = libc.AtomicLoadPUintptr(slot)
	if rc != sqlite3.SQLITE_OK {
		err := c.failure(rc)
		c.close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	// ATTACH would reach other files, and with its own URI could create them.
	sqlite3.Xsqlite3_limit(c.tls, c.db, sqlite3.SQLITE_LIMIT_ATTACHED, 0)
	sqlite3.Xsqlite3_limit(c.tls, c.db, sqlite3.SQLITE_LIMIT_LENGTH, c.longest)
	return c, nil
}

const pointerSize = bits.UintSize / 8

func (c *sqliteConn) close() {
	sqlite3.Xsqlite3_close_v2(c.tls, c.db)
	c.tls.Close()
}

// reusable tells whether the connection is as a new one would be: without a
// failure, and without a transaction that a query left open and that would
// keep the application's log from being cut.
func (c *sqliteConn) reusable() bool {
	return !c.bad && sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) != 0
}

// query runs one statement and stops when ctx ends.
func (c *sqliteConn) query(ctx context.Context, sql string, each func(*Row) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	defer c.interruptAfter(ctx)()
	c.locked = false
	stmt, err := c.prepare(ctx, sql)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, stmt)
	c.prepareRow(stmt)
	for rows := 0; ; {
		rc := sqlite3.Xsqlite3_step(c.tls, stmt)
		switch {
		case rc == sqlite3.SQLITE_ROW:
			c.locked = false
			rows++
			c.decodeRow(stmt)
			if err := each(&c.row); err != nil {
				return err
			}
		case rc == sqlite3.SQLITE_DONE:
			return nil
		case rows == 0 && passes(rc) && c.awaitLock(ctx):
			sqlite3.Xsqlite3_reset(c.tls, stmt)
		default:
			return c.failure(rc)
		}
	}
}

// prepare compiles sql, which has to be one statement that only reads.
func (c *sqliteConn) prepare(ctx context.Context, sql string) (stmt uintptr, _ error) {
	if strings.ContainsRune(sql, 0) {
		return 0, errors.New("statement contains a NUL character")
	}
	text, err := libc.CString(sql)
	if err != nil {
		return 0, fmt.Errorf("prepare statement: %w", err)
	}
	defer libc.Xfree(c.tls, text)
	slots := c.tls.Alloc(2 * pointerSize)
	defer c.tls.Free(2 * pointerSize)
	compile := func(sql uintptr) (stmt, tail uintptr, _ error) {
		for {
			rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, sql, -1, slots, slots+pointerSize)
			if rc == sqlite3.SQLITE_OK {
				return libc.AtomicLoadPUintptr(slots), libc.AtomicLoadPUintptr(slots + pointerSize), nil
			}
			if !passes(rc) || !c.awaitLock(ctx) {
				return 0, 0, c.failure(rc)
			}
		}
	}
	stmt, tail, err := compile(text)
	if err != nil {
		return 0, err
	}
	for err == nil && libc.GoString(tail) != "" {
		var second uintptr
		second, tail, err = compile(tail)
		if second != 0 || err != nil {
			sqlite3.Xsqlite3_finalize(c.tls, second)
			err = errors.New("query holds more than one statement; give each its own query")
		}
	}
	switch {
	case err != nil:
	case stmt == 0:
		err = errors.New("query holds no statement")
	case sqlite3.Xsqlite3_stmt_readonly(c.tls, stmt) == 0:
		err = errors.New("statement would write; only reading ones are run")
	}
	if err != nil {
		sqlite3.Xsqlite3_finalize(c.tls, stmt)
		return 0, err
	}
	return stmt, nil
}

// passes tells whether rc is the mark of what another connection does at the
// moment: it has a lock, or writes the head of -shm, which a reader of -shm
// alone would otherwise have to mend.
func passes(rc int32) bool {
	return rc&0xff == sqlite3.SQLITE_BUSY || rc == sqlite3.SQLITE_READONLY_RECOVERY || rc == sqlite3.SQLITE_READONLY_CANTINIT
}

// awaitLock waits before a locked database is tried again, and tells whether
// there is time for that.
func (c *sqliteConn) awaitLock(ctx context.Context) bool {
	c.locked = true
	select {
	case <-time.After(busyStep):
		return true
	case <-ctx.Done():
		return false
	}
}

// interruptAfter makes the end of ctx stop what runs on c. The function it
// returns ends the watch.
func (c *sqliteConn) interruptAfter(ctx context.Context) (stop func()) {
	over := make(chan struct{})
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		tls := libc.NewTLS() // c's own is in use by the query
		defer tls.Close()
		tick := time.NewTicker(interruptStep)
		defer tick.Stop()
		for {
			sqlite3.Xsqlite3_interrupt(tls, c.db)
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		if !unwatch() {
			close(over)
			<-stopped
		}
	}
}

// prepareRow makes c.row fit for the rows of stmt.
func (c *sqliteConn) prepareRow(stmt uintptr) {
	n := int(sqlite3.Xsqlite3_column_count(c.tls, stmt))
	c.row = Row{Columns: make([]string, n), Values: make([]Value, n)}
	for i := range n {
		c.row.Columns[i] = libc.GoString(sqlite3.Xsqlite3_column_name(c.tls, stmt, int32(i)))
	}
}

// decodeRow fills c.row from the row at which stmt stands. Texts are SQLite's
// memory, valid up to the next step. SQLite has neither times nor bools:
// whatever a column was declared as, its value comes as it is stored.
func (c *sqliteConn) decodeRow(stmt uintptr) {
	for i := range c.row.Values {
		column := int32(i)
		var v Value
		switch sqlite3.Xsqlite3_column_type(c.tls, stmt, column) {
		case sqlite3.SQLITE_INTEGER:
			v = IntValue(sqlite3.Xsqlite3_column_int64(c.tls, stmt, column))
		case sqlite3.SQLITE_FLOAT:
			v = FloatValue(sqlite3.Xsqlite3_column_double(c.tls, stmt, column))
		case sqlite3.SQLITE_TEXT:
			p := sqlite3.Xsqlite3_column_text(c.tls, stmt, column)
			v = TextValue(cBytes(p, sqlite3.Xsqlite3_column_bytes(c.tls, stmt, column)))
		case sqlite3.SQLITE_BLOB:
			p := sqlite3.Xsqlite3_column_blob(c.tls, stmt, column)
			v = TextValue(cBytes(p, sqlite3.Xsqlite3_column_bytes(c.tls, stmt, column)))
		}
		c.row.Values[i] = v
	}
}

func cBytes(p uintptr, n int32) []byte {
	if p == 0 || n <= 0 {
		return nil
	}
	return libc.GoBytes(p, int(n))
}

// sqliteError is an error of the library.
type sqliteError struct {
	code    int32 // extended
	message string
}

func (e *sqliteError) Error() string { return fmt.Sprintf("%s (SQLite code %d)", e.message, e.code) }

// unreachable tells whether the file cannot be read at all, as opposed to a
// query that is wrong or comes at the wrong moment.
func (e *sqliteError) unreachable() bool {
	switch e.code & 0xff {
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR:
		return true
	case sqlite3.SQLITE_READONLY: // the files of WAL mode cannot be used
		return e.code != sqlite3.SQLITE_READONLY
	}
	return false
}

// failure returns the error for rc, in SQLite's words. A connection that saw
// one which is not about the statement alone is not used again.
func (c *sqliteConn) failure(rc int32) error {
	if rc == sqlite3.SQLITE_TOOBIG {
		return &limitError{int64(c.longest)}
	}
	if rc == sqlite3.SQLITE_AUTH {
		return errPragma
	}
	if rc&0xff != sqlite3.SQLITE_ERROR {
		c.bad = true
	}
	words := sqlite3.Xsqlite3_errstr(c.tls, rc)
	if c.db != 0 {
		words = sqlite3.Xsqlite3_errmsg(c.tls, c.db)
	}
	return &sqliteError{code: rc, message: libc.GoString(words)}
}
