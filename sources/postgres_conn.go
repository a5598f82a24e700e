package sources

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"sql2metrics/config"
)

// maxMessage bounds what a server, or what answers in its place, can make us
// allocate for one message.
const maxMessage = 64 << 20

// pgConn is one connection with what is used again for each of its results.
type pgConn struct {
	*pgconn.PgConn
	startup []string // statements that each transaction begins with
	reached bool     // was alive when the statement under way reached it

	row     Row
	decode  []pgDecoder
	scratch []byte
}

func dialPostgres(ctx context.Context, s config.Source, all *sockets) (*pgConn, error) {
	secret, err := password(ctx, s)
	if err != nil {
		return nil, err
	}
	cfg, err := pgConfig(s, secret)
	if err != nil {
		return nil, err
	}
	cfg.MaxProtocolMessageBodyLen = maxMessage
	if s.MaxResultBytes > 0 {
		cfg.MaxProtocolMessageBodyLen = int(min(s.MaxResultBytes, maxMessage))
	}
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgCancel{conn: c}
	}
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return all.track(conn), nil
	}
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pgConnectError(cfg, err)
	}
	if err := pgStartUp(ctx, c, s.StartupSQL); err != nil {
		_ = c.Close(ctx)
		return nil, err
	}
	return &pgConn{PgConn: c, startup: s.StartupSQL}, nil
}

// pgStartUp tries the statements of startup_sql, so that one that fails keeps
// the source from coming up. Nothing of them is left: behind a pooler the
// session is the application's next.
func pgStartUp(ctx context.Context, c *pgconn.PgConn, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	err := c.Exec(ctx, "BEGIN READ ONLY").Close()
	if err != nil {
		return err
	}
	for i, statement := range statements {
		if err := c.ExecParams(ctx, statement, nil, nil, nil, nil).Read().Err; err != nil {
			// Behind a pooler, hanging up may leave the transaction for others to end.
			_ = c.Exec(ctx, "ROLLBACK").Close()
			return startupError(i, err)
		}
	}
	return c.Exec(ctx, "ROLLBACK").Close()
}

func (c *pgConn) alive() bool    { return !c.IsClosed() }
func (c *pgConn) idle() bool     { return c.alive() && !c.IsBusy() && c.TxStatus() == 'I' }
func (c *pgConn) accepted() bool { return c.reached }

// close implements [connection]. It waits for the server to hang up too, so
// that the next connection is not one more than the server counts. pgconn
// itself closes a connection on which a query was cut off, in the background.
func (c *pgConn) close() {
	if c.IsClosed() {
		<-c.CleanupDone()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), hangUpWait)
	defer cancel()
	_ = c.Conn().SetDeadline(time.Now().Add(hangUpWait))
	c.Frontend().Send(&pgproto3.Terminate{})
	if err := c.Frontend().Flush(); err == nil {
		_, _ = io.Copy(io.Discard, c.Conn())
	}
	_ = c.Close(ctx)
}

// asLimit replaces what pgconn says of a row that is too long.
func asLimit(err error) error {
	var long *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &long) {
		return &limitError{int64(long.MaxExpectedBodyLen)}
	}
	return err
}
