package sources_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

const benchRows = 10_000

// benched is a kind of source with benchRows rows to read from it: three texts
// and a number.
type benched struct {
	config config.Source
	query  string
	// bare returns the loop that somebody would write over the driver to do
	// with those rows what readRows does.
	bare func(b *testing.B) (read func() error)
}

// BenchmarkRows reads the rows of each kind of source, beside a bare loop over
// its driver. The CPU is that of this process, without the server's.
func BenchmarkRows(b *testing.B) {
	for _, kind := range []struct {
		name    string
		prepare func(*testing.B) benched
	}{
		{"postgres", postgresBenched},
		{"mysql", mysqlBenched},
		{"clickhouse", clickhouseBenched},
		{"redis", redisBenched},
		{"sqlite", sqliteBenched},
	} {
		b.Run(kind.name, func(b *testing.B) {
			d := kind.prepare(b)
			b.Run("ours", func(b *testing.B) { readRows(b, d.config, query(d.query)) })
			b.Run("bare", func(b *testing.B) { measure(b, d.bare(b)) })
		})
	}
	b.Run("http_json", benchmarkHTTPJSON)
}

// readRows reads rows as a mapper does: labels into a buffer, the number into a
// float.
func readRows(b *testing.B, c config.Source, q config.Query) {
	s := open(b, c)
	labels := make([]byte, 0, 256)
	each := func(r *sources.Row) error {
		labels = labels[:0]
		for _, v := range r.Values[:3] {
			labels = v.AppendText(labels)
		}
		_, err := r.Values[3].Float()
		return err
	}
	measure(b, func() error { return s.Query(b.Context(), q, each) })
}

// measure reports what a row costs of the benchRows that read reads.
func measure(b *testing.B, read func() error) {
	cpu := func() int64 {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			b.Fatal(err)
		}
		return used.Utime.Nano() + used.Stime.Nano()
	}
	rows := 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpu()
	for b.Loop() {
		if err := read(); err != nil {
			b.Fatal(err)
		}
		rows += benchRows
	}
	used := cpu() - began
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(rows), "B/row")
	b.ReportMetric(float64(used)/float64(rows), "cpu-ns/row")
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
