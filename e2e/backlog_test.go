package e2e

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// backlog is what is put into a log without an agent, so that the next one
// has it to ship.
type backlog struct {
	series    int
	rounds    int                             // one sample of each series
	every     time.Duration                   // between rounds; the last is at now
	value     func(series, round int) float64 // default: counter
	endpoints []string                        // whose cursors begin before it
}

// counter is the value of counters of which some stand still, some are slow and
// some fast.
func counter(series, round int) float64 { return float64(series*7 + round*(series%97)) }

// write makes the log in a folder that has none, and returns the time of the
// first append.
func (b backlog) write(tb testing.TB, path string, now time.Time) time.Time {
	tb.Helper()
	at := now.Add(-time.Duration(b.rounds-1) * b.every)
	first := at
	l, err := wal.Open(context.Background(), wal.Options{Path: path, Sync: wal.SyncNever, MaxBytes: 1 << 40}, at)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range b.endpoints {
		if _, err := l.Cursor(name, wal.StartEnd); err != nil {
			tb.Fatal(err)
		}
	}
	r := wal.Round{Samples: make([]wal.Sample, b.series)}
	for i := range r.Samples {
		r.Samples[i].Series = l.Series(labels.FromStrings(
			"__name__", "orders_by_status", "instance", "orders-0:5432", "job", "postgres",
			"region", "region-"+strconv.Itoa(i%50), "status", "status-"+strconv.Itoa(i/50), "team", "shop",
		), wal.Metadata{Type: "gauge", Help: "Orders by status."})
	}
	if b.value == nil {
		b.value = counter
	}
	for round := range b.rounds {
		for i := range r.Samples {
			r.Samples[i].T, r.Samples[i].V = at.UnixMilli(), b.value(i, round)
		}
		if _, err := l.Append(&r, at); err != nil {
			tb.Fatal(err)
		}
		at = at.Add(b.every)
	}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	return first
}
