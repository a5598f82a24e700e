package wal

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// damageCase is a folder with six segments of two rounds of ten samples, named
// 1, 3, 5, 7, 9 and 11, the last one open, and a cursor at the beginning.
type damageCase struct {
	t   *testing.T
	dir string
}

func (c damageCase) segment(first uint64) string { return segmentPath(c.dir, first) }

func (c damageCase) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c damageCase) edit(path string, edit func(b []byte) []byte) {
	c.t.Helper()
	b, err := os.ReadFile(path)
	c.must(err)
	c.must(os.WriteFile(path, edit(b), 0o640))
}

func (c damageCase) copyTo(from, to string) {
	c.t.Helper()
	b, err := os.ReadFile(from)
	c.must(err)
	c.must(os.WriteFile(to, b, 0o640))
}

func (c damageCase) rename(from, to string) {
	c.t.Helper()
	c.must(os.Rename(from, to))
}

// TestDamage is what the log promises about files that are not as it left
// them. Whatever happened, it opens, goes on, loses no more than is said here,
// and read + damaged + evicted is what was appended.
func TestDamage(t *testing.T) {
	const rounds, size, all = 12, 10, 120
	for name, c := range map[string]struct {
		damage           func(c damageCase)
		read             int    // samples that are still there, of 120
		damaged, evicted uint64 // those that are counted as such
		fallen           uint64 // samples that the totals fall back by
		kept             bool   // bytes in the quarantine
	}{
		"nothing":                     {damage: func(c damageCase) {}, read: all},
		"a bit":                       {damage: func(c damageCase) { c.edit(c.segment(5), flip(200)) }, read: 110, damaged: 10, kept: true},
		"a bit in every sealed frame": {damage: func(c damageCase) { c.edit(c.segment(5), flip(200, 1000)) }, read: 110, damaged: 10, kept: true},
		"a zeroed block":              {damage: func(c damageCase) { c.edit(c.segment(5), zero(100, 300)) }, read: 110, damaged: 10, kept: true},
		"a zeroed header":             {damage: func(c damageCase) { c.edit(c.segment(5), zero(0, segmentHeaderSize)) }, read: all, kept: true},
		"a bit of the version":        {damage: func(c damageCase) { c.edit(c.segment(5), flip(8)) }, read: all, kept: true},
		"the oldest's header":         {damage: func(c damageCase) { c.edit(c.segment(1), flip(20)) }, read: all, kept: true},
		"the oldest's first frame":    {damage: func(c damageCase) { c.edit(c.segment(1), zero(0, 150)) }, read: 110, damaged: 10, kept: true},
		"the oldest two zeroed": {damage: func(c damageCase) {
			c.edit(c.segment(1), zero(0, 1<<20))
			c.edit(c.segment(3), zero(0, segmentHeaderSize))
		}, read: 100, damaged: 20, kept: true},
		"a file of zeros":          {damage: func(c damageCase) { c.edit(c.segment(5), zero(0, 1<<20)) }, read: 100, damaged: 20, kept: true},
		"an empty file":            {damage: func(c damageCase) { c.must(os.Truncate(c.segment(5), 0)) }, read: 100, damaged: 20},
		"a file cut in its header": {damage: func(c damageCase) { c.must(os.Truncate(c.segment(5), 30)) }, read: 100, damaged: 20, kept: true},
		"a file cut in a frame":    {damage: func(c damageCase) { c.must(os.Truncate(c.segment(5), 300)) }, read: 100, damaged: 20, kept: true},
		"rubbish behind a file": {damage: func(c damageCase) {
			c.edit(c.segment(5), func(b []byte) []byte { return append(b, "rubbish"...) })
		}, read: all},
		"the series table": {damage: func(c damageCase) { c.edit(c.segment(5), flipTable) }, read: all},
		"the series table cut off": {damage: func(c damageCase) {
			c.edit(c.segment(5), func(b []byte) []byte { return b[:tableOffset(b)] })
		}, read: all},
		"the first frame and the series table": {damage: func(c damageCase) {
			c.edit(c.segment(5), flipTable)
			c.edit(c.segment(5), flip(200))
		}, read: 100, damaged: 20, kept: true},
		"a missing file":     {damage: func(c damageCase) { c.must(os.Remove(c.segment(5))) }, read: 100, damaged: 20},
		"two missing files":  {damage: func(c damageCase) { c.must(os.Remove(c.segment(5))); c.must(os.Remove(c.segment(9))) }, read: 80, damaged: 40},
		"the oldest missing": {damage: func(c damageCase) { c.must(os.Remove(c.segment(1))) }, read: 100, evicted: 20},
		"the newest missing": {damage: func(c damageCase) { c.must(os.Remove(c.segment(11))) }, read: 100, damaged: 20},
		"all missing":        {damage: func(c damageCase) { c.must(os.RemoveAll(segmentsFolder(c.dir))) }, evicted: all},
		"all and the cursor missing": {damage: func(c damageCase) {
			c.must(os.RemoveAll(segmentsFolder(c.dir)))
			c.must(os.RemoveAll(cursorsFolder(c.dir)))
		}, fallen: all},
		"a bit of the newest frame":   {damage: func(c damageCase) { c.edit(c.segment(11), flipLast) }, read: 110, damaged: 10, kept: true},
		"the newest frame cut":        {damage: func(c damageCase) { c.edit(c.segment(11), func(b []byte) []byte { return b[:len(b)-3] }) }, read: 110, damaged: 10, kept: true},
		"the newest frame cut off":    {damage: func(c damageCase) { c.edit(c.segment(11), func(b []byte) []byte { return b[:lastOffset(b)] }) }, read: 110, damaged: 10},
		"the newest segment's frames": {damage: func(c damageCase) { c.edit(c.segment(11), zero(segmentHeaderSize, 1<<20)) }, read: 100, damaged: 20, kept: true},
		"the newest segment zeroed":   {damage: func(c damageCase) { c.edit(c.segment(11), zero(0, 1<<20)) }, read: 100, damaged: 20, kept: true},
		"the newest's header, and rubbish behind the one before": {damage: func(c damageCase) {
			c.edit(c.segment(11), zero(0, segmentHeaderSize))
			c.edit(c.segment(9), flipLast)
		}, read: all, kept: true},
		"two swapped": {damage: func(c damageCase) {
			c.rename(c.segment(3), c.segment(3)+"x")
			c.rename(c.segment(9), c.segment(3))
			c.rename(c.segment(3)+"x", c.segment(9))
		}, read: all},
		"all shifted by one": {damage: func(c damageCase) {
			for _, first := range []uint64{11, 9, 7, 5, 3, 1} {
				c.rename(c.segment(first), c.segment(first+2))
			}
		}, read: all},
		"newest swapped with oldest": {damage: func(c damageCase) {
			c.rename(c.segment(11), c.segment(11)+"x")
			c.rename(c.segment(1), c.segment(11))
			c.rename(c.segment(11)+"x", c.segment(1))
		}, read: all},
		"a start that was killed while it put names right": {damage: func(c damageCase) {
			c.rename(c.segment(5), c.segment(9)+movedSuffix+"x")
			c.rename(c.segment(9), c.segment(5)+movedSuffix)
			c.rename(c.segment(9)+movedSuffix+"x", c.segment(9)+movedSuffix)
		}, read: all},
		"a copy in between":                {damage: func(c damageCase) { c.copyTo(c.segment(3), c.segment(6)) }, read: all},
		"a copy as the newest":             {damage: func(c damageCase) { c.copyTo(c.segment(3), c.segment(90)) }, read: all},
		"a copy of the newest as the next": {damage: func(c damageCase) { c.copyTo(c.segment(11), c.segment(13)) }, read: all},
		"rubbish named as a segment": {damage: func(c damageCase) {
			c.must(os.WriteFile(c.segment(6), []byte("not a segment, whatever its name is"), 0o640))
		}, read: all, kept: true},
		"rubbish named as the newest": {damage: func(c damageCase) {
			c.must(os.WriteFile(c.segment(50), make([]byte, 5000), 0o640))
		}, read: all, kept: true},
		"rubbish with a name beyond all": {damage: func(c damageCase) {
			c.must(os.WriteFile(c.segment(math.MaxUint64), make([]byte, 5000), 0o640))
		}, read: all},
		"rubbish named as far as it goes": {damage: func(c damageCase) {
			c.must(os.WriteFile(c.segment(2*farthest-1), make([]byte, 5000), 0o640))
		}, read: all},
		"rubbish named as far as a log goes": {damage: func(c damageCase) {
			c.must(os.WriteFile(c.segment(farthest), make([]byte, 5000), 0o640))
		}, read: all, kept: true},
		"folders named as segments": {damage: func(c damageCase) {
			for _, first := range []uint64{6, 13, 50, farthest + 1} {
				c.must(os.MkdirAll(filepath.Join(c.segment(first), "in it"), 0o750))
			}
		}, read: all},
		"a link named as a segment": {damage: func(c damageCase) { c.must(os.Symlink(c.segment(3), c.segment(50))) }, read: all},
		"files that are no segments": {damage: func(c damageCase) {
			c.must(os.WriteFile(filepath.Join(segmentsFolder(c.dir), "README"), []byte("hello"), 0o640))
			c.must(os.Mkdir(filepath.Join(segmentsFolder(c.dir), "folder"), 0o750))
			c.must(os.WriteFile(filepath.Join(cursorsFolder(c.dir), "core"), []byte("hello"), 0o640))
		}, read: all},
		"a segment of another log in between": {damage: func(c damageCase) { otherSegment(c, c.segment(6)) }, read: all},
		"a segment of another log as newest":  {damage: func(c damageCase) { otherSegment(c, c.segment(50)) }, read: all},
		"a part of a segment written again": {damage: func(c damageCase) {
			c.copyTo(c.segment(5), c.segment(6)+newSuffix)
		}, read: all},
		"one slot of the cursor":   {damage: func(c damageCase) { c.edit(cursorFile(t, c.dir, "mimir"), zero(0, cursorSlotSize)) }, read: all},
		"the cursor":               {damage: func(c damageCase) { c.edit(cursorFile(t, c.dir, "mimir"), zero(0, cursorFileSize)) }, read: all},
		"a cursor cut to nothing":  {damage: func(c damageCase) { c.must(os.Truncate(cursorFile(t, c.dir, "mimir"), 0)) }, read: all},
		"a cursor of another log":  {damage: otherCursor, read: all},
		"everything another log's": {damage: func(c damageCase) { c.must(os.RemoveAll(c.dir)); otherFolder(c.t, c.dir) }, read: 5, fallen: all - 5},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir, SegmentAge: 2 * time.Second})
			if _, err := l.Cursor("mimir", StartEnd); err != nil {
				t.Fatal(err)
			}
			now := testStart
			for i := range rounds {
				mustAppend(t, l, roundOf(testSeries(l, size), now, float64(i)), now)
				now = now.Add(time.Second)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			c.damage(damageCase{t, dir})
			for start := range 3 {
				l := openTest(t, Options{Path: dir, SegmentAge: time.Hour})
				if got, want := l.Stats().Appended.Samples, all-c.fallen+uint64(start*size); got != want {
					t.Fatalf("start %d: totals %d, want %d", start, got, want)
				}
				if got, want := l.Stats().Bytes, diskUsage(t, dir); got != want {
					t.Errorf("start %d: %d bytes, %d on disk", start, got, want)
				}
				cursor, err := l.Cursor("mimir", StartOldest)
				if err != nil {
					t.Fatal(err)
				}
				if cursor.Position().Seq > 12 {
					t.Fatalf("cursor at %+v", cursor.Position())
				}
				out := mustAppend(t, l, roundOf(testSeries(l, size), now, 100), now)
				if out.Appended.Samples != size {
					t.Fatalf("start %d: %+v", start, out)
				}
				now = now.Add(time.Second)
				mustSync(t, l, now)
				got, evicted, damaged := readFrom(t, l, Position{})
				if len(got) != c.read+(start+1)*size || damaged.Samples != c.damaged || evicted.Samples != c.evicted {
					t.Errorf("start %d: read %d, want %d; damaged %d, want %d; evicted %d, want %d", start,
						len(got), c.read+(start+1)*size, damaged.Samples, c.damaged, evicted.Samples, c.evicted)
				}
				if sum := uint64(len(got)) + damaged.Samples + evicted.Samples; sum != l.Stats().Appended.Samples {
					t.Errorf("read + damaged + evicted = %d, appended %d", sum, l.Stats().Appended.Samples)
				}
				// An endpoint that comes anew counts from where it begins.
				fresh, err := l.Cursor(fmt.Sprint("new ", start), StartOldest)
				if err != nil {
					t.Fatal(err)
				}
				got, evicted, damaged = readFrom(t, l, fresh.Position())
				if sum := fresh.Position().Totals.Add(evicted).Add(damaged).Samples + uint64(len(got)); sum != l.Stats().Appended.Samples {
					t.Errorf("begin at %+v, read %d, evicted %+v, damaged %+v; appended %d", fresh.Position(), len(got), evicted, damaged, l.Stats().Appended.Samples)
				}
				kept, err := filepath.Glob(filepath.Join(quarantineFolder(dir), "*"))
				if err != nil || (len(kept) > 0) != c.kept {
					t.Errorf("start %d: kept %v, %v", start, kept, err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func flip(offsets ...int) func(b []byte) []byte {
	return func(b []byte) []byte {
		for _, off := range offsets {
			if off < len(b) {
				b[off] ^= 4
			}
		}
		return b
	}
}

// tableOffset is where the series table of a sealed segment begins.
func tableOffset(b []byte) int {
	off := segmentHeaderSize
	for {
		h, err := decodeFrameHeader(b[off:])
		if err != nil || h.isTable() {
			return off
		}
		off += h.size()
	}
}

// lastOffset is where the last frame of an open segment begins.
func lastOffset(b []byte) (last int) {
	for off := segmentHeaderSize; off < len(b); {
		h, err := decodeFrameHeader(b[off:])
		if err != nil {
			panic(err)
		}
		last = off
		off += h.size()
	}
	return last
}

func flipLast(b []byte) []byte { return flip(lastOffset(b) + frameHeaderSize + 1)(b) }

func flipTable(b []byte) []byte { return flip(tableOffset(b) + frameHeaderSize + 1)(b) }

func zero(from, n int) func(b []byte) []byte {
	return func(b []byte) []byte {
		clear(b[from:min(from+n, len(b))])
		return b
	}
}

// TestSpareDamage holds that a series table that cannot be read is found by
// whoever asks, and that nothing is lost with it.
func TestSpareDamage(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 1})
	for i := range 3 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	mustSync(t, l, testStart)
	c := damageCase{t, dir}
	var from int
	c.edit(c.segment(2), func(b []byte) []byte {
		from = tableOffset(b)
		return flipTable(b)
	})
	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var found []Damage
	r.OnDamage(func(d Damage) { found = append(found, d) })
	got, _, damaged := readAll(t, r)
	if want := []Damage{{Segment: 2, From: int64(from), To: math.MaxInt64, Spare: true}}; !slices.Equal(want, found) {
		t.Errorf("found %+v, want %+v", found, want)
	}
	if len(got) != 30 || !damaged.IsZero() {
		t.Errorf("%d samples read, damaged %+v", len(got), damaged)
	}
}

// otherFolder makes a log of one round of five samples.
func otherFolder(t *testing.T, dir string) {
	t.Helper()
	l := openTest(t, Options{Path: dir})
	mustAppend(t, l, roundOf(testSeries(l, 5), testStart, 7), testStart)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func otherSegment(c damageCase, path string) {
	dir := c.t.TempDir()
	otherFolder(c.t, dir)
	c.copyTo(segmentPath(dir, 1), path)
}

func otherCursor(c damageCase) {
	dir := c.t.TempDir()
	l := openTest(c.t, Options{Path: dir})
	_, err := l.Cursor("mimir", StartEnd)
	c.must(err)
	c.must(l.Close())
	c.copyTo(cursorFile(c.t, dir, "mimir"), cursorFile(c.t, c.dir, "mimir"))
}

// TestClockFarOff holds that samples from the far future hold nothing back:
// neither other series nor, after a start, their own, about which the receiver
// decides.
func TestClockFarOff(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	series := testSeries(l, 2)
	mustAppend(t, l, roundOf(series[:1], testStart.AddDate(80, 0, 0), 1), testStart.AddDate(80, 0, 0))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir, MaxAge: time.Hour})
	now := testStart.Add(time.Minute)
	if out := mustAppend(t, l, roundOf(testSeries(l, 3), now, 1), now); out.Appended.Samples != 3 {
		t.Errorf("%+v", out)
	}
	mustSync(t, l, now)
	if got, evicted, _ := readFrom(t, l, Position{}); len(got) != 4 || !evicted.IsZero() {
		t.Errorf("%v, evicted %+v", got, evicted)
	}
}

// TestQuarantineIsBounded damages more than may be kept.
func TestQuarantineIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := Options{Path: dir, MaxBytes: 64 << 12, SegmentBytes: 1}
	l := openTest(t, o)
	now := testStart
	for range 40 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 20), now, 0), now)
	}
	mustSync(t, l, now)
	for i := range l.segments[:39] {
		damageCase{t, dir}.edit(l.segmentPath(l.segments[i].first), zero(0, 200))
	}
	for range 2 {
		if _, _, damaged := readFrom(t, l, Position{}); damaged.Samples != 780 {
			t.Errorf("damaged %+v", damaged)
		}
	}
	kept, err := filepath.Glob(filepath.Join(quarantineFolder(dir), "*"))
	if err != nil || len(kept) < 2 || l.quarantine.bytes > 4096 {
		t.Errorf("%d files, %d bytes, %v", len(kept), l.quarantine.bytes, err)
	}
	mustSync(t, l, now)
	if got, want := l.Stats().Bytes, diskUsage(t, dir); got != want || l.Stats().DamagedBytes == 0 {
		t.Errorf("%d bytes, %d on disk; %d damaged", got, want, l.Stats().DamagedBytes)
	}
}

