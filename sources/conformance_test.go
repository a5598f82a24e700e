package sources_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// database is one kind of source with what a test has to know about it: how
// its SQL spells the same thing, and a way round the source under test.
type database struct {
	config config.Source

	series   string   // rows n = 1 to %d
	fails    string   // three columns; the row with n = 5 is an error
	slow     string   // never ends and gives no row
	slowRows string   // gives a row or two, then never ends
	empty    string   // no row
	types    string   // one row: an int, a float, a text, NULL
	writes   []string // each would change the table kept
	second   string   // two statements
	numbers  string   // a number, a decimal and a text out of n

	exec    func(t testing.TB, sql ...string) // as the application
	kept    func(t testing.TB) string         // what the table kept holds
	running func(t testing.TB) int            // queries of ours under way at the server
}

// databases has a row for every kind of source. All tests below run over it.
var databases = map[string]func(t testing.TB) database{
	"postgres": postgresDatabase,
	"sqlite":   sqliteDatabase,
}

func postgresDatabase(t testing.TB) database {
	pg := shared.Get(t)
	const tables = `DROP TABLE IF EXISTS kept; CREATE TABLE kept (v int); INSERT INTO kept VALUES (1), (2);
		GRANT ALL ON kept TO PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC`
	pg.Exec(t, tables)
	c := pgSource(pg)
	// A name of its own shows the test its connections, and no other's.
	name := strings.ReplaceAll(t.Name(), "/", " ")
	c.DSN = config.NewSecret("application_name='" + name + "' " + pgDSN(pg))
	c.Host, c.Port, c.User, c.Database = "", 0, "", ""
	return database{
		config: c,
		series: "SELECT n FROM generate_series(1, %d) n",
		fails:  "SELECT n, 'x' AS text, 1 / (n - 5) AS v FROM generate_series(1, 10) n",
		slow:   "SELECT pg_sleep(600)",
		// The server sends when 8 kB have come together: the second row pushes
		// the first out.
		slowRows: "SELECT n, repeat('x', 10000) AS v, CASE WHEN n > 2 THEN pg_sleep(600)::text END AS w FROM generate_series(1, 3) n",
		empty:    "SELECT 1 AS n WHERE false",
		types:    "SELECT 7::bigint AS i, 1.5::float8 AS f, 'word'::text AS t, NULL::int AS none",
		writes: []string{
			"INSERT INTO kept VALUES (3)",
			"CREATE TABLE made (v int)",
			"WITH gone AS (DELETE FROM kept RETURNING v) SELECT count(*) FROM gone",
			"TRUNCATE kept",
			"SELECT * FROM kept FOR UPDATE",
		},
		second:  "SELECT 1; SELECT 2",
		numbers: "n::float8, n / 4.0, n::text",
		exec:    pg.Exec,
		kept: func(t testing.TB) string {
			return fmt.Sprint(pg.Query(t, "SELECT v FROM kept ORDER BY v"))
		},
		running: func(t testing.TB) int { return pg.Running(t, name) },
	}
}

func sqliteDatabase(t testing.TB) database {
	path := filepath.Join(t.TempDir(), "a b#c?d%20'.db")
	app := openApp(t, path)
	app.exec(t, "CREATE TABLE kept (v int)", "INSERT INTO kept VALUES (1), (2)")
	const forever = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT "
	return database{
		config:   config.Source{Name: "lite", Type: config.TypeSQLite, Path: path, MaxConnections: 2, Timeout: 10 * time.Second},
		series:   "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT %d) SELECT n FROM c",
		fails:    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 10) SELECT n, 'x' AS text, abs(CASE n WHEN 5 THEN -9223372036854775808 ELSE n END) AS v FROM c",
		slow:     forever + "count(*) FROM c",
		slowRows: forever + "n, 1, 2 FROM c WHERE n = 1 OR n < 0",
		empty:    "SELECT 1 AS n WHERE false",
		types:    "SELECT 7 AS i, 1.5 AS f, 'word' AS t, NULL AS none",
		writes: []string{
			"INSERT INTO kept VALUES (3)",
			"CREATE TABLE made (v int)",
			"DELETE FROM kept RETURNING v",
			"PRAGMA user_version = 7",
			"VACUUM",
			"ATTACH '" + strings.ReplaceAll(filepath.Join(t.TempDir(), "made"), "'", "''") + "' AS made",
		},
		second:  "SELECT 1; SELECT 2",
		numbers: "n * 1.0, n / 4.0, n || ''",
		exec:    app.exec,
		kept: func(t testing.TB) string {
			return app.row(t, "SELECT group_concat(v) || ' ' || (SELECT user_version FROM pragma_user_version) FROM kept")
		},
	}
}

