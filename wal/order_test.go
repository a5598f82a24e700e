package wal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"golang.org/x/sys/unix"
)

// These tests hold what has to be on the disk before something else is done.

// TestCursorsWaitForFrames fails the sync of frames: no cursor is synced before
// the frames are, and nothing is removed.
func TestCursorsWaitForFrames(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, SegmentBytes: 1})
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	now := testStart
	for range 3 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	if err := c.Save(l.end, nil); err != nil {
		t.Fatal(err)
	}
	spy.took()
	spy.fail(map[string]error{opSyncSegment: unix.EIO, opRewrite: unix.EIO})
	for range 2 {
		if l.Sync(now) == nil {
			t.Fatal("synced without the frames")
		}
		if calls := spy.took(); calls[opSyncCursor] > 0 || calls[opRemoveSegment] > calls[opRewrite] {
			t.Errorf("%v", calls)
		}
	}
	spy.fail(nil)
	mustSync(t, l, now)
	if calls := spy.took(); calls[opSyncCursor] != 1 {
		t.Errorf("%v", calls)
	}
}

// TestCursorsFolderIsSyncedAgain fails the sync of the folder of cursors once:
// the next step makes up for it, and the power takes no cursor then.
func TestCursorsFolderIsSyncedAgain(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d}
	l := openTest(t, o)
	mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
	mustSync(t, l, testStart)
	if _, err := l.Cursor("mimir", StartEnd); err != nil {
		t.Fatal(err)
	}
	d.fault = func(op, path string) error {
		if op == opSyncFolder && path == cursorsFolder(o.Path) {
			return unix.EIO
		}
		return nil
	}
	if l.Sync(testStart) == nil {
		t.Error("synced without the folder of cursors")
	}
	d.failing(nil)
	mustSync(t, l, testStart)
	cutPower(t, l, d)
	if names, err := openTest(t, o).Cursors(); err != nil || !slices.Equal(names, []string{"mimir"}) {
		t.Errorf("cursors %v, %v", names, err)
	}
}

// TestTakenUpIsSyncedFirst fails the sync of what has been taken up from a
// segment that was set aside: the segment stays until it succeeds.
func TestTakenUpIsSyncedFirst(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d, SegmentAge: time.Second}
	now := testStart
	for _, version := range []uint32{2, 1} {
		o.version = version
		l := openTest(t, o)
		if _, err := l.Cursor("mimir", StartOldest); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, roundOf(testSeries(l, 10), now, float64(version)), now)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	o.version = 2
	l := openTest(t, o)
	aside := segmentPath(o.Path, 1)
	d.failing(map[string]error{opSyncSegment: unix.EIO})
	if l.Sync(now) == nil || d.files[aside] == nil {
		t.Fatalf("the segment is gone before what it held is synced elsewhere: %v", d.files[aside])
	}
	d.failing(nil)
	mustSync(t, l, now)
	if d.files[aside] != nil {
		t.Error("the segment is still there")
	}
	cutPower(t, l, d)
	got, _, _ := readFrom(t, openTest(t, o), Position{})
	if n := len(slices.DeleteFunc(got, func(s readSample) bool { return s.V >= 12 || s.T != testStart.UnixMilli() })); n < 10 {
		t.Errorf("%d samples of what was taken up", n)
	}
}

// TestWaitingRoundsAreCopies changes what a caller reuses after Append, also
// of a round that waits behind another.
func TestWaitingRoundsAreCopies(t *testing.T) {
	d := newDisk(1)
	l := openTest(t, Options{Path: t.TempDir(), FS: d})
	s := testSeries(l, 1)[0]
	h := &histogram.Histogram{Schema: 1, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}
	fh := &histogram.FloatHistogram{Schema: 1, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2}}
	want, wantFloat := h.Copy(), fh.Copy()
	d.failing(map[string]error{opCreate: unix.ENOSPC})
	for i := range int64(3) {
		mustAppend(t, l, &Round{Histograms: []Histogram{{Series: s, T: 2*i + 1, H: h}, {Series: s, T: 2*i + 2, FH: fh}}}, testStart)
	}
	h.PositiveBuckets[0], fh.PositiveBuckets[0] = 77, 77
	d.failing(nil)
	mustSync(t, l, testStart)
	r := l.Reader(Position{})
	defer r.Close()
	var f Frame
	for i := range 3 {
		if err := r.Next(&f); err != nil || !f.Histograms[0].H.Equals(want) || !f.FloatHistograms[0].FH.Equals(wantFloat) {
			t.Errorf("round %d: %v, %v, %v", i, f.Histograms, f.FloatHistograms, err)
		}
	}
}

// TestCursorsVote puts a segment of another log among the only ones of this
// log's: the cursors tell which of the two it is.
func TestCursorsVote(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, path := range []string{dir, other} {
		l := openTest(t, Options{Path: path})
		if path == other {
			for i := range 3 { // its segment gets a later name
				now := testStart.Add(time.Duration(i) * time.Second)
				mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
			}
			mustSync(t, l, testStart.Add(time.Hour))
		} else {
			for _, name := range []string{"a", "b"} {
				if _, err := l.Cursor(name, StartEnd); err != nil {
					t.Fatal(err)
				}
			}
		}
		now := testStart.Add(2 * time.Hour)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 500), now)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(segmentPath(other, 4))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(segmentsFolder(dir), filepath.Base(segmentPath("", 4))), b, 0o640); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, Options{Path: dir})
	c, err := l.Cursor("a", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := readFrom(t, l, c.Position()); len(got) != 10 || l.Stats().Appended.Samples != 10 || c.Recovered() {
		t.Errorf("%d samples, appended %+v, recovered %t", len(got), l.Stats().Appended, c.Recovered())
	}
}
