package sources_test

import (
	"strings"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

func TestCheckStatement(t *testing.T) {
	const postgres, sqlite, mysql = config.TypePostgres, config.TypeSQLite, config.TypeMySQL
	for _, test := range []struct {
		source config.SourceType
		sql    string
		refuse string // what the error names; empty if it may run
	}{
		{postgres, "SELECT 1", ""},
		{postgres, "select\n1", ""},
		{postgres, "select(1)", ""},
		{postgres, "WITH a AS (SELECT 1) SELECT * FROM a", ""},
		{postgres, "SHOW max_connections", ""},
		{postgres, "VALUES (1)", ""},
		{postgres, "TABLE orders", ""},
		{postgres, "EXPLAIN SELECT 1", ""},
		{postgres, " \t\r\n\f\v(( -- a ; b\n/* COPY /* nested */ */ ( sElEcT 1)) union select 2)", ""},
		{postgres, "--\nSELECT 1", ""},
		{postgres, "/**/SELECT 1", ""},
		{postgres, "COPY orders TO STDOUT", "COPY"},
		{postgres, "/* SELECT */ copy orders TO STDOUT", "COPY"},
		{postgres, "BEGIN", "BEGIN"},
		{postgres, "COMMIT; SELECT 1", "COMMIT"},
		{postgres, "ROLLBACK", "ROLLBACK"},
		{postgres, "SET statement_timeout = 0", "SET"},
		{postgres, "LISTEN jobs", "LISTEN"},
		{postgres, "DO $$BEGIN END$$", "DO"},
		{postgres, "CALL p()", "CALL"},
		{postgres, "LOCK orders", "LOCK"},
		{postgres, "PRAGMA user_version", "PRAGMA"},
		{postgres, "SELECTED", "SELECTED"},
		{postgres, "SELECT_1", "SELECT_1"},
		{postgres, "selectß", "SELECTß"},
		{postgres, "-- x\rDO '' /*\nSELECT */", "DO"},
		{postgres, "/*/*/ SELECT 1 */ */ DO ''", "DO"},
		{postgres, "'text'", "no statement"},
		{postgres, "", "no statement"},
		{postgres, " (-- SELECT 1", "no statement"},
		{postgres, "/* SELECT 1", "no statement"},
		{postgres, "/* /* */ SELECT 1", "no statement"},
		{postgres, strings.Repeat("x", 10000), "XXXX"},

		{sqlite, "SELECT 1", ""},
		{sqlite, "with a AS (SELECT 1) SELECT * FROM a", ""},
		{sqlite, "VALUES (1)", ""},
		{sqlite, "PRAGMA page_count", ""},
		{sqlite, "EXPLAIN QUERY PLAN SELECT 1", ""},
		{sqlite, "/* /* */ SELECT 1", ""},
		{sqlite, "-- x\rDROP\nSELECT 1", ""},
		{sqlite, "SHOW x", "SHOW"},
		{sqlite, "TABLE x", "TABLE"},
		{sqlite, "ATTACH 'x' AS x", "ATTACH"},
		{sqlite, "BEGIN", "BEGIN"},
		{sqlite, "VACUUM", "VACUUM"},

		{mysql, "SELECT 1", ""},
		{mysql, "WITH a AS (SELECT 1) SELECT * FROM a", ""},
		{mysql, "SHOW GLOBAL STATUS", ""},
		{mysql, "VALUES (1)", ""},
		{mysql, "EXPLAIN SELECT 1", ""},
		{mysql, "DESC orders", ""},
		{mysql, "# DROP\n-- DROP\n/* DROP */ ((SELECT 1))", ""},
		{mysql, "SELECT /*! STRAIGHT_JOIN */ 1", ""},
		{mysql, "/*! DELETE FROM orders */", "no statement"},
		{mysql, "/*!50000 DROP TABLE orders */ SELECT", "no statement"},
		{mysql, "/*M! DROP TABLE orders */ SELECT", "no statement"},
		{mysql, "/* a *//*!DROP TABLE orders */ SELECT", "no statement"},
		{mysql, "# SELECT\rSELECT", "no statement"},
		{mysql, "/* /* */ DROP TABLE orders */ SELECT 1", "DROP"},
		{mysql, "SET GLOBAL max_connections = 1", "SET"},
		{mysql, "SET STATEMENT tx_read_only = 0 FOR DELETE FROM orders", "SET"},
		{mysql, "CALL p()", "CALL"},
		{mysql, "ANALYZE DELETE FROM orders", "ANALYZE"},
		{mysql, "HANDLER orders OPEN", "HANDLER"},
		{mysql, "DO RELEASE_ALL_LOCKS()", "DO"},

		{config.TypePrometheus, "SELECT 1", "prometheus"},
	} {
		err := checkStatement(test.source, test.sql)
		switch {
		case test.refuse == "" && err != nil:
			t.Errorf("%s: %s: %v", test.source, test.sql, err)
		case test.refuse != "" && (err == nil || !strings.Contains(err.Error(), test.refuse) || len(err.Error()) > 300):
			t.Errorf("%s: %.50s: error %v does not name %s", test.source, test.sql, err, test.refuse)
		}
	}
}

// What may not run is refused before a connection is made.
func TestRefusedStatementIsNotSent(t *testing.T) {
	for name, c := range map[string]config.Source{
		"postgres": {Name: "s1", Type: config.TypePostgres, Host: "127.0.0.1", Port: 1, User: "u"},
		"sqlite":   {Name: "s1", Type: config.TypeSQLite, Path: t.TempDir() + "/missing.db"},
	} {
		t.Run(name, func(t *testing.T) {
			err := open(t, c).Query(t.Context(), query("COPY orders TO STDOUT"), ignore)
			if err == nil || !strings.Contains(err.Error(), "COPY") || !strings.Contains(err.Error(), "SELECT") {
				t.Errorf("error is %v", err)
			}
			wantOnce(t, err, "s1")
		})
	}
}

func checkStatement(source config.SourceType, sql string) error {
	return sources.CheckStatement(config.Source{Type: source}, config.Query{SQL: sql})
}

func FuzzCheckStatement(f *testing.F) {
	for _, sql := range []string{"SELECT 1", "/* a */ (SELECT 1)", "-- a\nCOPY x TO STDOUT", "/*/", "/*/*", "-", "# a\n/*! SELECT */", ""} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, source := range []config.SourceType{config.TypePostgres, config.TypeSQLite, config.TypeMySQL} {
			if checkStatement(source, sql) != nil {
				continue
			}
			// What stands before a statement changes nothing.
			if err := checkStatement(source, "-- DROP\n /* x */("+sql); err != nil {
				t.Errorf("%s: %q: %v", source, sql, err)
			}
		}
	})
}
