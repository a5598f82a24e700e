package wal

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestBytesAfter reads a log of many segments frame by frame, and holds what
// Stats says is left against the files, also after a restart and while the
// oldest segments are removed.
func TestBytesAfter(t *testing.T) {
	dir := t.TempDir()
	o := Options{Path: dir, SegmentBytes: 16 << 10}
	l := openTest(t, o)
	start := l.Stats().Oldest
	now := testStart
	fill := func(rounds int) {
		series := testSeries(l, 300)
		for range rounds {
			now = now.Add(time.Second)
			mustAppend(t, l, roundOf(series, now, float64(now.Unix())), now)
			checkBytesAfter(t, l, start)
		}
		mustSync(t, l, now)
	}
	fill(40)
	readBeside := func() {
		r := l.Reader(start)
		defer r.Close()
		var f Frame
		for {
			err := r.Next(&f)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			checkBytesAfter(t, l, f.Position)
		}
		if s := l.Stats(); f.Position.Totals != s.Appended || s.BytesAfter(f.Position) != 0 {
			t.Errorf("%d bytes after the last frame, %+v of %+v", s.BytesAfter(f.Position), f.Position.Totals, s.Appended)
		}
	}
	readBeside()

	// The newest segment is sealed: its table comes after its last frame.
	now = now.Add(time.Hour)
	mustSync(t, l, now)
	readBeside()

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, o)
	readBeside()
	fill(3)
	readBeside()
	if l.Stats().Segments < 3 {
		t.Fatalf("the test is too tame: %d segments", l.Stats().Segments)
	}
	for range 2 {
		l.mu.Lock()
		l.evict("max_bytes")
		l.publish()
		l.mu.Unlock()
		checkBytesAfter(t, l, start)
	}
}

// checkBytesAfter adds up the files.
func checkBytesAfter(t *testing.T, l *Log, p Position) {
	t.Helper()
	first, err := listSegments(l.fs, l.o.Path)
	if err != nil {
		t.Fatal(err)
	}
	s := l.Stats()
	var want int64
	for _, name := range first {
		info, err := os.Stat(segmentPath(l.o.Path, name))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p.Totals == s.Appended:
		case name > p.Segment:
			want += info.Size()
		case name == p.Segment:
			want += info.Size() - p.Offset
		}
	}
	if got := s.BytesAfter(p); got != want {
		t.Errorf("%d bytes after %+v, the files have %d", got, p, want)
	}
}
