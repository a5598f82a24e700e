package wal

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// diskUsage is the size of everything in the log's folder.
func diskUsage(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			bytes += sizeOf(e)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestEvictionIsCounted fills a log over its bound many times, while one
// endpoint keeps up now and then and another never reads, and counts every
// sample: read or evicted, none twice, over a restart too.
func TestEvictionIsCounted(t *testing.T) {
	dir := t.TempDir()
	o := Options{Path: dir, MaxBytes: 256 << 10}
	l := openTest(t, o)
	series := testSeries(l, 700)
	var cursors [2]*Cursor
	open := func() {
		for i, name := range []string{"mimir", "dead"} {
			var err error
			if cursors[i], err = l.Cursor(name, StartOldest); err != nil {
				t.Fatal(err)
			}
		}
	}
	open()
	var read, evicted [2]Totals
	catchUp := func(i int, frames int) {
		t.Helper()
		r := l.Reader(cursors[i].Position())
		defer r.Close()
		var f Frame
		for ; frames > 0 && r.Next(&f) == nil; frames-- {
			read[i], evicted[i] = read[i].Add(f.Counts), evicted[i].Add(f.Evicted)
			if !f.Damaged.IsZero() {
				t.Fatalf("damaged %+v", f.Damaged)
			}
			if err := cursors[i].Save(f.Position, nil); err != nil {
				t.Fatal(err)
			}
			if sum := read[i].Add(evicted[i]); sum != f.Position.Totals {
				t.Fatalf("read %+v, evicted %+v; position says %+v", read[i], evicted[i], f.Position.Totals)
			}
		}
	}
	now := testStart
	for round := range 400 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, float64(round)*0.37), now)
		if s := l.Stats(); s.Bytes > s.MaxBytes || s.Bytes != diskUsage(t, dir) {
			t.Fatalf("round %d: %d bytes by Stats, %d on disk, bound %d", round, s.Bytes, diskUsage(t, dir), s.MaxBytes)
		}
		if round%5 == 0 {
			mustSync(t, l, now)
		}
		if round%90 == 89 {
			catchUp(0, 50)
		}
		if round == 200 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, o)
			series = testSeries(l, 700)
			open()
		}
	}
	mustSync(t, l, now)
	for i := range cursors {
		catchUp(i, 1<<30)
		if sum := read[i].Add(evicted[i]); sum != l.Stats().Appended || evicted[i].IsZero() {
			t.Errorf("cursor %d: read %+v, evicted %+v, appended %+v", i, read[i], evicted[i], l.Stats().Appended)
		}
	}
	if s := l.Stats(); s.Evicted.IsZero() || s.Evicted.Samples > s.Oldest.Totals.Samples {
		t.Errorf("stats: evicted %+v, oldest %+v", s.Evicted, s.Oldest)
	}
}

// TestOneRoundOverTheBound holds that a bound smaller than a round is kept as
// well as it can be, and that appends go on.
func TestOneRoundOverTheBound(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), MaxBytes: 2048})
	series := testSeries(l, 1000)
	for i := range 5 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	if s := l.Stats(); s.Segments != 1 || s.Appended.Samples != 5000 || s.Evicted.Samples != 4000 {
		t.Errorf("%+v", s)
	}
}

