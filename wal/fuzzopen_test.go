package wal

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzOpen does to the files of a log what a disk, an operator or a backup may
// do: bytes written over, cut off and added, files renamed, swapped, copied,
// made and removed, cursors, quarantine, dead letters and the names of
// endpoints among them. It opens and goes on whatever was done; nothing that
// was in an untouched segment is lost, nothing comes twice or out of order,
// and what was read, damaged and evicted is what was appended.
func FuzzOpen(f *testing.F) {
	for i, bytes := range [][]byte{
		{}, []byte("\xf7s2m and no frame"), make([]byte, 300), {0xff, 0xff, 0xff, 0xff}, goldenFrames(f),
	} {
		for kind := range mutations {
			f.Add(uint8(kind), uint8(i), uint8(2*i+1), uint16(84*i), bytes, "")
		}
	}
	for i, name := range []string{
		"segments/00000000000000000002.seg", "segments/00000000000000000099.seg", "segments/4611686018427387900.seg",
		"segments/00000000000000000001.seg.new", "segments/00000000000000000003.seg.moved", "segments/x", "cursors/other.cursor",
		"cursors/mimir.cursor", "cursors/endpoints", "lock", "quarantine/00000000000000000001-000000000084.damaged",
		"deadletter/mimir/1.letters", "deadletter", "x",
	} {
		f.Add(uint8(i), uint8(i), uint8(0), uint16(0), goldenFrames(f), name)
	}
	world := newFuzzWorld(f)
	f.Fuzz(func(t *testing.T, kind, which, other uint8, at uint16, b []byte, name string) {
		world.run(t, int(kind), fuzzMutation{which: int(which), other: int(other), at: int64(at), bytes: b, name: name})
	})
}

// fuzzWorld is the log that is damaged.
type fuzzWorld struct {
	o      Options
	disk   *disk
	paths  []string                // in order
	held   map[string][]readSample // by the path of a segment
	all    []readSample
	passed Position // of the cursor
	now    time.Time
}

func newFuzzWorld(f testing.TB) *fuzzWorld {
	const segments, rounds, size = 4, 2, 3
	w := &fuzzWorld{disk: newDisk(1), held: map[string][]readSample{}, now: testStart}
	w.o = Options{Path: f.TempDir(), FS: w.disk, SegmentAge: rounds * time.Second}
	l := openTest(f, w.o)
	c, err := l.Cursor("mimir", StartOldest)
	if err != nil {
		f.Fatal(err)
	}
	for i := range segments * rounds {
		r := roundOf(testSeries(l, size), w.now, float64(10*i))
		mustAppend(f, l, r, w.now)
		path := segmentPath(w.o.Path, uint64(i/rounds*rounds+1))
		for _, s := range r.Samples {
			w.held[path] = append(w.held[path], readSample{s.Series.labels.String(), s.T, s.V})
			w.all = append(w.all, readSample{s.Series.labels.String(), s.T, s.V})
		}
		if i == 2 { // within the second segment
			w.passed = l.end
		}
		w.now = w.now.Add(time.Second)
	}
	if err := errors.Join(c.Save(w.passed, []byte("state")), l.SaveEndpoints([]string{"mimir"}), l.Close()); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"lock", "quarantine/00000000000000000001-000000000084.damaged", "deadletter/mimir/00000000000000000001.letters"} {
		w.disk.files[filepath.Join(w.o.Path, name)] = &diskFile{content: []byte(name), written: w.now}
	}
	w.paths = slices.Sorted(maps.Keys(w.disk.files))
	w.o.MaxAge, w.o.MinFree = 1<<62, -1
	return w
}

// fuzzMutation says what is done to which files.
type fuzzMutation struct {
	which, other int // files
	at           int64
	bytes        []byte
	name         string // of a new file, below the log's folder
}

// mutations return the files that are not as they were.
var mutations = []func(d *disk, one, other, third string, m fuzzMutation) []string{
	func(d *disk, one, _, _ string, m fuzzMutation) []string { // overwrite, extend
		d.files[one].change(diskChange{m.at, append([]byte{}, m.bytes...)})
		return []string{one}
	},
	func(d *disk, one, _, _ string, m fuzzMutation) []string { // truncate
		d.files[one].change(diskChange{at: min(m.at, int64(len(d.files[one].content)))})
		return []string{one}
	},
	func(d *disk, one, _, _ string, m fuzzMutation) []string { // append
		d.files[one].change(diskChange{int64(len(d.files[one].content)), append([]byte{}, m.bytes...)})
		return []string{one}
	},
	func(d *disk, one, _, _ string, _ fuzzMutation) []string { // remove
		delete(d.files, one)
		return []string{one}
	},
	func(d *disk, one, other, _ string, _ fuzzMutation) []string { // swap
		d.files[one], d.files[other] = d.files[other], d.files[one]
		return []string{one, other}
	},
	func(d *disk, one, other, _ string, _ fuzzMutation) []string { // copy over another
		d.files[other] = &diskFile{content: slices.Clone(d.files[one].content), written: d.files[one].written}
		return []string{other}
	},
	func(d *disk, one, _, third string, _ fuzzMutation) []string { // rename
		f := d.files[one]
		delete(d.files, one)
		d.files[third] = f
		return []string{one, third}
	},
	func(d *disk, one, _, third string, _ fuzzMutation) []string { // copy to a new name
		d.files[third] = &diskFile{content: slices.Clone(d.files[one].content), written: d.files[one].written}
		return []string{third}
	},
	func(d *disk, _, _, third string, m fuzzMutation) []string { // new file
		d.files[third] = &diskFile{content: slices.Clone(m.bytes), written: d.now}
		return []string{third}
	},
}

