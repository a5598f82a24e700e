package sources_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// app is the application that owns an SQLite database.
type app struct{ db *sql.DB }

func openApp(t testing.TB, path string) app {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return app{db}
}

// fileURI escapes a path for the application's driver.
func fileURI(path string) string {
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=10000"
}

func (a app) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := a.db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

func (a app) row(t testing.TB, query string) string {
	t.Helper()
	var v string
	if err := a.db.QueryRow(query).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func sqliteSource(path string) config.Source {
	return config.Source{Name: "lite", Type: config.TypeSQLite, Path: path, MaxConnections: 2, Timeout: 10 * time.Second}
}

func TestSQLiteForms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b.db")
	openApp(t, path).exec(t, "CREATE TABLE t (v); INSERT INTO t VALUES (7)")
	for _, dsn := range []string{path, "file:" + path, "file:" + strings.ReplaceAll(path, " ", "%20") + "?mode=ro", "file://" + path, "file://localhost" + path} {
		t.Run(dsn, func(t *testing.T) {
			c := sqliteSource("")
			c.DSN = config.NewSecret(dsn)
			if got := read(t, open(t, c), "SELECT v FROM t"); !cmp.Equal(got, []string{"7"}) {
				t.Error(got)
			}
		})
	}
}

func TestSQLiteValues(t *testing.T) {
	s := open(t, sqliteSource(kept(t)))
	for expression, want := range map[string]string{
		"-9223372036854775808":       "-9223372036854775808",
		"1e999":                      "+Inf",
		"''":                         "",
		"'grün'":                     "grün",
		"x'616263'":                  "abc",
		"CAST('2026-07-01' AS DATE)": "2026",
		"datetime(0, 'unixepoch')":   "1970-01-01 00:00:00",
		"(1 = 1)":                    "1",
		"NULL":                       "",
	} {
		if got := read(t, s, "SELECT "+expression); !cmp.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", expression, got, want)
		}
	}
	for _, sql := range []string{"", "  ", "-- nothing", ";", "SELECT 1\x00", "SELECT 1; garbage"} {
		if err := s.Query(t.Context(), query(sql), ignore); err == nil {
			t.Errorf("%q: no error", sql)
		}
	}
	for _, sql := range []string{"SELECT 1;", "SELECT 1 ; -- done", "/* a; b */ SELECT 1;;\n"} {
		if got := read(t, s, sql); !cmp.Equal(got, []string{"1"}) {
			t.Errorf("%q: %v", sql, got)
		}
	}
}

// kept makes a database with one table.
func kept(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "app.db")
	openApp(t, path).exec(t, "CREATE TABLE kept (v int)", "INSERT INTO kept VALUES (1)")
	return path
}

func TestSQLiteUnreachable(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(strings.Repeat("no database ", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct{ path, want string }{
		"missing file":   {filepath.Join(folder, "missing.db"), "missing.db: no such file"},
		"missing folder": {filepath.Join(folder, "missing", "app.db"), "no such file"},
		"folder":         {folder, "not a regular file"},
		"other file":     {write("text", 1000), "not a database"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, sqliteSource(test.path))
			for what, err := range map[string]error{
				"query": s.Query(t.Context(), query("SELECT count(*) FROM sqlite_schema"), ignore),
				"ping":  s.Ping(t.Context()),
			} {
				if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: error is %v", what, err)
				}
			}
			entries, err := os.ReadDir(folder)
			if err != nil || len(entries) > 1 {
				t.Errorf("the folder holds %v, %v", entries, err)
			}
		})
	}
}

// A file that comes later, or takes another's place, is the one that is read.
func TestSQLiteFileIsReplaced(t *testing.T) {
	path, next := filepath.Join(t.TempDir(), "app.db"), kept(t)
	s := open(t, sqliteSource(path))
	if err := s.Ping(t.Context()); !errors.As(err, new(*sources.ConnectError)) {
		t.Errorf("without the file: %v", err)
	}
	openApp(t, path).exec(t, "CREATE TABLE kept (v int)", "INSERT INTO kept VALUES (41)")
	if got := read(t, s, "SELECT v FROM kept"); !cmp.Equal(got, []string{"41"}) {
		t.Error(got)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "SELECT v FROM kept"); !cmp.Equal(got, []string{"1"}) {
		t.Errorf("after the file was replaced: %v", got)
	}
}

func TestSQLiteLocked(t *testing.T) {
	path := kept(t)
	writer := openApp(t, path)
	s := open(t, sqliteSource(path))
	writer.exec(t, "BEGIN EXCLUSIVE")
	q := query("SELECT v FROM kept")
	q.Timeout = 3 * time.Second // the lock has to be met before
	err := s.Query(t.Context(), q, ignore)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "database was locked") {
		t.Errorf("error is %v", err)
	}
	done := make(chan error)
	go func() { done <- s.Query(t.Context(), query("SELECT v FROM kept"), ignore) }()
	writer.exec(t, "COMMIT")
	if err := <-done; err != nil {
		t.Errorf("after the lock was given up: %v", err)
	}
}

// Reading must not stand in the application's way, even for a row that is
// never finished.
func TestSQLiteDoesNotBlockApplication(t *testing.T) {
	path := kept(t)
	writer := openApp(t, path)
	s := open(t, sqliteSource(path))
	stop := errors.New("stop")
	for range 3 {
		if err := s.Query(t.Context(), query("SELECT a.v FROM kept a, kept b"), func(*sources.Row) error { return stop }); err != stop {
			t.Error(err)
		}
		writer.exec(t, "BEGIN EXCLUSIVE", "INSERT INTO kept VALUES (2)", "COMMIT")
	}
}
