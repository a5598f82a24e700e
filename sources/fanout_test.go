package sources_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// manyDatabases is a server with several databases, and a source over those
// that begin with fan_: each has a table of its own name's length.
func manyDatabases(t *testing.T, names ...string) (*servers.PG, config.Source) {
	pg := servers.Postgres(t)
	for i, name := range names {
		pg.Exec(t, "CREATE DATABASE "+name)
		pg.ExecIn(t, name, fmt.Sprintf("CREATE TABLE here AS SELECT %d AS v", i+1))
	}
	c := pgSource(pg)
	c.Databases = &config.Databases{Include: relabel.MustNewRegexp("fan_.*"), Label: "datname"}
	return pg, c
}

// fan runs sql in all databases and returns the lines of its rows, sorted.
func fan(t *testing.T, s sources.Source, sql string) ([]string, error) {
	var lines []string
	var columns []string
	err := s.Query(t.Context(), query(sql), func(r *sources.Row) error {
		if columns == nil {
			columns = r.Columns
		}
		if &columns[0] != &r.Columns[0] {
			t.Error("Columns is another slice in a later row")
		}
		lines = append(lines, line(r))
		return nil
	})
	slices.Sort(lines)
	return lines, err
}

func TestFanout(t *testing.T) {
	t.Parallel()
	pg, c := manyDatabases(t, "fan_a", "fan_b", "fan_test", "other")
	pg.Exec(t, "CREATE DATABASE fan_closed ALLOW_CONNECTIONS false", "CREATE DATABASE fan_template IS_TEMPLATE true")
	c.Databases.Exclude = relabel.MustNewRegexp(".*_test")
	for name, c := range map[string]config.Source{"fields": c, "data source name": func() config.Source {
		d := dsnSource(pgDSN(pg))
		d.Password, d.Databases = config.NewSecret(pg.Password), c.Databases
		return d
	}()} {
		t.Run(name, func(t *testing.T) {
			s := open(t, c)
			got, err := fan(t, s, "SELECT v, current_database() AS d FROM here")
			if diff := cmp.Diff([]string{"1|fan_a|fan_a", "2|fan_b|fan_b"}, got); diff != "" || err != nil {
				t.Errorf("rows differ (-want +got):\n%s%v", diff, err)
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	s := open(t, c)
	_, err := fan(t, s, "SELECT 'x' AS datname")
	if err == nil || !strings.Contains(err.Error(), "set label of databases") || errors.As(err, new(*sources.PartialError)) {
		t.Errorf("a column of the label's name: error is %v", err)
	}
	stop := errors.New("enough")
	if err := s.Query(t.Context(), query("SELECT v FROM here"), func(*sources.Row) error { return stop }); err != stop {
		t.Errorf("error of the row function is %v", err)
	}
	pg.Exec(t, "CREATE DATABASE fan_new TEMPLATE other")
	if got, err := fan(t, s, "SELECT v FROM here"); len(got) != 3 || err != nil {
		t.Errorf("with a new database: %v, %v", got, err)
	}
}

// What fails in one database costs the others nothing, and leaves no row.
func TestFanoutPartial(t *testing.T) {
	t.Parallel()
	pg, c := manyDatabases(t, "fan_a", "fan_b", "fan_c")
	s := open(t, c)
	pg.Exec(t, "CREATE ROLE stranger LOGIN PASSWORD 'x'", "REVOKE CONNECT ON DATABASE fan_b FROM PUBLIC")
	stranger := c
	stranger.User, stranger.Password, stranger.PasswordFile = "stranger", config.NewSecret("x"), ""
	for name, test := range map[string]struct {
		source sources.Source
		sql    string
		want   []string
		failed string
		says   string
	}{
		"refuses the login": {open(t, stranger), "SELECT 1 AS v", []string{"1|fan_a", "1|fan_c"}, "fan_b", "permission denied"},
		"fails behind rows": {
			s, "SELECT n, 1 / (CASE current_database() WHEN 'fan_c' THEN 2 ELSE 3 END - n) AS v FROM generate_series(1, 2) n",
			[]string{"1|0|fan_a", "1|0|fan_b", "2|1|fan_a", "2|1|fan_b"}, "fan_c", "division by zero",
		},
		"has other columns": {
			s, "SELECT * FROM here", []string{"1|fan_a", "2|fan_b"}, "fan_c", "columns",
		},
		"fails in all": {s, "SELECT nothing", nil, "fan_a fan_b fan_c", "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "has other columns" {
				pg.ExecIn(t, "fan_c", "ALTER TABLE here ADD w int")
			}
			got, err := fan(t, test.source, test.sql)
			if diff := cmp.Diff(test.want, got); diff != "" || err == nil {
				t.Fatalf("rows differ (-want +got):\n%serror %v", diff, err)
			}
			wantOnce(t, err, c.Name)
			var partial *sources.PartialError
			if errors.As(err, &partial) {
				var failed []string
				for _, d := range partial.Failed {
					failed = append(failed, d.Database)
				}
				if strings.Join(failed, " ") != test.failed || partial.Of != 3 {
					t.Errorf("failed in %v of %d", failed, partial.Of)
				}
			} else if got != nil {
				t.Errorf("error %v is not partial", err)
			}
			if !strings.Contains(err.Error(), test.says) || errors.As(err, new(*sources.ConnectError)) {
				t.Errorf("error is %v", err)
			}
			t.Log(err)
		})
	}
}

// A database that is too slow comes last the next time, and one that cannot be
// reached within the interval is told.
func TestFanoutSlowDatabase(t *testing.T) {
	t.Parallel()
	_, c := manyDatabases(t, "fan_a", "fan_b", "fan_c")
	s := open(t, c)
	q := query("SELECT v, CASE current_database() WHEN 'fan_a' THEN pg_sleep(600)::text END AS w FROM here")
	q.Timeout, q.Clock.Interval = 6*time.Second, 3*time.Second
	var got []string
	keep := func(r *sources.Row) error { got = append(got, line(r)); return nil }
	err := s.Query(t.Context(), q, keep)
	if got != nil || err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("first run: %v, %v", got, err)
	}
	q.Clock.Interval = time.Hour
	q.SQL = strings.Replace(q.SQL, "fan_a", "fan_b", 1)
	err = s.Query(t.Context(), q, keep)
	if want := []string{"1||fan_a", "3||fan_c"}; !cmp.Equal(got, want) || !errors.As(err, new(*sources.PartialError)) {
		t.Errorf("second run: %v, %v", got, err)
	}
	got = nil
	q.SQL, q.Timeout = "SELECT v FROM here", time.Minute
	if err := s.Query(t.Context(), q, keep); err != nil || !cmp.Equal(got, []string{"1|fan_a", "3|fan_c", "2|fan_b"}) {
		t.Errorf("third run: %v, %v", got, err)
	}
}

// A database that is gone is left alone, with its connections.
func TestFanoutDroppedDatabase(t *testing.T) {
	t.Parallel()
	pg, c := manyDatabases(t, "fan_a", "fan_b")
	s := open(t, c)
	for range 2 {
		if got, err := fan(t, s, "SELECT v FROM here"); len(got) != 2 || err != nil {
			t.Errorf("before: %v, %v", got, err)
		}
	}
	err := s.Query(t.Context(), query("SELECT v FROM here"), func(r *sources.Row) error {
		if line(r) == "1|fan_a" {
			pg.Exec(t, "DROP DATABASE fan_b WITH (FORCE)")
		}
		return nil
	})
	var partial *sources.PartialError
	if !errors.As(err, &partial) || partial.Failed[0].Database != "fan_b" {
		t.Errorf("meanwhile: %v", err)
	}
	if got, err := fan(t, s, "SELECT v FROM here"); !cmp.Equal(got, []string{"1|fan_a"}) || err != nil {
		t.Errorf("after: %v, %v", got, err)
	}
}

// narrow passes on what goes to and from a server for as many clients at a time
// as it has places. The next one waits until a connection has come to its end:
// for ever, if the others do not make room.
type narrow struct {
	target string
	places chan struct{}
}

func (p *narrow) serve(client net.Conn) {
	p.places <- struct{}{}
	defer func() { <-p.places }()
	relay(client, p.target, io.Discard)
}

// The cap on connections holds over all databases together.
func TestFanoutConnectionCap(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("fan_%02d", i))
	}
	pg, c := manyDatabases(t, names...)
	c.MaxConnections = 2
	p := &narrow{target: pg.Addr(), places: make(chan struct{}, c.MaxConnections)}
	s := open(t, through(t, c, fakeServer(t, p.serve)))
	var runs sync.WaitGroup
	for i := range 4 {
		runs.Go(func() {
			for range 2 {
				q := query("SELECT pg_sleep(0.005)")
				q.Name = fmt.Sprint("q", i)
				databases := 0
				err := s.Query(t.Context(), q, func(*sources.Row) error { databases++; return nil })
				if err != nil || databases != len(names) {
					t.Errorf("%d databases, %v", databases, err)
				}
			}
		})
	}
	runs.Wait()
	servers.Eventually(t, "two connections are kept", func() bool { return pg.Connections(t, application) == 2 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	servers.Eventually(t, "the connections are gone", func() bool { return pg.Connections(t, application) == 0 })
	if err := s.Query(t.Context(), query("SELECT 1"), ignore); !errors.Is(err, sources.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
