package sources_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// A connection is kept for half an hour, however often it is used, so that a
// failover is followed.
func TestPostgresConnectionIsReplacedByAge(t *testing.T) {
	now := time.Unix(1000, 0)
	c := pgSource(shared.Get(t))
	c.MaxConnections, c.MaxConnectionLifetime = 1, 30*time.Minute
	s, err := sources.OpenAt(c, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	backend := func() []string { return read(t, s, "SELECT pg_backend_pid()") }
	first := backend()
	for range 2 {
		now = now.Add(15*time.Minute - time.Nanosecond)
		if got := backend(); !cmp.Equal(got, first) {
			t.Fatalf("backend is %v, was %v, after less than its time", got, first)
		}
	}
	now = now.Add(2 * time.Nanosecond)
	second := backend()
	if cmp.Equal(second, first) {
		t.Errorf("backend %v is kept after its time", first)
	}
	if got := backend(); !cmp.Equal(got, second) {
		t.Errorf("backend is %v, was %v, right after it was new", got, second)
	}
}

// One row cannot make the agent allocate without bound.
func TestPostgresRowLimit(t *testing.T) {
	c := pgSource(shared.Get(t))
	c.MaxResultBytes = 3000
	s := open(t, c)
	rows := 0
	err := s.Query(t.Context(), query("SELECT repeat('x', n) FROM generate_series(500, 3500, 1500) n"), func(*sources.Row) error {
		rows++
		return nil
	})
	if err == nil || rows != 2 || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "limit of 3000 bytes") {
		t.Errorf("%d rows, error %v", rows, err)
	}
	if got := read(t, s, "SELECT 1"); !cmp.Equal(got, []string{"1"}) {
		t.Error(got)
	}
}

// What ends its own connection would end the next one too: it is the query
// that failed, and it is not run again.
func TestPostgresStatementEndsItsConnection(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	crash := func(t *testing.T) {
		var pids [][]string
		servers.Eventually(t, "the statement runs", func() bool {
			pids = pg.Query(t, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name = 'sql2metrics'")
			return len(pids) > 0
		})
		pid, err := strconv.Atoi(pids[0][0])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, sql, want string
		meanwhile       func(*testing.T)
	}{
		{"a row over the limit", "SELECT repeat('x', 70000000)", "limit of 67108864 bytes", nil},
		{"terminated", "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(600)", "57P01", nil},
		{"crashed", "SELECT pg_sleep(600)", "the server's log", crash},
	} {
		for _, pooled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pooled %v", test.name, pooled), func(t *testing.T) {
				p := startProxy(t, pg.Addr())
				c := through(t, pgSource(pg), p)
				c.TLS.Mode = "disable" // prefer takes two connections
				s := open(t, c)
				if pooled {
					servers.Eventually(t, "the server is up", func() bool { return s.Ping(t.Context()) == nil })
				}
				_, before := p.counts()
				done := make(chan error, 1)
				go func() { done <- s.Query(t.Context(), query(test.sql), ignore) }()
				if test.meanwhile != nil {
					test.meanwhile(t)
				}
				err := <-done
				if err == nil || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error is %v, want a query's with %q", err, test.want)
				}
				wantOnce(t, err, "pg")
				t.Log(err)
				want := 1
				if pooled {
					want = 0
				}
				// The cancel of what may still run is one more connection.
				if _, after := p.counts(); after-before > want+1 {
					t.Errorf("%d connections, want %d and one for the cancel", after-before, want)
				}
				servers.Eventually(t, "the source goes on", func() bool { return s.Ping(t.Context()) == nil })
				servers.Eventually(t, "the statement is gone", func() bool { return pg.Running(t, application) == 0 })
			})
		}
	}
}

// What a caller is told, it logs; the source itself logs only what it mends.
func TestPostgresLogsNothingItReturns(t *testing.T) {
	pg := shared.Get(t)
	p := startProxy(t, pg.Addr())
	var lines bytes.Buffer
	c := through(t, pgSource(pg), p)
	c.MaxConnections = 1
	s, err := sources.Open(c, sources.Options{Logger: slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	read(t, s, "SELECT 1")
	p.cut()
	read(t, s, "SELECT 1")
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "source=pg") || !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("a dead connection is logged as %q", got)
	}
	lines.Reset()
	_ = servers.Unlisten(p)
	p.cut()
	if err := s.Query(t.Context(), query("SELECT 1"), ignore); !errors.As(err, new(*sources.ConnectError)) {
		t.Errorf("error is %v", err)
	}
	if got := lines.String(); strings.Contains(got, "refused") {
		t.Errorf("an error that is returned is logged: %s", got)
	}
}
