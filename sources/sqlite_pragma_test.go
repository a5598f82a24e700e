package sources_test

import (
	"strings"
	"testing"

	"sql2metrics/sources"
)

// A PRAGMA in a query reads. What others would set stays as it was, and the
// application can write.
func TestSQLitePragmas(t *testing.T) {
	path := kept(t)
	application := openApp(t, path)
	c := sqliteSource(path)
	c.MaxConnections = 1
	s := open(t, c)
	for _, sql := range []string{
		"PRAGMA page_count", "PRAGMA main.page_size", "pragma USER_VERSION;", "PRAGMA table_info(kept)",
		"PRAGMA table_info = kept", "PRAGMA main.table_xinfo('kept')", "PRAGMA integrity_check", "PRAGMA quick_check(5)",
		"PRAGMA foreign_key_check", "PRAGMA table_list", "PRAGMA database_list", "PRAGMA compile_options", "PRAGMA encoding",
		"EXPLAIN PRAGMA page_count", "SELECT name FROM pragma_table_info('kept')", "SELECT * FROM pragma_page_count",
	} {
		if err := s.Query(t.Context(), query(sql), ignore); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	refused := []string{
		"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA locking_mode(EXCLUSIVE)", "PRAGMA /* x */ main . locking_mode = 'exclusive'",
		`PRAGMA "main"."Locking_Mode" = EXCLUSIVE`, "EXPLAIN PRAGMA locking_mode = EXCLUSIVE", "EXPLAIN QUERY PLAN PRAGMA locking_mode = EXCLUSIVE",
		"PRAGMA query_only = 0", "PRAGMA writable_schema = 1", "PRAGMA soft_heap_limit = 1", "PRAGMA hard_heap_limit(1)",
		"PRAGMA journal_mode = WAL", "PRAGMA mmap_size = 1000000", "PRAGMA busy_timeout = 1000000",
		"PRAGMA user_version = 0", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize", "SELECT * FROM pragma_optimize(-1)", "PRAGMA temp_store_directory = '/'",
		"PRAGMA incremental_vacuum", "PRAGMA no_such_thing",
	}
	for _, sql := range append(refused, "PRAGMA cache_size = 1") {
		if err := s.Query(t.Context(), query(sql), ignore); err == nil || !strings.Contains(err.Error(), "PRAGMA") {
			t.Errorf("%s: error is %v", sql, err)
		}
		read(t, s, "SELECT v FROM kept")
	}
	for _, sql := range refused {
		c.StartupSQL = []string{sql}
		s, err := sources.Open(c, sources.Options{})
		if err == nil {
			err = s.Query(t.Context(), query("SELECT v FROM kept"), ignore)
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "startup_sql") {
			t.Errorf("startup_sql %s: error is %v", sql, err)
		}
	}
	application.exec(t, "BEGIN EXCLUSIVE", "INSERT INTO kept VALUES (2)", "COMMIT")
}