// TestPassedSegmentsAreRemoved holds that a segment goes when all open cursors
// have safely passed it, and not before.
func TestPassedSegmentsAreRemoved(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1})
	series := testSeries(l, 10)
	now := testStart
	round := func() {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	segments := func(why string, want int) {
		t.Helper()
		mustSync(t, l, now)
		if got := l.Stats().Segments; got != want {
			t.Errorf("%s: %d segments, want %d", why, got, want)
		}
	}
	cursor := func(name string) *Cursor {
		c, err := l.Cursor(name, StartOldest)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := func(c *Cursor, frames int) {
		t.Helper()
		r := l.Reader(c.Position())
		defer r.Close()
		for range frames {
			var f Frame
			if err := r.Next(&f); err != nil {
				t.Fatal(err)
			}
			if !f.Evicted.IsZero() || !f.Damaged.IsZero() {
				t.Errorf("evicted %+v, damaged %+v", f.Evicted, f.Damaged)
			}
			if err := c.Save(f.Position, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 4 {
		round()
	}
	segments("no cursor is open", 4)
	a, b := cursor("a"), cursor("b")
	read(a, 3)
	segments("b still needs them", 4)
	read(b, 2)
	segments("b has passed two", 2)
	read(b, 2)
	segments("a has passed three", 1)
	round()
	round()
	segments("a needs three", 3)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	segments("b alone needs two", 2)
	read(b, 2)
	segments("the newest one stays", 1)
	if e := l.Stats().Evicted; !e.IsZero() {
		t.Errorf("%+v count as evicted", e)
	}
}

// TestEverythingCounts holds that what others keep below the log's folder
// takes its part of MaxBytes.
func TestEverythingCounts(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, MaxBytes: 256 << 10})
	series := testSeries(l, 700)
	now := testStart
	fill := func() Stats {
		t.Helper()
		for range 300 {
			now = now.Add(time.Second)
			mustAppend(t, l, roundOf(series, now, 0), now)
		}
		mustSync(t, l, now)
		s := l.Stats()
		if got := diskUsage(t, dir); got != s.Bytes || got > s.MaxBytes {
			t.Fatalf("%d bytes on disk, %d by Stats, bound %d", got, s.Bytes, s.MaxBytes)
		}
		return s
	}
	alone := fill()
	letters := filepath.Join(dir, "deadletter", "mimir")
	if err := os.MkdirAll(letters, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(letters, "1"), make([]byte, 128<<10), 0o640); err != nil {
		t.Fatal(err)
	}
	if beside := fill(); beside.Segments >= alone.Segments {
		t.Errorf("%d segments beside dead letters, %d without", beside.Segments, alone.Segments)
	}
}

// TestMaxAge holds that a segment goes when all in it was appended too long
// ago, that what was not passed is counted, and that a clock far off evicts
// nothing.
func TestMaxAge(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), FS: newDisk(1), MaxAge: time.Hour})
	series := testSeries(l, 10)
	now := testStart
	if _, err := l.Cursor("dead", StartOldest); err != nil {
		t.Fatal(err)
	}
	for range 12 { // two hours, a segment each ten minutes
		mustAppend(t, l, roundOf(series, now, 0), now)
		mustSync(t, l, now)
		now = now.Add(10 * time.Minute)
	}
	s := l.Stats()
	if s.Segments != 8 || s.Evicted.Samples != 40 || s.Oldest.Totals != s.Evicted {
		t.Errorf("%d segments, evicted %+v, oldest %+v", s.Segments, s.Evicted, s.Oldest)
	}
	mustSync(t, l, testStart.AddDate(-50, 0, 0))
	if got := l.Stats().Segments; got != s.Segments {
		t.Errorf("%d segments after the clock was set back", got)
	}
	mustSync(t, l, now.AddDate(0, 0, 1))
	if s := l.Stats(); s.Segments != 1 || s.Evicted.Samples != 110 {
		t.Errorf("a day later: %d segments, evicted %+v; the newest stays", s.Segments, s.Evicted)
	}
}

// TestMinFree fills the volume from outside: the oldest segments make room, no
// more than is missing, and the newest stays.
func TestMinFree(t *testing.T) {
	d := newDisk(1)
	l := openTest(t, Options{Path: t.TempDir(), FS: d, MinFree: 1 << 20, SegmentBytes: 1})
	series := testSeries(l, 10)
	now := testStart
	for range 20 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	mustSync(t, l, now)
	size := l.segments[0].size
	for _, c := range []struct {
		free int64
		want int
	}{
		{1 << 20, 20},
		{1<<20 - 1, 19},
		{1<<20 - 3*size, 16},
		{1 << 30, 16},
		{0, 1},
	} {
		d.free = c.free
		mustSync(t, l, now)
		if s := l.Stats(); s.Segments != c.want || s.Evicted.Samples != uint64(10*(20-c.want)) {
			t.Errorf("with %d bytes free: %d segments, want %d, evicted %+v", c.free, s.Segments, c.want, s.Evicted)
		}
	}
	// A tenth of a small volume is enough.
	for range 5 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	d.size, d.free = 1000, 101
	mustSync(t, l, now)
	if got := l.Stats().Segments; got != 6 {
		t.Errorf("%d segments on a small volume with more than a tenth free", got)
	}
}
