package e2e

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
)

// onceConfig has what is to count or send each row once.
const onceConfig = `
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - {name: shop, type: sqlite, path: %s, instance: shop-0, collectors: [once]}
collectors:
  - collector_name: once
    metrics:
      - metric_name: request_seconds
        type: histogram
        help: Requests.
        histogram: {mode: accumulate, form: both, value: seconds, buckets: [0.2, 0.4, 0.6, 0.8, 1]}
        cursor: {column: id, overlap: 5}
        query: SELECT id, seconds FROM requests WHERE id > {{cursor}} ORDER BY id
      - metric_name: backup_bytes
        type: gauge
        help: Backups.
        key_labels: [name]
        values: [bytes]
        timestamp_value: finished
        timestamp: {max_age: 50m}
        query: SELECT name, bytes, finished FROM backups
`

// TestEachRowOnce kills the agent again and again while rows appear, some of
// them late: in the end each has been counted once, and each with its own time
// has been sent once.
func TestEachRowOnce(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 0)
	s.exec(t, "CREATE TABLE requests (id INTEGER, seconds REAL)")
	s.exec(t, "CREATE TABLE backups (name TEXT, bytes INTEGER, finished INTEGER)")
	s.exec(t, "INSERT INTO requests VALUES (1, 0.02), (2, 0.1), (3, 0.15), (4, 0.15), (5, 0.16), (6, 0.17), (8, 0.3)")
	begin := time.Now().Truncate(time.Second).Add(-40 * time.Minute)
	want := map[int64]float64{}
	backUp := func(bytes int) {
		finished := begin.Add(time.Duration(bytes) * time.Minute)
		want[finished.UnixMilli()] = float64(bytes)
		s.exec(t, "INSERT INTO backups VALUES ('full', ?, ?)", bytes, finished.Unix())
	}
	backUp(2)
	backUp(1)
	s.exec(t, "INSERT INTO backups VALUES ('full', 9, ?)", begin.Add(-time.Hour).Unix())

	watch := setup{config: fmt.Sprintf(onceConfig, remoteWrite(r.URL()), s.path), storage: filepath.Join(t.TempDir(), "data")}
	has := func(promQL string, n float64) {
		t.Helper()
		eventually(t, promQL, func() error {
			got := slices.Collect(maps.Values(r.Query(t, promQL, time.Now())))
			if len(got) != 1 || got[0] < n-1e-9 || got[0] > n+1e-9 {
				return fmt.Errorf("got %v, want %v", got, n)
			}
			return nil
		})
	}
	a := start(t, watch)
	has("request_seconds_count", 7)
	a.kill()
	s.exec(t, "INSERT INTO requests VALUES (7, 0.18), (9, 0.35)") // 7 is late
	backUp(3)
	a = start(t, watch)
	has("request_seconds_count", 9)
	a.kill()
	a = start(t, watch)
	has("request_seconds_count", 9)
	a.stop(t)
	s.exec(t, "INSERT INTO requests VALUES (10, 0.5)")
	backUp(4)
	a = start(t, watch)
	for le, n := range map[string]float64{"0.2": 7, "0.4": 9, "0.6": 10, "0.8": 10, "1.0": 10, "+Inf": 10} {
		has(fmt.Sprintf("request_seconds_bucket{le=%q}", le), n)
	}
	has("request_seconds_sum", 2.08)
	has("request_seconds_count", 10)
	has("histogram_count(request_seconds)", 10)
	has("histogram_sum(request_seconds)", 2.08)
	has("max(resets(request_seconds_count[10m]))", 0)
	backups := func() map[int64]float64 {
		got := map[int64]float64{}
		for _, samples := range r.Samples(t, "backup_bytes") {
			for _, sample := range samples {
				got[sample.T] = sample.V
			}
		}
		return got
	}
	eventually(t, "the backups at the receiver", func() error {
		if d := cmp.Diff(want, backups()); d != "" {
			return errors.New(d)
		}
		return nil
	})
	a.stop(t)

	// The log, not the requests: those a kill interrupts are sent again.
	dump := command(t, 0, "wal", "dump", "--storage.path", watch.storage)
	if code := dump.exitCode(t); code != 0 {
		t.Fatalf("wal dump: exit code %d", code)
	}
	logged := 0
	for line := range strings.Lines(dump.output.String()) {
		if strings.HasPrefix(line, "backup_bytes{") {
			logged++
		}
	}
	if logged != len(want) {
		t.Errorf("the log has %d samples with their own time, want %d", logged, len(want))
	}
	if d := cmp.Diff(want, backups()); d != "" {
		t.Error("backups at the receiver:", d)
	}
}
