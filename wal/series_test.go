package wal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"
)

// remembered is how many series the log has no handle of and still knows the
// last time of.
func remembered(l *Log) int {
	return len(l.series.released.young.times) + len(l.series.released.old.times)
}

// TestForgottenAfterAClockJump sets the clock ahead for some rounds and back:
// released series are forgotten as before.
func TestForgottenAfterAClockJump(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	now := testStart
	round := func(n int, at time.Time) {
		s := l.Series(testLabels(n), Metadata{})
		mustAppend(t, l, roundOf([]*Series{s}, at, 1), at)
		l.Release(s)
	}
	for i := range 5 {
		round(i, now.AddDate(1, 0, i))
	}
	for i := range 500 {
		now = now.Add(time.Minute)
		round(10+i, now)
	}
	if n := l.Stats().Series + remembered(l); n > 32 {
		t.Errorf("%d series are remembered", n)
	}
}

// TestSeriesAreInterned holds when a series has its handle and when no more
// than its time is remembered.
func TestSeriesAreInterned(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	a := testSeries(l, 1)[0]
	if testSeries(l, 1)[0] != a {
		t.Error("the same labels gave two handles")
	}
	now := testStart
	mustAppend(t, l, roundOf([]*Series{a}, now, 0), now)
	l.Release(a)
	l.Release(a)
	other := l.Series(testLabels(1), Metadata{})
	pass := func(d time.Duration) {
		now = now.Add(d)
		mustAppend(t, l, roundOf([]*Series{other}, now, 0), now)
	}
	pass(time.Second)
	if testSeries(l, 1)[0] != a {
		t.Fatal("another handle in the same segment")
	}
	pass(2 * rememberFor) // it has a user now
	if testSeries(l, 1)[0] != a {
		t.Fatal("another handle while there was a user")
	}
	l.Release(a)
	l.Release(a)
	if got := l.Stats().Series; got != 2 {
		t.Errorf("%d handles, released in a later segment than they were used in", got)
	}
	for _, passed := range []time.Duration{0, rememberFor - time.Second, 2*rememberFor + time.Second} {
		pass(passed)
		if got := l.Stats().Series; got != 1 {
			t.Errorf("%d handles", got)
		}
		back := testSeries(l, 1)[0]
		if back == a {
			t.Error("the old handle")
		}
		if out := mustAppend(t, l, roundOf([]*Series{back}, testStart, 0), now); !out.Appended.IsZero() {
			t.Errorf("went back in time: %+v", out)
		}
		l.Release(back)
	}
	pass(rememberFor)
	pass(rememberFor)
	if n := remembered(l); n != 0 {
		t.Errorf("%d series are remembered", n)
	}
}

// TestChurnIsBounded appends series that live for one round each.
func TestChurnIsBounded(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	now := testStart
	for i := range 3000 {
		s := l.Series(testLabels(i), Metadata{})
		now = now.Add(10 * time.Second)
		mustAppend(t, l, roundOf([]*Series{s}, now, 0), now)
		l.Release(s)
	}
	limit := int(rememberFor/(10*time.Second)) + 1
	if got := l.Stats().Series; got > limit || len(l.series.byHash) > limit || remembered(l) > 2*limit {
		t.Errorf("%d handles, %d more remembered, want at most %d and twice as many", got, remembered(l), limit)
	}
}

// TestNeverAppendedLeavesNothing releases what was learnt from pages that
// failed before their end.
func TestNeverAppendedLeavesNothing(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	kept := testSeries(l, 1)[0]
	for i := range 50 {
		mustAppend(t, l, roundOf([]*Series{kept}, testStart.Add(time.Duration(i)), 0), testStart)
		for n := range 100 {
			l.Release(l.Series(testLabels(1000*i+n+1), Metadata{Help: "Of a page."}))
		}
	}
	if l.series.len != 1 || len(l.series.byHash) != 1 || l.series.idle != 0 || remembered(l) != 0 {
		t.Errorf("%d handles of %d bytes, %d more remembered", l.series.len, l.series.idle, remembered(l))
	}
}

// TestLongLabelsSealSegments churns through labels that compress to nearly
// nothing: the open segment has no more of them than memory allows.
func TestLongLabelsSealSegments(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	now := testStart
	long := strings.Repeat("y", 1<<20)
	for page := range 12 {
		now = now.Add(time.Second)
		var series []*Series
		for i := range 10 {
			series = append(series, l.Series(labels.FromStrings("__name__", "a", "g", fmt.Sprint(page), "n", fmt.Sprint(i), "x", long), Metadata{}))
		}
		if out := mustAppend(t, l, roundOf(series, now, 0), now); out.Appended.Samples != 10 {
			t.Fatalf("%+v", out)
		}
		for _, s := range series {
			l.Release(s)
		}
		if l.series.idle > maxIdle+11<<20 || l.series.len > 50 {
			t.Fatalf("page %d: %d series of %d bytes without users", page, l.series.len, l.series.idle)
		}
	}
	if s := l.Stats(); s.Segments < 3 || s.Bytes > 4<<20 || remembered(l) < 50 {
		t.Errorf("%d segments, %d bytes, %d more remembered", s.Segments, s.Bytes, remembered(l))
	}
}

