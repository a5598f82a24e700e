package sources

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"sql2metrics/config"
)

// clickhouse is a ClickHouse server, or one of several that hold the same.
type clickhouse struct {
	server[chConn]
	ids     string // what the ids of our queries begin with
	queries atomic.Uint64
}

// chConn is a connection of one of ClickHouse's protocols.
type chConn interface {
	connection
	// run sends a statement and calls each for its rows. When ctx ends, or each
	// returns an error, it has the server end the statement and returns the
	// cause; it returns a [*chOutlivedError] if the server does not say that it
	// has ended.
	run(ctx context.Context, s chStatement, each func(*Row) error) error
	// answer asks the server for nothing but an answer.
	answer(ctx context.Context) error
	// session tells what the server and the account are.
	session() chSession
}

// chStatement is a statement with what is sent along.
type chStatement struct {
	id       string // "": the server makes one
	sql      string
	settings []chSetting
}

// chSetting is a setting for one statement. Over the native protocol, servers
// before 20.1 take numbers only.
type chSetting struct {
	name  string
	value any // int or string
}

// chError is what a server says of a statement or a login.
type chError struct {
	code    int
	message string
}

func (e *chError) Error() string { return fmt.Sprintf("code %d: %s", e.code, e.message) }

// Codes of the server's errors that something is decided on.
const (
	chTimeoutExceeded = 159
	chTooManyRows     = 396 // or bytes of a result
	chUnknownUser     = 192
	chWrongPassword   = 193
	chNeedsPassword   = 194
	chAuthentication  = 516
	chUnknownDatabase = 81
)

// chCode returns the code of a server's error, or 0.
func chCode(err error) int {
	var said *chError
	if errors.As(err, &said) {
		return said.code
	}
	return 0
}

// chMessage shortens what a server says to what helps: without the name of the
// class, the stack trace and the version, and in one line.
func chMessage(text string) string {
	text, _, _ = strings.Cut(text, "Stack trace:")
	text, _, _ = strings.Cut(text, ", e.what() =")
	for _, prefix := range []string{"DB::NetException:", "DB::Exception:"} {
		text = strings.TrimPrefix(strings.TrimSpace(text), prefix)
	}
	return chLine(text)
}

// chLine makes one line of what a server says.
func chLine(text string) string {
	return strings.ToValidUTF8(strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " "), "�")
}

// chOutlivedError says that a statement was cancelled and nobody knows whether
// it has ended.
type chOutlivedError struct {
	id  string
	err error // why it was cancelled
}

func (e *chOutlivedError) Error() string { return e.err.Error() }
func (e *chOutlivedError) Unwrap() error { return e.err }

// chSession is what is asked of a server once per connection.
type chSession struct {
	major int // of the version
	// readonly is what the account's profile holds: 0, all may be set and
	// written; 2, all may be set; 1, nothing may.
	readonly int
}

func (s chSession) session() chSession { return s }

// chStrings is the first version that settings other than whole numbers are
// sent to.
const chStrings = 22

// ask fills in s.
func (s *chSession) ask(ctx context.Context, c chConn) error {
	asked := false
	const sql = "SELECT version(), value FROM system.settings WHERE name = 'readonly'"
	err := c.run(ctx, chStatement{sql: sql}, func(r *Row) error {
		version, _, _ := strings.Cut(string(r.Values[0].AppendText(nil)), ".")
		var err error
		if s.major, err = strconv.Atoi(version); err != nil {
			return fmt.Errorf("server has version %s, which is no number", version)
		}
		readonly, err := r.Values[1].Float()
		s.readonly, asked = int(readonly), true
		return err
	})
	if err == nil && !asked {
		err = errors.New("server does not say whether the account is read-only")
	}
	if err != nil {
		return fmt.Errorf("ask for the account's readonly: %w", err)
	}
	return nil
}

