package sources_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// private is one kind of source with a server of its own, which tests may stop.
// What a kind does not have is nil or empty.
type private struct {
	config  config.Source // its password is firstPassword
	address string        // as errors name the server

	kill          func() error // -9
	start         func() error // returns when the server answers
	pause, resume func() error

	row  string // gives one
	nap  string // takes a moment
	slow string // never ends
	// resent: a query whose connection ends before any answer goes to a new one
	// once, which HTTP says of a GET.
	resent bool

	setPassword func(t testing.TB, password string) // of the account
	connections func(t testing.TB) int              // that the account has at the server
	running     func(t testing.TB) int              // of its queries, slow ones that execute
}

const firstPassword = "first"

// privates has a row for every kind of source.
var privates = map[string]func(t testing.TB) private{
	"clickhouse":           privateClickHouse(config.ProtocolNative),
	"clickhouse over HTTP": privateClickHouse(config.ProtocolHTTP),
	"http_json":            privateHTTPJSON,
	"mysql":                privateMySQL,
	"pgbouncer":            privateBouncer,
	"postgres":             privatePostgres,
	"redis":                privateRedis,
	"sqlite":               privateSQLite,
}

// TestServerComesAndGoes holds every kind of source to what it promises of a
// server that is killed, paused, given another password or put under load.
func TestServerComesAndGoes(t *testing.T) {
	promises := []struct {
		name string
		test func(*testing.T, private)
	}{
		{"dead at Open", testDeadAtOpen},
		{"killed between two queries", testKilledBetweenQueries},
		{"killed under a query", testKilledUnderQuery},
		{"paused", testPaused},
		{"password rotated", testPasswordRotated},
		{"under load", testConnectionCap},
	}
	for name, prepare := range privates {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for a server of its own
			p := prepare(t)
			for _, promise := range promises {
				t.Run(promise.name, func(t *testing.T) { promise.test(t, p) })
			}
		})
	}
}

func must(t *testing.T, actions ...func() error) {
	t.Helper()
	for _, action := range actions {
		if err := action(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRow checks that a query succeeds, at once.
func (p private) wantRow(t *testing.T, s sources.Source) {
	t.Helper()
	if rows := read(t, s, p.row); len(rows) != 1 {
		t.Errorf("rows are %v", rows)
	}
}

// wantUnreachable checks that queries and pings fail, and what they say.
func (p private) wantUnreachable(t *testing.T, s sources.Source) {
	t.Helper()
	for range 2 {
		err := s.Query(t.Context(), query(p.row), ignore)
		if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), p.address) ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), firstPassword) {
			t.Fatalf("error is %v", err)
		}
		wantOnce(t, err, p.config.Name)
	}
	if err := s.Ping(t.Context()); !errors.As(err, new(*sources.ConnectError)) {
		t.Errorf("ping: %v", err)
	}
}

// wantBack waits until queries succeed: after a failed connect none is tried
// for a while.
func (p private) wantBack(t *testing.T, s sources.Source) {
	t.Helper()
	servers.Eventually(t, "the source comes back", func() bool { return s.Query(t.Context(), query(p.row), ignore) == nil })
}

// wantClosed closes s and waits until the server has none of its connections.
func (p private) wantClosed(t *testing.T, s sources.Source) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	p.wantNone(t)
}

// wantNone waits until the server lists no connection of the account, which it
// may do for a moment after the end of one.
func (p private) wantNone(t *testing.T) {
	t.Helper()
	if p.connections != nil {
		servers.Eventually(t, "the connections are gone", func() bool { return p.connections(t) == 0 })
	}
}

func testDeadAtOpen(t *testing.T, p private) {
	must(t, p.kill)
	s := open(t, p.config)
	p.wantUnreachable(t, s)
	must(t, p.start)
	p.wantBack(t, s)
	must(t, p.kill)
	p.wantUnreachable(t, s)
	must(t, p.start)
	p.wantBack(t, s)
}

// Killed and up again, the server costs no round.
func testKilledBetweenQueries(t *testing.T, p private) {
	s := open(t, p.config)
	for range 2 {
		p.wantRow(t, s)
		must(t, p.kill, p.start)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	p.wantClosed(t, s)
}

// The query that runs meanwhile has failed, and is not run again.
func testKilledUnderQuery(t *testing.T, p private) {
	if p.slow == "" {
		return // nobody but the source runs it
	}
	s := open(t, p.config)
	done := make(chan error, 1)
	p.wantRow(t, s)
	go func() { done <- s.Query(t.Context(), query(p.slow), ignore) }()
	servers.Eventually(t, "the query runs", func() bool { return p.running(t) > 0 })
	must(t, p.kill)
	err := <-done
	lost := err != nil && strings.Contains(err.Error(), "connection ended during the statement")
	if unreachable := errors.As(err, new(*sources.ConnectError)); unreachable != p.resent || lost == p.resent {
		t.Errorf("error is %v", err)
	}
	wantOnce(t, err, p.config.Name)
	must(t, p.start)
	p.wantBack(t, s)
	p.wantClosed(t, s)
}

// A server that hangs holds neither a query nor Close up, and goes on when it
// is back.
func testPaused(t *testing.T, p private) {
	s := open(t, p.config)
	p.wantRow(t, s)
	must(t, p.pause)
	q := query(p.row)
	q.Timeout = 200 * time.Millisecond
	err := s.Query(t.Context(), q, ignore)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	wantOnce(t, err, p.config.Name)
	must(t, p.resume)
	p.wantBack(t, s)
	must(t, p.pause)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	must(t, p.resume)
	p.wantClosed(t, s)
}

// A password that is rotated is used by the next connection, with no restart.
func testPasswordRotated(t *testing.T, p private) {
	if p.setPassword == nil {
		return
	}
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused := func(s sources.Source, says string) {
		t.Helper()
		err := s.Query(t.Context(), query(p.row), ignore)
		if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want one with %s", err, says)
		}
		wantOnce(t, err, p.config.Name)
	}
	c := p.config
	c.Password, c.PasswordFile = config.Secret{}, file
	c.MaxConnectionLifetime = time.Nanosecond // each query has a connection of its own
	s := open(t, c)                           // the file may come later, as a mounted secret does
	wantRefused(s, "password_file")
	write(firstPassword + "\n")
	p.wantBack(t, s)

	p.setPassword(t, "second word")
	for range 20 {
		wantRefused(s, "check user and password")
	}
	write("second word\r\n")
	p.wantRow(t, s)
	p.setPassword(t, firstPassword)
	wantRefused(s, "check user and password")
	p.wantClosed(t, s)
}

// The cap holds on the server, is used in full, and keeps connections.
func testConnectionCap(t *testing.T, p private) {
	if p.connections == nil {
		return // nobody counts them
	}
	p.wantNone(t)
	c := p.config
	c.MaxConnections = 3
	s := open(t, c)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 10 {
				if err := s.Query(t.Context(), query(p.nap), ignore); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { callers.Wait(); close(ended) }()
	most := 0
	for over := false; !over; {
		most = max(most, p.connections(t))
		select {
		case <-ended:
			over = true
		case <-time.After(time.Millisecond): // who counts leaves the queries some time
		}
	}
	if kept := p.connections(t); most > 3 || kept != 3 {
		t.Errorf("%d connections at a time, %d are kept, want 3", most, kept)
	}
	p.wantClosed(t, s)
}
