package e2e

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver of the application's side
)

// shop is an application with an SQLite database in WAL mode, watched by an
// agent. Its table orders has one row per id; their n add up to nothing in
// particular.
type shop struct {
	db   *sql.DB
	path string
}

func newShop(t *testing.T, orders int) *shop {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &shop{db: db, path: path}
	s.exec(t, "CREATE TABLE orders (id TEXT PRIMARY KEY, n INTEGER NOT NULL)")
	s.exec(t, `INSERT INTO orders WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?) SELECT printf('o%04d', x), x FROM i`, orders)
	return s
}

func (s *shop) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := s.db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// trade changes orders all the time until the test ends, and lets some come
// and go.
func (s *shop) trade(t *testing.T) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			for _, statement := range []string{
				fmt.Sprintf("UPDATE orders SET n = n + 1 WHERE rowid %% 10 = %d", i%10),
				fmt.Sprintf("DELETE FROM orders WHERE id = 'passing%d'", i-3),
				fmt.Sprintf("INSERT INTO orders VALUES ('passing%d', %d)", i, i),
			} {
				if _, err := s.db.Exec(statement); err != nil {
					t.Errorf("%s: %v", statement, err)
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

// config returns a configuration that watches the shop at an interval and
// writes to the endpoints.
func (s *shop) config(interval time.Duration, endpoints ...string) string {
	return fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%[2]s
sources:
  - name: shop
    type: sqlite
    path: %[3]s
    instance: shop-0
    collectors: [orders]
collectors:
  - collector_name: orders
    queries:
      - query_name: orders
        query: SELECT id, n FROM orders
    metrics:
      - {metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query_ref: orders}
`, interval, remoteWrite(endpoints...), s.path)
}

// remoteWrite returns a section that writes to the URLs, with short waits and
// small requests, so that a window has several. An URL may be followed by more
// fields, one per line.
func remoteWrite(endpoints ...string) string {
	section := "remote_write:\n"
	for i, e := range endpoints {
		section += fmt.Sprintf("  - name: endpoint%d\n    queue_config: {max_samples_per_send: 60, batch_send_deadline: 50ms, min_backoff: 30ms, max_backoff: 200ms}\n    url: %s\n", i, e)
	}
	return section
}
