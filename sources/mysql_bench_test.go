package sources_test

import (
	"context"
	"database/sql/driver"
	"io"
	"runtime"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"

	"sql2metrics/config"
)

// BenchmarkMySQLRows is [BenchmarkRows] beside a bare loop over the driver that
// reads the same rows.
func BenchmarkMySQLRows(b *testing.B) {
	m := sharedMariaDB.Get(b)
	m.Exec(b, `CREATE OR REPLACE TABLE bench AS SELECT CONCAT('status-', seq % 7) AS status, CONCAT('region-', seq % 13) AS region,
		CONCAT('customer-', seq) AS customer, CAST(seq AS SIGNED) AS number, seq / 4.0 AS amount FROM seq_1_to_10000`)
	c := mysqlSource(m, m.Account(b, documented))
	c.TLS = config.TLS{}
	b.Run("source", func(b *testing.B) { benchmarkRows(b, c) })
	for _, column := range []string{"number", "amount"} {
		b.Run("bare/"+column, func(b *testing.B) {
			conn := bareMySQL(b, c)
			rows := 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				rows += readBare(b, conn, "SELECT status, region, customer, "+column+" FROM bench")
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}

func bareMySQL(b *testing.B, c config.Source) driver.QueryerContext {
	b.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = c.User, c.Password.Reveal(), c.Database
	cfg.Addr = c.Host + ":" + strconv.Itoa(c.Port)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := connector.Connect(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn.(driver.QueryerContext)
}

// readBare does with the driver's values what benchmarkRows does with ours.
func readBare(b *testing.B, conn driver.QueryerContext, sql string) (n int) {
	rows, err := conn.QueryContext(context.Background(), sql, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	cells := make([]driver.Value, len(rows.Columns()))
	labels := make([]byte, 0, 256)
	for {
		err := rows.Next(cells)
		if err == io.EOF {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
		labels = labels[:0]
		for _, cell := range cells[:3] {
			labels = append(labels, cell.([]byte)...)
		}
		if text, ok := cells[3].([]byte); ok {
			if _, err := strconv.ParseFloat(string(text), 64); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
}

// BenchmarkMySQLSmallQuery is what a statement costs beyond its rows.
func BenchmarkMySQLSmallQuery(b *testing.B) {
	m := sharedMariaDB.Get(b)
	c := mysqlSource(m, m.Account(b, documented))
	b.Run("source", func(b *testing.B) {
		s := open(b, c)
		for b.Loop() {
			if err := s.Query(b.Context(), query("SELECT 1"), ignore); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		conn := bareMySQL(b, c)
		for b.Loop() {
			readBareOne(b, conn)
		}
	})
}

func readBareOne(b *testing.B, conn driver.QueryerContext) {
	rows, err := conn.QueryContext(context.Background(), "SELECT 1", nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := rows.Close(); err != nil {
		b.Fatal(err)
	}
}
