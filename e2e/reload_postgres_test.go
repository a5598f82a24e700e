package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"sql2metrics/e2e/servers"
)

// TestReloadLeavesNoConnection reloads over and over with other connections and
// other queries, one of which sleeps for long on the server. What is replaced
// ends there, and in the end there is as much as one configuration needs.
func TestReloadLeavesNoConnection(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	write := func(connections int, queries ...string) {
		var metrics strings.Builder
		for i, q := range queries {
			fmt.Fprintf(&metrics, "      - {metric_name: m%d, type: gauge, help: A number., values: [n], query: %q}\n", i, q)
		}
		source := fmt.Sprintf("  - {name: pg, type: postgres, host: %s, port: %d, user: %s, password: %q, max_connections: %d, collectors: [numbers]}\n",
			pg.Host, pg.Port, pg.User, pg.Password, connections)
		if connections == 0 {
			source = "  []\n"
		}
		writeFile(t, file, fmt.Sprintf(`
global: {scrape_interval: 1m, scrape_timeout: 50s}
self: {enabled: false}
sources:
%scollectors:
  - collector_name: numbers
    metrics:
      - {metric_name: orders, type: gauge, help: Orders., values: [n], query: SELECT 1 AS n}
%s`, source, metrics.String()))
	}
	write(2)
	a := command(t, 0, "run", "--config.file="+file, "--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json", "--no-config.auto-reload", "--web.enable-lifecycle")
	a.waitReady(t)
	reload := func() {
		t.Helper()
		if status, answer := a.post(t, "/-/reload"); status != http.StatusOK {
			t.Fatalf("the reload answers %d: %s", status, answer)
		}
	}
	for i := range 20 {
		write(2+i%2, fmt.Sprintf("SELECT %d AS n", i))
		reload()
		if err := a.shows(fmt.Sprintf("m0 %d\n", i)); err != nil {
			t.Error(err)
		}
	}
	write(2, "SELECT 1 AS n FROM pg_sleep(600)")
	reload()
	if err := a.shows("orders 1\n"); err != nil {
		t.Errorf("a query that hangs takes others along: %v", err)
	}
	write(2, "SELECT 5 AS n")
	reload()
	eventually(t, "connections of one configuration", func() error {
		if n, running := pg.Connections(t, ours), pg.Running(t, ours); n > 2 || running > 0 {
			return fmt.Errorf("%d connections, %d with a query", n, running)
		}
		return a.shows("m0 5\n")
	})
	write(0)
	reload()
	eventually(t, "no connection", func() error {
		if n := pg.Connections(t, ours); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	a.stop(t)
}
