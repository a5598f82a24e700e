package sources_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sql2metrics/config"
)

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

// privateSQLite has a file for a server: it is gone, or locked by its
// application.
func privateSQLite(t testing.TB) private {
	path := kept(t)
	var writer app
	return private{
		config:  sqliteSource(path),
		address: path,
		kill:    func() error { return os.Rename(path, path+".gone") },
		start:   func() error { return os.Rename(path+".gone", path) },
		pause: func() error {
			writer = openApp(t, path)
			_, err := writer.db.Exec("BEGIN EXCLUSIVE")
			return err
		},
		resume: func() error { return writer.db.Close() },
		row:    "SELECT v FROM kept",
	}
}
