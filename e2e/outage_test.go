package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestStartWithoutReceiver starts an agent whose receiver refuses
// connections: it collects, is ready, and later delivers from the first
// sample on.
func TestStartWithoutReceiver(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	r.Refuse()
	s := newShop(t, 20)
	a := start(t, setup{config: s.config(50*time.Millisecond, r.URL())})
	l := follow(t, a.storage)
	waitForSamples(t, a, 200)

	r.Listen(t)
	eventually(t, "the backlog to arrive", func() error { return atLeast(len(r.Samples(t, "orders")), 20) })
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}

// TestUnknownReceiver has two endpoints, one whose name does not resolve: the
// other gets everything.
func TestUnknownReceiver(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 20)
	a := start(t, setup{config: s.config(50*time.Millisecond, "http://no-such-host.invalid/api/v1/write", r.URL())})
	l := follow(t, a.storage)
	waitForSamples(t, a, 200)
	if _, err := a.get("/-/ready"); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if _, err := a.get("/-/healthy"); err != nil {
		t.Errorf("not healthy: %v", err)
	}
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}

// TestOutageLongerThanTheWindow starts an agent with a backlog that lies
// further behind than its receiver's out-of-order window: what is refused is
// counted, what is fresh arrives, and log and page say which setting of the
// receiver would have kept the rest.
func TestOutageLongerThanTheWindow(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{OutOfOrder: time.Minute})
	// What another agent has sent meanwhile makes the backlog old.
	other := start(t, setup{config: newShop(t, 1).config(50*time.Millisecond, r.URL())})
	eventually(t, "the other agent's samples", func() error { return atLeast(len(r.Samples(t, everything)), 1) })
	other.stop(t)

	old := backlog{series: 500, rounds: 20, every: time.Minute, endpoints: []string{"prometheus"}}
	watch := setup{storage: filepath.Join(t.TempDir(), "data"), config: fmt.Sprintf(`
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
storage: {fsync_interval: 50ms}
self: {enabled: false}
remote_write: [{name: prometheus, url: %s, queue_config: {batch_send_deadline: 50ms, max_samples_per_second: 10000000}}]
sources: [{name: shop, type: sqlite, path: %s, instance: shop-0, collectors: [orders]}]
collectors:
  - collector_name: orders
    metrics: [{metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}]
`, r.URL(), newShop(t, 20).path)}
	old.write(t, watch.storage, time.Now().Add(-5*time.Hour))
	a := start(t, watch)
	eventually(t, "the backlog to be refused", func() error {
		page := a.metrics(t)
		return atLeast(sum(page, "sql2metrics_remote_write_samples_dropped_total", `reason="rejected"`)+
			sum(page, "sql2metrics_remote_write_samples_unconfirmed_total"), float64(old.series*old.rounds))
	})
	eventually(t, "fresh samples", func() error { return atLeast(len(r.Samples(t, `{__name__="orders",instance="shop-0"}`)), 20) })

	page, err := a.get("/")
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": a.output.String(), "page": string(page)} {
		for _, words := range []string{"storage.tsdb.out_of_order_time_window", "out-of-order window", "400 Bad Request"} {
			if !strings.Contains(text, words) {
				t.Errorf("the %s does not say %q:\n%s", where, words, text)
			}
		}
	}
	a.stop(t)
}

// waitForSamples waits until the agent's queries have made so many samples.
func waitForSamples(t *testing.T, a *agent, n float64) {
	t.Helper()
	eventually(t, "samples", func() error {
		return atLeast(sum(a.metrics(t), "sql2metrics_query_samples_total"), n)
	})
}
