package sources_test

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sql2metrics/config"
)

func clickhouseBenched(b *testing.B) benched {
	ch := sharedClickHouse.Get(b)
	ch.Exec(b, "DROP TABLE IF EXISTS bench", `CREATE TABLE bench ENGINE = Memory AS
		SELECT concat('status-', toString(number % 7)) AS status, concat('region-', toString(number % 13)) AS region,
			concat('customer-', toString(number)) AS customer, toInt64(number) AS number
		FROM (SELECT number FROM system.numbers LIMIT 10000)`)
	const sql = "SELECT status, region, customer, number FROM bench"
	c := chSource(ch, config.ProtocolNative, "reader2")
	c.Compression = "lz4"
	return benched{c, sql, func(b *testing.B) func() error {
		conn, err := clickhouse.Open(&clickhouse.Options{
			Addr:        []string{ch.Addr()},
			Auth:        clickhouse.Auth{Username: c.User, Password: c.Password.Reveal()},
			Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		labels := make([]byte, 0, 256)
		return func() error {
			result, err := conn.Query(b.Context(), sql)
			if err != nil {
				return err
			}
			var (
				status, region, customer string
				number                   int64
			)
			for result.Next() {
				if err := result.Scan(&status, &region, &customer, &number); err != nil {
					return err
				}
				labels = append(append(append(labels[:0], status...), region...), customer...)
			}
			return result.Err()
		}
	}}
}

// BenchmarkClickHouseProtocols reads the rows of [BenchmarkRows] in the other
// ways there are.
func BenchmarkClickHouseProtocols(b *testing.B) {
	d := clickhouseBenched(b)
	b.Run("native uncompressed", func(b *testing.B) {
		c := d.config
		c.Compression = "none"
		readRows(b, c, query(d.query))
	})
	b.Run("http", func(b *testing.B) {
		readRows(b, chSource(sharedClickHouse.Get(b), config.ProtocolHTTP, "reader2"), query(d.query))
	})
}
