package wal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"golang.org/x/sys/unix"
)

// TestDiskFails lets every operation fail in turn, for as long as several
// rounds and syncs take, while rounds are appended and read. Whatever fails,
// nothing is lost, doubled or out of order, the log goes on by itself, and a
// power cut afterwards costs nothing that was synced.
func TestDiskFails(t *testing.T) {
	operations := []string{
		opAppend, opCreate, opSeal, opCutWrite, opSyncSegment, opSyncFolder, opRewrite, opSyncRewrite, opRename,
		opRemoveSegment, opSaveCursor, opSyncCursor, opFree, opMeasure, opRead,
	}
	together := map[string][]string{
		"a read-only remount":         {opAppend, opCreate, opSeal, opCutWrite, opRewrite, opRename, opRemoveSegment, opSaveCursor},
		"a disk that is gone":         operations,
		"write and cut":               {opAppend, opCutWrite},
		"sync and writing it again":   {opSyncSegment, opRewrite},
		"sync, and again":             {opSyncSegment, opSyncRewrite},
		"sync, and the second name":   {opSyncSegment, opRename, opRemoveSegment},
		"sync and all that come next": {opSyncSegment, opAppend, opSyncFolder},
	}
	for _, op := range operations {
		together[op] = []string{op}
	}
	for name, ops := range together {
		t.Run(name, func(t *testing.T) {
			for seed, kind := range []error{unix.ENOSPC, unix.EIO, unix.EROFS} {
				faults := map[string]error{}
				for _, op := range ops {
					faults[op] = kind
				}
				testDiskFails(t, uint64(seed), faults)
			}
		})
	}
}

func testDiskFails(t *testing.T, seed uint64, faults map[string]error) {
	d := newDisk(seed)
	o := Options{Path: t.TempDir(), FS: d, SegmentAge: 5 * time.Second}
	l := openTest(t, o)
	cursor, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Cursor("far behind", StartOldest); err != nil { // holds all segments back
		t.Fatal(err)
	}
	reader := l.Reader(cursor.Position())
	defer func() { reader.Close() }()
	var want, got []readSample
	now := testStart
	step := func(series []*Series) {
		now = now.Add(time.Second)
		d.now = now
		r := roundOf(series, now, 0)
		out := mustAppend(t, l, r, now)
		if sum := out.Appended.Add(out.Kept); int(sum.Samples) != len(r.Samples) {
			t.Fatalf("%+v of %d samples", out, len(r.Samples))
		}
		for _, s := range r.Samples {
			want = append(want, readSample{s.Series.Labels().String(), s.T, s.V})
		}
	}
	read := func() {
		var f Frame
		for reader.Next(&f) == nil {
			if !f.Evicted.IsZero() || !f.Damaged.IsZero() {
				t.Fatalf("evicted %+v, damaged %+v", f.Evicted, f.Damaged)
			}
			for _, s := range f.Samples {
				got = append(got, readSample{f.Series[s.Ref].Labels.String(), s.T, s.V})
			}
			cursor.Save(f.Position, nil) // one that fails is made up for by the next
		}
	}
	series := testSeries(l, 40)
	for i := range 4 {
		step(series[i:20])
	}
	mustSync(t, l, now)
	step(series[10:20])
	d.failing(faults)
	for i := range 9 {
		step(series[i : 20+i])
		l.Sync(now)
		read()
		if i == 4 {
			step(series[5:10])
		}
	}
	d.failing(nil)
	step(series)
	mustSync(t, l, now)
	read()
	mustSync(t, l, now)
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-appended +read), seed %d:\n%.2000s", when, seed, diff)
		}
		if s := l.Stats(); int(s.Appended.Samples) != len(want) || s.Lost != (Lost{}) || !s.Waiting.IsZero() {
			t.Fatalf("%s: %+v", when, s)
		}
	}
	check("when the disk works again")

	// The power goes. What was synced is there.
	cutPower(t, l, d)
	l = openTest(t, o)
	reader.Close()
	if got := l.Stats().Appended.Samples; int(got) != len(want) {
		t.Fatalf("%d samples after a power cut, want %d", got, len(want))
	}
	if cursor, err = l.Cursor("mimir", StartEnd); err != nil || int(cursor.Position().Totals.Samples) != len(want) {
		t.Fatalf("cursor after a power cut: %+v, %v", cursor, err)
	}
	if all, evicted, damaged := readFrom(t, l, Position{}); !slices.Equal(all, want) || !evicted.IsZero() || !damaged.IsZero() {
		t.Fatalf("seed %d: %d of %d samples after a power cut, evicted %+v, damaged %+v", seed, len(all), len(want), evicted, damaged)
	}
	reader = l.Reader(cursor.Position())
	now = now.Add(time.Minute)
	step(testSeries(l, 40))
	mustSync(t, l, now)
	read()
	check("after a power cut")
}

