package sources

import (
	"context"

	"sql2metrics/config"
)

// facts tells what the gate of q asks about the server. ClickHouse has neither
// a role nor extensions.
func (c *clickhouse) facts(ctx context.Context, conn chConn, q config.Query) (f facts, err error) {
	if len(q.Requires.Version.Bounds) == 0 {
		return f, nil
	}
	ask := config.Query{Collector: q.Collector, Name: q.Name, SQL: "SELECT version()", Timeout: q.Timeout}
	err = c.run(ctx, conn, ask, func(r *Row) error {
		f.version = string(r.Values[0].AppendText(nil))
		return nil
	})
	return f, err
}
