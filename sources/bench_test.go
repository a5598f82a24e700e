package sources_test

import (
	"fmt"
	"runtime"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

const benchRows = 10_000

// BenchmarkRows reads results of 10,000 rows of three texts and a number, as
// a mapper does: labels into a buffer, the number into a float.
func BenchmarkRows(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		pg := shared.Get(b)
		pg.Exec(b, "DROP TABLE IF EXISTS bench", `CREATE TABLE bench AS
			SELECT 'status-' || n % 7 AS status, 'region-' || n % 13 AS region, 'customer-' || n AS customer, n::bigint AS number, n / 4.0 AS amount
			FROM generate_series(1, 10000) n`)
		benchmarkRows(b, pgSource(pg))
	})
	b.Run("sqlite", func(b *testing.B) {
		path := b.TempDir() + "/bench.db"
		openApp(b, path).exec(b, `CREATE TABLE bench AS
			WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 10000)
			SELECT 'status-' || n % 7 AS status, 'region-' || n % 13 AS region, 'customer-' || n AS customer, n AS number, n / 4.0 AS amount FROM c`)
		benchmarkRows(b, sqliteSource(path))
	})
}

func benchmarkRows(b *testing.B, c config.Source) {
	s := open(b, c)
	for _, column := range []string{"number", "amount"} {
		b.Run(column, func(b *testing.B) {
			q := query("SELECT status, region, customer, " + column + " FROM bench")
			labels := make([]byte, 0, 256)
			each := func(r *sources.Row) error {
				labels = labels[:0]
				for _, v := range r.Values[:3] {
					labels = v.AppendText(labels)
				}
				_, err := r.Values[3].Float()
				return err
			}
			rows := 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				if err := s.Query(b.Context(), q, each); err != nil {
					b.Fatal(err)
				}
				rows += benchRows
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}

// A row costs no allocation: a large result costs as many as a small one, but
// for the buffers that grow with it and for what the driver makes by itself.
func TestRowsAllocateNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, s sources.Source) {
		const rows = 20_000
		allocations := testing.AllocsPerRun(3, func() {
			err := s.Query(t.Context(), query(fmt.Sprintf(d.wide, rows)), func(r *sources.Row) error {
				for _, v := range r.Values {
					if _, err := v.Float(); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
		if allocations > float64(rows/10+rows*d.boxed) {
			t.Errorf("%v allocations for %d rows", allocations, rows)
		}
	})
}

// BenchmarkSmallQuery is what a statement costs beyond its rows.
func BenchmarkSmallQuery(b *testing.B) {
	s := open(b, pgSource(shared.Get(b)))
	q := query("SELECT 1")
	for b.Loop() {
		if err := s.Query(b.Context(), q, ignore); err != nil {
			b.Fatal(err)
		}
	}
}
