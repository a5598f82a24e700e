package wal

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
		mustSync(t, l, now)
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

// TestEvictedBeforeSync lets segments be evicted that a failed sync has left in
// doubt: before they are written again, while they are, and while they are
// synced. They are gone then, and counted once.
func TestEvictedBeforeSync(t *testing.T) {
	for name, c := range map[string]struct {
		synced bool   // a part of the segment is
		sealed bool   // and so are others after it
		during string // the operation in which the log runs over; none: before the sync
		err    error  // of that
	}{
		"nothing of it synced":             {},
		"a part of it synced":              {synced: true},
		"while it is written again":        {during: opSyncRewrite},
		"while a part of it is":            {synced: true, during: opSyncRewrite},
		"while it is put in its place":     {during: opRename},
		"while a part is put in its place": {synced: true, during: opRename},
		"while it is synced":               {during: opSyncSegment},
		"while its sync fails":             {during: opSyncSegment, err: unix.EIO},
		"while the sync of many fails":     {sealed: true, during: opSyncSegment, err: unix.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			spy := &spyFS{calls: map[string]int{}}
			dir := t.TempDir()
			o := Options{Path: dir, FS: spy, MaxBytes: 64 << 10, SegmentBytes: 4000}
			l := openTest(t, o)
			now := testStart
			round := func(n int) {
				now = now.Add(time.Second)
				mustAppend(t, l, roundOf(testSeries(l, n), now, 1), now)
			}
			overflow := func() {
				for range 120 {
					round(300)
				}
			}
			round(10)
			if c.synced {
				mustSync(t, l, now)
				round(10)
			}
			for range 5 {
				if c.sealed {
					round(300)
				}
			}
			if c.during != opSyncSegment {
				spy.fail(map[string]error{opSyncSegment: unix.EIO})
				if l.Sync(now) == nil {
					t.Fatal("no sync has failed")
				}
				spy.fail(nil)
			}
			if c.during == "" {
				overflow()
			} else {
				done := false
				spy.on(func(op string) error {
					if op == c.during && !done {
						done = true
						overflow()
						return c.err
					}
					return nil
				})
			}
			for range 3 {
				l.Sync(now) // the error is the one above
			}
			mustSync(t, l, now)
			check := func(when string) {
				t.Helper()
				names, err := filepath.Glob(filepath.Join(segmentsFolder(dir), "*"))
				if err != nil || len(names) != len(l.segments) {
					t.Errorf("%s: %d files, %d segments are known\n%s", when, len(names), len(l.segments), strings.Join(names, "\n"))
				}
				if s := l.Stats(); s.Bytes != diskUsage(t, dir) || s.Bytes > s.MaxBytes {
					t.Errorf("%s: %d bytes, %d on disk", when, s.Bytes, diskUsage(t, dir))
				}
				got, evicted, damaged := readFrom(t, l, Position{})
				if !damaged.IsZero() || evicted != l.Stats().Oldest.Totals || uint64(len(got))+evicted.Samples != l.Stats().Appended.Samples {
					t.Errorf("%s: read %d, evicted %+v, damaged %+v of %+v", when, len(got), evicted, damaged, l.Stats().Appended)
				}
			}
			check("before a start")
			if len(l.rolled) > 0 || l.unsynced > 0 || l.Stats().Evicted != l.Stats().Oldest.Totals {
				t.Errorf("%d wait for a sync, %d bytes of copies, evicted %+v, oldest %+v", len(l.rolled), l.unsynced, l.Stats().Evicted, l.Stats().Oldest)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, o)
			check("after a start")
		})
	}
}

// TestSyncNeverWorks appends for long to a disk that takes every write and no
// sync: what is evicted is not kept open.
func TestSyncNeverWorks(t *testing.T) {
	d := newDisk(1)
	l := openTest(t, Options{Path: t.TempDir(), FS: d, MaxBytes: 64 << 10})
	series := testSeries(l, 300)
	now := testStart
	d.failing(map[string]error{opSyncSegment: unix.EIO, opSyncRewrite: unix.EIO})
	for range 1000 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, 1), now)
		if l.Sync(now) == nil {
			t.Fatal("a sync has worked")
		}
		if len(l.rolled) > len(l.segments) || l.unsynced > 64<<10 {
			t.Fatalf("%d segments, %d are open, %d bytes of copies", len(l.segments), len(l.rolled), l.unsynced)
		}
	}
	d.failing(nil)
	mustSync(t, l, now)
	got, evicted, damaged := readFrom(t, l, Position{})
	if !damaged.IsZero() || uint64(len(got))+evicted.Samples != 300_000 {
		t.Errorf("read %d, evicted %+v, damaged %+v", len(got), evicted, damaged)
	}
}

// TestNeededBehindRubbish holds that rubbish named within a segment does not
// make the segment end there: what an endpoint has not read of it stays.
func TestNeededBehindRubbish(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	now := testStart
	for range 4 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	mustSync(t, l, now.Add(time.Hour)) // sealed
	mustAppend(t, l, roundOf(testSeries(l, 10), now.Add(time.Hour), 0), now.Add(time.Hour))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segmentPath(dir, 3), make([]byte, 500), 0o640); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir})
	c, err := l.Cursor("mimir", StartOldest)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Reader(c.Position())
	var f Frame
	for range 2 {
		if err := r.Next(&f); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(f.Position, nil); err != nil {
		t.Fatal(err)
	}
	r.Close()
	mustSync(t, l, now)
	mustSync(t, l, now)
	if got, evicted, damaged := readFrom(t, l, c.Position()); len(got) != 30 || !evicted.Add(damaged).IsZero() {
		t.Errorf("%d samples are left, evicted %+v, damaged %+v", len(got), evicted, damaged)
	}
}

// TestUnsafeCursor evicts what an endpoint has passed while its cursor cannot
// be synced: it may have to begin before, so it counts.
func TestUnsafeCursor(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, SegmentBytes: 1})
	c, err := l.Cursor("mimir", StartOldest)
	if err != nil {
		t.Fatal(err)
	}
	now := testStart
	for range 3 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	mustSync(t, l, now)
	if err := c.Save(l.Stats().Synced, nil); err != nil {
		t.Fatal(err)
	}
	spy.fail(map[string]error{opSyncCursor: unix.EIO})
	if l.Sync(now) == nil || l.Stats().Segments != 3 {
		t.Errorf("%d segments", l.Stats().Segments)
	}
	l.o.MaxBytes = l.Stats().Bytes - 1
	l.Sync(now) // the error is the cursor's
	if s := l.Stats(); s.Segments != 2 || s.Evicted.Samples != 10 {
		t.Errorf("%d segments, evicted %+v", s.Segments, s.Evicted)
	}
	spy.fail(nil)
	mustSync(t, l, now)
	if s := l.Stats(); s.Segments != 1 || s.Evicted.Samples != 10 {
		t.Errorf("%d segments, evicted %+v after the cursor is synced", s.Segments, s.Evicted)
	}
}
