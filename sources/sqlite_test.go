package sources_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"testing"
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
func fileURI(path string) string { return "file://" + (&url.URL{Path: path}).EscapedPath() }

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

// taskVariable makes the test binary run a task in place of the tests.
const taskVariable = "SQL2METRICS_TEST_TASK"

func runTask(task string) int {
	fmt.Fprintln(os.Stderr, "no such task:", task)
	return 2
}
