package wal

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests hold what the log keeps of itself beside its frames: sizes,
// names, tables and the floor, after what goes wrong with a file.

// checkBooks compares what the log says of its size with the folder, and
// expects nothing behind its end.
func checkBooks(t *testing.T, l *Log) {
	t.Helper()
	s := l.Stats()
	if usage := diskUsage(t, l.o.Path); s.Bytes != usage {
		t.Errorf("the log counts %d bytes, the folder has %d", s.Bytes, usage)
	}
	r := l.Reader(Position{})
	defer r.Close()
	var f Frame
	for r.Next(&f) == nil {
	}
	if n := s.BytesAfter(f.Position); n != 0 {
		t.Errorf("%d bytes are behind the last frame", n)
	}
}

// TestBooksAfterRewrite fails the sync of a segment of which a part is synced:
// the second try makes a segment of the rest, and its name is synced.
func TestBooksAfterRewrite(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy})
	now := testStart
	for _, seal := range []bool{false, true} {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
		mustSync(t, l, now)
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 20), now, 0), now)
		spy.fail(map[string]error{opSyncSegment: unix.EIO})
		if seal {
			now = now.Add(time.Hour)
		}
		if err := l.Sync(now); err == nil {
			t.Error("a sync that failed returned no error")
		}
		spy.fail(nil)
		spy.took()
		mustSync(t, l, now)
		if calls := spy.took(); calls[opRename] != 1 || calls[opSyncFolder] != 1 {
			t.Errorf("what was written again cost %v", calls)
		}
		checkBooks(t, l)
		last := l.segments[len(l.segments)-1]
		b := readSegment(t, l, last.first)
		newest, err := decodeFrameHeader(b[lastOffset(b):])
		if err != nil {
			t.Fatal(err)
		}
		if newest.isTable() != seal {
			t.Errorf("sealed: %t, it ends with its series table: %t", seal, newest.isTable())
		}
	}
}

// TestBooksAfterTornWrite tears a write, and the table of a seal: what could
// not be cut off counts, and what could is gone.
func TestBooksAfterTornWrite(t *testing.T) {
	for name, faults := range map[string]map[string]error{
		"a round":                     {opAppend: fault{bytes: 100}},
		"a round that stays":          {opAppend: fault{frames: 1, bytes: 100}, opCutWrite: unix.EIO},
		"a series table":              {opSeal: fault{bytes: 100}},
		"a table after a whole frame": {opSeal: fault{frames: 1, bytes: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			spy := &spyFS{calls: map[string]int{}}
			l := openTest(t, Options{Path: t.TempDir(), FS: spy, SegmentAge: time.Minute})
			now := testStart
			mustAppend(t, l, roundOf(testSeries(l, 3000), now, 0), now)
			mustSync(t, l, now)
			spy.fail(faults)
			now = now.Add(time.Second)
			mustAppend(t, l, roundOf(testSeries(l, 3000), now, 0), now)
			mustSync(t, l, now.Add(time.Hour))
			spy.fail(nil)
			now = now.Add(time.Hour)
			mustSync(t, l, now)
			if usage := diskUsage(t, l.o.Path); l.Stats().Bytes != usage {
				t.Errorf("the log counts %d bytes, the folder has %d", l.Stats().Bytes, usage)
			}
		})
	}
}

// TestRoomBeforeWrite holds that the bound is kept at every moment, and not
// only when a round is written.
func TestRoomBeforeWrite(t *testing.T) {
	const bound = 64 << 10
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, MaxBytes: bound, Sync: SyncNever})
	spy.on(func(op string) error {
		if op == opAppend && l.bytes+l.others+int64(len(l.enc.out)) > bound {
			t.Errorf("%d bytes are written beside %d", len(l.enc.out), l.bytes+l.others)
		}
		return nil
	})
	now := testStart
	series := testSeries(l, 300)
	for i := range 100 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, float64(i*i)/7), now)
		mustSync(t, l, now)
	}
	if l.Stats().Evicted.IsZero() {
		t.Error("the bound was never reached")
	}
}

// TestFloor holds that the floor is the largest time there was, whatever the
// order of the rounds, and that times from the data do not count.
func TestFloor(t *testing.T) {
	o := Options{Path: t.TempDir()}
	l := openTest(t, o)
	series := testSeries(l, 3)
	mustAppend(t, l, roundOf(series[:1], testStart.Add(time.Minute), 0), testStart)
	mustAppend(t, l, roundOf(series[1:2], testStart, 0), testStart)
	own := roundOf(series[2:], testStart.Add(time.Hour), 0)
	own.OwnTime = true
	mustAppend(t, l, own, testStart)
	for range 2 { // and after a restart
		if want := testStart.Add(time.Minute).UnixMilli(); l.floor != want {
			t.Errorf("the floor is %d, want %d", l.floor, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, o)
	}
}

// TestDamageInEachSegment damages the first frame of segments one after the
// other: each gets its series from its own table, and loses no other frame.
func TestDamageInEachSegment(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), SegmentAge: 2 * time.Second})
	now := testStart
	for range 6 {
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
		now = now.Add(time.Second)
	}
	mustSync(t, l, now.Add(time.Hour))
	c := damageCase{t: t, dir: l.o.Path}
	for _, first := range []uint64{1, 3, 5} {
		c.edit(c.segment(first), flip(segmentHeaderSize+frameHeaderSize+5))
	}
	if got, _, damaged := readFrom(t, l, Position{}); len(got) != 30 || damaged.Samples != 30 {
		t.Errorf("%d samples are read, %d damaged, want 30 and 30", len(got), damaged.Samples)
	}
}

// TestScanAcrossWindows finds a frame wherever its magic lies to the end of
// what a scan reads at once.
func TestScanAcrossWindows(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	mustAppend(t, l, roundOf(testSeries(l, 1), testStart, 0), testStart)
	frame := readSegment(t, l, 1)[segmentHeaderSize:]
	if !bytes.HasPrefix(frame, binary.LittleEndian.AppendUint32(nil, frameMagic)) {
		t.Fatal("the segment does not begin with a frame")
	}
	for at := readAhead - 5; at <= readAhead+1; at++ {
		path := t.TempDir() + "/segment"
		if err := os.WriteFile(path, append(make([]byte, at), frame...), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := osFileSystem{}.OpenFile(opRead, path, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := frameScanner{file: f}
		if got, err := s.next(0, int64(at+len(frame))); got != int64(at) || err != nil {
			t.Errorf("a frame at %d is found at %d, %v", at, got, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
