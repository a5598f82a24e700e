// Package sources runs queries on databases and hands their rows on. The files
// of a kind of source begin with its name, the others are of all kinds. Drivers'
// types never leave the package: a cell is a [Value].
//
// To add a database server, give [server] a connection and how to run a query
// on it, add its case to [Open] and its row to the conformance table.
package sources

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"sql2metrics/config"
)

// Source is one database. All methods may be called from several goroutines.
type Source interface {
	// Query runs q and calls each once per result row, in order. The Row is
	// valid until each returns. Query stops at the first error from each and
	// returns it unchanged. It never leaves a query running on the server:
	// q.Timeout goes to the server as its own limit, and the end of ctx is
	// sent to it as a cancel. A statement that [CheckStatement] refuses is not
	// sent.
	//
	// All other errors name the source and the query. Under the names there is
	// the cause of ctx when it ended, a [*ConnectError] when the server could
	// not be reached or refused the login, a [*BusyError] when no connection
	// became free within q.Timeout, and [context.DeadlineExceeded] when the
	// query then ran for longer than q.Timeout.
	Query(ctx context.Context, q config.Query, each func(*Row) error) error

	// Ping asks the server for nothing but an answer. It uses a connection of
	// the pool, like a query does.
	Ping(ctx context.Context) error

	// Close ends all connections. Queries still running are cancelled and
	// Close waits for them.
	Close() error
}

// Row is one result row. Columns and Values are of equal length.
type Row struct {
	// Columns are the names as the server spelled them. For all rows of one
	// result it is the same slice, so a caller may look names up once.
	Columns []string
	Values  []Value
}

// Options are what all sources of a process share.
type Options struct {
	Logger *slog.Logger // what a source mends by itself, and returns to nobody; nil discards it
	// Waited is told for how long a query or a ping waited because all
	// connections were busy; nil: nobody is. It is called by any goroutine.
	Waited func(time.Duration)
	// Opened is told of each connection that was opened, and Connections of each
	// change of how many a source has in a state, for those sources that keep a
	// pool; nil: nobody is. They are called by any goroutine, and return at once.
	Opened      func()
	Connections func(state ConnectionState, by int)
}

// ConnectionState is what a connection to a server does.
type ConnectionState string

// The states of a connection. When a source is closed, it has none in either.
const (
	ConnectionIdle ConnectionState = "idle" // waits for a query
	ConnectionBusy ConnectionState = "busy" // runs a query, or is being closed
)

// Open returns the source that s describes. It connects to nothing: a server
// that is down is reported by each query until it comes back. An error is
// something that no server could mend, such as a malformed data_source_name;
// it shows no secret and leaves it to the caller to name the source. The
// caller closes the source.
func Open(s config.Source, o Options) (Source, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("source", s.Name)
	if err := checkStartup(s); err != nil {
		return nil, err
	}
	switch s.Type {
	case config.TypePostgres:
		return openPostgres(s, o, time.Now)
	case config.TypeClickHouse:
		return openClickHouse(s, o, time.Now)
	case config.TypeMySQL:
		return openMySQL(s, o, time.Now)
	case config.TypeRedis:
		return openRedis(s, o, time.Now)
	case config.TypeSQLite:
		return openSQLite(s, o)
	case config.TypeHTTPJSON:
		return openHTTPJSON(s, o, time.Now)
	}
	return nil, fmt.Errorf("type %q is not known", s.Type)
}
