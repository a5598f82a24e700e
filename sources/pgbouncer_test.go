package sources_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// throughBouncer is postgresDatabase by way of a pgbouncer in transaction mode.
func throughBouncer(t testing.TB) database {
	d := postgresDatabase(t)
	b := servers.PgBouncer(t, shared.Get(t))
	// It keeps the last of what the server has sent until there is more.
	d.slowRows = strings.Replace(d.slowRows, "10000", "30000", 1)
	// Of words that stand twice, the last count.
	d.config.DSN = config.NewSecret(fmt.Sprintf("%s host=%s port=%d", d.config.DSN.Reveal(), b.Host, b.Port))
	return d
}

// bouncerSource is pg by way of b.
func bouncerSource(pg *servers.PG, b *servers.Bouncer) config.Source {
	c := pgSource(pg)
	c.Host, c.Port = b.Host, b.Port
	return c
}

// The server's connections are other clients' too: nothing of a query is left
// on them.
func TestPgbouncerSharesConnections(t *testing.T) {
	pg := shared.Get(t)
	b := servers.PgBouncer(t, pg)
	s, other := open(t, bouncerSource(pg, b)), open(t, bouncerSource(pg, b))
	for _, sql := range []string{
		"SELECT set_config('search_path', 'pg_temp', false)",
		"SELECT set_config('statement_timeout', '1', false)",
		"SELECT set_config('default_transaction_read_only', 'off', false)",
		"SELECT pg_advisory_lock(77)",
	} {
		read(t, s, sql)
		for _, s := range []sources.Source{s, other} {
			got := read(t, s, "SELECT current_setting('search_path'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77)")
			if !cmp.Equal(got, []string{`"$user", public|0`}) {
				t.Errorf("after %s: %v", sql, got)
			}
		}
	}
	if n := len(b.Console(t, "SHOW SERVERS")); n > 2 {
		t.Errorf("%d connections to the server for queries one after the other", n)
	}
}

// startup_sql is seen by the queries of its own source alone, and named where it
// fails in one of them.
func TestPgbouncerStartupSQL(t *testing.T) {
	pg := shared.Get(t)
	b := servers.PgBouncer(t, pg)
	pg.Exec(t, "DROP ROLE IF EXISTS passing", "CREATE ROLE passing")
	c := bouncerSource(pg, b)
	c.MaxConnections = 1
	c.StartupSQL = []string{"SET work_mem = '4321kB'", "SELECT set_config('search_path', 'pg_temp', false)", "SET statement_timeout = '29s'", "SET ROLE passing"}
	s, other := open(t, c), open(t, bouncerSource(pg, b))
	const settings = "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('statement_timeout'), current_user"
	for range 2 {
		if got := read(t, s, settings); !cmp.Equal(got, []string{"4321kB|pg_temp|30s|passing"}) {
			t.Errorf("a query sees %v", got)
		}
		if got := read(t, other, settings); !cmp.Equal(got, []string{`4MB|"$user", public|30s|postgres`}) {
			t.Errorf("another client of the pooler sees %v", got)
		}
	}
	pg.Exec(t, "DROP ROLE passing")
	err := s.Query(t.Context(), query(settings), ignore)
	if err == nil || !strings.Contains(err.Error(), "statement 4 of startup_sql") {
		t.Errorf("error is %v", err)
	}
}

// The admin console knows the simple protocol alone.
func TestPgbouncerConsole(t *testing.T) {
	pg := shared.Get(t)
	b := servers.PgBouncer(t, pg)
	through := open(t, bouncerSource(pg, b))
	read(t, through, "SELECT 1")
	c := bouncerSource(pg, b)
	c.Database = "pgbouncer"
	s := open(t, c)
	var pools []string
	err := s.Query(t.Context(), query("-- the pools\nSHOW POOLS;"), func(r *sources.Row) error {
		if !cmp.Equal(r.Columns[:3], []string{"database", "user", "cl_active"}) {
			t.Errorf("columns %v", r.Columns)
		}
		if n, err := r.Values[2].Float(); err != nil || n > 1 {
			t.Errorf("cl_active is %v, %v", n, err)
		}
		pools = append(pools, strings.Join(strings.Split(line(r), "|")[:2], "|"))
		return nil
	})
	if diff := cmp.Diff([]string{"pgbouncer|pgbouncer", "postgres|postgres"}, pools); diff != "" || err != nil {
		t.Errorf("pools differ (-want +got):\n%s%v", diff, err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for _, sql := range []string{"SELECT 1", "SHOW POOLS; PAUSE", "SHOW NOTHING", "PAUSE"} {
		err := s.Query(t.Context(), query(sql), ignore)
		if err == nil || errors.As(err, new(*sources.ConnectError)) {
			t.Errorf("%s: error is %v", sql, err)
			continue
		}
		wantOnce(t, err, c.Name)
	}
	stop := errors.New("enough")
	if err := s.Query(t.Context(), query("SHOW CONFIG"), func(*sources.Row) error { return stop }); err != stop {
		t.Errorf("error of the row function is %v", err)
	}
	q := query("SHOW POOLS")
	q.Requires.Version = versions(t, ">=1.5 <2")
	if err := s.Query(t.Context(), q, ignore); err != nil {
		t.Error(err)
	}
	q.Requires.Role = config.RolePrimary
	if err := s.Query(t.Context(), q, ignore); !errors.As(err, new(*sources.NotApplicableError)) {
		t.Errorf("a console has the role %v", err)
	}
	read(t, through, "SELECT 1")
}

func privateBouncer(t testing.TB) private {
	pg := servers.Postgres(t)
	b := servers.PgBouncer(t, pg)
	setPassword := func(t testing.TB, password string) {
		pg.Exec(t, "ALTER ROLE reader PASSWORD '"+password+"'")
		b.SetPassword(t, "reader", password)
	}
	pg.Exec(t, "CREATE ROLE reader LOGIN")
	setPassword(t, firstPassword)
	c := bouncerSource(pg, b)
	c.User, c.Password = "reader", config.NewSecret(firstPassword)
	return private{
		config:  c,
		address: b.Addr(),
		kill:    b.Stop, start: b.Start, pause: b.Pause, resume: b.Resume,
		row:         "SELECT 1",
		nap:         "SELECT pg_sleep(0.01)",
		slow:        "SELECT pg_sleep(600)",
		setPassword: setPassword,
		connections: func(t testing.TB) (n int) {
			for _, client := range b.Console(t, "SHOW CLIENTS") {
				if client[1] == "reader" {
					n++
				}
			}
			return n
		},
		running: func(t testing.TB) int {
			n := pg.Sleeping(t, application)
			b.Console(t, "SHOW VERSION") // which comes behind what the server has answered before
			return n
		},
	}
}
