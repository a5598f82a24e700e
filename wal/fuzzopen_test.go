package wal

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"
)

// FuzzOpen puts any bytes into any place of any file of a log. It opens, reads
// to the end, goes on, and loses no sample of another segment.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(0), uint16(0), []byte{})
	f.Add(uint8(1), uint16(84), []byte("\xf7s2m and no frame"))
	f.Add(uint8(2), uint16(20), make([]byte, 300))
	f.Add(uint8(3), uint16(8), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint8(0), uint16(200), goldenFrames(f))

	const segments, rounds, size = 3, 2, 3
	good := newDisk(1)
	o := Options{Path: f.TempDir(), FS: good, SegmentAge: rounds * time.Second}
	l := openTest(f, o)
	if _, err := l.Cursor("mimir", StartEnd); err != nil {
		f.Fatal(err)
	}
	now := testStart
	for i := range segments * rounds {
		mustAppend(f, l, roundOf(testSeries(l, size), now, float64(10*i)), now)
		now = now.Add(time.Second)
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	paths := slices.Sorted(maps.Keys(good.files))
	o.MaxAge, o.MinFree = 1<<62, -1

	f.Fuzz(func(t *testing.T, which uint8, at uint16, b []byte) {
		d := good.copy()
		damaged := paths[int(which)%len(paths)]
		d.files[damaged].change(diskChange{int64(at), append([]byte{}, b...)})
		o := o
		o.FS = d
		l, err := Open(context.Background(), o, now)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.Cursor("mimir", StartOldest); err != nil {
			t.Fatal(err)
		}
		if out := mustAppend(t, l, roundOf(testSeries(l, size), now, 100), now); out.Appended.Samples != size {
			t.Fatalf("%+v", out)
		}
		mustSync(t, l, now)
		got, _, _ := readFrom(t, l, Position{})
		for i := range segments * rounds {
			first := uint64(i/rounds*rounds + 1)
			if damaged == segmentPath(o.Path, first) {
				continue
			}
			if !slices.ContainsFunc(got, func(s readSample) bool { return s.V == float64(10*i+size-1) }) {
				t.Errorf("round %d is lost, which is in another segment", i)
			}
		}
	})
}