// wide is series with more columns.
func (d database) wide(rows int) string {
	return "SELECT n, " + d.numbers + " FROM (" + fmt.Sprintf(d.series, rows) + ") s"
}

// eachDatabase runs test on every kind of source, open and closed again.
func eachDatabase(t *testing.T, test func(*testing.T, database, sources.Source)) {
	for name, prepare := range databases {
		t.Run(name, func(t *testing.T) {
			d := prepare(t)
			test(t, d, open(t, d.config))
		})
	}
}

func open(t testing.TB, c config.Source) sources.Source {
	t.Helper()
	s, err := sources.Open(c, sources.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(sql string) config.Query {
	return config.Query{Name: "q", SQL: sql, Timeout: 30 * time.Second}
}

// read returns the result of sql, a line per row, values as labels.
func read(t testing.TB, s sources.Source, sql string) []string {
	t.Helper()
	var lines []string
	err := s.Query(t.Context(), query(sql), func(r *sources.Row) error {
		lines = append(lines, line(r))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func line(r *sources.Row) string {
	var b []byte
	for i, v := range r.Values {
		if i > 0 {
			b = append(b, '|')
		}
		b = v.AppendText(b)
	}
	return string(b)
}

func ignore(*sources.Row) error { return nil }

func TestRowsComeInOrder(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		const rows = 20000
		next := 1.0
		var columns []string
		err := s.Query(t.Context(), query(fmt.Sprintf(d.series, rows)), func(r *sources.Row) error {
			if columns == nil {
				columns = r.Columns
			}
			if &columns[0] != &r.Columns[0] {
				t.Fatal("Columns is another slice in a later row")
			}
			if n, err := r.Values[0].Float(); err != nil || n != next {
				t.Fatalf("row %v holds %v, %v", next, n, err)
			}
			next++
			return nil
		})
		if err != nil || next != rows+1 || !cmp.Equal(columns, []string{"n"}) {
			t.Errorf("%v rows of %v, %v", next-1, columns, err)
		}
	})
}

func TestValues(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		err := s.Query(t.Context(), query(d.types), func(r *sources.Row) error {
			var kinds []sources.Kind
			for _, v := range r.Values {
				kinds = append(kinds, v.Kind())
			}
			if diff := cmp.Diff([]sources.Kind{sources.Int64, sources.Float64, sources.Text, sources.Null}, kinds); diff != "" {
				t.Error(diff)
			}
			if got := line(r); got != "7|1.5|word|" {
				t.Errorf("row is %s", got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestEmptyResult(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		if rows := read(t, s, d.empty); rows != nil {
			t.Errorf("rows %v", rows)
		}
	})
}

func TestErrorAfterRowsIsSeen(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		rows := 0
		err := s.Query(t.Context(), query(d.fails), func(*sources.Row) error { rows++; return nil })
		if err == nil || rows != 4 {
			t.Fatalf("%d rows, error %v", rows, err)
		}
		wantOnce(t, err, d.config.Name)
		if errors.As(err, new(*sources.ConnectError)) {
			t.Errorf("a failing query is taken for a failing connection: %v", err)
		}
		if got := read(t, s, fmt.Sprintf(d.series, 2)); len(got) != 2 {
			t.Errorf("the next query has %d rows", len(got))
		}
	})
}

// wantOnce checks that an error names source and query, and each once.
func wantOnce(t *testing.T, err error, source string) {
	t.Helper()
	if strings.Count(err.Error(), "source "+source) != 1 || strings.Count(err.Error(), "query q") != 1 {
		t.Errorf("error does not name source and query once: %v", err)
	}
}

func TestBadStatement(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		for _, sql := range []string{"SELEC 1", "SELECT nothing FROM kept", "SELECT * FROM nothing", d.second} {
			err := s.Query(t.Context(), query(sql), ignore)
			if err == nil {
				t.Errorf("%s: no error", sql)
				continue
			}
			wantOnce(t, err, d.config.Name)
		}
	})
}

func TestErrorOfRowFunctionIsUnchanged(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		stop := errors.New("enough")
		for _, rows := range []int{10, 1000000} {
			err := s.Query(t.Context(), query(fmt.Sprintf(d.series, rows)), func(*sources.Row) error { return stop })
			if err != stop {
				t.Errorf("%d rows: error is %v", rows, err)
			}
			if got := read(t, s, fmt.Sprintf(d.series, 3)); len(got) != 3 {
				t.Errorf("the next query has %d rows", len(got))
			}
		}
		wantIdle(t, d)
	})
}

