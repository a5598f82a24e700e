package sources

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"sql2metrics/config"
)

// sqlite is one SQLite database file, read beside the application that owns
// it.
type sqlite struct {
	name    string
	path    string // absolute
	startup []string
	timeout time.Duration
	limit   int64 // max_result_bytes
	life    lifetime
	slots   slots

	mu   sync.Mutex
	idle []*sqliteConn
}

func openSQLite(s config.Source, o Options) (Source, error) {
	path := s.Path
	if s.DSN.IsSet() {
		var err error
		if path, err = sqlitePath(s.DSN.Reveal()); err != nil {
			return nil, err
		}
	}
	if path == "" || path == ":memory:" {
		return nil, errors.New("no file to read; set path to the database of an application")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find path: %w", err)
	}
	return &sqlite{
		name:    s.Name,
		path:    path,
		startup: s.StartupSQL,
		timeout: s.Timeout,
		limit:   s.MaxResultBytes,
		slots:   newSlots(s.MaxConnections, o.Waited),
	}, nil
}

// sqlitePath returns the file that a data_source_name means: a path, or
// SQLite's own form file:path?mode=ro. Other parameters would be without
// effect here, so they are refused.
func sqlitePath(dsn string) (string, error) {
	rest, ok := strings.CutPrefix(dsn, "file:")
	if !ok {
		return dsn, nil
	}
	path, query, _ := strings.Cut(rest, "?")
	if after, ok := strings.CutPrefix(path, "//"); ok {
		host, file, _ := strings.Cut(after, "/")
		if host != "" && host != "localhost" {
			return "", fmt.Errorf("data_source_name: file://%s is on another host; write file:///path", host)
		}
		path = "/" + file
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("data_source_name: %w", err)
	}
	for name := range parameters {
		if name != "mode" || parameters.Get(name) != "ro" {
			return "", fmt.Errorf("data_source_name: parameter %s=%s is not supported; the file is always opened with mode=ro", name, parameters.Get(name))
		}
	}
	path, err = url.PathUnescape(path)
	if err != nil {
		return "", fmt.Errorf("data_source_name: %w", err)
	}
	return path, nil
}

// Query implements [Source].
func (s *sqlite) Query(ctx context.Context, q config.Query, each func(*Row) error) error {
	if err := CheckStatement(config.Source{Type: config.TypeSQLite}, q); err != nil {
		return queryError(ctx, s.name, q, err)
	}
	ctx, end, err := s.life.begin(ctx)
	if err != nil {
		return queryError(ctx, s.name, q, err)
	}
	defer end()
	err = s.onConn(ctx, q.Timeout, func(ctx context.Context, c *sqliteConn) error {
		if err := c.admit(ctx, q.Requires); err != nil {
			return err
		}
		return c.query(ctx, q.SQL, bounded(each, s.limit))
	})
	return queryError(ctx, s.name, q, err)
}

// Ping implements [Source]. It reads the file's header.
func (s *sqlite) Ping(ctx context.Context) error {
	ping := config.Query{Name: pingName}
	ctx, end, err := s.life.begin(ctx)
	if err != nil {
		return queryError(ctx, s.name, ping, err)
	}
	defer end()
	err = s.onConn(ctx, s.timeout, func(ctx context.Context, c *sqliteConn) error {
		return c.query(ctx, "PRAGMA schema_version", func(*Row) error { return nil })
	})
	return queryError(ctx, s.name, ping, err)
}

// Close implements [Source].
func (s *sqlite) Close() error {
	s.life.close()
	for c := s.popIdle(); c != nil; c = s.popIdle() {
		c.close()
	}
	return nil
}

// onConn runs fn on a connection that nobody else uses, with ctx limited to
// limit. It waits for one as long as that.
func (s *sqlite) onConn(ctx context.Context, limit time.Duration, fn func(context.Context, *sqliteConn) error) error {
	if err := s.slots.take(ctx, limit); err != nil {
		return err
	}
	defer s.slots.give()
	timed := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		timed, cancel = context.WithTimeoutCause(ctx, limit, &timeoutError{limit})
		defer cancel()
	}
	c, err := s.connection(timed)
	if err != nil {
		return &ConnectError{Source: s.name, Err: err}
	}
	err = fn(timed, c)
	locked := c.locked
	if c.reusable() {
		s.mu.Lock()
		s.idle = append(s.idle, c)
		s.mu.Unlock()
	} else {
		c.close()
	}
	var failed *sqliteError
	if errors.As(err, &failed) {
		switch {
		case timed.Err() != nil && locked:
			return fmt.Errorf("database was locked: %w", context.Cause(timed))
		case timed.Err() != nil:
			return context.Cause(timed)
		case failed.unreachable():
			if c.bystander && failed.code&0xff == sqlite3.SQLITE_CANTOPEN {
				err = explainBystander(s.path, c.file, err)
			}
			return &ConnectError{Source: s.name, Err: fmt.Errorf("open %s: %w", s.path, err)}
		}
	}
	return err
}

func (s *sqlite) popIdle() *sqliteConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	c := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	return c
}

// connection returns an idle connection to the file that is at the path now,
// or a new one. An application may put another file in its place, and what is
// open would stay the old one for ever.
func (s *sqlite) connection(ctx context.Context) (*sqliteConn, error) {
	file, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("find database: %w", err)
	}
	if !file.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file", s.path)
	}
	for c := s.popIdle(); c != nil; c = s.popIdle() {
		if os.SameFile(c.file, file) {
			return c, nil
		}
		c.close()
	}
	c, err := openSQLiteConn(s.path, file, s.limit)
	if err != nil {
		return nil, err
	}
	c.authorize(authorizeStartup)
	for i, statement := range s.startup {
		if err := c.query(ctx, statement, func(*Row) error { return nil }); err != nil {
			c.close()
			return nil, startupError(i, err)
		}
	}
	c.authorize(authorizeQuery)
	return c, nil
}
