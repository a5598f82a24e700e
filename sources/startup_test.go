package sources_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

func TestOpenChecksStartupSQL(t *testing.T) {
	const postgres, mysql, clickhouse, sqlite, redis = config.TypePostgres, config.TypeMySQL, config.TypeClickHouse, config.TypeSQLite, config.TypeRedis
	for _, test := range []struct {
		source config.SourceType
		sql    string
		refuse string // part of the error; empty if it may run
	}{
		{postgres, "SET search_path = app", ""},
		{postgres, "/* why */ set\ttime zone 'UTC'", ""},
		{postgres, "SET ROLE monitor", ""},
		{postgres, "SELECT set_config('work_mem', '1MB', false)", ""},
		{postgres, "SELECT pg_terminate_backend(1)", `begins with "SELECT"`},
		{postgres, "RESET ALL", "RESET"},
		{postgres, "ALTER SYSTEM SET work_mem = 1", "ALTER"},
		{postgres, "DELETE FROM orders", "DELETE"},
		{postgres, "", "only a statement that begins with SET or SELECT SET_CONFIG"},
		{mysql, "SET time_zone = '+00:00'", ""},
		{mysql, "SET SESSION lock_wait_timeout = 2, @@session.sql_mode = ''", ""},
		{mysql, "USE app", ""},
		{mysql, "SET ROLE monitor", ""},
		{mysql, "SET GLOBAL max_connections = 1", "GLOBAL"},
		{mysql, "SET @a = 1, @@global.max_connections = 1", "GLOBAL"},
		{mysql, "SET @a = 1, persist max_connections = 1", "PERSIST"},
		{mysql, "SET /*!50000 GLOBAL */ max_connections = 1", "GLOBAL"},
		{mysql, "SET PASSWORD = 'x'", "PASSWORD"},
		{mysql, "SET DEFAULT ROLE ALL TO mon", "DEFAULT"},
		{mysql, "SET STATEMENT tx_read_only = 0 FOR DELETE FROM orders", "STATEMENT"},
		{mysql, "SET autocommit=0", "AUTOCOMMIT"},
		{mysql, "SET @@autocommit=0", "AUTOCOMMIT"},
		{mysql, "SET @a = 1, @@session.`Autocommit` = off", "AUTOCOMMIT"},
		{mysql, "SET @a = get_lock('a', 1)", "GET_LOCK"},
		{mysql, "/*! DELETE FROM orders */", "only a statement"},
		{mysql, "SELECT 1", "SELECT"},
		{clickhouse, "SET max_threads = 1", ""},
		{clickhouse, "USE app", ""},
		{clickhouse, "SET readonly = 0", "READONLY"},
		{clickhouse, "SET DEFAULT ROLE r TO mon", "DEFAULT"},
		{clickhouse, "SYSTEM FLUSH LOGS", "SYSTEM"},
		{sqlite, "PRAGMA cache_size = -512", ""},
		{sqlite, "ATTACH 'a' AS b", "ATTACH"},
		{redis, "SELECT 3", "no meaning"},
	} {
		c := config.Source{Name: "s1", Type: test.source, Host: "127.0.0.1", Port: 1, User: "u", Path: "/no/such.db", StartupSQL: []string{test.sql}}
		s, err := sources.Open(c, sources.Options{})
		if err == nil {
			_ = s.Close()
		}
		switch {
		case test.refuse == "" && err != nil:
			t.Errorf("%s: %s: %v", test.source, test.sql, err)
		case test.refuse != "" && (err == nil || !strings.Contains(err.Error(), test.refuse) || !strings.Contains(err.Error(), "startup_sql")):
			t.Errorf("%s: %s: error %v does not name %s", test.source, test.sql, err, test.refuse)
		}
	}
}

// A default database of the session's would be that of each of the many.
func TestOpenRefusesUseBesideDatabases(t *testing.T) {
	for _, source := range []config.SourceType{config.TypeMySQL, config.TypeClickHouse} {
		c := config.Source{Name: "s1", Type: source, Host: "127.0.0.1", Port: 1, User: "u",
			Databases: &config.Databases{Label: "database"}, StartupSQL: []string{"SET a = 1", "/* b */ use app"}}
		s, err := sources.Open(c, sources.Options{})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "statement 2 of startup_sql: USE") {
			t.Errorf("%s: error is %v", source, err)
		}
	}
}

// What startup_sql sets is what each query of the session sees; what fails in
// it is named; and it opens no way to write.
func TestStartupSQL(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, _ sources.Source) {
		test, has := map[config.SourceType]struct{ set, show, want, fails string }{
			config.TypePostgres:   {"SET work_mem = '4321kB'", "SHOW work_mem", "4321kB", "SET no_such_setting = 1"},
			config.TypeMySQL:      {"SET SESSION div_precision_increment = 7", "SELECT @@div_precision_increment", "7", "SET no_such_setting = 1"},
			config.TypeClickHouse: {"SET max_block_size = 4321", "SELECT value FROM system.settings WHERE name = 'max_block_size'", "4321", "SET no_such_setting = 1"},
			config.TypeSQLite:     {"PRAGMA cache_size = 4321", "PRAGMA cache_size", "4321", "PRAGMA ("},
		}[d.config.Type]
		if !has || d.config.Protocol == config.ProtocolHTTP {
			return // it has no sessions to set up
		}
		c := d.config
		c.MaxConnections = 1
		c.StartupSQL = []string{test.set}
		s := open(t, c)
		for range 2 {
			if got := read(t, s, test.show); !cmp.Equal(got, []string{test.want}) {
				t.Errorf("%s: %v", test.show, got)
			}
		}
		before := d.kept(t)
		for _, undo := range map[config.SourceType][]string{
			config.TypePostgres: {"SET default_transaction_read_only = off", "SET transaction_read_only = off", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"},
			config.TypeMySQL:    {"SET SESSION TRANSACTION READ WRITE", "SET SESSION transaction_read_only = 0", "SET SESSION tx_read_only = 0"},
			config.TypeSQLite:   {"PRAGMA query_only = 0", "PRAGMA writable_schema = 1"},
		}[d.config.Type] {
			c.StartupSQL = []string{undo}
			s := open(t, c)
			if err := s.Query(t.Context(), query(d.writes[0]), ignore); err == nil {
				t.Errorf("after %s a write succeeds", undo)
			}
			if err := s.Query(t.Context(), query(d.writes[2]), ignore); err == nil {
				t.Errorf("after %s a write succeeds", undo)
			}
		}
		if after := d.kept(t); after != before {
			t.Errorf("table held %s, holds %s", before, after)
		}

		c.StartupSQL = []string{test.set, test.fails}
		err := open(t, c).Query(t.Context(), query(test.show), ignore)
		if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "statement 2 of startup_sql") {
			t.Fatalf("error of a failing statement is %v", err)
		}
		wantOnce(t, err, d.config.Name)
	})
}
