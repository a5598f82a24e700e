package wal

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnlistedFolder puts what nobody but root can list below the log's
// folder, as the lost+found of a volume is: everything else counts, and the log
// says once that something does not.
func TestUnlistedFolder(t *testing.T) {
	d := newDisk(1)
	logged := &strings.Builder{}
	o := Options{Path: t.TempDir(), FS: d, Logger: textLogger(logged)}
	letters, found := filepath.Join(o.Path, "deadletter"), filepath.Join(o.Path, "lost+found")
	d.files[filepath.Join(letters, "1")] = &diskFile{content: make([]byte, 1000)}
	d.files[filepath.Join(found, "1")] = &diskFile{content: make([]byte, 100)}
	unlisted, why := found, error(unix.EACCES)
	d.fault = func(op, path string) error {
		if op == opMeasure && path == unlisted {
			return why
		}
		return nil
	}
	l := openTest(t, o)
	mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
	size := func(others int64) {
		t.Helper()
		mustSync(t, l, testStart)
		segment := l.segments[0].size
		if got := l.Stats().Bytes; got != segment+others {
			t.Errorf("%d bytes, want %d of a segment and %d of others", got, segment, others)
		}
	}
	for range 3 {
		size(1000)
	}
	if n := strings.Count(logged.String(), "cannot be listed"); n != 1 {
		t.Errorf("said %d times:\n%s", n, logged)
	}
	overview, err := inspect(d, o.Path)
	if err != nil || overview.Bytes != l.segments[0].size+1000 || !strings.Contains(overview.Unlisted, "lost+found") {
		t.Errorf("%+v, %v", overview, err)
	}
	// What a disk fails to list has not become smaller.
	unlisted, why = letters, unix.EIO
	size(1000)
	unlisted = ""
	size(1100)
	if overview, err := inspect(d, o.Path); err != nil || overview.Unlisted != "" {
		t.Errorf("%+v, %v", overview, err)
	}
}

// TestInspectBesideWriter looks at the moments in which a writer has made a
// file, or removed one, that a look has just listed.
func TestInspectBesideWriter(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d, SegmentAge: time.Second}
	l := openTest(t, o)
	now := testStart
	round := func() {
		now = now.Add(2 * time.Second)
		mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
	}
	for range 3 {
		round()
	}
	look := func(when string, samples uint64) {
		t.Helper()
		overview, err := inspect(d, o.Path)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for _, s := range overview.Segments {
			if s.Problem != "" {
				t.Errorf("%s: %+v", when, s)
			}
		}
		if overview.End.Samples != samples || overview.Newest.IsZero() {
			t.Errorf("%s: end %+v, newest %v", when, overview.End, overview.Newest)
		}
	}
	made := segmentPath(o.Path, 4)
	for _, size := range []int{0, 20, segmentHeaderSize - 1} {
		d.files[made] = &diskFile{content: make([]byte, size)}
		look("the newest is made and not written", 30)
	}
	r, err := readFolder(d, o.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.OnDamage(func(damage Damage) { t.Errorf("damage: %+v", damage) })
	if got, _, _ := readAll(t, r); len(got) != 30 {
		t.Errorf("%d samples", len(got))
	}
	delete(d.files, made)
	round()
	if got, _, damaged := readAll(t, r); len(got) != 10 || !damaged.IsZero() {
		t.Errorf("%d samples of the segment that is written, damaged %+v", len(got), damaged)
	}
	gone := segmentPath(o.Path, 1)
	first := d.files[gone]
	for _, op := range []string{opRecover, opRead} { // each opens segments that were listed
		d.files[gone] = first
		d.fault = func(at, path string) error {
			if at == op && path == gone {
				return unix.ENOENT
			}
			return nil
		}
		look("the oldest is removed before "+op, 40)
	}
	d.fault = nil
	if _, err := inspect(d, filepath.Join(o.Path, "none")); err != nil && !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}
