package wal

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStartOnFailingDisk lets each operation of a start fail for as long as a
// process lives, on a log that gives the operation something to do. Only a
// folder that cannot be made or listed stops the start; the starts that follow
// find all that was there, and the accounts are whole.
func TestStartOnFailingDisk(t *testing.T) {
	w := newFuzzWorld(t)
	segment := func(first uint64) string { return segmentPath(w.o.Path, first) }
	cursor, err := cursorPath(w.o.Path, "mimir")
	if err != nil {
		t.Fatal(err)
	}
	untouched := func(*disk) []string { return nil }
	torn := func(d *disk) []string {
		f := d.files[segment(7)]
		f.change(diskChange{at: int64(len(f.content) - 3)})
		return []string{segment(7)}
	}
	for name, c := range map[string]struct {
		ops    []string
		before func(d *disk) (touched []string)
		stops  bool // the start
		apart  bool // what is appended is another log's: nothing could say which this one is
	}{
		"segments cannot be read":      {[]string{opRecover}, untouched, false, true},
		"folders cannot be listed":     {[]string{opList}, untouched, true, false},
		"folders cannot be made":       {[]string{opMakeFolder}, untouched, true, false},
		"the cursor cannot be opened":  {[]string{opOpenCursor}, untouched, true, false},
		"the cursor cannot be made":    {[]string{opMakeCursor}, func(d *disk) []string { delete(d.files, cursor); return []string{cursor} }, false, false},
		"the endpoints cannot be read": {[]string{opReadEndpoints}, untouched, false, false},
		"a torn tail cannot be cut":    {[]string{opCutTail}, torn, false, false},
		"nor be kept":                  {[]string{opCutTail, opQuarantine}, torn, false, false},
		"damage cannot be kept": {[]string{opQuarantine}, func(d *disk) []string {
			d.files[segment(3)].change(diskChange{at: 100, bytes: make([]byte, 50)})
			return []string{segment(3)}
		}, false, false},
		"a segment cannot get its name back": {[]string{opPlace}, func(d *disk) []string {
			d.files[segment(1)], d.files[segment(5)] = d.files[segment(5)], d.files[segment(1)]
			return nil
		}, false, false},
		"the rest of a write cannot be removed": {[]string{opRemoveSegment}, func(d *disk) []string {
			d.files[segment(7)+newSuffix] = &diskFile{content: []byte("part")}
			return nil
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []error{unix.EIO, unix.EROFS, unix.EACCES} {
				d := w.disk.copy()
				touched := c.before(d)
				faults := map[string]error{}
				for _, op := range c.ops {
					faults[op] = kind
				}
				d.failing(faults)
				o, now := w.o, w.now
				o.FS = d
				appended := uint64(0)
				l, err := Open(context.Background(), o, now)
				if err == nil {
					_, err = l.Cursor("mimir", StartOldest)
					if err == nil {
						l.Hold()
						now = now.Add(time.Second)
						appended = mustAppend(t, l, roundOf(testSeries(l, 3), now, 500), now).Appended.Samples
						l.Sync(now) // an error is the disk's
						r := l.Reader(Position{})
						var f Frame
						for r.Next(&f) == nil {
						}
						r.Close()
					}
					d.failing(nil)
					if err := l.Close(); err != nil {
						t.Errorf("%v: close: %v", kind, err)
					}
				}
				if (err != nil) != c.stops {
					t.Fatalf("%v: the start returned %v", kind, err)
				}
				d.failing(nil)
				for path := range d.files {
					if filepath.Ext(path) == newSuffix && !slices.Contains(c.ops, opRemoveSegment) {
						t.Errorf("%v: %s is left behind", kind, path)
					}
				}
				w.starts(t, d, now, touched)
				if appended == 0 || c.apart {
					continue
				}
				l = openTest(t, o)
				got, _, _ := readFrom(t, l, Position{})
				if !slices.ContainsFunc(got, func(s readSample) bool { return s.V == 502 }) {
					t.Errorf("%v: what was appended on the failing disk is lost", kind)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