func wantIdle(t *testing.T, d database) {
	t.Helper()
	if d.running != nil {
		servers.Eventually(t, "the query leaves the server", func() bool { return d.running(t) == 0 })
	}
}

func TestCancelReachesServer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		for name, sql := range map[string]string{"before the first row": d.slow, "between rows": d.slowRows} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error)
				started := make(chan struct{}, 2)
				go func() {
					done <- s.Query(ctx, query(sql), func(*sources.Row) error { started <- struct{}{}; return nil })
				}()
				switch {
				case sql == d.slowRows:
					<-started
				case d.running != nil:
					servers.Eventually(t, "the query runs", func() bool { return d.running(t) > 0 })
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("error is %v", err)
				}
				wantIdle(t, d)
			})
		}
	})
}

func TestTimeout(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		for name, sql := range map[string]string{"before the first row": d.slow, "between rows": d.slowRows} {
			t.Run(name, func(t *testing.T) {
				q := query(sql)
				q.Timeout = 300 * time.Millisecond
				err := s.Query(t.Context(), q, ignore)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "query timed out after 300ms") {
					t.Fatalf("error is %v", err)
				}
				wantOnce(t, err, d.config.Name)
				wantIdle(t, d)
			})
		}
	})
}

func TestCallersDeadline(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := s.Query(ctx, query(d.slow), ignore); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		wantIdle(t, d)
	})
}

func TestWritesAreRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		before := d.kept(t)
		for _, sql := range d.writes {
			if err := s.Query(t.Context(), query(sql), ignore); err == nil {
				t.Errorf("%s: no error", sql)
			}
		}
		if after := d.kept(t); after != before {
			t.Errorf("table held %s, holds %s", before, after)
		}
		for _, sql := range []string{"SELECT * FROM made", "SELECT * FROM made.made"} {
			if err := s.Query(t.Context(), query(sql), ignore); err == nil {
				t.Errorf("%s: a write has made something", sql)
			}
		}
	})
}

// A query must not change what later queries on its connection see, or keep a
// transaction open that holds the application up.
func TestQueriesLeaveNoState(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		for _, sql := range []string{"BEGIN", "COMMIT", "ROLLBACK", "SET statement_timeout = 1", "SET TRANSACTION READ WRITE", "PRAGMA query_only = 0"} {
			_ = s.Query(t.Context(), query(sql), ignore)
			if err := s.Query(t.Context(), query(d.writes[0]), ignore); err == nil {
				t.Errorf("after %s a write succeeds", sql)
			}
			if got := read(t, s, "SELECT count(*) FROM kept"); !cmp.Equal(got, []string{"2"}) {
				t.Errorf("after %s: %v", sql, got)
			}
			d.exec(t, "INSERT INTO kept VALUES (9)", "DELETE FROM kept WHERE v = 9")
			wantIdle(t, d)
		}
	})
}

