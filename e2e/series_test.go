package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// seriesConfig makes of one row as many series as it is told, and ships one of
// them, by which the queries can be watched while the page cannot be had.
const seriesConfig = `
global: {scrape_interval: 5s, scrape_timeout: 5s}
self: {enabled: false}
limits: {max_series: 200000}
remote_write:
  - url: %s
    queue_config: {batch_send_deadline: 50ms}
    write_relabel_configs: [{source_labels: [__name__, x], regex: "number;1|beside;", action: keep}]
sources: [{name: shop, type: sqlite, path: '%s', collectors: [numbers]}]
collectors:
  - collector_name: numbers
    queries:
      - query_name: numbers
        interval: 20s
        timeout: 20s
        query: WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) SELECT x, 1 AS n FROM i
      - {query_name: beside, query: SELECT 1 AS n}
    metrics:
      - {metric_name: number, type: gauge, help: A number., key_labels: [x], values: [n], query_ref: numbers}
      - {metric_name: beside, type: gauge, help: Beside., values: [n], query_ref: beside}
`

// TestManySeriesOnThePage scrapes a page of 100,000 series over and over, by
// more at once than are answered. Each answer is whole, or says that there are
// too many; one that takes longer than its scraper has is given up. Meanwhile
// the queries go on.
func TestManySeriesOnThePage(t *testing.T) {
	t.Parallel()
	const many = 100_000
	r := receiver.Start(t, receiver.Options{})
	a := startUnraced(t, fmt.Sprintf(seriesConfig, r.URL(), newShop(t, 0).path, many))
	eventually(t, "the series", func() error { return a.shows(`number{x="100000"} 1`) })

	if status, body, err := a.scrape(t.Context(), "0.002"); err != nil || status != http.StatusServiceUnavailable || body != "The answer took longer than 1ms.\n" {
		t.Errorf("a scrape that has 2 ms is answered %d %.80q, %v", status, body, err)
	}

	ctx, enough := context.WithCancel(t.Context())
	var scrapers sync.WaitGroup
	var whole, refused atomic.Int64
	for range 6 {
		scrapers.Go(func() {
			for ctx.Err() == nil {
				status, body, err := a.scrape(ctx, "")
				switch {
				case errors.Is(err, context.Canceled):
				case status == http.StatusOK && err == nil && strings.Count(body, "\nnumber{") == many:
					whole.Add(1)
				case status == http.StatusServiceUnavailable && (strings.Contains(body, "concurrent") || strings.Contains(body, "took longer")):
					refused.Add(1)
				default:
					t.Errorf("a scrape is answered %d with %d series, %v: %.80q", status, strings.Count(body, "\nnumber{"), err, body)
					return
				}
			}
		})
	}
	defer scrapers.Wait()
	defer enough()
	eventually(t, "more scrapes at once than may be", func() error { return atLeast(int(refused.Load()), 1) })
	crowded := time.Now()
	for _, series := range []string{"number", "beside"} {
		eventually(t, "newer values of "+series, func() error { return newerThan(t, r, series, crowded) })
	}
	enough()
	scrapers.Wait()
	t.Logf("%d answers were whole, %d refused", whole.Load(), refused.Load())
	var body string
	eventually(t, "an answer when all have left", func() (err error) {
		_, body, err = a.scrape(t.Context(), "")
		if n := strings.Count(body, "\nnumber{"); err == nil && n != many {
			err = fmt.Errorf("it has %d series: %.80q", n, body)
		}
		return err
	})
	page := samplesOf(t, body)
	checkRuns(t, page)
	if n := sum(page, "sql2metrics_exposition_conflicts_total"); n != 0 {
		t.Errorf("%v conflicts on the page", n)
	}
}

// startUnraced is start with a program that is never built with the race
// detector: with it a page of 100,000 series takes longer than a scraper waits.
func startUnraced(t *testing.T, config string) *agent {
	t.Helper()
	file, binary := filepath.Join(t.TempDir(), "config.yml"), filepath.Join(t.TempDir(), "sql2metrics")
	writeFile(t, file, config)
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "sql2metrics").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	a := run(t, exec.Command(binary, "run", "--config.file="+file, "--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json"))
	a.waitReady(t)
	return a
}

// scrape asks for the page as Prometheus does with a timeout in seconds, or
// without.
func (a *agent) scrape(ctx context.Context, seconds string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.addr+"/metrics", nil)
	if err != nil {
		return 0, "", err
	}
	if seconds != "" {
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", seconds)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}
