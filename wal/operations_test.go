package wal

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// These tests count what the log asks of the disk.

// TestFileOperations holds how often the disk is touched, and that no sync
// makes appends wait.
func TestFileOperations(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy})
	spy.on(func(op string) error {
		if op == opSyncSegment || op == opSyncFolder || op == opSyncCursor {
			if !l.mu.TryLock() {
				t.Errorf("%s under the writer's lock", op)
			} else {
				l.mu.Unlock()
			}
		}
		return nil
	})
	series := testSeries(l, 5000)
	now := testStart
	spy.took()
	var cursor *Cursor
	steps := []struct {
		name string
		do   func()
		want map[string]int
	}{
		{"first round: the segment and one write", func() { mustAppend(t, l, roundOf(series, now, 0), now) },
			map[string]int{opCreate: 1, opAppend: 1}},
		{"next round of three frames: one write", func() { mustAppend(t, l, roundOf(series, now, 0), now) },
			map[string]int{opAppend: 1}},
		{"sync of both, and of the new name", func() { mustSync(t, l, now) },
			map[string]int{opSyncSegment: 1, opSyncFolder: 1}},
		{"nothing new, no sync", func() { mustSync(t, l, now) }, map[string]int{}},
		{"a refused round touches nothing", func() { mustAppend(t, l, roundOf(series, testStart, 0), now) }, map[string]int{}},
		{"a cursor is made", func() {
			var err error
			if cursor, err = l.Cursor("a", StartEnd); err != nil {
				t.Fatal(err)
			}
		}, map[string]int{opOpenCursor: 1, opMakeCursor: 3, opSaveCursor: 1, opSyncCursor: 1}},
		{"and its name synced", func() { mustSync(t, l, now) }, map[string]int{opSyncFolder: 1}},
		{"two saves share a sync", func() {
			for range 2 {
				if err := cursor.Save(cursor.Position(), nil); err != nil {
					t.Fatal(err)
				}
			}
			mustSync(t, l, now)
		}, map[string]int{opSaveCursor: 2, opSyncCursor: 1}},
		{"a segment that is too old is sealed and synced", func() { mustSync(t, l, now.Add(time.Hour)) },
			map[string]int{opSeal: 1, opSyncSegment: 1}},
		{"a round begins the next", func() { mustAppend(t, l, roundOf(series, now, 0), now) },
			map[string]int{opCreate: 1, opAppend: 1}},
		{"a round finds the segment full: its table, a new one and one write", func() {
			l.o.SegmentBytes = 1
			mustAppend(t, l, roundOf(series, now, 0), now)
			l.o.SegmentBytes = 8 << 20
		}, map[string]int{opSeal: 1, opCreate: 1, opAppend: 1}},
		{"sync of both and of the new names; the first segment, which the cursor has passed, goes", func() { mustSync(t, l, now) },
			map[string]int{opSyncSegment: 2, opSyncFolder: 1, opRemoveSegment: 1}},
		{"that its name is gone is synced, too", func() { mustSync(t, l, now) }, map[string]int{opSyncFolder: 1}},
	}
	for _, step := range steps {
		now = now.Add(time.Second)
		step.do()
		if diff := cmp.Diff(step.want, spy.took()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestSyncsPerRound holds what ten rounds, a sync step, and one that finds
// nothing new cost in each mode.
func TestSyncsPerRound(t *testing.T) {
	for name, c := range map[string]struct {
		mode         Sync
		rounds, step map[string]int // operations of the rounds, and of the first sync step
	}{
		"interval": {SyncInterval, map[string]int{opAppend: 10}, map[string]int{opSyncSegment: 1}},
		"always":   {SyncAlways, map[string]int{opAppend: 10, opSyncSegment: 10}, map[string]int{}},
		"never":    {SyncNever, map[string]int{opAppend: 10}, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			spy := &spyFS{calls: map[string]int{}}
			l := openTest(t, Options{Path: t.TempDir(), FS: spy, Sync: c.mode})
			series := testSeries(l, 100)
			mustAppend(t, l, roundOf(series, testStart, 0), testStart)
			mustSync(t, l, testStart)
			spy.took()
			now := testStart
			for range 10 {
				now = now.Add(time.Second)
				mustAppend(t, l, roundOf(series, now, 0), now)
			}
			got := []map[string]int{spy.took()}
			for range 2 {
				mustSync(t, l, now)
				got = append(got, spy.took())
			}
			if diff := cmp.Diff([]map[string]int{c.rounds, c.step, {}}, got); diff != "" {
				t.Errorf("rounds, sync, idle sync (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSyncAlways holds that Append returns after a sync, and that appends
// that wait for one share the next.
func TestSyncAlways(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, Sync: SyncAlways})
	const workers = 20
	series := testSeries(l, workers)
	mustAppend(t, l, roundOf(series, testStart, 0), testStart)
	if got, _, _ := readFrom(t, l, Position{}); len(got) != workers {
		t.Fatalf("%d samples can be read when Append has returned", len(got))
	}
	spy.took()

	// The first sync waits until all others have written.
	now := testStart.Add(time.Second)
	written := make(chan struct{})
	var once sync.Once
	spy.on(func(op string) error {
		switch op {
		case opSyncSegment:
			once.Do(func() { <-written })
		case opAppend:
			if l.round == workers+1 {
				close(written)
			}
		}
		return nil
	})
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() {
			if _, err := l.Append(roundOf(series[i:i+1], now, 0), now); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	// One is enough if all have written before the first sync begins.
	if n := spy.took()[opSyncSegment]; n < 1 || n > 2 {
		t.Errorf("%d appends took %d syncs, want 1 or 2", workers, n)
	}
}

// TestSlowSync holds a sync until rounds have been appended, series taken and
// the log's state asked for beside it: a slow disk delays no query.
func TestSlowSync(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy})
	now := testStart
	mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	syncing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	spy.on(func(op string) error {
		if op == opSyncSegment {
			once.Do(func() { close(syncing); <-release })
		}
		return nil
	})
	synced := make(chan error)
	go func() { synced <- l.Sync(now) }()
	<-syncing
	for range 5 {
		now = now.Add(time.Second)
		if out := mustAppend(t, l, roundOf(testSeries(l, 20), now, 0), now); out.Appended.Samples != 20 {
			t.Errorf("%+v", out)
		}
		l.Stats()
	}
	close(release)
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Synced.Totals.Samples != 10 || s.Appended.Samples != 110 {
		t.Errorf("synced %+v, appended %+v", s.Synced.Totals, s.Appended)
	}
}
