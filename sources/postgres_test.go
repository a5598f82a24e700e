package sources_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// application is the name by which a DBA finds us.
const application = "sql2metrics"

// pgSource is the structured configuration of pg.
func pgSource(pg *servers.PG) config.Source {
	return config.Source{
		Name:           "pg",
		Type:           config.TypePostgres,
		Host:           pg.Host,
		Port:           pg.Port,
		User:           pg.User,
		Password:       config.NewSecret(pg.Password),
		Database:       "postgres",
		MaxConnections: 2,
		Timeout:        10 * time.Second,
	}
}

// pgDSN is the same in the form of words, without the password.
func pgDSN(pg *servers.PG) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", pg.Host, pg.Port, pg.User)
}

// pgURL is the same as a URL with the password in it.
func pgURL(pg *servers.PG, parameters string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(pg.User, pg.Password), Host: pg.Addr(), Path: "/postgres", RawQuery: parameters}
	return u.String()
}

// dsnSource is a source that has nothing but a data_source_name.
func dsnSource(dsn string) config.Source {
	return config.Source{Name: "pg", Type: config.TypePostgres, DSN: config.NewSecret(dsn), MaxConnections: 2, Timeout: 10 * time.Second}
}

const whoami = "SELECT current_user, current_database(), current_setting('application_name'), current_setting('client_encoding'), current_setting('search_path')"

