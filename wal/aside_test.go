package wal

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDowngradeAndUpgrade lets a newer version write, the older one go on
// behind it, and the newer one come back: what it had written is read by every
// endpoint, and the accounts of each are whole at every step.
func TestDowngradeAndUpgrade(t *testing.T) {
	dir := t.TempDir()
	now := testStart
	type endpoint struct {
		cursor        *Cursor
		read, damaged Totals
		samples       []readSample
	}
	endpoints := map[string]*endpoint{"quick": {}, "slow": {}}
	var l *Log
	start := func(version uint32, fs FileSystem) {
		t.Helper()
		if l != nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		l = openTest(t, Options{Path: dir, version: version, SegmentAge: 3 * time.Second, FS: fs})
		for name, e := range endpoints {
			var err error
			if e.cursor, err = l.Cursor(name, StartOldest); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(rounds int, v float64) {
		t.Helper()
		for range rounds {
			now = now.Add(time.Second)
			mustAppend(t, l, roundOf(testSeries(l, 10), now, v), now)
		}
		mustSync(t, l, now)
	}
	read := func(name string, frames int) {
		t.Helper()
		e := endpoints[name]
		r := l.Reader(e.cursor.Position())
		defer r.Close()
		var f Frame
		for ; frames > 0 && r.Next(&f) == nil; frames-- {
			e.read, e.damaged = e.read.Add(f.Counts), e.damaged.Add(f.Damaged)
			for _, s := range f.Samples {
				e.samples = append(e.samples, readSample{f.Series[s.Ref].Labels.String(), s.T, s.V})
			}
			if err := e.cursor.Save(f.Position, nil); err != nil {
				t.Fatal(err)
			}
			if sum := e.read.Add(e.damaged); sum != f.Position.Totals || !f.Evicted.IsZero() {
				t.Fatalf("%s: read %+v, damaged %+v, evicted %+v, position %+v", name, e.read, e.damaged, f.Evicted, f.Position)
			}
		}
	}
	start(1, nil)
	write(4, 100)
	read("quick", 3)
	start(2, nil) // the upgrade
	now = now.Add(time.Minute)
	write(8, 200)
	read("quick", 6) // into the newer segments
	read("slow", 2)
	start(1, nil) // the downgrade
	if s := l.Stats(); s.NewerSegments != 3 {
		t.Fatalf("%+v", s)
	}
	write(4, 300)
	read("quick", 100)
	read("slow", 3)
	start(1, nil)
	write(1, 400)
	before := l.Stats().Appended

	// The newer version is back, and the disk is full at first.
	spy := &spyFS{calls: map[string]int{}}
	start(2, spy)
	spy.fail(map[string]error{opAppend: unix.ENOSPC, opCreate: unix.ENOSPC})
	for range 3 {
		l.Sync(now) // the error is that of the disk
	}
	spy.fail(nil)
	for range 4 {
		now = now.Add(time.Second)
		mustSync(t, l, now)
	}
	if s := l.Stats(); s.NewerSegments != 0 || !s.Refused.IsZero() || s.Appended.Sub(before).Samples != 80 || !s.Lost.total().IsZero() {
		t.Errorf("%+v, appended before %+v", s, before)
	}
	write(1, 500)
	for name, e := range endpoints {
		read(name, 100)
		count := map[float64]int{}
		for _, s := range e.samples {
			count[float64(int(s.V)/100*100)]++
		}
		// Of the newer segments quick had five rounds before, and has them twice.
		want := map[float64]int{100: 40, 200: 80, 300: 40, 400: 10, 500: 10}
		if name == "quick" {
			want[200] += 50
		}
		for v, n := range want {
			if count[v] != n {
				t.Errorf("%s has %d samples of %v, want %d", name, count[v], v, n)
			}
		}
		if sum := e.read.Add(e.damaged); sum != l.Stats().Appended {
			t.Errorf("%s: read %+v, damaged %+v, appended %+v", name, e.read, e.damaged, l.Stats().Appended)
		}
	}
	for _, s := range l.segments {
		if _, err := os.Stat(l.segmentPath(s.first)); err != nil || s.stepped {
			t.Errorf("segment %+v: %v", s, err)
		}
	}
}
