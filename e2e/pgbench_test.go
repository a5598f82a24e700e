package e2e

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// pgbenchConfig watches pgbench's tables: what does not move, what moves, and
// an invariant of its transactions.
const pgbenchConfig = `
global: {scrape_interval: 1s, scrape_timeout: 1s}
self: {enabled: false}
%s
sources:
  - name: bench
    type: postgres
    host: %s
    port: %d
    user: %s
    password: %q
    database: %s
    instance: bench-0
    labels: {team: shop}
    collectors: [pgbench]
collectors:
  - collector_name: pgbench
    queries:
      - query_name: accounts
        query: SELECT bid, count(*) AS n, min(aid) AS first, max(aid) AS last FROM pgbench_accounts GROUP BY bid
      - query_name: balances
        query: |
          SELECT 'branches' AS of, sum(bbalance) AS balance FROM pgbench_branches
          UNION ALL SELECT 'tellers', sum(tbalance) FROM pgbench_tellers
          UNION ALL SELECT 'accounts', sum(abalance) FROM pgbench_accounts
    metrics:
      - {metric_name: accounts, type: gauge, help: Accounts of a branch., key_labels: [bid], values: [n], query_ref: accounts}
      - {metric_name: account_id, type: gauge, help: Numbers of accounts., key_labels: [bid], values: [first, last], value_label: which, query_ref: accounts}
      - {metric_name: balance, type: gauge, help: Sum of all balances., key_labels: [of], values: [balance], query_ref: balances}
      - metric_name: teller_balance
        type: gauge
        help: Balance of a teller.
        key_labels: [bid, tid]
        static_labels: {currency: EUR}
        values: [tbalance]
        query: SELECT bid, tid, tbalance FROM pgbench_tellers
`

// TestPgbench watches a database under pgbench's load and asks the receiver:
// values and labels are those of the rows.
func TestPgbench(t *testing.T) {
	for name, protocol := range map[string]receiver.Message{"1.0": receiver.V1, "2.0": receiver.V2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := servers.Postgres(t)
			pgbench(t, pg, "-i", "-q", "-s", "3")
			r := receiver.Start(t, receiver.Options{})
			a := start(t, setup{config: fmt.Sprintf(pgbenchConfig,
				remoteWrite(r.URL()+"\n    protobuf_message: "+string(protocol)),
				pg.Host, pg.Port, pg.User, pg.Password, "postgres")})
			began := time.Now()
			eventually(t, "different sums under load", func() error {
				pgbench(t, pg, "-n", "-c", "2", "-T", "8")
				return atLeast(sumsSince(t, r, began), 4)
			})
			ended := time.Now()
			want := rows(t, pg)
			var got map[string]float64
			eventually(t, "a round after the load", func() error {
				got = map[string]float64{}
				for _, name := range []string{"accounts", "account_id", "balance", "teller_balance", "up"} {
					if err := newerThan(t, r, name, ended); err != nil {
						return err
					}
					maps.Copy(got, r.Query(t, name, time.Now()))
				}
				up := got[`{__name__="up", instance="bench-0", job="postgres", team="shop"}`]
				if len(got) < len(want) || up == 0 { // a run has taken too long since
					return fmt.Errorf("%d series of %d, up is %v", len(got), len(want), up)
				}
				return nil
			})
			a.stop(t)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rows and PromQL (-rows +PromQL):\n%s", diff)
			}
			checkInvariants(t, r)
			for _, req := range r.Requests() {
				if req.Message != protocol {
					t.Errorf("a request came as %s", req.Message)
				}
			}
		})
	}
}

// checkInvariants checks what holds in every snapshot of pgbench's tables,
// round by round.
func checkInvariants(t *testing.T, r *receiver.Receiver) {
	t.Helper()
	sums := r.Samples(t, "balance")
	if len(sums) != 3 {
		t.Fatalf("sums of %d tables, want 3", len(sums))
	}
	series := slices.Collect(maps.Values(sums))
	for i, s := range series[0] {
		for _, other := range series[1:] {
			if !s.Equal(other[i]) {
				t.Errorf("one statement saw different sums: %v and %v", s, other[i])
			}
		}
	}
	for labels, samples := range r.Samples(t, "accounts") {
		for _, s := range samples {
			if s.V != 100_000 && !s.Stale() { // stale where the query was too slow
				t.Errorf("%s was %v at %d, want 100000 at all times", labels, s.V, s.T)
			}
		}
	}
}

// sumsSince returns how many different sums of all balances were collected
// after a time.
func sumsSince(t *testing.T, r *receiver.Receiver, began time.Time) int {
	t.Helper()
	different := map[float64]bool{}
	for _, samples := range r.Samples(t, "balance") {
		for _, s := range samples {
			if s.T > began.UnixMilli() && !s.Stale() {
				different[s.V] = true
			}
		}
	}
	return len(different)
}

// rows asks the database itself for what PromQL is to return.
func rows(t *testing.T, pg *servers.PG) map[string]float64 {
	t.Helper()
	const own = `instance="bench-0", job="postgres"`
	want := map[string]float64{`{__name__="up", ` + own + `, team="shop"}`: 1}
	for _, row := range pg.Query(t, "SELECT bid, count(*), min(aid), max(aid) FROM pgbench_accounts GROUP BY bid") {
		want[fmt.Sprintf(`{__name__="accounts", bid=%q, %s, team="shop"}`, row[0], own)] = number(t, row[1])
		want[fmt.Sprintf(`{__name__="account_id", bid=%q, %s, team="shop", which="first"}`, row[0], own)] = number(t, row[2])
		want[fmt.Sprintf(`{__name__="account_id", bid=%q, %s, team="shop", which="last"}`, row[0], own)] = number(t, row[3])
	}
	for _, row := range pg.Query(t, "SELECT bid, tid, tbalance FROM pgbench_tellers") {
		want[fmt.Sprintf(`{__name__="teller_balance", bid=%q, currency="EUR", %s, team="shop", tid=%q}`, row[0], own, row[1])] = number(t, row[2])
	}
	for table, column := range map[string]string{"branches": "bbalance", "tellers": "tbalance", "accounts": "abalance"} {
		row := pg.Query(t, "SELECT sum("+column+") FROM pgbench_"+table)[0]
		want[fmt.Sprintf(`{__name__="balance", %s, of=%q, team="shop"}`, own, table)] = number(t, row[0])
	}
	return want
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pgbench runs pgbench on the database and waits for it.
func pgbench(t *testing.T, pg *servers.PG, args ...string) {
	t.Helper()
	path := servers.Need(t, "postgresql", "/usr/lib/postgresql/*/bin/pgbench")
	cmd := exec.CommandContext(t.Context(), path, append(args, "-h", pg.Host, "-p", strconv.Itoa(pg.Port), "-U", pg.User, "postgres")...)
	cmd.Env = append(cmd.Environ(), "PGPASSWORD="+pg.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pgbench %v: %v\n%s", args, err, out)
	}
}

// newerThan returns an error until every series of a selector has a sample
// stamped after a time.
func newerThan(t *testing.T, r *receiver.Receiver, selector string, after time.Time) error {
	t.Helper()
	all := r.Samples(t, selector)
	if len(all) == 0 {
		return fmt.Errorf("no series of %s", selector)
	}
	for labels, samples := range all {
		if last := samples[len(samples)-1]; last.T <= after.UnixMilli() || last.Stale() {
			return fmt.Errorf("%s ends with %v", labels, last)
		}
	}
	return nil
}
