package wal

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRecovery damages a log of three segments, opens it, appends, and says
// what is left. Each round is one sample of ten series; the first segment has
// rounds 0 to 3, the second 4 to 7, both sealed, the third 8 to 11.
func TestRecovery(t *testing.T) {
	const rounds, last = 12, 2 // last is the index of the newest segment
	frameAt := func(b []byte, n int) int {
		off := segmentHeaderSize
		for range n {
			h, err := decodeFrameHeader(b[off:])
			if err != nil {
				t.Fatal(err)
			}
			off += h.size()
		}
		return off
	}
	zeroFrame := func(n int) func(b []byte) []byte {
		return func(b []byte) []byte {
			clear(b[frameAt(b, n):][:frameHeaderSize])
			return b
		}
	}
	flipInFrame := func(n int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[frameAt(b, n)+frameHeaderSize+3] ^= 0x10
			return b
		}
	}
	cutAfter := func(n, more int) func(b []byte) []byte {
		return func(b []byte) []byte { return b[:frameAt(b, n)+more] }
	}
	for name, c := range map[string]struct {
		segment int
		damage  func(b []byte) []byte
		left    int    // samples that can be read, of 120
		damaged uint64 // samples that a reader counts as damaged
		lost    uint64 // samples that the totals fall back by
	}{
		"nothing":                                  {last, func(b []byte) []byte { return b }, 120, 0, 0},
		"tail torn in a payload":                   {last, cutAfter(3, frameHeaderSize+5), 110, 0, 10},
		"tail torn in a header":                    {last, cutAfter(3, 20), 110, 0, 10},
		"tail of zeros":                            {last, func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, 120, 0, 0},
		"tail of rubbish":                          {last, func(b []byte) []byte { return append(b, "÷s2mrubbish"...) }, 120, 0, 0},
		"only the header left":                     {last, cutAfter(0, 0), 80, 0, 40},
		"half of the header left":                  {last, func(b []byte) []byte { return b[:50] }, 80, 0, 40},
		"an empty file":                            {last, func([]byte) []byte { return nil }, 80, 0, 40},
		"a file of zeros":                          {last, func(b []byte) []byte { clear(b); return b }, 80, 0, 40},
		"newest header damaged":                    {last, func(b []byte) []byte { b[20] ^= 1; return b }, 120, 0, 0},
		"newest preamble damaged":                  {last, func(b []byte) []byte { b[0] ^= 1; return b }, 120, 0, 0},
		"bit flipped in the middle of newest":      {last, flipInFrame(1), 110, 10, 0},
		"first frame of newest, with its series":   {last, flipInFrame(0), 80, 40, 0},
		"sealed segment, bit flipped":              {1, flipInFrame(2), 110, 10, 0},
		"sealed segment, zeros, table brings back": {1, zeroFrame(0), 110, 10, 0},
		"sealed segment, its table":                {1, flipInFrame(4), 120, 0, 0},
		"sealed segment, header":                   {1, func(b []byte) []byte { b[20] ^= 1; return b }, 120, 0, 0},
		"sealed segment, cut in the middle":        {1, cutAfter(2, 30), 100, 20, 0},
		"sealed segment, all zeros":                {1, func(b []byte) []byte { clear(b); return b }, 80, 40, 0},
		"sealed segment, empty":                    {1, func([]byte) []byte { return nil }, 80, 40, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir, SegmentAge: 4 * time.Second})
			series := testSeries(l, 10)
			now := testStart
			for i := range rounds {
				mustAppend(t, l, roundOf(series, now, float64(i)), now)
				now = now.Add(time.Second)
			}
			if got := len(l.segments); got != last+1 {
				t.Fatalf("%d segments", got)
			}
			path := l.segmentPath(l.segments[c.segment].first)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.damage(b), 0o640); err != nil {
				t.Fatal(err)
			}

			// Twice: what Open does must hold, and opening again must change nothing.
			for range 2 {
				l = openTest(t, Options{Path: dir, SegmentAge: time.Hour})
				if got := l.Stats().Appended.Samples; got != rounds*10-c.lost {
					t.Errorf("totals %d, want %d", got, rounds*10-c.lost)
				}
				if got, want := diskUsage(t, dir), l.Stats().Bytes; got != want {
					t.Errorf("%d bytes on disk, Stats says %d", got, want)
				}
				r := l.Reader(Position{})
				got, evicted, damaged := readAll(t, r)
				// What is missing at the end is known when something follows it.
				trailing := rounds*10 - c.lost - uint64(len(got)) - damaged.Samples
				if len(got) != c.left || damaged.Samples+trailing != c.damaged || !evicted.IsZero() {
					t.Errorf("read %d, damaged %d and %d at the end, evicted %+v; want %d and %d",
						len(got), damaged.Samples, trailing, evicted, c.left, c.damaged)
				}
				r.Close()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			l = openTest(t, Options{Path: dir})
			series = testSeries(l, 11)
			// Nothing may go back before what was lost.
			if out := mustAppend(t, l, roundOf(series, testStart, 0), now); !out.Appended.IsZero() {
				t.Errorf("samples below the floor: %+v", out)
			}
			mustAppend(t, l, roundOf(series, now, 100), now)
			mustSync(t, l, now)
			got, evicted, damaged := readFrom(t, l, Position{})
			if len(got) != c.left+11 || damaged.Samples != c.damaged || !evicted.IsZero() {
				t.Errorf("after an append: read %d, damaged %+v, evicted %+v; want %d and %d", len(got), damaged, evicted, c.left+11, c.damaged)
			}
		})
	}
}

