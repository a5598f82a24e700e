package sources_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// The account is what docs/postgresql.md has one create.
func TestPostgresDocumentedAccount(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/postgresql.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no account")
	}
	pg := servers.Postgres(t)
	pg.Exec(t, "CREATE TABLE kept (v int)", "INSERT INTO kept VALUES (1), (2)")
	for account := range strings.Lines(string(block[1])) {
		pg.Exec(t, account)
	}
	c := pgSource(pg)
	c.User, c.Password = "sql2metrics", config.NewSecret("...")
	s := open(t, c)
	if got := read(t, s, "SELECT v FROM kept ORDER BY v"); !cmp.Equal(got, []string{"1", "2"}) {
		t.Errorf("the account reads %v", got)
	}
	read(t, s, "SELECT count(*) FROM pg_stat_replication")

	const state = `SELECT (SELECT string_agg(v::text, ',' ORDER BY v) FROM kept), (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)`
	before := pg.Query(t, state)
	for name, test := range map[string]struct{ sql, want string }{
		"INSERT":            {"INSERT INTO kept VALUES (3)", "INSERT"},
		"DDL":               {"CREATE TABLE made (v int)", "CREATE"},
		"DDL explained":     {"EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1", "42501"},
		"two statements":    {"SELECT 1; DELETE FROM kept", "42601"},
		"ends transaction":  {"SELECT 1; COMMIT; DELETE FROM kept", "42601"},
		"WITH":              {"WITH gone AS (DELETE FROM kept RETURNING v) SELECT * FROM gone", "25006"},
		"COPY TO PROGRAM":   {"COPY kept TO PROGRAM 'cat >/tmp/x'", "COPY"},
		"SELECT INTO":       {"SELECT * INTO made FROM kept", "25006"},
		"WAL":               {"SELECT pg_switch_wal()", "42501"},
		"restore point":     {"SELECT pg_create_restore_point('x')", "42501"},
		"another's session": {"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'", "42501"},
		"configuration":     {"SELECT pg_reload_conf()", "42501"},
		"file":              {"SELECT pg_read_file('PG_VERSION')", "42501"},
		"large object":      {"SELECT lo_export(1, '/tmp/x')", "42501"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another's session" {
				defer pg.Begin(t)()
			}
			err := s.Query(t.Context(), query(test.sql), ignore)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	if after := pg.Query(t, state); !cmp.Equal(after, before) {
		t.Errorf("database held %v, holds %v", before, after)
	}
}
