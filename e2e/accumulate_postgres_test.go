package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// payments accumulates the rows of one table behind two cursors.
const payments = `
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - {name: shop, type: postgres, host: %s, port: %d, user: %s, password: %q, instance: shop-0, collectors: [payments]}
collectors:
  - collector_name: payments
    metrics:
      - metric_name: by_id
        type: histogram
        help: Payments behind their id.
        key_labels: [shop]
        histogram: {mode: accumulate, form: both, value: seconds, buckets: [0.25, 0.5, 1]}
        cursor: {column: id, overlap: 50}
        query: SELECT id, shop, seconds FROM payments WHERE id > {{cursor}} ORDER BY id LIMIT 200
      - metric_name: by_time
        type: histogram
        help: Payments behind their time.
        key_labels: [shop]
        histogram: {mode: accumulate, form: both, value: seconds, buckets: [0.25, 0.5, 1]}
        cursor: {column: at, start: "2026-01-01 00:00:00+00", overlap: 5m, key: id}
        query: SELECT id, at, shop, seconds FROM payments WHERE at > {{cursor}} ORDER BY at, id LIMIT 1000
`

// pay is a statement that adds rows. All of one transaction have one time.
func pay(n int) string {
	return fmt.Sprintf("INSERT INTO payments (shop, seconds) SELECT 'shop' || i %% 3, (i %% 11) / 8.0 FROM generate_series(1, %d) AS i", n)
}

// TestAccumulatePostgres kills the agent again and again while rows are
// committed, some of them later than rows with higher ids and times: PromQL
// counts what the database itself does.
func TestAccumulatePostgres(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	pg.Exec(t, "CREATE TABLE payments (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), shop text NOT NULL, seconds float8 NOT NULL)", pay(20))
	r := receiver.Start(t, receiver.Options{})
	watch := setup{
		config:  fmt.Sprintf(payments, remoteWrite(r.URL()), pg.Host, pg.Port, pg.User, pg.Password),
		storage: filepath.Join(t.TempDir(), "data"),
	}
	counted := func() {
		t.Helper()
		for _, name := range []string{"by_id", "by_time"} {
			want := paymentsOf(t, pg, name)
			eventually(t, name+" to be what SQL counts", func() error {
				got := r.Query(t, fmt.Sprintf(`sum by (__name__, le, shop) ({__name__=~"%s_.+"})`, name), time.Now())
				if d := cmp.Diff(want, got); d != "" {
					return errors.New(d)
				}
				return nil
			})
		}
	}
	a := start(t, watch)
	counted()
	for i := range 4 {
		commit := pg.Begin(t, pay(5)) // its ids and its time are those of now
		pg.Exec(t, pay(10), pay(3))
		if i%2 == 0 {
			counted()
		}
		a.kill()
		commit()
		pg.Exec(t, pay(4))
		a = start(t, watch)
		if i%2 == 1 {
			counted()
		}
	}
	counted()
	for _, name := range []string{"by_id", "by_time"} {
		if n := r.Query(t, fmt.Sprintf("max(resets(%s_count[10m]))", name), time.Now())["{}"]; n != 0 {
			t.Errorf("%s has gone back %v times", name, n)
		}
		eventually(t, "the native histogram", func() error {
			query := fmt.Sprintf("sum(histogram_count(%[1]s)) - sum(%[1]s_count)", name)
			if got := r.Query(t, query, time.Now())["{}"]; got != 0 {
				return fmt.Errorf("differs by %v", got)
			}
			return nil
		})
	}
	a.kill()

	// Another text is another query: it counts all rows anew, and says so.
	watch.config = strings.ReplaceAll(watch.config, "ORDER BY id", "ORDER BY 1")
	a = start(t, watch)
	eventually(t, "the metric that begins again in the log", func() error { return a.hasLogged("a metric begins again") })
	if line := a.logged("a metric begins again"); line["metric"] != "by_id" || line["source"] != "shop" {
		t.Errorf("logged %v", line)
	}
	pg.Exec(t, pay(2))
	counted()
	a.stop(t)
}

// paymentsOf asks the database itself.
func paymentsOf(t *testing.T, pg *servers.PG, name string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, row := range pg.Query(t, `SELECT shop, count(*), sum(seconds), count(*) FILTER (WHERE seconds <= 0.25),
		count(*) FILTER (WHERE seconds <= 0.5), count(*) FILTER (WHERE seconds <= 1) FROM payments GROUP BY shop`) {
		all[fmt.Sprintf(`{__name__="%s_count", shop=%q}`, name, row[0])] = number(t, row[1])
		all[fmt.Sprintf(`{__name__="%s_sum", shop=%q}`, name, row[0])] = number(t, row[2])
		for i, le := range []string{"0.25", "0.5", "1.0"} {
			all[fmt.Sprintf(`{__name__="%s_bucket", le=%q, shop=%q}`, name, le, row[0])] = number(t, row[3+i])
		}
		all[fmt.Sprintf(`{__name__="%s_bucket", le="+Inf", shop=%q}`, name, row[0])] = number(t, row[1])
	}
	return all
}
