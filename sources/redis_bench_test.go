package sources_test

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sql2metrics/sources"
)

// redisBenchRows returns rows of three texts and a number from where a script
// holds them: Redis has no table of its own.
const redisBenchRows = `EVAL_RO "local rows = {} for n = 1, 10000 do rows[n] = {'status-' .. n % 7, 'region-' .. n % 13, 'customer-' .. n, n} end return rows" 0`

// BenchmarkRedisRows reads 10,000 rows as [BenchmarkRows] does, beside a bare
// loop over what go-redis returns for the same command. CPU is that of this
// process: most of the time passes in the server.
func BenchmarkRedisRows(b *testing.B) {
	r := sharedRedis.Get(b)
	labels := make([]byte, 0, 256)
	var total float64
	b.Run("ours", func(b *testing.B) {
		s := open(b, redisSource(r))
		q := query(redisBenchRows)
		measure(b, func() error {
			return s.Query(b.Context(), q, func(r *sources.Row) error {
				labels = labels[:0]
				for _, v := range r.Values[:3] {
					labels = v.AppendText(labels)
				}
				f, err := r.Values[3].Float()
				total += f
				return err
			})
		})
	})
	b.Run("bare", func(b *testing.B) {
		client := redis.NewClient(&redis.Options{
			Addr: r.Addr(), ContextTimeoutEnabled: true, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer client.Close()
		script := redisBenchRows[len(`EVAL_RO "`) : len(redisBenchRows)-len(`" 0`)]
		measure(b, func() error {
			reply, err := client.Do(b.Context(), "EVAL_RO", script, 0).Slice()
			for _, row := range reply {
				cells := row.([]any)
				labels = labels[:0]
				for _, cell := range cells[:3] {
					labels = append(labels, cell.(string)...)
				}
				total += float64(cells[3].(int64))
			}
			return err
		})
	})
}

// measure reports what read, which reads benchRows, costs.
func measure(b *testing.B, read func() error) {
	b.Helper()
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

// BenchmarkRedisInfo reads INFO ALL, which a pack asks for at each tick.
func BenchmarkRedisInfo(b *testing.B) {
	s := open(b, redisSource(sharedRedis.Get(b)))
	q := query("INFO ALL")
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Query(b.Context(), q, ignore); err != nil {
			b.Fatal(err)
		}
	}
}
