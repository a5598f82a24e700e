package sources

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"sql2metrics/config"
)

const (
	// maxConnAge bounds how long a connection is kept, so that a failover or
	// a changed address is followed.
	maxConnAge = 30 * time.Minute

	// hangUpWait is how long a clean goodbye may take.
	hangUpWait = time.Second

	// maxMessage bounds what a server, or what answers in its place, can make
	// us allocate for one message.
	maxMessage = 64 << 20
)

// pgConn is one connection with what is used again for each of its results.
type pgConn struct {
	*pgconn.PgConn
	opened   time.Time
	used     bool // has run something
	accepted bool // was alive when the statement under way reached it

	row     Row
	decode  []pgDecoder
	scratch []byte
}

// pgPool holds at most as many connections as it has slots. A connection that
// is being closed keeps its slot until the socket is gone.
type pgPool struct {
	source  config.Source
	now     func() time.Time
	breaker breaker
	slots   slots
	closing sync.WaitGroup // connections that pgconn closes in the background
	longest int            // bytes of a message

	mu      sync.Mutex
	idle    []*pgConn // the most recently used last
	sockets map[*pgSocket]struct{}
}

func newPgPool(s config.Source, waited func(time.Duration), now func() time.Time) (*pgPool, error) {
	if _, err := pgConfig(s); err != nil && !errors.As(err, new(*fileError)) {
		return nil, err
	}
	return &pgPool{
		source:  s,
		now:     now,
		breaker: breaker{now: now},
		slots:   newSlots(s.MaxConnections, waited),
		sockets: make(map[*pgSocket]struct{}),
		longest: maxMessage,
	}, nil
}

// acquire returns a connection that nobody else uses, a new one if fresh. It
// waits for a slot at most as long as wait. The caller releases it.
func (p *pgPool) acquire(ctx context.Context, wait time.Duration, fresh bool) (*pgConn, error) {
	if err := p.slots.take(ctx, wait); err != nil {
		return nil, err
	}
	if fresh {
		p.dropIdle()
	}
	for {
		c := p.popIdle()
		if c == nil {
			break
		}
		if p.now().Sub(c.opened) < maxConnAge {
			c.accepted = false
			return c, nil
		}
		hangUp(c)
	}
	c, err := p.connect(ctx)
	if err != nil {
		p.slots.give()
		return nil, err
	}
	return c, nil
}

// release takes a connection back, or sees to its end when it cannot be used
// again.
func (p *pgPool) release(c *pgConn) {
	switch {
	case c.IsClosed():
		p.closing.Go(func() {
			<-c.CleanupDone()
			p.slots.give()
		})
		return
	case c.IsBusy() || c.TxStatus() != 'I':
		hangUp(c)
	default:
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	}
	p.slots.give()
}

func (p *pgPool) popIdle() *pgConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c
}

func (p *pgPool) dropIdle() {
	for c := p.popIdle(); c != nil; c = p.popIdle() {
		hangUp(c)
	}
}

// close ends all connections. Nobody may hold one any more.
func (p *pgPool) close() {
	p.dropIdle()
	p.mu.Lock()
	open := make([]*pgSocket, 0, len(p.sockets))
	for s := range p.sockets {
		open = append(open, s)
	}
	p.mu.Unlock()
	for _, s := range open {
		_ = s.Close()
	}
	p.closing.Wait()
}

func hangUp(c *pgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpWait)
	defer cancel()
	_ = c.Close(ctx)
}

// connect opens a connection unless the last attempt has just failed.
func (p *pgPool) connect(ctx context.Context) (*pgConn, error) {
	attempt, err := p.breaker.allow()
	if err != nil {
		return nil, err
	}
	c, err := p.dial(ctx)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, context.Cause(ctx)
		}
		err = &ConnectError{Source: p.source.Name, Err: err}
	}
	p.breaker.done(attempt, err)
	return c, err
}

func (p *pgPool) dial(ctx context.Context) (*pgConn, error) {
	cfg, err := pgConfig(p.source)
	if err != nil {
		return nil, err
	}
	cfg.MaxProtocolMessageBodyLen = p.longest
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: confirmWait}
	}
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return p.track(conn), nil
	}
	if p.source.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.source.Timeout)
		defer cancel()
	}
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pgConnectError(cfg, err)
	}
	return &pgConn{PgConn: c, opened: p.now()}, nil
}

// pgSocket is a socket that the pool knows of, so that closing the source
// need not wait for a server that does not answer.
type pgSocket struct {
	net.Conn
	pool *pgPool
}

func (p *pgPool) track(c net.Conn) net.Conn {
	s := &pgSocket{c, p}
	p.mu.Lock()
	p.sockets[s] = struct{}{}
	p.mu.Unlock()
	return s
}

// Close implements [net.Conn].
func (s *pgSocket) Close() error {
	s.pool.mu.Lock()
	delete(s.pool.sockets, s)
	s.pool.mu.Unlock()
	return s.Conn.Close()
}
