package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestEquation asks a receiver the queries by which docs/metrics.md checks that
// everything is accounted for, from cells to the receiver, about an agent that was shipping to it, and was
// turned away now and then, all the while: there is never a result.
func TestEquation(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var differences []string
	for _, block := range regexp.MustCompile("(?s)```promql\n(.*?)!= 0\n```").FindAllSubmatch(docs, -1) {
		query := string(block[1])
		differences = append(differences, query)
		for _, kind := range []string{"histograms", "exemplars"} {
			if other := strings.ReplaceAll(query, "remote_write_samples_", "remote_write_"+kind+"_"); other != query {
				differences = append(differences, other)
			}
		}
	}
	if len(differences) != 6 {
		t.Fatalf("docs/metrics.md has %d queries that end in != 0, want 6", len(differences))
	}

	r := receiver.Start(t, receiver.Options{OutOfOrder: time.Hour})
	var n atomic.Int64
	r.Behave(func(w http.ResponseWriter, req *http.Request, store http.Handler) {
		if n.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		store.ServeHTTP(w, req)
	})
	began := time.Now()
	a := start(t, setup{flags: []string{"--web.enable-pprof"}, config: fmt.Sprintf(`
global: {scrape_interval: 50ms, scrape_timeout: 50ms}
storage: {fsync_interval: 50ms}
self: {interval: 50ms}
remote_write: [{name: mimir, url: %s, queue_config: {max_shards: 1, batch_send_deadline: 50ms, min_backoff: 30ms, max_backoff: 100ms}}]
sources: [{name: shop, type: sqlite, path: %s, collectors: [orders]}]
collectors:
  - collector_name: orders
    metrics: [{metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}, {metric_name: odd, type: gauge, help: Odd cells., key_labels: [k], values: [n], query: "SELECT id %% 3 AS k, CASE WHEN id %% 2 THEN n ELSE 'none' END AS n FROM orders"}]
`, r.URL(), newShop(t, 20).path)})
	pending := func() (n int) {
		for _, samples := range r.Samples(t, `sql2metrics_remote_write_samples_pending`) {
			for _, s := range samples {
				if s.V > 0 {
					n++
				}
			}
		}
		return n
	}
	eventually(t, "accounts while samples were pending", func() error { return atLeast(pending(), 20) })
	if sums, err := a.get("/debug/completeness?format=json"); err != nil || !strings.Contains(string(sums), `"adds_up": true`) {
		t.Errorf("the page of completeness: %v %s", err, sums)
	}
	if profile, err := a.get("/debug/pprof/goroutine?debug=1"); err != nil || !strings.Contains(string(profile), "goroutine profile") {
		t.Errorf("a profile: %v %s", err, profile)
	}
	a.stop(t)

	for _, query := range differences {
		if all := r.QueryRange(t, query, began, time.Now(), 50*time.Millisecond); len(all) == 0 {
			t.Errorf("there are no accounts:\n%s", query)
		}
		if broken := r.QueryRange(t, query+"!= 0", began, time.Now(), 50*time.Millisecond); len(broken) > 0 {
			t.Errorf("the accounts do not add up:\n%s\n%v", query, broken)
		}
	}
}
