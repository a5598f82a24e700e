package e2e

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sql2metrics/e2e/servers"
)

// The size of the backlog that is caught up with, by the agent and by its
// peer.
const (
	backlogSamples = 5_000_000
	backlogSeries  = 20_000
)

// benchConfig writes to one endpoint, named null.
const benchConfig = `
self: {enabled: false}
storage: {max_bytes: 8GiB}
global: {scrape_interval: 1s, scrape_timeout: 1s}
remote_write:
  - name: "null"
    url: %s
    queue_config: {max_samples_per_second: 1000000000}
`

// BenchmarkCatchUp ships a backlog of 5 million samples of 20,000 series to a
// receiver that reads, counts and forgets. The rate is from the first request
// to the last, the CPU that of the agent's whole life.
func BenchmarkCatchUp(b *testing.B) {
	for name, delay := range map[string]time.Duration{"loopback": 0, "50ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			full := filepath.Join(b.TempDir(), "full")
			backlog{
				series: backlogSeries, rounds: backlogSamples / backlogSeries, every: 15 * time.Second, endpoints: []string{"null"},
			}.write(b, full, time.Now())
			var u usage
			for b.Loop() {
				b.StopTimer()
				r := startNullReceiver(b, delay)
				s := setup{config: fmt.Sprintf(benchConfig, r.URL), storage: filepath.Join(b.TempDir(), "data")}
				if err := os.CopyFS(s.storage, os.DirFS(full)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				a := launch(b, s)
				u.elapsed += r.take(b, backlogSamples)
				a.kill()
				u.add(r, a)
			}
			u.report(b)
		})
	}
}

// BenchmarkPipe is the whole journey, for a minute: 10,000 rows of PostgreSQL
// each second, to a receiver that forgets them. It begins when the first
// samples have arrived, so that the series are known.
func BenchmarkPipe(b *testing.B) {
	for name, value := range map[string]string{
		"counters": "n + extract(epoch FROM now())::bigint / (1 + n % 100)", // a tenth of them moves each second
		"floats":   "random()",
	} {
		b.Run(name, func(b *testing.B) {
			pg := servers.Postgres(b)
			pg.Exec(b, `CREATE TABLE orders AS SELECT 'region-' || i % 50 AS region, 'status-' || i / 50 AS status, i AS n FROM generate_series(1, 10000) AS i`)
			const lasts = time.Minute
			var u usage
			var disk, rss float64
			for b.Loop() {
				r := startNullReceiver(b, 0)
				a := start(b, setup{config: fmt.Sprintf(benchConfig, r.URL) + fmt.Sprintf(`
sources:
  - {name: orders, type: postgres, host: %s, port: %d, user: %s, password: %q, instance: "orders-0:5432", collectors: [orders]}
collectors:
  - collector_name: orders
    metrics:
      - metric_name: orders_by_status
        type: gauge
        help: Orders by status.
        key_labels: [region, status]
        values: [n]
        query: SELECT region, status, %s AS n FROM orders
`, pg.Host, pg.Port, pg.User, pg.Password, value)})
				pid := a.cmd.Process.Pid
				<-r.first
				cpu, samples, wire, began := procCPU(b, pid), r.samples.Load(), r.bytes.Load(), time.Now()
				time.Sleep(lasts)
				u.cpu += procCPU(b, pid) - cpu
				u.samples += float64(r.samples.Load() - samples)
				u.wire += float64(r.bytes.Load() - wire)
				u.elapsed += time.Since(began)
				u.peak = max(u.peak, procField(b, pid, "status", "VmHWM"))
				rss = procField(b, pid, "status", "VmRSS")
				disk = sizeOf(b, filepath.Join(a.storage, "segments")) / sum(a.metrics(b), "sql2metrics_wal_appended_samples_total", `kind="sample"`)
				a.stop(b)
			}
			u.report(b)
			b.ReportMetric(rss/1e3, "MB-VmRSS")
			b.ReportMetric(disk, "disk-B/sample")
		})
	}
}

// BenchmarkStart starts on a backlog of about 1 GiB, to the first sample
// received. The backlog is on disk and in the page cache.
func BenchmarkStart(b *testing.B) {
	storage := filepath.Join(b.TempDir(), "data")
	random := rand.New(rand.NewPCG(1, 2))
	backlog{
		series: backlogSeries, rounds: 5200, every: time.Second, endpoints: []string{"null"},
		value: func(int, int) float64 { return random.Float64() }, // which does not compress
	}.write(b, storage, time.Now())
	syscall.Sync() // not what a start after an outage has to wait for
	if _, err := program(); err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	var read, rss float64
	for b.Loop() {
		r := startNullReceiver(b, 0)
		began := time.Now()
		a := launch(b, setup{config: fmt.Sprintf(benchConfig, r.URL), storage: storage})
		<-r.first
		took += time.Since(began)
		read += procField(b, a.cmd.Process.Pid, "io", "rchar")
		rss += procField(b, a.cmd.Process.Pid, "status", "VmHWM")
		a.kill()
	}
	n := float64(b.N)
	b.ReportMetric(sizeOf(b, storage)/(1<<30), "GiB")
	b.ReportMetric(took.Seconds()*1e3/n, "ms-to-first-sample")
	b.ReportMetric(read/1e6/n, "MB-read")
	b.ReportMetric(rss/1e3/n, "MB-peak")
}

// usage sums up what runs of a sender took for what a receiver got.
type usage struct {
	elapsed, cpu  time.Duration
	samples, wire float64
	peak          float64 // of the resident memory, kB, the largest
}

// add adds an agent that has ended.
func (u *usage) add(r *nullReceiver, a *agent) {
	u.cpu += a.cpu()
	u.peak = max(u.peak, a.peak())
	u.samples += float64(r.samples.Load())
	u.wire += float64(r.bytes.Load())
}

func (u *usage) report(b *testing.B) {
	b.ReportMetric(u.samples/u.elapsed.Seconds(), "samples/s")
	b.ReportMetric(u.cpu.Seconds()/u.samples*1e6, "CPU-s/Msample")
	b.ReportMetric(u.wire/u.samples, "wire-B/sample")
	b.ReportMetric(u.peak/1e3, "MB-peak")
}

// take waits until the receiver has so many samples, and returns how long that
// took from its first request on.
func (r *nullReceiver) take(b *testing.B, samples int64) time.Duration {
	<-r.first
	began := time.Now()
	deadline := began.Add(10 * time.Minute)
	for r.samples.Load() < samples {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d samples arrived", r.samples.Load(), samples)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// sizeOf returns the bytes of all files of a folder.
func sizeOf(b *testing.B, dir string) (bytes float64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += float64(info.Size())
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