// TestUnsyncedTablesAreDropped fails every sync: of the segments that wait for
// one, no more is in memory than a rewrite begins with.
func TestUnsyncedTablesAreDropped(t *testing.T) {
	d := newDisk(1)
	l := openTest(t, Options{Path: t.TempDir(), FS: d, SegmentBytes: 1})
	now := testStart
	d.failing(map[string]error{opSyncSegment: unix.EIO, opRewrite: unix.EIO})
	for i := range 20 {
		now = now.Add(time.Second)
		s := l.Series(testLabels(i), Metadata{})
		mustAppend(t, l, roundOf([]*Series{s}, now, 0), now)
		l.Release(s)
		if l.Sync(now) == nil {
			t.Fatal("synced")
		}
	}
	tables := 0
	for _, seg := range l.rolled {
		tables += len(seg.table)
	}
	if len(l.rolled) < 10 || tables > len(l.rolled)+5 {
		t.Errorf("%d entries in the tables of %d segments", tables, len(l.rolled))
	}
	d.failing(nil)
	mustSync(t, l, now)
	mustSync(t, l, now)
	if got, _, _ := readFrom(t, l, Position{}); len(got) != 20 {
		t.Errorf("%d samples", len(got))
	}
}

// TestOwnTimeAheadHoldsNobodyBack forgets series early that have times ahead of
// the clock.
func TestOwnTimeAheadHoldsNobodyBack(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1})
	l.series.released.limit = 2
	now := testStart
	for i := range 10 {
		now = now.Add(time.Second)
		s := l.Series(testLabels(i), Metadata{})
		r := roundOf([]*Series{s}, now.Add(9*time.Minute), 0)
		r.OwnTime = true
		mustAppend(t, l, r, now)
		l.Release(s)
	}
	now = now.Add(time.Second)
	if out := mustAppend(t, l, roundOf([]*Series{l.Series(testLabels(77), Metadata{})}, now, 0), now); out.Appended.Samples != 1 {
		t.Errorf("%+v, the floor is %s after the clock", out, time.UnixMilli(l.Floor()).Sub(now))
	}
}

// TestChurnModel registers, appends, releases and takes up again at random,
// with room to remember a handful. No series goes back in time, what is stamped
// now is never refused, and the bounds hold.
func TestChurnModel(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		if !t.Run("", func(t *testing.T) { testChurn(t, rand.New(rand.NewPCG(seed, 0))) }) {
			t.Fatalf("seed %d", seed)
		}
	}
}

func testChurn(t *testing.T, rng *rand.Rand) {
	const names, limit, idle, most = 200, 12, 4 << 10, 20
	l := openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1 << (10 + rng.IntN(5))})
	l.series.released.limit, l.series.maxIdle = limit, idle
	last := map[string]int64{} // of everything ever appended
	var held []*Series
	now := testStart
	for step := range 1500 {
		now = now.Add(time.Duration(1+rng.IntN(2000)) * time.Millisecond)
		if rng.IntN(100) == 0 {
			now = now.Add(rememberFor)
		}
		for len(held) < most && rng.IntN(3) > 0 {
			held = append(held, l.Series(testLabels(rng.IntN(names)), Metadata{}))
		}
		if len(held) == 0 {
			continue
		}
		r := &Round{OwnTime: rng.IntN(6) == 0}
		late := rng.IntN(3) == 0
		used := slices.Clone(held[rng.IntN(len(held)):])
		for i, s := range used {
			if slices.Contains(used[:i], s) {
				continue
			}
			at := now.UnixMilli()
			if late || r.OwnTime {
				at -= int64(rng.IntN(30_000))
			}
			r.Samples = append(r.Samples, Sample{Series: s, T: at})
		}
		type known struct {
			at int64
			ok bool
		}
		before := map[*Series]known{}
		for _, s := range r.Samples {
			at, ok := l.Last(s.Series.Labels())
			before[s.Series] = known{at, ok}
		}
		out, wanted := mustAppend(t, l, r, now), 0
		for _, s := range r.Samples {
			name := s.Series.Labels().String()
			newest, appended := last[name]
			switch b := before[s.Series]; {
			case b.ok && b.at != newest:
				t.Fatalf("step %d: the log has %d of %s, it was appended at %d", step, b.at, name, newest)
			case b.ok && s.T > b.at, !b.ok && (s.T > l.Floor() || r.OwnTime):
				if appended && s.T <= newest && !r.OwnTime {
					t.Fatalf("step %d: %s went back from %d to %d", step, name, newest, s.T)
				}
				wanted++
				last[name] = s.T
			case !late && !r.OwnTime:
				t.Fatalf("step %d: %s is stamped now and refused", step, name)
			}
		}
		if int(out.Appended.Samples) != wanted {
			t.Fatalf("step %d: %+v of %d, want %d", step, out, len(r.Samples), wanted)
		}
		held = slices.DeleteFunc(held, func(s *Series) bool {
			gone := rng.IntN(3) == 0
			if gone {
				l.Release(s)
			}
			return gone
		})
		g := &l.series.released
		if len(g.young.times) > limit || len(g.old.times) > limit || l.series.idle < 0 || l.series.idle > idle+most*(seriesBase+200) {
			t.Fatalf("step %d: %d and %d are remembered, %d bytes without users", step, len(g.young.times), len(g.old.times), l.series.idle)
		}
		if l.series.len != len(l.series.byHash) || l.series.len > len(held)+idle/seriesBase+most {
			t.Fatalf("step %d: %d handles, %d by hash, %d in use", step, l.series.len, len(l.series.byHash), len(held))
		}
		if rng.IntN(20) == 0 {
			mustSync(t, l, now)
		}
	}
}
