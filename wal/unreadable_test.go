package wal

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// badDisk does not give out some bytes of a file, or does not open it.
type badDisk struct {
	osFileSystem
	path     string
	from, to int64 // bytes that cannot be read
	open     error
	dead     bool // nothing at all can be read
}

type badFile struct {
	File
	disk *badDisk
	path string
}

func (b *badDisk) OpenFile(op, path string, flag int, perm fs.FileMode) (File, error) {
	if path == b.path && b.open != nil {
		return nil, &fs.PathError{Op: op, Path: path, Err: b.open}
	}
	f, err := b.osFileSystem.OpenFile(op, path, flag, perm)
	if err != nil {
		return nil, err
	}
	return badFile{f, b, path}, nil
}

func (f badFile) ReadAt(op string, p []byte, off int64) (n int, err error) {
	b := f.disk
	eio := &fs.PathError{Op: op, Path: f.path, Err: unix.EIO}
	if b.dead {
		return 0, eio
	}
	if f.path != b.path || off >= b.to || off+int64(len(p)) <= b.from {
		return f.File.ReadAt(op, p, off)
	}
	if off < b.from {
		if n, err = f.File.ReadAt(op, p[:b.from-off], off); err != nil {
			return n, err
		}
	}
	return n, eio
}

// noiseOf is a round that compresses badly.
func noiseOf(rng *rand.Rand, series []*Series, at time.Time) *Round {
	r := roundOf(series, at, 0)
	for i := range r.Samples {
		r.Samples[i].V = rng.Float64()
	}
	return r
}

// TestUnreadable holds what becomes of a disk that does not give something
// out, for an endpoint and for who only looks: neither stands still because of
// one place, and what is lost is counted.
func TestUnreadable(t *testing.T) {
	const rounds, size = 12, 2000
	const inSecond = 10 * diskBlock // in the second frame of a segment
	for name, c := range map[string]struct {
		disk   badDisk
		waits  bool   // an endpoint does
		read   uint64 // rounds that can be read, of 12
		kept   int64  // bytes in the quarantine
		remedy string // in the error meanwhile
	}{
		"a sector":                     {disk: badDisk{from: inSecond, to: inSecond + diskBlock}, read: 11, kept: 4096},
		"the first sector":             {disk: badDisk{from: 0, to: diskBlock}, read: 11, kept: 4096},
		"the rest of a file":           {disk: badDisk{from: inSecond, to: 1 << 40}, read: 11},
		"a whole file":                 {disk: badDisk{from: 0, to: 1 << 40}, read: 10},
		"a file that cannot be opened": {disk: badDisk{open: unix.EIO}, read: 10},
		"a file of another user":       {disk: badDisk{open: unix.EACCES}, waits: true, read: 10, remedy: "own the log's folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			disk := &badDisk{}
			l := openTest(t, Options{Path: dir, FS: disk, SegmentAge: 2 * time.Second})
			now := testStart
			rng := rand.New(rand.NewPCG(1, 1))
			for range rounds {
				mustAppend(t, l, noiseOf(rng, testSeries(l, size), now), now)
				now = now.Add(time.Second)
			}
			mustSync(t, l, now)
			*disk = c.disk
			disk.path = l.segmentPath(5)

			read := func(r *Reader, calls int) (read, damaged Totals, err error) {
				defer r.Close()
				for range calls {
					var f Frame
					if err = r.Next(&f); err == nil {
						read, damaged = read.Add(f.Counts), damaged.Add(f.Damaged)
					} else if errors.Is(err, io.EOF) {
						break
					}
				}
				return read, damaged, err
			}
			// A disk that is gone, or that fails now and then, has lost nothing.
			disk.dead = true
			if got, damaged, err := read(l.Reader(Position{}), 3*patience); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EACCES) || !got.Add(damaged).IsZero() {
				t.Fatalf("from a dead disk: read %+v, damaged %+v, %v", got, damaged, err)
			}
			disk.dead = false
			want := size * c.read
			if c.waits {
				want = 4 * size
			}
			got, damaged, err := read(l.Reader(Position{}), 10)
			if n := got.Samples / size; n < 4 || n > 5 || !damaged.IsZero() || err == nil || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("at first: read %+v, damaged %+v, %v", got, damaged, err)
			}
			got, damaged, err = read(l.Reader(Position{}), 5*patience)
			if got.Samples != want || errors.Is(err, io.EOF) == c.waits {
				t.Errorf("endpoint: read %+v, want %d, %v", got, want, err)
			}
			if !c.waits && damaged.Samples != rounds*size-want {
				t.Errorf("endpoint: damaged %+v, want %d", damaged, rounds*size-want)
			}
			if l.quarantine.bytes < c.kept {
				t.Errorf("%d bytes are kept", l.quarantine.bytes)
			}

			r, err := readFolder(disk, dir)
			if err != nil {
				t.Fatal(err)
			}
			var places []Damage
			r.OnDamage(func(d Damage) { places = append(places, d) })
			got, damaged, err = read(r, 100)
			if !errors.Is(err, io.EOF) || got.Samples != size*c.read || got.Add(damaged).Samples != rounds*size {
				t.Errorf("from outside: read %+v, damaged %+v, %v", got, damaged, err)
			}
			if !slices.ContainsFunc(places, func(d Damage) bool { return d.Segment == 5 }) {
				t.Errorf("places %+v", places)
			}

			// A start gets by as well, and when it can be read again it is.
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, Options{Path: dir, FS: disk})
			if got := l.Stats().Appended.Samples; got != rounds*size {
				t.Errorf("totals %d", got)
			}
			*disk = badDisk{}
			if got, _, _ := readFrom(t, l, Position{}); len(got) != rounds*size {
				t.Errorf("%d samples are read when all is well again", len(got))
			}
		})
	}
}

// TestUnreadableEnd opens a log whose newest segment cannot be read as a
// whole: nothing of it is cut off, and numbers go on above what it may hold.
func TestUnreadableEnd(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	rng := rand.New(rand.NewPCG(1, 1))
	now := testStart
	for range 4 {
		now = now.Add(time.Second)
		mustAppend(t, l, noiseOf(rng, testSeries(l, 1000), now), now)
	}
	if _, err := l.Cursor("mimir", StartEnd); err != nil {
		t.Fatal(err)
	}
	size, disk := l.end.Offset, &badDisk{path: l.segmentPath(1)}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	disk.from = size/diskBlock*diskBlock - diskBlock
	disk.to = disk.from + diskBlock
	for i := range 3 {
		l = openTest(t, Options{Path: dir, FS: disk})
		if got := l.Stats().Appended.Samples; got != uint64(4000+i) || len(readSegment(t, l, 1)) != int(size) {
			t.Errorf("totals %d, %d bytes of %d", got, len(readSegment(t, l, 1)), size)
		}
		now = now.Add(time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 1), now, 1), now)
		if l.end.Seq <= uint64(size) {
			t.Errorf("sequence number %d", l.end.Seq)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l = openTest(t, Options{Path: dir})
	if got, _, damaged := readFrom(t, l, Position{}); len(got) != 4003 || !damaged.IsZero() {
		t.Errorf("%d samples are read when all is well again, damaged %+v", len(got), damaged)
	}
}