// settings returns what goes with q: the limits, and readonly where the account
// does not have it.
func (s chSession) settings(source config.Source, q config.Query) (settings []chSetting) {
	if s.readonly == 1 {
		return nil
	}
	set := func(name string, value any) { settings = append(settings, chSetting{name, value}) }
	if source.MaxResultBytes > 0 {
		// The server counts what a block takes in its memory, which is some
		// bytes more per text.
		set("max_result_bytes", int(min(source.MaxResultBytes, math.MaxInt/chMemory)*chMemory))
	}
	if s.major >= chStrings {
		set("log_comment", chClient+" source="+source.Name+" query="+q.Name)
		if q.Timeout > 0 {
			set("max_execution_time", strconv.FormatFloat(q.Timeout.Seconds(), 'f', -1, 64))
		}
		if q.Policies.RowLimit > 0 {
			// The server stops a row behind the limit, which is for the reader to
			// see and to decide on.
			set("max_result_rows", q.Policies.RowLimit+1)
			set("result_overflow_mode", "break")
		}
		if source.Compression == "zstd" {
			set("network_compression_method", "zstd")
		}
	} else {
		if q.Timeout > 0 {
			set("max_execution_time", int((q.Timeout+time.Second-1)/time.Second))
		}
		// This one fails a result that is longer.
		if q.Policies.RowLimit > 0 && q.Policies.OnLimit != config.OnLimitTruncate {
			set("max_result_rows", q.Policies.RowLimit)
		}
	}
	const jsonAsText = 25
	if s.major >= jsonAsText {
		set("output_format_native_write_json_as_string", 1)
	}
	if s.readonly == 0 {
		set("readonly", 1) // the last: it keeps others from being set
	}
	return settings
}

func openClickHouse(s config.Source, o Options, now func() time.Time) (Source, error) {
	s, err := chResolve(s)
	if err != nil {
		return nil, err
	}
	c := &clickhouse{ids: chClient + "-" + rand.Text() + "-"}
	c.server = server[chConn]{
		source: s,
		pool: newPool(s, o, now, func(ctx context.Context, all *sockets) (chConn, error) {
			return dialClickHouse(ctx, s, all)
		}),
		query: c.run,
		ping:  c.answer,
		facts: c.facts,
	}
	return c, nil
}

// run runs q under an id by which it can be killed.
func (c *clickhouse) run(ctx context.Context, conn chConn, q config.Query, each func(*Row) error) error {
	ctx, cancel := withTimeout(ctx, q.Timeout)
	defer cancel()
	err := conn.run(ctx, chStatement{
		id:       c.ids + strconv.FormatUint(c.queries.Add(1), 10),
		sql:      comment(c.source.Name, q.Name) + q.SQL,
		settings: conn.session().settings(c.source, q),
	}, each)
	var outlived *chOutlivedError
	switch {
	case errors.As(err, &outlived):
		c.kill(q.Name, outlived.id)
	case chCode(err) == chTimeoutExceeded && ctx.Err() == nil:
		return &timeoutError{q.Timeout}
	case chCode(err) == chTooManyRows:
		return fmt.Errorf("%w; return fewer rows or columns, or raise row_limit or max_result_bytes", err)
	}
	return asTimeout(ctx, q.Timeout, err)
}

// killWait is how long it may take to connect to a server and have a query
// killed.
const killWait = 10 * time.Second

// kill ends a query that its own connection could not end, and returns when it
// has ended or after confirmWait. What then is left to do goes on until killWait
// or the end of the source.
func (c *clickhouse) kill(query, id string) {
	ctx, end, err := c.life.begin(context.Background())
	wait := killWait
	if err != nil { // Close waits for the caller, and ends the query like this
		end, wait = func() {}, confirmWait
	}
	killed := make(chan struct{})
	c.pool.closing.Go(func() {
		defer close(killed)
		defer end()
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		err := c.pool.outside(ctx, func(conn chConn) error {
			return conn.run(ctx, chStatement{sql: "KILL QUERY WHERE query_id = '" + id + "' SYNC"}, noRow)
		})
		if err != nil {
			c.pool.log.Warn("a cancelled query may still run on the server", "query", query, "query_id", id, "err", err)
		}
	})
	late := time.NewTimer(confirmWait)
	defer late.Stop()
	select {
	case <-killed:
	case <-late.C:
	}
}

func noRow(*Row) error { return nil }

// answer has the server answer nothing.
func (c *clickhouse) answer(ctx context.Context, conn chConn) error {
	ctx, cancel := withTimeout(ctx, c.source.Timeout)
	defer cancel()
	return asTimeout(ctx, c.source.Timeout, conn.answer(ctx))
}
