package sources_test

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	boxed    int      // allocations that the driver makes for a row of wide
	held     bool     // a result comes when it is whole: no row ahead of an error

	// What is the same in every SQL, and empty there: see inSQL.
	wide    string   // series with numbers beside n
	count   string   // how many rows the table kept has, which is 2
	session []string // would have later statements fare otherwise
	pass    []string // changes the table kept and changes it back, for exec

	exec    func(t testing.TB, sql ...string) // as the application
	kept    func(t testing.TB) string         // what the table kept holds
	running func(t testing.TB) int            // queries of ours under way at the server
}

// databases has a row for every kind of source. All tests below run over it.
var databases = map[string]func(t testing.TB) database{
	"clickhouse":           clickhouseDatabase,
	"clickhouse over HTTP": clickhouseHTTPDatabase,
	"http_json":            httpJSONDatabase,
	"mysql":                mysqlDatabase,
	"pgbouncer":            throughBouncer,
	"postgres":             postgresDatabase,
	"redis":                redisDatabase,
	"sqlite":               sqliteDatabase,
}

// inSQL fills in what is spelled alike in every SQL.
func (d database) inSQL() database {
	if d.numbers == "" {
		return d
	}
	d.wide = "SELECT n, " + d.numbers + " FROM (" + d.series + ") s"
	d.count = "SELECT count(*) FROM kept"
	d.session = []string{"BEGIN", "COMMIT", "ROLLBACK", "SET statement_timeout = 1", "SET TRANSACTION READ WRITE", "PRAGMA query_only = 0"}
	d.pass = []string{"INSERT INTO kept VALUES (9)", "DELETE FROM kept WHERE v = 9"}
	return d
}

// eachDatabase runs test on every kind of source, open and closed again.
func eachDatabase(t *testing.T, test func(*testing.T, database, sources.Source)) {
	for name, prepare := range databases {
		t.Run(name, func(t *testing.T) {
			d := prepare(t).inSQL()
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

// query is a query of its own for each statement: what a source learns about
// one is not taken for another.
func query(sql string) config.Query {
	return config.Query{Name: "q", Collector: sql, SQL: sql, Timeout: 30 * time.Second}
}

// unending is a query that ends when it is stopped, and not by itself while a
// test waits for that.
func unending(sql string) config.Query {
	q := query(sql)
	q.Timeout = time.Hour
	return q
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
		ahead := 4
		if d.held {
			ahead = 0
		}
		if err == nil || rows != ahead {
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
					done <- s.Query(ctx, unending(sql), func(*sources.Row) error { started <- struct{}{}; return nil })
				}()
				switch {
				case sql == d.slowRows && !d.held:
					select {
					case <-started:
					case err := <-done:
						t.Fatalf("no row came: %v", err)
					}
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
		read(t, s, d.empty) // a connect that is late has an error of its own
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
		for _, sql := range d.session {
			_ = s.Query(t.Context(), query(sql), ignore)
			if err := s.Query(t.Context(), query(d.writes[0]), ignore); err == nil {
				t.Errorf("after %s a write succeeds", sql)
			}
			if got := read(t, s, d.count); !cmp.Equal(got, []string{"2"}) {
				t.Errorf("after %s: %v", sql, got)
			}
			d.exec(t, d.pass...)
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
			done <- s.Query(t.Context(), unending(d.slowRows), func(*sources.Row) error { started <- struct{}{}; return nil })
		}()
		if d.held {
			servers.Eventually(t, "the query runs", func() bool { return d.running(t) > 0 })
		} else {
			select {
			case <-started:
			case err := <-done:
				t.Fatalf("no row came: %v", err)
			}
		}
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
		for range 3 {
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
