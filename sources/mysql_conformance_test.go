package sources_test

import (
	"fmt"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// mysqlSource is the structured configuration of m for an account of it.
func mysqlSource(m *servers.MariaDB, user string) config.Source {
	return config.Source{
		Name:           "maria",
		Type:           config.TypeMySQL,
		Host:           m.Host,
		Port:           m.Port,
		User:           user,
		Password:       config.NewSecret(m.Password),
		Database:       "app",
		TLS:            config.TLS{Mode: "prefer"},
		MaxConnections: 2,
		Timeout:        10 * time.Second,
	}
}

func mysqlDatabase(t testing.TB) database {
	m := sharedMariaDB.Get(t)
	// The account may do everything: what is refused is refused by us or by the
	// session. It is the test's own and shows its connections.
	user := m.Account(t, "ALL PRIVILEGES")
	mysqlTables(t, m)
	// Of a socket that closes the server takes notice while it sleeps, but not
	// while it computes.
	const forever = "SELECT COUNT(*) FROM seq_1_to_1000000000 a, seq_1_to_1000000000 b WHERE a.seq + b.seq = 0"
	return database{
		config: mysqlSource(m, user),
		series: "SELECT seq AS n FROM seq_1_to_%d",
		fails:  "SELECT seq AS n, 'x' AS text, 9223372036854775803 + CAST(seq AS SIGNED) AS v FROM seq_1_to_10",
		slow:   forever,
		// The server sends when 16 kB have come together.
		slowRows: "SELECT c.seq AS n, repeat('x', 20000) AS v, IF(c.seq > 2, (" + forever + " * c.seq), 0) AS w FROM seq_1_to_3 c",
		empty:    "SELECT 1 AS n FROM DUAL WHERE false",
		types:    "SELECT 7 AS i, 1.5e0 AS f, 'word' AS t, NULL AS none",
		writes: []string{
			"INSERT INTO kept VALUES (3)",
			"CREATE TABLE made (v int)",
			"CALL writes()",
			"SELECT writing()",
			"SELECT NEXTVAL(numbers)",
			"/*! INSERT INTO kept VALUES (3) */",
			"/*M! TRUNCATE kept */ -- SELECT",
			"WITH gone AS (SELECT 1) DELETE FROM kept",
		},
		second:  "SELECT 1; INSERT INTO kept VALUES (3)",
		numbers: "n * 1e0, n / 4.0, CAST(n AS CHAR)",
		boxed:   4,
		exec:    m.Exec,
		kept:    func(t testing.TB) string { return mysqlKept(t, m) },
		running: func(t testing.TB) int { return m.Running(t, user) },
	}
}

// mysqlTables makes the table kept, and what would write to it if it were let.
func mysqlTables(t testing.TB, m *servers.MariaDB) {
	m.Exec(t, "CREATE OR REPLACE TABLE kept (v int) ENGINE = InnoDB", "INSERT INTO kept VALUES (1), (2)",
		"CREATE OR REPLACE SEQUENCE numbers",
		"CREATE OR REPLACE FUNCTION writing() RETURNS int BEGIN INSERT INTO kept VALUES (3); RETURN 1; END",
		"CREATE OR REPLACE PROCEDURE writes() INSERT INTO kept VALUES (3)")
}

// mysqlKept is what mysqlTables made, as it is.
func mysqlKept(t testing.TB, m *servers.MariaDB) string {
	t.Helper()
	return fmt.Sprint(m.Query(t, "SELECT v FROM kept ORDER BY v"), m.Query(t, "SELECT next_not_cached_value FROM numbers"),
		m.Query(t, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'app' ORDER BY 1"))
}

func privateMySQL(t testing.TB) private {
	m := servers.MySQL(t)
	user := m.Account(t, documented)
	setPassword := func(t testing.TB, password string) {
		m.Exec(t, "ALTER USER "+user+" IDENTIFIED BY '"+password+"'")
	}
	setPassword(t, firstPassword)
	c := mysqlSource(m, user)
	c.Password = config.NewSecret(firstPassword)
	return private{
		config:  c,
		address: m.Addr(),
		kill:    m.Stop, start: func() error { return m.Start() }, pause: m.Pause, resume: m.Resume,
		row:         "SELECT 1",
		nap:         "SELECT SLEEP(0.01)",
		slow:        "SELECT SLEEP(600)",
		setPassword: setPassword,
		connections: func(t testing.TB) int { return m.Connections(t, user) },
		running: func(t testing.TB) int {
			return len(m.Query(t, "SELECT id FROM information_schema.processlist WHERE state = 'User sleep' AND user = '"+user+"'"))
		},
	}
}