// TestOpenReadsOneSegment counts the bytes that a start reads: the header of
// each segment, and the newest one. The first sample can be read after one more.
func TestOpenReadsOneSegment(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d, SegmentBytes: 50_000}
	l := openTest(t, o)
	series := testSeries(l, 1000)
	now := testStart
	for i := range 900 {
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(series, now, float64(i)*0.37), now)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments, total := l.Stats().Segments, l.Stats().Bytes
	newest := l.segments[segments-1].size
	clear(d.bytes)
	l = openTest(t, o)
	read := d.bytes[opRecover] + d.bytes[opRead]
	if limit := segments*segmentHeaderSize + int(newest); read > limit || segments < 20 {
		t.Errorf("a start reads %d bytes of %d in %d segments, want at most %d", read, total, segments, limit)
	}
	clear(d.bytes)
	r := l.Reader(Position{})
	defer r.Close()
	var f Frame
	if err := r.Next(&f); err != nil || d.bytes[opRead] > 1<<20 {
		t.Errorf("the first frame takes %d bytes, %v", d.bytes[opRead], err)
	}
}

// TestRubbishOfHeaders holds that a file made of headers of large frames is not
// read once for each of them.
func TestRubbishOfHeaders(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d}
	l := openTest(t, o)
	mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
	path, size := l.segmentPath(1), l.end.Offset
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const rubbish = 1 << 20
	header := make([]byte, frameHeaderSize+rubbish/2)
	putFrameHeader(header, frameHeader{payload: rubbish / 2, raw: rubbish / 2, seq: 2})
	header = header[:frameHeaderSize]
	header[4] ^= 1 // no checksum of anything
	d.files[path].change(diskChange{size, bytes.Repeat(header, rubbish/frameHeaderSize)})
	clear(d.bytes)
	l = openTest(t, o)
	if read := d.bytes[opRead]; read > 2*maxWasted {
		t.Errorf("a start reads %d bytes", read)
	}
	if got, _, damaged := readFrom(t, l, Position{}); len(got) != 10 || !damaged.IsZero() {
		t.Errorf("%d samples read, damaged %+v", len(got), damaged)
	}
}
