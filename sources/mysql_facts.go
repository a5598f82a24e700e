package sources

import (
	"context"
	"strings"

	"sql2metrics/config"
)

// mysqlDatabases lists what a query can be run in, without the server's own.
const mysqlDatabases = `SELECT schema_name FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')`

// mysqlFacts has a row for each thing that may change under a connection. Those
// who fail a server over, and the proxies in between, know a replica by
// read_only; it can be read without a grant.
const mysqlFacts = `SELECT 'role' AS fact, IF(@@GLOBAL.read_only IN ('0', 'OFF'), 'primary', 'replica') AS value
UNION ALL SELECT 'extension', plugin_name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE'`

// facts tells what the gate of q asks about the server.
func (m *mysqlServer) facts(ctx context.Context, c *mysqlConn, q config.Query) (facts, error) {
	f := facts{product: "mysql", version: c.version}
	if c.isMariaDB() {
		f.product = "mariadb"
	}
	if q.Requires.Role == "" && len(q.Requires.Extensions) == 0 {
		return f, nil
	}
	ask := config.Query{Name: q.Name, SQL: mysqlFacts, Timeout: q.Timeout}
	err := m.run(ctx, c, ask, func(r *Row) error {
		value := string(r.Values[1].AppendText(nil))
		if string(r.Values[0].AppendText(nil)) == "role" {
			f.role = config.Role(value)
			return nil
		}
		f.extensions = append(f.extensions, value)
		return nil
	})
	return f, err
}

// isMariaDB tells the two apart by what the server says of its version.
func (c *mysqlConn) isMariaDB() bool { return strings.Contains(c.version, "MariaDB") }
