package sources_test

import (
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// BenchmarkClickHouseRows reads what BenchmarkRows does beside the loop that
// somebody would write over the driver.
func BenchmarkClickHouseRows(b *testing.B) {
	ch := sharedClickHouse.Get(b)
	ch.Exec(b, "DROP TABLE IF EXISTS bench", `CREATE TABLE bench ENGINE = Memory AS
		SELECT concat('status-', toString(number % 7)) AS status, concat('region-', toString(number % 13)) AS region,
			concat('customer-', toString(number)) AS customer, toInt64(number) AS number, toDecimal64(number, 2) AS amount
		FROM (SELECT number FROM system.numbers LIMIT 10000)`)
	for _, compression := range []string{"none", "lz4"} {
		b.Run(compression, func(b *testing.B) {
			c := chSource(ch, config.ProtocolNative, "reader2")
			c.Compression = compression
			b.Run("ours", func(b *testing.B) { ourClickHouse(b, c) })
			b.Run("bare", func(b *testing.B) { bareClickHouse(b, c) })
		})
	}
	b.Run("http", func(b *testing.B) { ourClickHouse(b, chSource(ch, config.ProtocolHTTP, "reader2")) })
}

// benchClickHouse reports what a row of benchRows costs this process, and not
// the server: CPU and allocations.
func benchClickHouse(b *testing.B, read func() error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	started, rows := cpuTime(b), 0
	for b.Loop() {
		if err := read(); err != nil {
			b.Fatal(err)
		}
		rows += benchRows
	}
	used := cpuTime(b) - started
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
	b.ReportMetric(float64(used.Nanoseconds())/float64(rows), "cpu-ns/row")
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const chBenchSQL = "SELECT status, region, customer, number FROM bench"

func ourClickHouse(b *testing.B, c config.Source) {
	s := open(b, c)
	labels := make([]byte, 0, 256)
	benchClickHouse(b, func() error {
		return s.Query(b.Context(), query(chBenchSQL), func(r *sources.Row) error {
			labels = labels[:0]
			for _, v := range r.Values[:3] {
				labels = v.AppendText(labels)
			}
			_, err := r.Values[3].Float()
			return err
		})
	})
}

// bareClickHouse scans the rows into variables and adds the texts to a buffer.
func bareClickHouse(b *testing.B, c config.Source) {
	options := &clickhouse.Options{
		Addr: []string{sharedClickHouse.Get(b).Addr()},
		Auth: clickhouse.Auth{Username: c.User, Password: c.Password.Reveal()},
	}
	if c.Compression == "lz4" {
		options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	labels := make([]byte, 0, 256)
	benchClickHouse(b, func() error {
		result, err := conn.Query(context.Background(), chBenchSQL)
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
	})
}