func TestPostgresForms(t *testing.T) {
	pg := shared.Get(t)
	// None of these may have an effect.
	t.Setenv("PGHOST", "nowhere.invalid")
	t.Setenv("PGPORT", "1")
	t.Setenv("PGUSER", "nobody")
	t.Setenv("PGPASSWORD", "wrong")
	t.Setenv("PGDATABASE", "nothing")
	t.Setenv("PGAPPNAME", "other")
	t.Setenv("PGOPTIONS", "-c search_path=pg_catalog")
	t.Setenv("PGSSLMODE", "verify-full")
	t.Setenv("PGSSLROOTCERT", "/no/such/file")
	t.Setenv("PGTZ", "Mars/Olympus")
	t.Setenv("PGTARGETSESSIONATTRS", "standby")
	t.Setenv("PGCHANNELBINDING", "require")
	t.Setenv("PGSERVICEFILE", "/no/such/file")
	t.Setenv("PGCONNECT_TIMEOUT", "x")

	withPassword := dsnSource(pgDSN(pg))
	withPassword.Password = config.NewSecret(pg.Password)
	withFile := dsnSource(pgURL(pg, ""))
	withFile.DSN = config.NewSecret(strings.Replace(withFile.DSN.Reveal(), url.QueryEscape(pg.Password), "wrong", 1))
	withFile.PasswordFile = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(withFile.PasswordFile, []byte(pg.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	const plain = `postgres|postgres|sql2metrics|UTF8|"$user", public`
	for name, c := range map[string]struct {
		source config.Source
		want   string
	}{
		"fields":                    {pgSource(pg), plain},
		"url":                       {dsnSource(pgURL(pg, "")), plain},
		"url with parameters":       {dsnSource(pgURL(pg, "application_name=mine&options=-c%20search_path%3Dx")), "postgres|postgres|mine|UTF8|x"},
		"words":                     {withPassword, plain},
		"password_file over url":    {withFile, plain},
		"url with everything after": {dsnSource(fmt.Sprintf("postgres:///postgres?host=%s&port=%d&user=%s&password=%s", pg.Host, pg.Port, pg.User, url.PathEscape(pg.Password))), plain},
	} {
		t.Run(name, func(t *testing.T) {
			if got := read(t, open(t, c.source), whoami); !cmp.Equal(got, []string{c.want}) {
				t.Errorf("connected as %v, want %s", got, c.want)
			}
		})
	}
}

func TestPostgresServiceVariableIsRefused(t *testing.T) {
	t.Setenv("PGSERVICE", "elsewhere")
	c := dsnSource("postgres://u@h/d")
	if s, err := sources.Open(c, sources.Options{}); err == nil || !strings.Contains(err.Error(), "PGSERVICE") {
		t.Errorf("source %v, error %v", s, err)
	}
}

func TestPostgresStatementNamesItself(t *testing.T) {
	c := pgSource(shared.Get(t))
	c.Name = "evil */ DROP /* 'ü"
	s := open(t, c)
	q := query("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")
	q.Name = "*/ SELECT 1 /*"
	err := s.Query(t.Context(), q, func(r *sources.Row) error {
		const want = "/* sql2metrics source=evil____DROP______ query=___SELECT_1___ */ SELECT query"
		if got := line(r); !strings.HasPrefix(got, want) {
			t.Errorf("the server sees %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPostgresLimitGoesToServer(t *testing.T) {
	s := open(t, pgSource(shared.Get(t)))
	q := query("SHOW statement_timeout")
	q.Timeout = 62500*time.Millisecond - 1 // a part of a millisecond counts as one
	err := s.Query(t.Context(), q, func(r *sources.Row) error {
		if got := line(r); got != "62500ms" {
			t.Errorf("statement_timeout is %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPostgresOneRoundTrip(t *testing.T) {
	pg := shared.Get(t)
	wantOneRoundTrip(t, pgSource(pg), pg.Addr(), map[string]string{
		"small":   "SELECT 1",
		"large":   "SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n",
		"failing": "SELECT 1 / (n - 500) FROM generate_series(1, 1000) n",
		"wrong":   "SELECT nothing",
		"text":    "SELECT ARRAY[1]",
	})
}

// A lock of the session would outlive the transaction and hold the
// application, or the next run on another connection.
func TestPostgresSessionLocksAreGivenUp(t *testing.T) {
	pg := shared.Get(t)
	s := open(t, pgSource(pg))
	for name, sql := range map[string]string{
		"good":   "SELECT pg_advisory_lock(42)",
		"failed": "SELECT pg_advisory_lock(42), 1 / (n - 2) FROM generate_series(1, 3) n",
		"hidden": "SELECT query_to_xml('SELECT pg_adv' || 'isory_lock(42)', true, true, '')::text",
	} {
		t.Run(name, func(t *testing.T) {
			_ = s.Query(t.Context(), query(sql), ignore)
			if n := pg.Query(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0]; n != "0" {
				t.Errorf("%s locks are held", n)
			}
		})
	}
}

// Not every server that speaks the protocol knows advisory locks.
func TestPostgresWithoutSessionLocks(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "DROP ROLE IF EXISTS lockless", "CREATE ROLE lockless LOGIN PASSWORD 'x'",
		"REVOKE EXECUTE ON FUNCTION pg_advisory_unlock_all FROM PUBLIC")
	defer pg.Exec(t, "GRANT EXECUTE ON FUNCTION pg_advisory_unlock_all TO PUBLIC")
	p := startProxy(t, pg.Addr())
	c := through(t, pgSource(pg), p)
	c.User, c.Password = "lockless", config.NewSecret("x")
	s := open(t, c)
	read(t, s, "SELECT 1")
	_, before := p.counts()
	if got := read(t, s, "SELECT 1"); !cmp.Equal(got, []string{"1"}) {
		t.Error(got)
	}
	if _, after := p.counts(); after != before {
		t.Errorf("%d new connections", after-before)
	}
}

// pgGreeting is a login that succeeds at once.
var pgGreeting = []byte("R\x00\x00\x00\x08\x00\x00\x00\x00" + "K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02" + "Z\x00\x00\x00\x05I")

// pgDone answers a statement without a result.
const pgDone = "1\x00\x00\x00\x04" + "2\x00\x00\x00\x04" + "n\x00\x00\x00\x04" + "C\x00\x00\x00\x06S\x00"

// pgColumn describes a result of one int4, n.
const pgColumn = "T\x00\x00\x00\x1a\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00"

// pgDescription answers who asks for the columns first.
var pgDescription = []byte(pgDone + pgDone +
	"1\x00\x00\x00\x04" + "t\x00\x00\x00\x06\x00\x00" + pgColumn + "\x00" + "Z\x00\x00\x00\x05T" +
	pgDone + pgDone + "Z\x00\x00\x00\x05I")

// pgHalfResult answers BEGIN and SET and breaks off in the third row.
var pgHalfResult = []byte(pgDone + pgDone +
	"1\x00\x00\x00\x04" + "2\x00\x00\x00\x04" + pgColumn + "\x01" +
	"D\x00\x00\x00\x0e\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01" +
	"D\x00\x00\x00\x0e\x00\x01\x00\x00\x00\x04\x00\x00\x00\x02" +
	"D\x00\x00\x00\x0e\x00\x01")

func TestPostgresBadServers(t *testing.T) {
	afterLogin := func(answers ...[]byte) func(net.Conn) {
		return func(c net.Conn) {
			buf := make([]byte, 4096)
			for _, answer := range append([][]byte{pgGreeting}, answers...) {
				if _, err := c.Read(buf); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}
	}
	for name, test := range map[string]struct {
		serve func(net.Conn)
		rows  int
		up    bool // the error is the query's, not the connection's
	}{
		"accepts and never answers": {serve: swallow},
		"closes at once":            {serve: func(net.Conn) {}},
		"answers garbage":           {serve: func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); swallow(c) }},
		"closes before an answer":   {serve: afterLogin(nil)},
		"garbage after login":       {serve: afterLogin([]byte("\x00\xff\xff\xff\xff\xff\xff"))},
		"closes in a row":           {serve: afterLogin(pgDescription, pgHalfResult), rows: 2, up: true},
	} {
		for _, mode := range []string{"prefer", "disable"} {
			t.Run(name+", sslmode "+mode, func(t *testing.T) {
				if test.up && mode == "prefer" {
					return // that one speaks no TLS
				}
				l := fakeServer(t, test.serve)
				c := config.Source{Name: "pg", Type: config.TypePostgres, User: "u", Password: config.NewSecret("verysecret"), MaxConnections: 1, Timeout: 500 * time.Millisecond}
				if test.up {
					c.Timeout = time.Minute // the login succeeds
				}
				c.TLS.Mode = mode
				s := open(t, through(t, c, l))
				rows := 0
				err := s.Query(t.Context(), query("SELECT 1"), func(*sources.Row) error { rows++; return nil })
				if err == nil || rows != test.rows {
					t.Fatalf("%d rows, error %v", rows, err)
				}
				wantOnce(t, err, "pg")
				if unreachable := errors.As(err, new(*sources.ConnectError)); unreachable == test.up {
					t.Errorf("error is %v", err)
				}
				if strings.Contains(err.Error(), "verysecret") {
					t.Errorf("error shows the password: %v", err)
				}
				t.Log(err)
			})
		}
	}
}