func TestPing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestManyCallers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				for range 10 {
					rows := 0
					err := s.Query(t.Context(), query(fmt.Sprintf(d.series, 100)), func(*sources.Row) error { rows++; return nil })
					if err != nil || rows != 100 {
						t.Errorf("%d rows, %v", rows, err)
					}
				}
			})
		}
		callers.Wait()
	})
}

func TestCloseEndsQueries(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		done := make(chan error)
		started := make(chan struct{}, 2)
		go func() {
			done <- s.Query(t.Context(), query(d.slowRows), func(*sources.Row) error { started <- struct{}{}; return nil })
		}()
		<-started
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{
			"running": <-done,
			"late":    s.Query(t.Context(), query(d.empty), ignore),
			"ping":    s.Ping(t.Context()),
		} {
			if !errors.Is(err, sources.ErrClosed) {
				t.Errorf("%s: error is %v", what, err)
			}
		}
		wantIdle(t, d)
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, _ sources.Source) {
		round := func() {
			s, err := sources.Open(d.config, sources.Options{})
			if err != nil {
				t.Fatal(err)
			}
			read(t, s, d.types)
			_ = s.Query(t.Context(), query(d.fails), ignore)
			q := query(d.slow)
			q.Timeout = 50 * time.Millisecond
			_ = s.Query(t.Context(), q, ignore)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		round()
		files, goroutines := openFiles(t), runtime.NumGoroutine()
		for range 5 {
			round()
		}
		servers.Eventually(t, "files and goroutines are as before", func() bool {
			return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
		})
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The caller names the source.
func TestOpenRefuses(t *testing.T) {
	dsn := func(dsn string) config.Source {
		return config.Source{Type: config.TypePostgres, DSN: config.NewSecret(dsn)}
	}
	for name, test := range map[string]struct {
		config config.Source
		want   string
	}{
		"unknown type":          {config.Source{Type: "oracle"}, `type "oracle" is not known`},
		"no user":               {config.Source{Type: config.TypePostgres, Host: "db"}, "set user"},
		"no user in the dsn":    {dsn("postgres://db/app"), "set user"},
		"bad port":              {dsn("postgres://u:verysecret@db:port/app"), "cannot be read"},
		"bad words":             {dsn("user=u password='verysecret"), "cannot be read"},
		"bad sslmode":           {dsn("postgres://u:verysecret@db/app?sslmode=wat"), "set it to disable"},
		"bad sslmode in words":  {dsn("user=u password=verysecret sslmode=wat"), "set it to disable"},
		"bad escape":            {dsn("postgres://u:verysecret%ZZ@db/app"), "percent-encoded"},
		"bad escape behind":     {dsn("postgres://u:verysecret@db/app?application_name=%ZZ"), "percent-encoded"},
		"bad escape in host":    {dsn("postgres://u:verysecret@%ZZ/app"), "percent-encoded"},
		"slash in the password": {dsn("postgres://u:very/secret@db/app"), "percent-encoded"},
		"bad timeout":           {dsn("postgres://u:verysecret@db/app?connect_timeout=verysecret"), "cannot be read"},
		"sqlite without a path": {config.Source{Type: config.TypeSQLite}, "set path"},
		"sqlite in memory":      {config.Source{Type: config.TypeSQLite, Path: ":memory:"}, "set path"},
		"sqlite to write":       {config.Source{Type: config.TypeSQLite, DSN: config.NewSecret("file:a.db?mode=rwc")}, "mode=ro"},
		"sqlite bad escape":     {config.Source{Type: config.TypeSQLite, DSN: config.NewSecret("file:a%ZZ.db")}, "data_source_name"},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.Name = "s1"
			s, err := sources.Open(test.config, sources.Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if got := err.Error(); !strings.Contains(got, test.want) || strings.Contains(got, "secret") || strings.Contains(got, "s1") {
				t.Errorf("error is %v, want %s, no password and no source", err, test.want)
			}
			t.Log(err)
		})
	}
}
