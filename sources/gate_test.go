package sources_test

import (
	"errors"
	"strings"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

func versions(t *testing.T, s string) config.VersionRange {
	t.Helper()
	r, err := config.ParseVersionRange(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// gated is one gate, and what is said when it is closed; empty: it is open.
type gated struct {
	requires config.Requires
	missing  string
}

// wantGates checks which gates of s are open.
func wantGates(t *testing.T, s sources.Source, gates map[string]gated) {
	t.Helper()
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			q, rows := query("SELECT 1 AS n"), 0
			q.Requires = g.requires
			err := s.Query(t.Context(), q, func(*sources.Row) error { rows++; return nil })
			if g.missing == "" {
				if err != nil || rows != 1 {
					t.Errorf("%d rows, %v", rows, err)
				}
				return
			}
			var closed *sources.NotApplicableError
			if !errors.As(err, &closed) || rows != 0 || !strings.Contains(err.Error(), g.missing) {
				t.Errorf("%d rows, error %v, want one that says %q", rows, err, g.missing)
				return
			}
			if n := strings.Count(err.Error(), "query q"); n != 1 {
				t.Errorf("error names the query %d times: %v", n, err)
			}
		})
	}
}

func TestPostgresGates(t *testing.T) {
	pg := shared.Get(t)
	s := open(t, pgSource(pg))
	wantGates(t, s, map[string]gated{
		"version":         {config.Requires{Version: versions(t, ">=13 <99")}, ""},
		"old version":     {config.Requires{Version: versions(t, "<13")}, "server_version <13, and the server has "},
		"product":         {config.Requires{Version: versions(t, "mysql >=5")}, "server_version mysql >=5"},
		"role":            {config.Requires{Role: config.RolePrimary}, ""},
		"other role":      {config.Requires{Role: config.RoleReplica}, "role replica, and the server is a primary"},
		"extension":       {config.Requires{Extensions: []string{"plpgsql"}}, ""},
		"extensions":      {config.Requires{Extensions: []string{"plpgsql", "hstore"}}, "extension hstore"},
		"all of them":     {config.Requires{Role: config.RolePrimary, Extensions: []string{"plpgsql"}, Version: versions(t, ">=13")}, ""},
		"several missing": {config.Requires{Role: config.RoleReplica, Version: versions(t, "<13")}, "; role replica"},
	})
	// What is installed meanwhile is seen on the same connection.
	pg.Exec(t, "CREATE EXTENSION citext")
	t.Cleanup(func() { pg.Exec(t, "DROP EXTENSION citext") })
	wantGates(t, s, map[string]gated{"installed": {config.Requires{Extensions: []string{"citext"}}, ""}})
}

func TestClickHouseGates(t *testing.T) {
	wantGates(t, open(t, clickhouseDatabase(t).config), map[string]gated{
		"version":     {config.Requires{Version: versions(t, ">=18.16")}, ""},
		"old version": {config.Requires{Version: versions(t, "<18")}, "server_version <18, and the server has "},
		"role":        {config.Requires{Role: config.RolePrimary}, "role primary, and the server has none"},
		"extension":   {config.Requires{Extensions: []string{"x"}}, "extension x"},
	})
}

func TestSQLiteGates(t *testing.T) {
	wantGates(t, open(t, sqliteDatabase(t).config), map[string]gated{
		"version":         {config.Requires{Version: versions(t, ">=3.40")}, ""},
		"other version":   {config.Requires{Version: versions(t, ">=4")}, "server_version >=4, and the server has 3."},
		"role":            {config.Requires{Role: config.RolePrimary}, ""},
		"other role":      {config.Requires{Role: config.RoleReplica}, "role replica, and the server is a primary"},
		"module":          {config.Requires{Extensions: []string{"fts5"}}, ""},
		"missing module":  {config.Requires{Extensions: []string{"nothing"}}, "extension nothing"},
		"version, module": {config.Requires{Extensions: []string{"fts5"}, Version: versions(t, ">=3")}, ""},
	})
}
