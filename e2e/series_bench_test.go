package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/servers"
)

// BenchmarkSeries is what series cost: the resident memory of an agent that
// collects so many from PostgreSQL every five seconds, before anybody has
// scraped it and after, and the CPU of a scrape. No tick is missed meanwhile.
func BenchmarkSeries(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			pg := servers.Postgres(b)
			pg.Exec(b, fmt.Sprintf(`CREATE TABLE orders AS SELECT 'region-' || i %% 50 AS region, 'status-' || i / 50 AS status, i AS n FROM generate_series(1, %d) AS i`, n))
			for b.Loop() {
				r := startNullReceiver(b, 0)
				a := start(b, setup{config: strings.Replace(fmt.Sprintf(benchConfig, r.URL), "scrape_interval: 1s", "scrape_interval: 5s", 1) + fmt.Sprintf(`
limits: {max_series: 200000}
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
        query: SELECT region, status, n + extract(epoch FROM now())::bigint / (1 + n %% 100) AS n FROM orders
`, pg.Host, pg.Port, pg.User, pg.Password)})
				pid := a.cmd.Process.Pid
				<-r.first
				time.Sleep(20 * time.Second)
				b.ReportMetric(procField(b, pid, "status", "VmRSS")/1e3, "MB-VmRSS")

				least := time.Hour
				for range 5 {
					before, began := procCPU(b, pid), time.Now()
					page, err := a.get("/metrics")
					if err != nil {
						b.Fatal(err)
					}
					least = min(least, procCPU(b, pid)-before)
					if lines := strings.Count(string(page), "\norders_by_status{"); lines != n {
						b.Fatalf("the page has %d series, want %d", lines, n)
					}
					b.ReportMetric(time.Since(began).Seconds()*1e3, "ms/scrape")
				}
				b.ReportMetric(least.Seconds()*1e3, "CPU-ms/scrape")
				b.ReportMetric(procField(b, pid, "status", "VmRSS")/1e3, "MB-VmRSS-scraped")
				if missed := sum(a.metrics(b), "sql2metrics_query_skipped_total"); missed > 0 {
					b.Errorf("%v ticks were missed", missed)
				}
				a.stop(b)
			}
		})
	}
}
