package wal

import (
	"os"
	"testing"
	"time"
)

// TestVanished removes segments from under a running log: appends and syncs go
// on, what follows survives a start, and each sample is read or counted.
func TestVanished(t *testing.T) {
	for name, vanish := range map[string]func(l *Log) error{
		"the folder":         func(l *Log) error { return os.RemoveAll(segmentsFolder(l.o.Path)) },
		"the newest segment": func(l *Log) error { return os.Remove(l.segmentPath(l.end.Segment)) },
		"all segments": func(l *Log) error {
			if err := os.RemoveAll(segmentsFolder(l.o.Path)); err != nil {
				return err
			}
			return os.Mkdir(segmentsFolder(l.o.Path), 0o750)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir, SegmentAge: 2 * time.Second})
			if _, err := l.Cursor("mimir", StartOldest); err != nil {
				t.Fatal(err)
			}
			now := testStart
			rounds := func(n int) {
				for range n {
					now = now.Add(time.Second)
					mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
				}
			}
			rounds(5)
			mustSync(t, l, now)
			r := l.Reader(Position{})
			defer r.Close()
			var f Frame
			if err := r.Next(&f); err != nil {
				t.Fatal(err)
			}
			if err := vanish(l); err != nil {
				t.Fatal(err)
			}
			rounds(1)
			mustSync(t, l, now)
			rounds(4)
			mustSync(t, l, now)
			if got, want := l.Stats().Bytes, diskUsage(t, dir); got != want {
				t.Errorf("%d bytes, %d on disk", got, want)
			}
			check := func(when string, got []readSample, evicted, damaged Totals) {
				t.Helper()
				if n := uint64(len(got)); n < 40 || evicted.Add(damaged).Samples+n != 100 || evicted.Add(damaged).IsZero() {
					t.Errorf("%s: read %d, evicted %+v, damaged %+v of 100", when, n, evicted, damaged)
				}
			}
			got, evicted, damaged := readAll(t, r)
			check("the reader that was there", append(got, make([]readSample, 10)...), evicted, damaged)
			got, evicted, damaged = readFrom(t, l, Position{})
			check("another", got, evicted, damaged)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, Options{Path: dir})
			got, evicted, damaged = readFrom(t, l, Position{})
			check("after a start", got, evicted, damaged)
		})
	}
}
