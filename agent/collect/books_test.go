package collect

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// fullDisk is a file system that is full while it is told so.
type fullDisk struct {
	wal.FileSystem
	full atomic.Bool
}

func (d *fullDisk) OpenFile(op, path string, flag int, perm fs.FileMode) (wal.File, error) {
	f, err := d.FileSystem.OpenFile(op, path, flag, perm)
	return &fullFile{f, d}, err
}

type fullFile struct {
	wal.File
	disk *fullDisk
}

func (f *fullFile) WriteAt(op string, p []byte, off int64) (int, error) {
	if f.disk.full.Load() {
		return 0, unix.ENOSPC
	}
	return f.File.WriteAt(op, p, off)
}

// chaos is a database that answers with anything.
type chaos struct{ rng *rand.Rand }

func (c *chaos) Query(_ context.Context, _ config.Query, each func(*sources.Row) error) error {
	b := make([]byte, c.rng.IntN(600))
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	columns := []string{"a", "b", "c", "d"}
	if c.rng.IntN(10) == 0 {
		columns[3] = "e"
	}
	for _, row := range cells(b) {
		if err := each(&sources.Row{Columns: columns, Values: row}); err != nil {
			return err
		}
	}
	if c.rng.IntN(6) == 0 {
		return errDown
	}
	return nil
}

func (c *chaos) Ping(context.Context) error { return nil }
func (c *chaos) Close() error               { return nil }

// TestBooksAddUp scrapes all along while workers of every kind collect
// anything, with every type and policy, while results are emitted again and
// end, the disk is full for a while, and queries are replaced: every scrape
// adds up, and so does every balance.
func TestBooksAddUp(t *testing.T) {
	const workers, rounds, enough = 3, 150, 10 // enough: scrapes
	disk := &fullDisk{FileSystem: wal.OperatingSystem()}
	log, err := wal.Open(t.Context(), wal.Options{Path: t.TempDir(), Sync: wal.SyncNever, MinFree: -1, Logger: discard, FS: disk}, t0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	reg := prometheus.NewRegistry()
	metrics := NewMetrics(reg)
	limit := NewSeriesLimit(300)

	done := make(chan struct{})
	var scraping, collecting sync.WaitGroup
	var scrapes atomic.Int64
	scraping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			n := scrapes.Add(1)
			addsUp(t, metrics)
			if err := scrapeAddsUp(reg); err != nil {
				t.Errorf("scrape %d: %v", n, err)
				return
			}
		}
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range workers {
		collecting.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			now := t0
			open := func(generation int) *Worker {
				nulls := []config.OnNull{config.OnNullSkip, config.OnNullZero, config.OnNullNaN}
				duplicates := []config.OnDuplicate{config.OnDuplicateFirst, config.OnDuplicateLast, config.OnDuplicateSum, config.OnDuplicateDrop}
				q := query(everyType(nulls[rng.IntN(3)], duplicates[rng.IntN(4)])...)
				q.Name = fmt.Sprintf("q%d-%d", i, generation)
				q.Policies = config.Policies{SampleLimit: 150, RowLimit: 40}
				if rng.IntN(2) == 0 {
					q.Policies.OnLimit = config.OnLimitTruncate
				}
				return NewWorker(WorkerOptions{
					Source: dbSource(), Query: q, Client: &chaos{rng}, Health: NewHealth("db", discard),
					Log: log, Metrics: metrics, Limit: limit, Logger: discard, Clock: func() time.Time { return now },
				})
			}
			w := open(0)
			for round := 0; round < rounds || scrapes.Load() <= enough && !t.Failed(); round++ {
				now = now.Add(time.Second)
				_ = w.Step(t.Context(), now)
				now = now.Add(time.Second)
				switch rng.IntN(8) {
				case 0:
					_ = w.resend(now)
				case 1:
					_, _, _ = w.values.expire(now)
				case 2:
					next := open(round + 1)
					next.Prepare(t.Context(), []Runner{w})
					if err := (Succession{Leaving: []Runner{w}, Entering: []Runner{next}}).Carry(now); err != nil {
						t.Error(err)
					}
					w.Close()
					w = next
				}
				if i == 0 {
					disk.full.Store(round/20%3 == 1)
				}
			}
			disk.full.Store(false)
			w.Close()
		})
	}
	collecting.Go(func() {
		now := t0
		clock := func() time.Time { return now }
		health := NewHealth("db", discard)
		up := NewUp(UpOptions{Source: dbSource(), Client: &chaos{}, Health: health, Log: log, Metrics: metrics, Logger: discard, Clock: clock})
		defer up.Close()
		self := NewSelf(SelfOptions{Self: config.Self{Interval: time.Second, Job: "self"}, Gatherer: reg, Log: log, Metrics: metrics, Logger: discard, Clock: clock})
		defer self.Close()
		for range rounds {
			now = now.Add(time.Second)
			_ = up.Step(t.Context(), now)
			_ = self.Step(t.Context(), now)
			_ = log.Sync(now)
		}
	})
	collecting.Wait()
	if err := log.Sync(t0.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	close(done)
	scraping.Wait()
	addsUp(t, metrics)

	b := metrics.Balance()
	gone := b.Workers[len(b.Workers)-1]
	if len(b.Workers) != 1 || gone.Query != bookRemoved {
		t.Fatalf("there is not only what is removed: %+v", b.Workers)
	}
	if gone.Cells == 0 || gone.Used == 0 || gone.Discarded == 0 || gone.Stale == 0 || gone.Resent == 0 || gone.Kept == 0 || len(gone.Refused) < 8 {
		t.Errorf("the test is too tame: %d scrapes, %+v", scrapes.Load(), gone)
	}
}

// scrapeAddsUp gathers, and returns what does not add up of what docs/metrics.md
// says of queries and the log.
func scrapeAddsUp(g prometheus.Gatherer) error {
	families, err := g.Gather()
	if err != nil {
		return err
	}
	cells, samples, handed := map[string]float64{}, map[string]float64{}, map[string]float64{}
	signs := map[string]float64{
		"cells_total": 1, "cells_used_total": -1, "cells_discarded_total": -1,
		"samples_mapped_total": 1, "stale_markers_total": 1, "samples_resent_total": 1,
		"samples_total": -1, "samples_kept_total": -1, "samples_lost_total": -1,
	}
	for _, mf := range families {
		for _, m := range mf.Metric {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			query := label(m, "source") + "/" + label(m, "query")
			name, ofQuery := strings.CutPrefix(mf.GetName(), "sql2metrics_query_")
			switch {
			case strings.HasPrefix(mf.GetName(), "sql2metrics_handed_samples_"):
				handed[label(m, "kind")] -= v
			case !ofQuery:
			case name == "samples_handed_total":
				handed[label(m, "kind")] += v
			case name == "samples_refused_total" && slices.Contains([]string{"time", "too_large"}, label(m, "reason")):
				samples[query] -= v
			case name == "samples_refused_total":
				cells[query] -= v
			case strings.HasPrefix(name, "cells_"):
				cells[query] += signs[name] * v
			default:
				samples[query] += signs[name] * v
			}
		}
	}
	for what, sums := range map[string]map[string]float64{"cells": cells, "samples": samples, "handed": handed} {
		for of, off := range sums {
			if off != 0 {
				return fmt.Errorf("%s of %s are off by %v", what, of, off)
			}
		}
	}
	return nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
