package sources

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sql2metrics/config"
)

const (
	// scriptWait is how long a script that is to be killed may take to end
	// before its connection is dropped. A server listens to no SCRIPT KILL until
	// a script has run for its busy-reply-threshold, 5 s unless it is set.
	scriptWait = 10 * time.Second

	// busySilence is how long after it was sent a script may keep the server from
	// saying anything, even that it is busy: the threshold, and something more.
	busySilence = 6 * time.Second

	// busyWait is how long after the server told that it is busy its other
	// answers may take to arrive.
	busyWait = 50 * time.Millisecond
)

// redisServer is a Redis server, the master that its Sentinels name, or a
// cluster.
type redisServer struct{ server[*redisConn] }

func openRedis(s config.Source, o Options, now func() time.Time) (Source, error) {
	s, err := redisSource(s)
	if err != nil {
		return nil, err
	}
	r := &redisServer{}
	r.server = server[*redisConn]{
		source: s,
		pool: newPool(s, o, now, func(ctx context.Context, all *sockets) (*redisConn, error) {
			return dialRedis(ctx, s, all)
		}),
		query: r.run,
		ping:  r.answer,
		facts: r.facts,
	}
	return r, nil
}

// answer has the server answer PING.
func (r *redisServer) answer(ctx context.Context, c *redisConn) error {
	if err := c.begin(); err != nil {
		return err
	}
	ctx, cancel := redisTimeout(ctx, r.source.Timeout)
	defer cancel()
	_, err := c.home.do(ctx, "PING")
	return redisCause(ctx, err)
}

// run runs one command. Redis has no time limit for it: what takes long is a
// script, which can be killed, or a pattern, which is many commands.
func (r *redisServer) run(ctx context.Context, c *redisConn, q config.Query, each func(*Row) error) error {
	s, err := parseRedis(q.SQL)
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	ctx, cancel := redisTimeout(ctx, q.Timeout)
	defer cancel()
	return redisCause(ctx, r.query(ctx, c, s, &redisRows{each: each}))
}

// redisTimeout returns ctx with the time limit of a query, if it has one. The
// server knows nothing of it, so there is nothing to wait for behind it.
func redisTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, &timeoutError{limit})
}

// redisCause replaces what came of a command that was interrupted by why it
// was.
func redisCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.As(err, new(*rowError)) {
		return err
	}
	return context.Cause(ctx)
}

// query runs s where its keys are, or on every master of a cluster when it has
// none: then each row begins with the node.
func (r *redisServer) query(ctx context.Context, c *redisConn, s redisStatement, w *redisRows) error {
	flags, err := c.flagsOf(ctx, s)
	if err != nil {
		return err
	}
	if err := flags.check(s.name()); err != nil {
		return err
	}
	if s.match != nil {
		return r.queryKeys(ctx, c, s, w)
	}
	if !c.source.Cluster {
		return r.queryNode(ctx, c, c.home, s, w)
	}
	if key, has := s.key(flags); has {
		return r.queryOwner(ctx, c, key, s, w)
	}
	masters, err := c.masters(ctx)
	if err != nil {
		return err
	}
	w.lead = []string{"node"}
	for _, address := range masters {
		n, err := c.node(ctx, address)
		if err != nil {
			return err
		}
		w.values = []Value{TextValue([]byte(address))}
		if err := r.queryNode(ctx, c, n, s, w); err != nil {
			return fmt.Errorf("node %s: %w", address, err)
		}
	}
	return nil
}

// queryNode runs s on one server.
func (r *redisServer) queryNode(ctx context.Context, c *redisConn, n *redisNode, s redisStatement, w *redisRows) error {
	if err := c.prepare(ctx, n); err != nil {
		return err
	}
	answer, err := r.exec(ctx, n, s)
	if err != nil {
		return err
	}
	return s.shape()(&answer, s.args, w)
}

// queryOwner runs s on the node of a cluster that has its key, and goes where
// it is sent when slots have moved.
func (r *redisServer) queryOwner(ctx context.Context, c *redisConn, key string, s redisStatement, w *redisRows) error {
	address, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	ask := false
	for range maxRedirects {
		n, err := c.node(ctx, address)
		if err != nil {
			return err
		}
		if ask {
			if _, err := n.do(ctx, "ASKING"); err != nil {
				return err
			}
		}
		answer, err := r.exec(ctx, n, s)
		if err == nil {
			return s.shape()(&answer, s.args, w)
		}
		var moved bool
		if address, ask, moved = redirect(err); !moved {
			return err
		}
		if !ask {
			if err := c.loadSlots(ctx, true); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the cluster sent the command on %d times, its slots are moving; the next run may find the key", maxRedirects)
}

// exec runs s on one server. When ctx ends, a script is killed and anything
// else is given up: the server runs it to its end, which is near.
func (r *redisServer) exec(ctx context.Context, n *redisNode, s redisStatement) (reply, error) {
	args := make([]any, len(s.args))
	for i, a := range s.args {
		args[i] = a
	}
	var answer reply
	err := r.interruptible(ctx, n, s, func() (err error) {
		answer, err = n.exec(args)
		return err
	})
	return answer, err
}

func (r *redisServer) interruptible(ctx context.Context, n *redisNode, s redisStatement, fn func() error) error {
	kill, isScript := s.isScript()
	silent := time.Now().Add(busySilence)
	return interruptible(ctx, func(ending context.Context) {
		if isScript {
			r.kill(ending, n.address, kill, time.Until(silent))
		}
		if ending.Err() == nil {
			n.hangUp()
		}
	}, fn)
}

// kill ends the script that a server is busy with, until ctx ends because ours
// has ended. It never kills anybody else's: while another script runs, ours is
// not queued but refused as soon as the server says that it is busy, so that
// when the server does and ours still has no answer, it is ours that runs. A
// server that says nothing may be silent for some time, at first longer.
func (r *redisServer) kill(ctx context.Context, address string, command []any, silence time.Duration) {
	within, cancel := context.WithTimeout(ctx, scriptWait)
	defer cancel()
	silent := time.AfterFunc(max(silence, timeoutGrace+confirmWait), cancel)
	defer silent.Stop()
	err := r.pool.outside(within, func(c *redisConn) error {
		n, err := c.node(within, address)
		if err != nil {
			return err
		}
		lost := time.Now().Add(confirmWait)
		for {
			silent.Reset(confirmWait)
			_, err := n.do(within, "PING")
			if !pause(within, busyWait) {
				return context.Cause(within)
			}
			switch {
			case err != nil && !errors.As(err, new(redisError)):
				return err
			case !isBusy(err) && time.Now().After(lost):
				return nil // nothing runs: the answer got lost
			case !isBusy(err):
				continue
			}
			if _, err = n.do(within, command...); err != nil && within.Err() == nil {
				return fmt.Errorf("kill the script: %w; the account needs the command", err)
			}
		}
	})
	if err != nil && ctx.Err() == nil {
		r.pool.log.Warn("a script of ours runs on at the server", "err", err)
	}
}

// pause waits, and tells whether ctx still goes on then.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
