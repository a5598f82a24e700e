package wal

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFirstStartOnFullDisk starts a log whose folders cannot be made: rounds
// wait in memory and the cursor begins there, a restart meanwhile begins anew,
// and all of it is made when there is space.
func TestFirstStartOnFullDisk(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	full := map[string]error{opMakeFolder: unix.ENOSPC, opCreate: unix.ENOSPC, opMakeCursor: unix.ENOSPC}
	spy.on(func(op string) error {
		if op == opMakeFolder && spy.calls[op] == 1 {
			return nil // the volume's own folder, which is there
		}
		return full[op]
	})
	o := Options{Path: t.TempDir(), FS: spy}
	l := openTest(t, o)
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	now := testStart
	for range 3 {
		now = now.Add(time.Second)
		if out := mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now); out.Kept.Samples != 10 {
			t.Errorf("%+v", out)
		}
		if err := l.Sync(now); err == nil {
			t.Error("a sync that cannot make the cursor returned no error")
		}
	}
	if names, err := l.Cursors(); len(names) > 0 || err != nil {
		t.Errorf("cursors %v, %v", names, err)
	}
	spy.fail(nil)
	mustSync(t, l, now)
	if s := l.Stats(); s.Synced.Totals.Samples != 30 || s.Bytes != diskUsage(t, o.Path) || c.Position().Totals.Samples != 0 {
		t.Errorf("%+v, cursor at %+v", s, c.Position())
	}
	if got, _, _ := readFrom(t, l, c.Position()); len(got) != 30 {
		t.Errorf("%d samples", len(got))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, o)
	if c, err = l.Cursor("mimir", StartEnd); err != nil || c.Position().Totals.Samples != 0 || c.Recovered() {
		t.Errorf("after a restart: %+v, %v, recovered %t", c.Position(), err, c.Recovered())
	}
}

// TestNoRoomToBegin starts a log whose own folder cannot be made: the start
// waits for room, and for no longer than it may.
func TestNoRoomToBegin(t *testing.T) {
	for _, kind := range []error{unix.ENOSPC, unix.EDQUOT} {
		spy := &spyFS{calls: map[string]int{}}
		spy.on(func(op string) error {
			if op == opMakeFolder && spy.calls[op] <= 3 {
				return kind
			}
			return nil
		})
		l := openTest(t, Options{Path: filepath.Join(t.TempDir(), "data"), FS: spy})
		mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)

		ctx, cancel := context.WithCancel(t.Context())
		spy = &spyFS{calls: map[string]int{}}
		spy.on(func(op string) error {
			if op == opMakeFolder && spy.calls[op] == 2 {
				cancel()
			}
			return kind
		})
		if _, err := Open(ctx, Options{Path: t.TempDir(), FS: spy}, testStart); !errors.Is(err, kind) {
			t.Errorf("after the start was called off: %v", err)
		}
	}
}

// TestCursorCannotBeMade lets each step of making a cursor's file fail: the
// cursor works from memory, nothing of it stays for the next start, and it is
// made by the next save or sync.
func TestCursorCannotBeMade(t *testing.T) {
	steps := []struct {
		op    string
		after int // calls of op that succeed
	}{{opMakeCursor, 0}, {opMakeCursor, 1}, {opSaveCursor, 0}, {opSyncCursor, 0}, {opMakeCursor, 2}}
	for i, step := range steps {
		for _, by := range []string{"save", "sync"} {
			d := newDisk(1)
			o := Options{Path: t.TempDir(), FS: d}
			l := openTest(t, o)
			now := testStart
			round := func() {
				now = now.Add(time.Second)
				mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
				mustSync(t, l, now)
			}
			round()
			fail := func() {
				left := step.after
				d.fault = func(op, _ string) error {
					if op != step.op {
						return nil
					}
					if left--; left >= 0 {
						return nil
					}
					d.fault = func(op, _ string) error { return map[string]error{step.op: unix.ENOSPC}[op] }
					if op == opMakeCursor && step.after > 0 {
						d.fault = nil // the file can be removed, which is this operation as well
					}
					return unix.ENOSPC
				}
			}
			for range 2 { // the second is after a restart
				fail()
				c, err := l.Cursor("mimir", StartEnd)
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if c.Position() != l.end || c.Recovered() {
					t.Errorf("step %d: %+v, recovered %t; the log ends at %+v", i, c.Position(), c.Recovered(), l.end)
				}
				if files := slices.Sorted(maps.Keys(d.files)); slices.Contains(files, c.path) || slices.Contains(files, c.path+newSuffix) {
					t.Errorf("step %d: left behind %v", i, files)
				}
				d.fault = nil
				cutPower(t, l, d)
				l = openTest(t, o)
				round()
			}
			fail()
			c, err := l.Cursor("mimir", StartEnd)
			if err != nil {
				t.Fatal(err)
			}
			fail()
			begun := c.Position()
			if err := c.Save(begun, []byte("state")); err == nil || c.State() != nil {
				t.Errorf("step %d: a save into nothing: %v, state %q", i, err, c.State())
			}
			d.fault = nil
			round()
			if by == "save" {
				if err := c.Save(begun, []byte("state")); err != nil {
					t.Error(err)
				}
			}
			mustSync(t, l, now)
			d.now = now
			cutPower(t, l, d)
			l = openTest(t, o)
			if c, err = l.Cursor("mimir", StartEnd); err != nil || c.Position() != begun || by == "save" && string(c.State()) != "state" {
				t.Errorf("step %d, made by %s: %+v, %q, %v; want %+v", i, by, c.Position(), c.State(), err, begun)
			}
		}
	}
}

// TestCursorSaveFailsAtOpen holds that a cursor that has to begin again is
// opened though that cannot be saved: the next sync does.
func TestCursorSaveFailsAtOpen(t *testing.T) {
	d := newDisk(1)
	o := Options{Path: t.TempDir(), FS: d}
	l := openTest(t, o)
	mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	d.files[c.path].change(diskChange{0, make([]byte, cursorFileSize)})
	d.failing(map[string]error{opSaveCursor: unix.EIO})
	if c, err = l.Cursor("mimir", StartEnd); err != nil || !c.Recovered() || c.Position().Totals.Samples != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := l.Sync(testStart); err == nil {
		t.Error("synced without a save")
	}
	d.failing(nil)
	mustSync(t, l, testStart)
	if r, err := readCursorFile(d, c.path); err != nil || r.position != c.Position() {
		t.Errorf("%+v, %v", r, err)
	}
}