// TestWaitingIsBounded fills the memory of a log that cannot be written: the
// oldest rounds fall out and are counted, the newest are written in the end.
func TestWaitingIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		lost func(Lost) Totals
	}{
		"no_space":   {unix.ENOSPC, func(l Lost) Totals { return l.NoSpace }},
		"disk_error": {unix.EIO, func(l Lost) Totals { return l.DiskError }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(1)
			logged := &strings.Builder{}
			l := openTest(t, Options{Path: t.TempDir(), FS: d, Logger: textLogger(logged)})
			series := testSeries(l, 10_000)
			now := testStart
			d.failing(map[string]error{opCreate: c.err, opAppend: c.err})
			const rounds = 40
			for i := range rounds {
				now = now.Add(time.Second)
				if out := mustAppend(t, l, roundOf(series, now, float64(i)), now); out.Kept.Samples != 10_000 {
					t.Fatalf("%+v", out)
				}
				if i%10 == 0 {
					l.Sync(now)
				}
			}
			s := l.Stats()
			if s.Waiting.Add(c.lost(s.Lost)).Samples != rounds*10_000 || s.Waiting.Samples < 200_000 || l.waiting.bytes > maxWaitingBytes {
				t.Errorf("waiting %+v, lost %+v, %d bytes", s.Waiting, s.Lost, l.waiting.bytes)
			}
			d.failing(nil)
			mustSync(t, l, now)
			got, _, _ := readFrom(t, l, Position{})
			if len(got) != int(s.Waiting.Samples) || got[len(got)-1].V != rounds-1+9999 {
				t.Errorf("%d samples are read, %d waited", len(got), s.Waiting.Samples)
			}
			for _, line := range []string{"cannot be written", "is written again"} {
				if n := strings.Count(logged.String(), line); n != 1 {
					t.Errorf("%q was said %d times:\n%s", line, n, logged)
				}
			}
			for _, s := range series {
				l.Release(s)
				if s.users != 0 {
					t.Fatalf("%s has %d users left", s.labels, s.users)
				}
			}
		})
	}
}

// TestWaitingAtTheEnd holds that what cannot be written until Close is said to
// be lost, and that every kind waits as it was.
func TestWaitingAtTheEnd(t *testing.T) {
	d := newDisk(1)
	logged := &strings.Builder{}
	o := Options{Path: t.TempDir(), FS: d, Logger: textLogger(logged)}
	l := openTest(t, o)
	s := testSeries(l, 1)[0]
	h := &histogram.Histogram{Schema: 1, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}
	want := h.Copy()
	d.failing(map[string]error{opAppend: unix.ENOSPC})
	round := &Round{
		Samples:    []Sample{{Series: s, T: 1, V: 1}, {Series: s, T: 1, V: 9}},
		Histograms: []Histogram{{Series: s, T: 2, H: h}},
		Exemplars:  []Exemplar{{Series: s, T: 3, V: 1}},
	}
	out := mustAppend(t, l, round, testStart)
	if (out != Appended{Kept: Totals{1, 1, 1}, Refused: Totals{Samples: 1}}) {
		t.Fatalf("%+v", out)
	}
	h.PositiveBuckets[0] = 77
	d.failing(nil)
	mustSync(t, l, testStart)
	if s := l.Stats(); s.Appended != (Totals{1, 1, 1}) || s.Refused != (Totals{Samples: 1}) {
		t.Errorf("%+v", s)
	}
	r := l.Reader(Position{})
	defer r.Close()
	var f Frame
	if err := r.Next(&f); err != nil || !f.Histograms[0].H.Equals(want) {
		t.Errorf("%v, %v", f.Histograms, err)
	}
	d.failing(map[string]error{opAppend: unix.ENOSPC})
	mustAppend(t, l, roundOf([]*Series{s}, testStart, 0), testStart)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if text := "what waited in memory is lost\" samples=1"; !strings.Contains(logged.String(), text) {
		t.Errorf("%q is not in %s", text, logged)
	}
	if lost := fmt.Sprint(l.lost.NoSpace.Samples); lost != "1" {
		t.Errorf("%s lost", lost)
	}
}