// TestSegmentOfANewerVersion holds that it is left as it is, and that the log
// goes on behind it.
func TestSegmentOfANewerVersion(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	mustAppend(t, l, roundOf(testSeries(l, 5), testStart, 0), testStart)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	newer := append([]byte(segmentMagic), 2, 0, 0, 0)
	newer = binary.LittleEndian.AppendUint32(newer, crc32.Checksum(newer, castagnoli))
	newer = append(newer, "what this is only a newer version knows"...)
	path := segmentPath(dir, 2)
	if err := os.WriteFile(path, newer, 0o640); err != nil {
		t.Fatal(err)
	}
	now := testStart
	for i := range 3 {
		logged := &strings.Builder{}
		l = openTest(t, Options{Path: dir, Logger: textLogger(logged)})
		if n := strings.Count(logged.String(), path); n != 1 {
			t.Errorf("named %d times:\n%s", n, logged)
		}
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 5), now, float64(i)), now)
		mustSync(t, l, now)
		if s := l.Stats(); s.NewerSegments != 1 || s.Segments != 2 || l.end.Seq <= 2+uint64(len(newer)) {
			t.Errorf("%+v, seq %d", s, l.end.Seq)
		}
		for how, read := range map[string]func() ([]readSample, Totals, Totals){
			"log":    func() ([]readSample, Totals, Totals) { return readFrom(t, l, Position{}) },
			"folder": func() ([]readSample, Totals, Totals) { return readFolderAt(t, dir) },
		} {
			got, evicted, damaged := read()
			if len(got) != 5*(i+2) || !evicted.IsZero() || !damaged.IsZero() {
				t.Errorf("%s: read %d, evicted %+v, damaged %+v", how, len(got), evicted, damaged)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Those behind it are removed when they have been passed; it is not.
	l = openTest(t, Options{Path: dir, SegmentAge: time.Second})
	now = now.Add(time.Minute)
	mustAppend(t, l, roundOf(testSeries(l, 5), now, 0), now)
	if _, err := l.Cursor("mimir", StartEnd); err != nil {
		t.Fatal(err)
	}
	mustSync(t, l, now)
	if s := l.Stats(); s.NewerSegments != 1 || s.Segments != 1 {
		t.Errorf("passed: %+v", s)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != string(newer) {
		t.Errorf("the segment was changed: %v", err)
	}
}

// TestFloorWithoutHeader damages the header of a newest segment that has only
// own times: the floor is that of the segment before.
func TestFloorWithoutHeader(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 1})
	series := testSeries(l, 2)
	mustAppend(t, l, roundOf(series[:1], testStart, 0), testStart)
	own := roundOf(series[1:], testStart.Add(-time.Hour), 0)
	own.OwnTime = true
	mustAppend(t, l, own, testStart)
	path := segmentPath(dir, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[30] ^= 1
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir})
	if out := mustAppend(t, l, roundOf(testSeries(l, 2), testStart, 0), testStart); !out.Appended.IsZero() {
		t.Errorf("went back to the newest time: %+v", out)
	}
	if got := l.Stats().Appended.Samples; got != 2 {
		t.Errorf("totals %d, want 2", got)
	}
}

