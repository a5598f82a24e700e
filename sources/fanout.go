package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sql2metrics/config"
)

// fanout runs each query in every database of a server that is selected, one
// after the other, and gives each row the database's name in one more column.
// The databases have pools of their own that share their slots, and so a
// source's connections, and their logins: whoever opens a connection closes
// idle ones to make room.
type fanout[C connection] struct {
	home *server[C] // lists the databases
	list string     // a statement with a row for each database, its name first
	open func(database string) *server[C]

	mu      sync.Mutex
	members map[string]*member[C]
	failed  map[queryID][]string // databases, in the query's last run
}

// member is one database.
type member[C connection] struct {
	server *server[C]
	users  int // queries that run in it, or are about to
}

// newFanout returns a source over the databases that list tells of and the
// source's configuration selects. Open returns a server that connects to one of
// them, and connects to nothing yet.
func newFanout[C connection](home *server[C], list string, open func(database string) *server[C]) *fanout[C] {
	f := &fanout[C]{
		home:    home,
		list:    list,
		members: map[string]*member[C]{},
		failed:  map[queryID][]string{},
	}
	f.open = func(database string) *server[C] {
		s := open(database)
		s.pool.slots, s.pool.logins = home.pool.slots, home.pool.logins
		f.makeRoom(s.pool)
		return s
	}
	f.makeRoom(home.pool)
	return f
}

// Query implements [Source]. Where q fails in some of the databases, the error
// is a [*PartialError], and each was called for the rows of all others.
func (f *fanout[C]) Query(ctx context.Context, q config.Query, each func(*Row) error) error {
	return f.home.named(ctx, q, func(ctx context.Context) error {
		if err := CheckStatement(f.home.source, q); err != nil {
			return err
		}
		databases, err := f.databases(ctx, q)
		if err != nil {
			return err
		}
		return f.runAll(ctx, databases, q, bounded(each, f.home.source.MaxResultBytes))
	})
}

// Ping implements [Source].
func (f *fanout[C]) Ping(ctx context.Context) error { return f.home.Ping(ctx) }

// Close implements [Source].
func (f *fanout[C]) Close() error {
	f.home.life.close()
	for _, m := range f.members { // nobody else is left
		m.server.pool.close()
	}
	f.home.pool.close()
	return nil
}

// databases returns the names of those to run q in: last those in which it
// failed the last time, so that they hold nobody up.
func (f *fanout[C]) databases(ctx context.Context, q config.Query) ([]string, error) {
	var names []string
	list := config.Query{Collector: q.Collector, Name: q.Name, SQL: f.list, Timeout: q.Timeout}
	err := f.home.run(ctx, list, func(r *Row) error {
		if name := string(r.Values[0].AppendText(nil)); f.home.source.Databases.Holds(name) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	slices.Sort(names)
	for _, gone := range f.forget(names) {
		gone.pool.close()
	}
	f.mu.Lock()
	last := f.failed[queryID{q.Collector, q.Name}]
	f.mu.Unlock()
	isLast := func(name string) bool { return slices.Contains(last, name) }
	late := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !isLast(name) })
	return append(slices.DeleteFunc(names, isLast), late...), nil
}

// forget returns the servers of databases that are not listed and that nobody
// uses, for the caller to close.
func (f *fanout[C]) forget(listed []string) (gone []*server[C]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.members, func(name string, m *member[C]) bool {
		unused := m.users == 0 && !slices.Contains(listed, name)
		if unused {
			gone = append(gone, m.server)
		}
		return unused
	})
	return gone
}

// errNotReached is why q is not run in a database.
var errNotReached = errors.New("the query's interval was over before its turn came; raise it, or select fewer databases")

// runAll runs q in each of the databases. The limit of the whole run is the
// query's interval.
func (f *fanout[C]) runAll(ctx context.Context, databases []string, q config.Query, each func(*Row) error) error {
	var (
		outcome = PartialError{Of: len(databases)}
		rows    = rowBuffer{label: f.home.source.Databases.Label}
		closed  error // a gate
		good    int
		begun   = time.Now()
	)
	for _, name := range databases {
		err := error(errNotReached)
		if q.Clock.Interval == 0 || time.Since(begun) < q.Clock.Interval {
			rows.reset()
			err = f.runIn(ctx, name, q, bounded(rows.add, f.home.source.MaxResultBytes))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case errors.As(err, new(*NotApplicableError)):
			closed = err
			outcome.Of--
		case err != nil:
			outcome.Failed = append(outcome.Failed, DatabaseError{name, err})
		default:
			good++
			if err := rows.replay(name, each); err != nil {
				return err
			}
		}
	}
	f.remember(q, outcome.Failed)
	switch {
	case len(outcome.Failed) > 0 && good == 0:
		return outcome.whole()
	case len(outcome.Failed) > 0:
		return &outcome
	case good == 0:
		return closed
	}
	return nil
}

// runIn runs q in one database.
func (f *fanout[C]) runIn(ctx context.Context, name string, q config.Query, each func(*Row) error) error {
	f.mu.Lock()
	m := f.members[name]
	if m == nil {
		m = &member[C]{server: f.open(name)}
		f.members[name] = m
	}
	m.users++
	f.mu.Unlock()
	err := m.server.run(ctx, q, each)
	f.mu.Lock()
	m.users--
	f.mu.Unlock()
	var row *rowError
	if errors.As(err, &row) {
		return row.err
	}
	return err
}

// remember keeps in which databases q failed.
func (f *fanout[C]) remember(q config.Query, failed []DatabaseError) {
	id := queryID{q.Collector, q.Name}
	var names []string
	for _, d := range failed {
		names = append(names, d.Database)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed[id] = names; names == nil {
		delete(f.failed, id)
	}
}

// makeRoom has p close idle connections to other databases before it opens one,
// if it had one too many otherwise. Who opens one holds a slot, and who gives a
// slot back has put its connection among the idle ones before: so there are at
// most as many connections as slots.
func (f *fanout[C]) makeRoom(p *pool[C]) {
	dial := p.dial
	p.dial = func(ctx context.Context, all *sockets) (C, error) {
		for _, c := range f.evict() {
			c.connection.close()
		}
		return dial(ctx, all)
	}
}

// evict takes as many idle connections out of their pools as there are too
// many, for the caller to close.
func (f *fanout[C]) evict() (victims []*pooled[C]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pools := []*pool[C]{f.home.pool}
	for _, m := range f.members {
		pools = append(pools, m.server.pool)
	}
	slots := f.home.pool.slots.taken
	over := len(slots) - cap(slots)
	for _, p := range pools {
		over += p.unused()
	}
	// That of the home, which each run begins with, comes last.
	for _, p := range slices.Backward(pools) {
		for over > 0 {
			c := p.popFree()
			if c == nil {
				break
			}
			victims = append(victims, c)
			over--
		}
	}
	return victims
}

// unused returns how many idle connections there are.
func (p *pool[C]) unused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}
