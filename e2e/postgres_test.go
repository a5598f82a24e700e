package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// ours is what the agent calls itself in pg_stat_activity.
const ours = "sql2metrics"

// TestPostgresRestart stops PostgreSQL under a running agent and starts it
// again. A second source goes on meanwhile.
func TestPostgresRestart(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	pg.Exec(t, "CREATE TABLE stock (item text, n int)", "INSERT INTO stock VALUES ('apple', 3), ('pear', 4)")
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 20)
	a := start(t, setup{config: fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
self: {enabled: false}
%s
sources:
  - {name: shop, type: sqlite, path: %s, instance: shop-0, collectors: [orders]}
  - {name: stock, type: postgres, host: %s, port: %d, user: %s, password: %q, instance: stock-0, max_connections: 2, collectors: [stock]}
collectors:
  - collector_name: orders
    metrics:
      - {metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}
  - collector_name: stock
    metrics:
      - {metric_name: stock, type: gauge, help: Items in stock., key_labels: [item], values: [n], query: "SELECT item, n FROM stock"}
      - {metric_name: items, type: gauge, help: Kinds of items., values: [n], query: SELECT count(*) AS n FROM stock}
`, remoteWrite(r.URL()), s.path, pg.Host, pg.Port, pg.User, pg.Password)})
	waitForUp(t, r, "stock-0", 1, time.Time{})
	eventually(t, "the stock", func() error { return newerThan(t, r, "stock", time.Time{}) })

	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	waitForUp(t, r, "stock-0", 0, down)
	eventually(t, "orders while PostgreSQL is down", func() error { return newerThan(t, r, "orders", down) })
	eventually(t, "its values to be stale", func() error {
		if got := r.Query(t, "stock or items", time.Now()); len(got) != 0 {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})

	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	waitForUp(t, r, "stock-0", 1, back)
	for range 5 {
		eventually(t, "values after the restart", func() error { return newerThan(t, r, "stock", back) })
		// The server lists a connection for a moment after it has ended.
		eventually(t, "at most 2 connections of the agent", func() error {
			if n := pg.Connections(t, ours); n > 2 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		back = time.Now()
	}
	waitForUp(t, r, "shop-0", 1, back)
	a.stop(t)
	eventually(t, "connections to be gone", func() error {
		if n := pg.Connections(t, ours); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

// waitForUp waits until the series up of an instance ends with a value that
// was stamped after a time.
func waitForUp(t *testing.T, r *receiver.Receiver, instance string, want float64, after time.Time) {
	t.Helper()
	selector := `up{instance="` + instance + `"}`
	eventually(t, fmt.Sprintf("%s to be %v", selector, want), func() error {
		if err := newerThan(t, r, selector, after); err != nil {
			return err
		}
		for _, got := range r.Query(t, selector, time.Now()) {
			if got != want {
				return fmt.Errorf("it is %v", got)
			}
		}
		return nil
	})
}

// TestQueryTimeout runs a query that takes longer than its timeout: the server
// does not go on with it.
func TestQueryTimeout(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	r := receiver.Start(t, receiver.Options{})
	a := start(t, setup{config: fmt.Sprintf(`
self: {enabled: false}
%s
sources:
  - {name: slow, type: postgres, host: %s, port: %d, user: %s, password: %q, collectors: [slow]}
collectors:
  - collector_name: slow
    interval: 20s
    queries:
      - {query_name: slow, timeout: 5s, query: SELECT 1 AS n FROM pg_sleep(3600)}
    metrics:
      - {metric_name: slow, type: gauge, help: Never., values: [n], query_ref: slow}
`, remoteWrite(r.URL()), pg.Host, pg.Port, pg.User, pg.Password)})
	eventually(t, "the query to run", func() error { return atLeast(pg.Running(t, ours), 1) })
	timeouts := func() float64 {
		return sum(a.metrics(t), "sql2metrics_query_errors_total", `query="slow"`, `reason="timeout"`)
	}
	eventually(t, "the query to time out", func() error { return atLeast(timeouts(), 1) })
	eventually(t, "the query to be gone", func() error {
		if pg.Running(t, ours) > 0 {
			return errors.New("it runs")
		}
		return nil
	})
	if n := timeouts(); n != 1 {
		t.Errorf("the query was gone after %v timeouts, want 1: before its next tick", n)
	}
	a.stop(t)
}
