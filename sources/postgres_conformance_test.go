package sources_test

import (
	"fmt"
	"strings"
	"testing"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

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
		// In the list of columns it makes its rows as they are sent.
		series: "SELECT generate_series(1, %d) AS n",
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

func privatePostgres(t testing.TB) private {
	pg := servers.Postgres(t)
	setPassword := func(t testing.TB, password string) {
		pg.Exec(t, "ALTER ROLE reader PASSWORD '"+password+"'", "CHECKPOINT") // a kill takes the rest
	}
	pg.Exec(t, "CREATE ROLE reader LOGIN")
	setPassword(t, firstPassword)
	c := pgSource(pg)
	c.User, c.Password = "reader", config.NewSecret(firstPassword)
	return private{
		config:  c,
		address: pg.Addr(),
		kill:    pg.Kill, start: pg.Start, pause: pg.Pause, resume: pg.Resume,
		row:         "SELECT 1",
		nap:         "SELECT pg_sleep(0.01)",
		slow:        "SELECT pg_sleep(600)",
		setPassword: setPassword,
		connections: func(t testing.TB) int { return pg.Connections(t, application) },
		running:     func(t testing.TB) int { return pg.Sleeping(t, application) },
	}
}
