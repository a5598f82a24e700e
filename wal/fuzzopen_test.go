package wal

import (
	"context"
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
	f.Fuzz(func(t *testing.T, which uint8, at uint16, b []byte) {
		d := newDisk(1)
		o := Options{Path: t.TempDir(), FS: d, SegmentAge: 2 * time.Second}
		l := openTest(t, o)
		if _, err := l.Cursor("mimir", StartEnd); err != nil {
			t.Fatal(err)
		}
		now := testStart
		for i := range 6 {
			mustAppend(t, l, roundOf(testSeries(l, 3), now, float64(10*i)), now)
			now = now.Add(time.Second)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var paths []string
		for path := range d.files {
			paths = append(paths, path)
		}
		slices.Sort(paths)
		damaged := d.files[paths[int(which)%len(paths)]]
		damaged.change(diskChange{int64(at), append([]byte{}, b...)})

		o.MaxAge, o.MinFree = 1<<62, -1
		l, err := Open(context.Background(), o, now)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.Cursor("mimir", StartOldest); err != nil {
			t.Fatal(err)
		}
		if out := mustAppend(t, l, roundOf(testSeries(l, 3), now, 100), now); out.Appended.Samples != 3 {
			t.Fatalf("%+v", out)
		}
		mustSync(t, l, now)
		got, _, _ := readFrom(t, l, Position{})
		for first := range 3 { // segments of two rounds
			if damaged == d.files[segmentPath(o.Path, uint64(2*first+1))] {
				continue
			}
			for i := 2 * first; i < 2*first+2; i++ {
				if !slices.ContainsFunc(got, func(s readSample) bool { return s.V == float64(10*i+2) }) {
					t.Errorf("round %d is lost, which is in another segment", i)
				}
			}
		}
	})
}
