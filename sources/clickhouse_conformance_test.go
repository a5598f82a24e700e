package sources_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// sharedClickHouse is the ClickHouse server of the tests that need not stop one,
// with an account for each setting of readonly.
var sharedClickHouse = servers.SharedClickHouse{Accounts: []servers.Account{
	{Name: "reader0", Password: "p@ss:/?#%", Readonly: 0},
	{Name: "reader1", Password: "p@ss:/?#%", Readonly: 1},
	{Name: "reader2", Password: "p@ss:/?#%", Readonly: 2},
}}

// chSource is the structured configuration of ch for one of its accounts.
func chSource(ch *servers.ClickHouse, protocol config.SourceProtocol, user string) config.Source {
	s := config.Source{
		Name:           "ch",
		Type:           config.TypeClickHouse,
		Host:           ch.Host,
		Port:           ch.Port,
		Protocol:       protocol,
		User:           user,
		Password:       config.NewSecret("p@ss:/?#%"),
		Compression:    "lz4",
		TLS:            config.TLS{Mode: "disable"},
		MaxConnections: 2,
		MaxResultBytes: 64 << 20,
		Timeout:        10 * time.Second,
	}
	if protocol == config.ProtocolHTTP {
		s.Port, s.Compression = ch.HTTPPort, "none"
	}
	return s
}

func clickhouseDatabase(t testing.TB) database {
	ch := sharedClickHouse.Get(t)
	// The account may do everything: what is refused is refused by us or by what
	// we send along.
	const user = "reader0"
	ch.Exec(t, "DROP TABLE IF EXISTS made", "DROP TABLE IF EXISTS kept",
		"CREATE TABLE kept (v Int32) ENGINE = MergeTree PARTITION BY v ORDER BY v", "INSERT INTO kept VALUES (1), (2)")
	return database{
		config: chSource(ch, config.ProtocolNative, user),
		series: "SELECT toInt64(number + 1) AS n FROM (SELECT number FROM system.numbers LIMIT %d)",
		// Rows of a block fail together, so those ahead of the error come from a
		// block of their own: the first has 65,536 numbers.
		fails: "SELECT toInt64(number + 1) AS n, 'x' AS text, intDiv(1, number < 65536) AS v " +
			"FROM (SELECT number FROM system.numbers LIMIT 200000) WHERE number < 4 OR number > 65536",
		slow:     "SELECT number FROM system.numbers WHERE number + 1 = 0",
		slowRows: "SELECT number AS n, 1 AS v, 2 AS w FROM system.numbers WHERE number < 2",
		empty:    "SELECT 1 AS n WHERE 0",
		types:    "SELECT toInt64(7) AS i, 1.5 AS f, 'word' AS t, NULL AS none",
		writes: []string{
			"INSERT INTO kept VALUES (3)",
			"CREATE TABLE made (v Int32) ENGINE = Memory",
			"CREATE TEMPORARY TABLE made (v Int32)",
			"ALTER TABLE kept DROP PARTITION 1",
			"TRUNCATE TABLE kept",
			"DROP TABLE kept",
			"RENAME TABLE kept TO made",
			"KILL QUERY WHERE 1",
			"SYSTEM FLUSH LOGS",
			"WITH 1 AS v INSERT INTO kept SELECT v",
		},
		second:  "SELECT 1; INSERT INTO kept VALUES (3)",
		numbers: "toFloat64(n), toDecimal64(n, 2), toString(n)",
		exec: func(t testing.TB, sql ...string) {
			for _, s := range sql {
				ch.Exec(t, strings.Replace(s, "DELETE FROM kept WHERE v = 9", "ALTER TABLE kept DROP PARTITION 9", 1))
			}
		},
		kept: func(t testing.TB) string {
			return fmt.Sprint(ch.Query(t, "SELECT v FROM kept ORDER BY v"), ch.Query(t, "SELECT name FROM system.tables WHERE database = 'default' ORDER BY name"))
		},
		running: func(t testing.TB) int { return ch.Running(t, user) },
	}
}

func clickhouseHTTPDatabase(t testing.TB) database {
	d := clickhouseDatabase(t)
	d.config = chSource(sharedClickHouse.Get(t), config.ProtocolHTTP, d.config.User)
	d.held = true
	return d
}

// reader is the account of tests with a server of their own.
var reader = servers.Account{Name: "reader", Password: firstPassword, Readonly: 2}

func readerSource(ch *servers.ClickHouse, protocol config.SourceProtocol) config.Source {
	c := chSource(ch, protocol, reader.Name)
	c.Password = config.NewSecret(reader.Password)
	return c
}

func privateClickHouse(protocol config.SourceProtocol) func(testing.TB) private {
	return func(t testing.TB) private {
		ch := servers.ClickHouseServer(t, reader)
		c := readerSource(ch, protocol)
		p := private{
			config:  c,
			address: net.JoinHostPort(c.Host, strconv.Itoa(c.Port)),
			kill:    ch.Stop, start: ch.Start, pause: ch.Pause, resume: ch.Resume,
			row:         "SELECT 1",
			nap:         "SELECT sleep(0.01)",
			slow:        "SELECT number FROM system.numbers WHERE number + 1 = 0",
			setPassword: func(t testing.TB, password string) { ch.SetPassword(t, reader.Name, password) },
			running: func(t testing.TB) int {
				return len(ch.Query(t, "SELECT query_id FROM system.processes WHERE user = '"+reader.Name+"' AND query LIKE '%system.numbers%'"))
			},
		}
		if protocol == config.ProtocolNative {
			p.connections = func(t testing.TB) int { return ch.Connections(t) }
		}
		return p
	}
}
