package sources_test

import (
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sql2metrics/config"
)

func postgresBenched(b *testing.B) benched {
	pg := shared.Get(b)
	pg.Exec(b, "DROP TABLE IF EXISTS bench", `CREATE TABLE bench AS
		SELECT 'status-' || n % 7 AS status, 'region-' || n % 13 AS region, 'customer-' || n AS customer, n::bigint AS number
		FROM generate_series(1, 10000) n`)
	const sql = "SELECT status, region, customer, number FROM bench"
	return benched{pgSource(pg), sql, func(b *testing.B) func() error {
		cfg, err := pgconn.ParseConfig(pgDSN(pg))
		if err != nil {
			b.Fatal(err)
		}
		cfg.Password = pg.Password
		conn, err := pgconn.ConnectConfig(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close(b.Context()) })
		labels := make([]byte, 0, 256)
		var total uint64
		return func() error {
			result := conn.ExecParams(b.Context(), sql, nil, nil, nil, []int16{1})
			for result.NextRow() {
				cells := result.Values()
				labels = append(append(append(labels[:0], cells[0]...), cells[1]...), cells[2]...)
				total += binary.BigEndian.Uint64(cells[3])
			}
			_, err := result.Close()
			return err
		}
	}}
}

// BenchmarkSmallQuery is what a statement costs beyond its rows.
func BenchmarkSmallQuery(b *testing.B) {
	b.Run("postgres", func(b *testing.B) { smallQuery(b, pgSource(shared.Get(b)), "SELECT 1") })
	b.Run("mysql", func(b *testing.B) {
		m := sharedMariaDB.Get(b)
		smallQuery(b, mysqlSource(m, m.Account(b, documented)), "SELECT 1")
	})
	b.Run("redis", func(b *testing.B) { smallQuery(b, redisSource(sharedRedis.Get(b)), "INFO ALL") })
}

func smallQuery(b *testing.B, c config.Source, sql string) {
	s := open(b, c)
	q := query(sql)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Query(b.Context(), q, ignore); err != nil {
			b.Fatal(err)
		}
	}
}
