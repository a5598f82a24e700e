package sources

import (
	"context"

	"sql2metrics/config"
)

// postgresDatabases lists what a query can be run in. Databases that refuse
// this user are among them: they are reported, not passed over.
const postgresDatabases = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate"

// postgresFacts has a row for each thing that may change under a connection.
const postgresFacts = `SELECT 'role' AS fact, CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'replica' ELSE 'primary' END AS value
UNION ALL SELECT 'extension', extname FROM pg_catalog.pg_extension`

// facts tells what the gate of q asks about the server.
func (p *postgres) facts(ctx context.Context, c *pgConn, q config.Query) (facts, error) {
	f := facts{version: c.ParameterStatus("server_version")}
	if c.isConsole() || q.Requires.Role == "" && len(q.Requires.Extensions) == 0 {
		return f, nil
	}
	ask := config.Query{Name: q.Name, SQL: postgresFacts, Timeout: q.Timeout}
	err := c.query(ctx, p.source.Name, ask, allBinary, func(r *Row) error {
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
