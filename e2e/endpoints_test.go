package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// heapBound is more than an agent with two endpoints ever has on its heap,
// however much is pending: two full windows and their requests.
const heapBound = 48 << 20

// TestDeadEndpoint has two endpoints, one of them dead. The other one gets
// everything meanwhile, the backlog costs no memory, a kill changes nothing
// about it, and when the dead one comes back it gets everything, too.
func TestDeadEndpoint(t *testing.T) {
	t.Parallel()
	live, dead := receiver.Start(t, receiver.Options{}), receiver.Start(t, receiver.Options{})
	dead.Refuse()
	s := newShop(t, 100)
	watch := setup{storage: filepath.Join(t.TempDir(), "data"), config: fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
remote_write:
  - {name: live, url: %[1]s, queue_config: &queue {max_samples_per_second: 10000000, batch_send_deadline: 50ms, min_backoff: 30ms, max_backoff: 200ms}}
  - {name: dead, url: %[2]s, queue_config: *queue}
sources:
  - {name: shop, type: sqlite, path: %[3]s, instance: shop-0, collectors: [orders]}
collectors:
  - collector_name: orders
    metrics:
      - {metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}
`, live.URL(), dead.URL(), s.path)}
	since := backlog{series: 1500, rounds: 200, every: time.Second, endpoints: []string{"live", "dead"}}.
		write(t, watch.storage, time.Now())
	l := follow(t, watch.storage)

	a := start(t, watch)
	checkBacklog(t, a, watch.storage, "dead", since)
	waitForSamples(t, a, 100)
	var before float64
	eventually(t, "the live endpoint to have everything", func() error {
		page := a.metrics(t)
		checkHeap(t, page)
		got, waiting := accounts(t, page, "live"), accounts(t, page, "dead")
		if waiting["pending"] < before || waiting["pending"] != waiting["appended"] {
			t.Errorf("pending for the dead endpoint: %v after %v, of %v", waiting["pending"], before, waiting["appended"])
		}
		before = waiting["pending"]
		if got["pending"] > 0 {
			return fmt.Errorf("%v of %v samples are pending", got["pending"], got["appended"])
		}
		return nil
	})
	a.kill()

	a = start(t, watch)
	checkBacklog(t, a, watch.storage, "dead", since)
	dead.Listen(t)
	eventually(t, "the dead endpoint to have everything", func() error {
		page := a.metrics(t)
		checkHeap(t, page)
		if n := accounts(t, page, "dead")["pending"]; n > 0 {
			return fmt.Errorf("%v samples are pending", n)
		}
		return nil
	})
	a.stop(t)

	l.close(t)
	for _, r := range []*receiver.Receiver{live, dead} {
		l.compare(t, r.Samples(t, everything))
		l.checkDeliveries(t, r.Requests())
	}
}

// accounts returns what a page says of an endpoint's samples, and checks that
// it adds up and that none was given up but by rules.
func accounts(t *testing.T, page map[string]float64, endpoint string) map[string]float64 {
	t.Helper()
	a := balance(t, page, endpoint)
	if n := a["dropped"] - a["relabel"]; n > 0 {
		t.Errorf("%v samples for %s were given up", n, endpoint)
	}
	return a
}

// balance returns what a page says of an endpoint's samples, and checks that it
// adds up.
func balance(t *testing.T, page map[string]float64, endpoint string) map[string]float64 {
	t.Helper()
	const prefix = "sql2metrics_remote_write_samples_"
	of := fmt.Sprintf("endpoint=%q", endpoint)
	a := map[string]float64{"pending": sum(page, prefix+"pending", of)}
	for _, name := range []string{"appended", "sent", "dropped", "unconfirmed"} {
		a[name] = sum(page, prefix+name+"_total", of)
	}
	if _, shown := page[prefix+"pending{"+of+"}"]; !shown || a["appended"] != a["sent"]+a["dropped"]+a["unconfirmed"]+a["pending"] {
		t.Errorf("the accounts of %s do not add up: %v", endpoint, a)
	}
	for _, reason := range []string{"relabel", "rejected"} {
		a[reason] = sum(page, prefix+"dropped_total", of, `reason="`+reason+`"`)
	}
	return a
}

// checkBacklog checks the first page of an agent that has just started, about
// an endpoint that has had nothing, against the log and the clock.
func checkBacklog(t *testing.T, a *agent, storage, endpoint string, since time.Time) {
	t.Helper()
	of := fmt.Sprintf("endpoint=%q", endpoint)
	fewest, youngest := logTotals(t, storage).Samples, time.Since(since)
	smallest := segmentBytes(t, storage)
	page := a.metrics(t)
	most, oldest := logTotals(t, storage).Samples, time.Since(since)+time.Millisecond // the log has milliseconds
	largest := segmentBytes(t, storage)
	if n := uint64(accounts(t, page, endpoint)["pending"]); n < fewest || n > most {
		t.Errorf("%d samples pending for %s, the log has %d to %d", n, endpoint, fewest, most)
	}
	seconds := sum(page, "sql2metrics_remote_write_backlog_seconds", of)
	if age := time.Duration(seconds * float64(time.Second)); age < youngest || age > oldest {
		t.Errorf("the backlog of %s is %s old, it began %s to %s ago", endpoint, age, youngest, oldest)
	}
	// The cursor is behind the header of the first segment.
	const header = 128
	if n := int64(sum(page, "sql2metrics_remote_write_backlog_bytes", of)); n < smallest-header || n > largest {
		t.Errorf("the backlog of %s has %d bytes, the log %d to %d", endpoint, n, smallest, largest)
	}
}

// segmentBytes adds up the files of the log in a folder.
func segmentBytes(t *testing.T, path string) (bytes int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path, "segments"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

// logTotals returns what has been appended to the log in a folder.
func logTotals(t *testing.T, path string) wal.Totals {
	t.Helper()
	r, err := wal.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var f wal.Frame
	for {
		err := r.Next(&f)
		if errors.Is(err, io.EOF) {
			return f.Position.Totals
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func checkHeap(t *testing.T, page map[string]float64) {
	t.Helper()
	if n := page["go_memstats_heap_alloc_bytes"]; n == 0 || n > heapBound {
		t.Errorf("%v bytes on the heap, want at most %d", n, heapBound)
	}
}

// TestTenantPerSource has two sources and an endpoint for each, with a rule
// that keeps its source's series: each gets these, all of them and no others,
// and counts the rest as dropped by its rules.
func TestTenantPerSource(t *testing.T) {
	t.Parallel()
	tenants := map[string]*receiver.Receiver{"orders": receiver.Start(t, receiver.Options{}), "billing": receiver.Start(t, receiver.Options{})}
	const config = `
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
remote_write:
  - url: %[1]s
    name: orders
    headers: {X-Scope-OrgID: shop}
    queue_config: {batch_send_deadline: 50ms}
    write_relabel_configs:
      - {source_labels: [instance], regex: "orders-0:5432", action: keep}
  - url: %[2]s
    name: billing
    headers: {X-Scope-OrgID: billing}
    queue_config: {batch_send_deadline: 50ms}
    write_relabel_configs:
      - {source_labels: [job], regex: billing, action: keep}
sources:
  - {name: orders, type: sqlite, path: %[3]s, instance: "orders-0:5432", collectors: [orders]}
  - {name: billing, type: sqlite, path: %[4]s, job: billing, collectors: [orders]}
collectors:
  - collector_name: orders
    metrics:
      - {metric_name: orders, type: gauge, help: Orders by id., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}
`
	a := start(t, setup{config: fmt.Sprintf(config,
		tenants["orders"].URL(), tenants["billing"].URL(), newShop(t, 30).path, newShop(t, 20).path)})
	l := follow(t, a.storage)
	eventually(t, "both tenants to have samples, and none of each other's", func() error {
		page := a.metrics(t)
		for name := range tenants {
			if a := accounts(t, page, name); a["sent"] < 200 || a["dropped"] == 0 {
				return fmt.Errorf("%v samples sent to %s, and %v of the other source counted as dropped", a["sent"], name, a["dropped"])
			}
		}
		return nil
	})
	a.stop(t)
	l.close(t)

	marks := map[string]string{"orders": `instance="orders-0:5432"`, "billing": `job="billing"`}
	kept := 0
	for name, r := range tenants {
		own := l.only(marks[name])
		kept += len(own.samples)
		own.compare(t, r.Samples(t, everything))
		if !slices.ContainsFunc(slices.Collect(maps.Keys(own.samples)), func(s string) bool { return strings.HasPrefix(s, `{__name__="up"`) }) {
			t.Errorf("%s has no up among %d series", name, len(own.samples))
		}
		for _, req := range r.Requests() {
			if got, want := req.Header.Get("X-Scope-OrgID"), map[string]string{"orders": "shop", "billing": "billing"}[name]; got != want {
				t.Errorf("a request for %s has tenant %q", want, got)
			}
		}
	}
	if kept != len(l.samples) {
		t.Errorf("the tenants have %d series, the log %d", kept, len(l.samples))
	}
}

// only returns a ledger of the series whose labels contain a text.
func (l *ledger) only(mark string) *ledger {
	part := &ledger{samples: map[string][]receiver.Sample{}}
	for series, samples := range l.samples {
		if strings.Contains(series, mark) {
			part.samples[series] = samples
		}
	}
	return part
}
