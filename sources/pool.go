package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sql2metrics/config"
)

// hangUpWait is how long a clean goodbye to a server may take.
const hangUpWait = time.Second

// connection is one connection as its driver has it. A pool hands it to one
// goroutine at a time.
type connection interface {
	// alive tells whether the driver still takes it for open.
	alive() bool
	// idle tells whether it is alive, between statements and with no transaction
	// open: the next query may run on it.
	idle() bool
	// accepted tells whether the server was there to take the last statement:
	// if so it may have run, and is not sent again.
	accepted() bool
	// close ends it and returns when its socket is gone, within some
	// hangUpWait.
	close()
}

// pool holds at most as many connections as it has slots. A connection that
// is being closed keeps its slot until the socket is gone.
type pool[C connection] struct {
	source  config.Source
	log     *slog.Logger
	now     func() time.Time
	dial    func(context.Context, *sockets) (C, error)
	breaker *breaker
	logins  *logins
	slots   slots
	closing sync.WaitGroup // connections that end in the background
	sockets sockets
	killing chan struct{} // see outside
	counts  connectionCounts

	mu   sync.Mutex
	free []*pooled[C] // the most recently used last
}

// pooled is a connection with what its pool knows of it.
type pooled[C connection] struct {
	connection C
	opened     time.Time
	used       bool // has run something
	broken     bool // its driver is in an unknown state
}

// newPool returns a pool that connects by dial, which tells where to a
// connection failed and what to do about it, and has every socket it opens
// tracked.
func newPool[C connection](s config.Source, o Options, now func() time.Time, dial func(context.Context, *sockets) (C, error)) *pool[C] {
	return &pool[C]{
		source:  s,
		log:     o.Logger,
		now:     now,
		dial:    dial,
		breaker: newBreaker(now),
		logins:  newLogins(s, now),
		slots:   newSlots(s.MaxConnections, o.Waited),
		killing: make(chan struct{}, 1),
		counts:  newConnectionCounts(o),
	}
}

// use runs fn on a connection that nobody else uses, and waits for one as long
// as wait. A pooled connection that turns out to be dead before it accepted the
// statement is replaced once by a new one, so that a restart of the server
// costs no round. A statement that was accepted is never run again: it may be
// what ended the connection.
func (p *pool[C]) use(ctx context.Context, wait time.Duration, fn func(C) error) error {
	for fresh := false; ; fresh = true {
		c, err := p.acquire(ctx, wait, fresh)
		if err != nil {
			return err
		}
		pooled := c.used
		err = guard(func() error { return fn(c.connection) })
		c.used, c.broken = true, errors.As(err, new(*panicError))
		alive, accepted := c.connection.alive(), c.connection.accepted()
		p.release(c)

		var limit *limitError
		switch {
		case err == nil || alive || ctx.Err() != nil:
			return err
		case errors.As(err, new(*rowError)) || errors.As(err, &limit) || errors.Is(err, context.DeadlineExceeded):
			return err
		case accepted:
			return fmt.Errorf("connection ended during the statement; the server's log may say why: %w", err)
		case !pooled || fresh:
			return &ConnectError{Source: p.source.Name, Err: err}
		}
		p.log.Debug("idle connection was dead; the query goes to a new one", "err", err)
	}
}

// outside runs fn on a new connection beyond the slots, one at a time: it is
// how a query is ended when its own connection cannot be spoken on.
func (p *pool[C]) outside(ctx context.Context, fn func(C) error) error {
	select {
	case p.killing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.killing }()
	var c C
	err := p.logins.try(ctx, func() (err error) {
		c, err = p.open(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to end a query: %w", err)
	}
	p.counts.open()
	defer p.counts.change(ConnectionBusy, -1)
	defer c.close()
	return guard(func() error { return fn(c) })
}

// open opens a connection. Of one that its driver fails to open by a panic, the
// sockets are closed.
func (p *pool[C]) open(ctx context.Context) (c C, err error) {
	opened := &sockets{of: &p.sockets}
	err = guard(func() (err error) {
		c, err = p.dial(ctx, opened)
		return err
	})
	if errors.As(err, new(*panicError)) {
		opened.close()
	}
	return c, err
}

// acquire returns a connection that nobody else uses, a new one if fresh. It
// waits for a slot at most as long as wait. The caller releases it.
func (p *pool[C]) acquire(ctx context.Context, wait time.Duration, fresh bool) (*pooled[C], error) {
	if err := p.slots.take(ctx, wait); err != nil {
		return nil, err
	}
	if fresh {
		p.dropFree()
	}
	for {
		c := p.popFree()
		if c == nil {
			break
		}
		if p.now().Sub(c.opened) < p.source.MaxConnectionLifetime || p.source.MaxConnectionLifetime == 0 {
			p.counts.change(ConnectionBusy, 1)
			return c, nil
		}
		c.connection.close()
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
func (p *pool[C]) release(c *pooled[C]) {
	if c.broken || !c.connection.idle() {
		p.closing.Go(func() {
			c.connection.close()
			p.counts.change(ConnectionBusy, -1)
			p.slots.give()
		})
		return
	}
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
	p.counts.change(ConnectionBusy, -1)
	p.counts.change(ConnectionIdle, 1)
	p.slots.give()
}

func (p *pool[C]) popFree() *pooled[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return nil
	}
	c := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.counts.change(ConnectionIdle, -1)
	return c
}

func (p *pool[C]) dropFree() {
	for c := p.popFree(); c != nil; c = p.popFree() {
		c.connection.close()
	}
}

// close ends all connections. Nobody may hold one any more.
func (p *pool[C]) close() {
	p.dropFree()
	p.sockets.close()
	p.closing.Wait()
}

// connect opens a connection unless the last attempt has just failed. One is
// opened at a time.
func (p *pool[C]) connect(ctx context.Context) (*pooled[C], error) {
	var c C
	err := p.logins.try(ctx, func() error {
		return p.breaker.try(ctx, func() (err error) {
			timed := ctx
			if p.source.Timeout > 0 {
				var cancel context.CancelFunc
				timed, cancel = context.WithTimeout(ctx, p.source.Timeout)
				defer cancel()
			}
			if c, err = p.open(timed); err != nil {
				return &ConnectError{Source: p.source.Name, Err: err}
			}
			return nil
		})
	})
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	p.counts.open()
	return &pooled[C]{connection: c, opened: p.now()}, nil
}