// TestReadFollows reads a folder without its lock while rounds are appended,
// segments rolled, and a write is only half there.
func TestReadFollows(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 2000})
	series := testSeries(l, 20)
	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 30 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(series, now, float64(i)), now)
		if i%3 == 0 {
			// As another process would see a write in the middle of it.
			half := append(binary.LittleEndian.AppendUint32(nil, frameMagic), 1, 2, 3)
			if _, err := l.open.file.WriteAt(opAppend, half, l.open.size); err != nil {
				t.Fatal(err)
			}
		}
		got, evicted, damaged := readAll(t, r)
		if len(got) != 20 || !evicted.IsZero() || !damaged.IsZero() {
			t.Fatalf("round %d: read %d, evicted %+v, damaged %+v", i, len(got), evicted, damaged)
		}
		torn := Damage{Segment: l.end.Segment, From: l.end.Offset, To: math.MaxInt64}
		if d, ok := r.Torn(); ok != (i%3 == 0) || ok && d != torn {
			t.Errorf("round %d: torn %+v, %t; want %+v", i, d, ok, torn)
		}
	}
}

// TestOnlyTheEndIsCut damages the end of a segment before the newest, whose
// header says nothing: it stays as it is, and what is missing is counted.
func TestOnlyTheEndIsCut(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 1})
	for i := range 2 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	size := l.segments[0].size
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := damageCase{t, dir}
	c.edit(c.segment(1), zero(segmentHeaderSize, 1<<20))
	c.edit(c.segment(2), zero(0, segmentHeaderSize))
	l = openTest(t, Options{Path: dir})
	if l.segments[0].size != size || len(readSegment(t, l, 1)) != int(size) {
		t.Errorf("%d bytes are left of %d", len(readSegment(t, l, 1)), size)
	}
	if got, _, damaged := readFrom(t, l, Position{}); len(got) != 10 || damaged.Samples != 10 {
		t.Errorf("%d samples read, damaged %+v", len(got), damaged)
	}
}

// TestContinued holds in which state of the newest segment appends go on in it.
func TestContinued(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b []byte) []byte
		sealed bool
		want   bool
	}{
		"whole":               {damage: func(b []byte) []byte { return b }, want: true},
		"torn":                {damage: func(b []byte) []byte { return b[:len(b)-3] }, want: true},
		"sealed":              {damage: func(b []byte) []byte { return b }, sealed: true},
		"without its header":  {damage: zero(0, 50)},
		"damaged in a frame":  {damage: flip(200)},
		"of which all is bad": {damage: zero(0, 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir})
			now := testStart
			for range 3 {
				now = now.Add(time.Second)
				mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
			}
			if c.sealed {
				mustSync(t, l, now.Add(time.Hour))
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			damageCase{t, dir}.edit(segmentPath(dir, 1), c.damage)
			l = openTest(t, Options{Path: dir})
			now = now.Add(time.Second)
			mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
			if got := l.end.Segment == 1; got != c.want {
				t.Errorf("appends go on in segment %d", l.end.Segment)
			}
		})
	}
}