func (w *fuzzWorld) run(t *testing.T, kind int, m fuzzMutation) {
	d := w.disk.copy()
	third := filepath.Join(w.o.Path, filepath.Clean("/"+m.name))
	for path := range d.files { // a name below a file, or of a folder
		if third == w.o.Path || strings.HasPrefix(third, path+"/") || strings.HasPrefix(path, third+"/") {
			third = filepath.Join(w.o.Path, "segments", "00000000000000000004.seg")
		}
	}
	touched := mutations[kind%len(mutations)](d, w.paths[m.which%len(w.paths)], w.paths[m.other%len(w.paths)], third, m)
	w.starts(t, d, w.now, touched)
}

// starts begins twice on what has been made of the disk.
func (w *fuzzWorld) starts(t *testing.T, d *disk, now time.Time, touched []string) {
	t.Helper()
	o := w.o
	o.FS = d
	var last readSample
	for start := range 2 { // the second finds what the first has made of it
		l, err := Open(context.Background(), o, now)
		if err != nil {
			t.Fatalf("start %d: %v", start, err)
		}
		c, err := l.Cursor("mimir", StartOldest)
		if err != nil {
			t.Fatalf("start %d: %v", start, err)
		}
		if _, err := l.Endpoints(); err != nil && !errors.Is(err, os.ErrNotExist) && !slices.Contains(touched, endpointsPath(o.Path)) {
			t.Errorf("start %d: endpoints: %v", start, err)
		}
		l.Hold() // what the cursor has passed is looked at, too
		before := l.Stats().Appended
		now = now.Add(time.Second)
		r := roundOf(testSeries(l, 3), now, 1000)
		if out, err := l.Append(r, now); err != nil || out.Appended.Samples != 3 {
			t.Fatalf("start %d: %+v, %v", start, out, err)
		}
		last = readSample{r.Samples[2].Series.labels.String(), now.UnixMilli(), r.Samples[2].V}
		mustSync(t, l, now)
		if got := l.Stats().Appended.Sub(before); got.Samples != 3 {
			t.Errorf("start %d: totals rose by %+v", start, got)
		}
		w.check(t, l, Position{}, touched, last)
		got := w.check(t, l, c.Position(), touched, last)
		if !slices.ContainsFunc(touched, func(path string) bool { return strings.HasSuffix(path, cursorSuffix) }) &&
			c.Position() == w.passed && (len(got) == 0 || got[0].V < 30) {
			t.Errorf("start %d: behind the cursor are %v", start, got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect(d, o.Path); err != nil {
			t.Errorf("start %d: inspect: %v", start, err)
		}
	}
}

// check reads from a place to the end.
func (w *fuzzWorld) check(t *testing.T, l *Log, from Position, touched []string, last readSample) []readSample {
	t.Helper()
	r := l.Reader(from)
	defer r.Close()
	var f Frame
	var got []readSample
	var read, missing Totals
	var seq uint64
	place := from
	for {
		err := r.Next(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Position.Seq <= max(seq, from.Seq) {
			t.Fatalf("frame %d comes after %d", f.Position.Seq, max(seq, from.Seq))
		}
		seq = f.Position.Seq
		read, missing = read.Add(f.Counts), missing.Add(f.Damaged).Add(f.Evicted)
		place = f.Position
		for _, s := range f.Samples {
			got = append(got, readSample{f.Series[s.Ref].Labels.String(), s.T, s.V})
		}
	}
	if end := l.Stats().Appended; place.Totals != end || read.Add(missing) != end.Sub(from.Totals) {
		t.Fatalf("from %+v: read %+v, missing %+v, appended %+v, at %+v", from, read, missing, end, place)
	}
	if !slices.Contains(got, last) {
		t.Errorf("from %+v: what was appended after it is not read", from)
	}
	times := map[string]int64{}
	for _, s := range got {
		if s.T <= times[s.Labels] {
			t.Fatalf("%s goes back to %d from %d", s.Labels, s.T, times[s.Labels])
		}
		times[s.Labels] = s.T
	}
	for path, held := range w.held {
		if slices.Contains(touched, path) {
			continue
		}
		for _, s := range held {
			if s.T > w.timeOf(from) && !slices.Contains(got, s) {
				t.Errorf("from %+v: %v is lost, whose segment was not touched", from, s)
			}
		}
	}
	return got
}

// timeOf is the time of the newest sample before a place.
func (w *fuzzWorld) timeOf(p Position) int64 {
	if p.Totals.Samples == 0 {
		return 0
	}
	return w.all[min(int(p.Totals.Samples), len(w.all))-1].T
}
