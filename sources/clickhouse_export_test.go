package sources

import (
	"bytes"
	"context"

	"sql2metrics/config"
)

// RunClickHouse runs a statement as a query of s, past [CheckStatement].
func RunClickHouse(ctx context.Context, s Source, sql string) error {
	c := s.(*clickhouse)
	q := config.Query{Name: "past", SQL: sql, Timeout: c.source.Timeout}
	return c.pool.use(ctx, q.Timeout, func(conn chConn) error { return c.run(ctx, conn, q, noRow) })
}

// ReadClickHouse reads blocks as ClickHouse writes them into a file with FORMAT
// Native.
func ReadClickHouse(blocks []byte, limit int64, each func(*Row) error) error {
	return chReadAll(newCHReader(bytes.NewReader(blocks), limit), each)
}

// ClickHouseFields takes a data_source_name apart.
var ClickHouseFields = chResolve
