package sources

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"sql2metrics/config"
)

// mysqlConn is one connection with what is used again for each of its results.
type mysqlConn struct {
	mysqlDriverConn
	socket  *mysqlSocket
	id      string // by which the server knows it
	version string // of the server
	zone    *time.Location
	limits  mysqlLimits
	limit   time.Duration // of the session, in milliseconds

	taken   bool // the statement under way was sent
	locked  bool // it may have left a lock to the session
	spoiled bool // it may be out of step, or a kill on its way to it

	row     Row
	cells   []driver.Value
	kinds   []mysqlKind
	scratch []byte
}

// mysqlDriverConn is what the driver's connections can do.
type mysqlDriverConn interface {
	driver.Conn
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

func dialMySQL(ctx context.Context, s config.Source, all *sockets) (*mysqlConn, error) {
	secret, err := password(ctx, s)
	if err != nil {
		return nil, err
	}
	cfg, err := mysqlConfig(s, secret)
	if err != nil {
		return nil, err
	}
	c, err := connectMySQL(ctx, s, cfg, all)
	if s.TLS.Mode == "allow" && mysqlCode(err) != 0 && cfg.Net != "unix" {
		// The server may want TLS of this account.
		encrypted := s.TLS
		encrypted.Mode = "require"
		if cfg.TLS, err = tlsConfig(encrypted, s.Host); err != nil {
			return nil, err
		}
		c, err = connectMySQL(ctx, s, cfg, all)
	}
	if err != nil {
		return nil, mysqlConnectError(cfg, err)
	}
	return c, nil
}

func connectMySQL(ctx context.Context, s config.Source, cfg *mysql.Config, all *sockets) (*mysqlConn, error) {
	c := &mysqlConn{}
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c.socket = newMySQLSocket(conn, all, s.MaxResultBytes)
		return c.socket, nil
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	opened, err := connector.Connect(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	c.mysqlDriverConn = opened.(mysqlDriverConn)
	if err := c.prepare(ctx, s.StartupSQL); err != nil {
		c.close()
		return nil, c.explain(err)
	}
	return c, nil
}

// exec runs a statement of which nothing but success is of interest. ctx ends
// the connection, not the statement.
func (c *mysqlConn) exec(ctx context.Context, statement string) error {
	_, err := c.ExecContext(ctx, statement, nil)
	return err
}

// begin makes c ready for a statement. It fails when the server has hung up
// since the last one.
func (c *mysqlConn) begin() error {
	c.taken = false
	c.socket.allow()
	err := c.ResetSession(context.Background())
	if err != nil {
		c.close()
	}
	return err
}

// killed takes note that the statement that ended with err was killed. Unless
// it tells of the kill, that may be meant for the next statement as the server
// sees it.
func (c *mysqlConn) killed(err error) {
	c.spoiled = c.spoiled || mysqlCode(err) != queryInterrupted
}

func (c *mysqlConn) alive() bool    { return c.IsValid() }
func (c *mysqlConn) idle() bool     { return c.IsValid() && !c.spoiled && !c.locked }
func (c *mysqlConn) accepted() bool { return c.taken }

// close implements [connection]. Saying goodbye takes one packet, which the
// socket's buffer holds.
func (c *mysqlConn) close() { _ = c.Close() }

// explain adds to an error of the driver what it kept to itself: why the
// socket failed.
func (c *mysqlConn) explain(err error) error {
	if err == nil || c.socket == nil || c.socket.err == nil || !errors.Is(err, mysql.ErrInvalidConn) && !errors.Is(err, driver.ErrBadConn) {
		return err
	}
	return c.socket.err
}

// mysqlSocket bounds what a server, or what answers in its place, can make the
// driver hold for one row, and remembers why it failed.
type mysqlSocket struct {
	net.Conn
	plain net.Conn
	limit int64 // max_result_bytes
	left  int64 // may be read up to the end of the row
	err   error
}

// rowSlack is what the protocol, the driver's buffer and TLS take beyond a row.
const rowSlack = 256 << 10

func newMySQLSocket(plain net.Conn, all *sockets, limit int64) *mysqlSocket {
	if limit <= 0 || limit > maxMessage {
		limit = maxMessage
	}
	s := &mysqlSocket{Conn: &mysqlGreeter{Conn: all.track(plain)}, plain: plain, limit: limit}
	s.allow()
	return s
}

// allow lets the next row be read.
func (s *mysqlSocket) allow() { s.left = s.limit + s.limit/8 + rowSlack }

// Read implements [net.Conn].
func (s *mysqlSocket) Read(b []byte) (int, error) {
	if s.left <= 0 {
		s.err = &limitError{s.limit}
		return 0, s.err
	}
	n, err := s.Conn.Read(b)
	s.left -= int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

// SyscallConn implements [syscall.Conn]: with it the driver looks whether the
// server has hung up.
func (s *mysqlSocket) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.plain.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
