package sources

import (
	"context"
	"strings"

	"sql2metrics/config"
)

// server is a database server to which a pool of connections is kept. It is a
// [Source] once a kind of database has filled in query and ping.
type server[C connection] struct {
	source config.Source
	pool   *pool[C]
	life   lifetime

	// query runs q, whose statement was checked, on a connection. It sees to
	// q.Timeout, ends the statement on the server when ctx ends or each returns
	// an error, which it returns, wrapped at most. See [Source] for the others.
	query func(ctx context.Context, c C, q config.Query, each func(*Row) error) error
	// ping asks for nothing but an answer, within the source's timeout.
	ping func(ctx context.Context, c C) error
	// facts tells what the gate of q asks of the server, within q.Timeout; nil:
	// the kind has no gates. What may change under a connection, such as the
	// role, is asked anew each time, and only if q.Requires names it.
	facts func(ctx context.Context, c C, q config.Query) (facts, error)
}

// Query implements [Source].
func (s *server[C]) Query(ctx context.Context, q config.Query, each func(*Row) error) error {
	return s.named(ctx, q, func(ctx context.Context) error {
		if err := CheckStatement(s.source, q); err != nil {
			return err
		}
		return s.run(ctx, q, bounded(each, s.source.MaxResultBytes))
	})
}

// run runs q, whose statement was checked, unless its gate is closed. each is
// what bounded returns.
func (s *server[C]) run(ctx context.Context, q config.Query, each func(*Row) error) error {
	return s.pool.use(ctx, q.Timeout, func(c C) error {
		if err := s.admit(ctx, c, q); err != nil {
			return err
		}
		return s.query(ctx, c, q, each)
	})
}

// Ping implements [Source].
func (s *server[C]) Ping(ctx context.Context) error {
	return s.named(ctx, config.Query{Name: pingName}, func(ctx context.Context) error {
		return s.pool.use(ctx, s.source.Timeout, func(c C) error { return s.ping(ctx, c) })
	})
}

// named runs fn, which Close ends and waits for, and names source and query in
// its error.
func (s *server[C]) named(ctx context.Context, q config.Query, fn func(context.Context) error) error {
	ctx, end, err := s.life.begin(ctx)
	if err == nil {
		defer end()
		err = fn(ctx)
	}
	return queryError(ctx, s.source.Name, q, err)
}

// Close implements [Source].
func (s *server[C]) Close() error {
	s.life.close()
	s.pool.close()
	return nil
}

// pingName stands for a query's name in the errors and the comment of a ping.
const pingName = "ping"

// bounded returns each as a kind of database calls it: what each returns is
// marked as the caller's own, and a result that grows over limit bytes, if that
// is not 0, ends with a [*limitError].
func bounded(each func(*Row) error, limit int64) func(*Row) error {
	var read int64
	return func(r *Row) error {
		for _, v := range r.Values {
			read += v.size()
		}
		if limit > 0 && read > limit {
			return &limitError{limit}
		}
		if err := each(r); err != nil {
			return &rowError{err}
		}
		return nil
	}
}

// comment returns the comment by which a DBA finds out whose statement it is.
// It cannot be ended by what stands in the names.
func comment(source, query string) string {
	return "/* sql2metrics source=" + plainName(source) + " query=" + plainName(query) + " */ "
}

// plainName returns a name as it may stand in a comment of any language.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("_-.:@", r):
			return r
		}
		return '_'
	}, name)
}
