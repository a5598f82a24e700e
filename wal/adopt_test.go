package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestAdoptCursor(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	series := testSeries(l, 1)
	mustAppend(t, l, roundOf(series, testStart, 0), testStart)
	mustSync(t, l, testStart)
	long := strings.Repeat("long/", 50)
	names := []string{"a/b", long, "mimir", "ünïcode"}
	for _, name := range names {
		c, err := l.Cursor(name, StartOldest)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Save(Position{Seq: 1, Totals: Totals{Samples: 1}}, []byte(name)); err != nil {
			t.Fatal(err)
		}
		if err := l.AdoptCursor(name, "other"); err == nil {
			t.Errorf("an open cursor, %q, is handed over", name)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	listed := func() []string {
		got, err := l.Cursors()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var want []string
	for _, name := range names {
		short, err := CursorName(name)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, short)
	}
	slices.Sort(want)
	if d := cmp.Diff(want, listed()); d != "" {
		t.Errorf("cursors (-want +got):\n%s", d)
	}

	for i, name := range names {
		to := "new " + name
		if err := l.AdoptCursor(name, to); err != nil {
			t.Fatal(err)
		}
		c, err := l.Cursor(to, StartEnd)
		if err != nil {
			t.Fatal(err)
		}
		if string(c.State()) != name || c.Position().Seq != 1 || c.Recovered() {
			t.Errorf("cursor %q has state %q at %+v", to, c.State(), c.Position())
		}
		if n := len(listed()); n != len(names) {
			t.Errorf("%d cursors after %d were handed over, want %d", n, i+1, len(names))
		}
		if err := l.AdoptCursor(to, "third"); err == nil {
			t.Error("a cursor that is open is handed over")
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AdoptCursor("nobody", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cursor that is not there: %v", err)
	}
	if err := l.AdoptCursor("new mimir", "new a/b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := l.AdoptCursor("new mimir", ""); err == nil {
		t.Error("a cursor without a name was made")
	}
}

// TestOrphansHoldNothingBack starts without an endpoint that was far behind:
// segments go when the others have passed them.
func TestOrphansHoldNothingBack(t *testing.T) {
	o := Options{Path: t.TempDir(), SegmentBytes: 1}
	l := openTest(t, o)
	for _, name := range []string{"behind", "present"} {
		if _, err := l.Cursor(name, StartOldest); err != nil {
			t.Fatal(err)
		}
	}
	series := testSeries(l, 10)
	for i := range 3 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	if err := errors.Join(l.SaveEndpoints([]string{"present"}), l.Close()); err != nil {
		t.Fatal(err)
	}

	l = openTest(t, o)
	c, err := l.Cursor("present", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Reader(c.Position())
	defer r.Close()
	for want := 3; want > 0; want-- {
		mustSync(t, l, testStart)
		if got := l.Stats().Segments; got != want {
			t.Errorf("%d segments, want %d", got, want)
		}
		var f Frame
		if err := r.Next(&f); err != nil {
			t.Fatal(err)
		}
		if err := c.Save(f.Position, nil); err != nil {
			t.Fatal(err)
		}
	}
	overview, err := Inspect(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range overview.Cursors {
		if c.Orphan != (c.Name == "behind") {
			t.Errorf("cursor %s, orphan: %t", c.Name, c.Orphan)
		}
	}
}

// TestHold hands a cursor over beside one that has passed everything, while the
// log is synced: nothing that it needs is removed.
func TestHold(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1})
	behind, err := l.Cursor("behind", StartOldest)
	if err != nil {
		t.Fatal(err)
	}
	series := testSeries(l, 10)
	for i := range 3 {
		now := testStart.Add(time.Duration(i) * time.Second)
		mustAppend(t, l, roundOf(series, now, 0), now)
	}
	mustSync(t, l, testStart)
	if _, err := l.Cursor("present", StartEnd); err != nil {
		t.Fatal(err)
	}
	release := l.Hold()
	if err := behind.Close(); err != nil {
		t.Fatal(err)
	}
	mustSync(t, l, testStart)
	if err := l.AdoptCursor("behind", "renamed"); err != nil {
		t.Fatal(err)
	}
	renamed, err := l.Cursor("renamed", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	release()
	mustSync(t, l, testStart)
	if samples, evicted, _ := readFrom(t, l, renamed.Position()); len(samples) != 30 || !evicted.IsZero() {
		t.Errorf("%d samples are left and %+v are gone, want all 30", len(samples), evicted)
	}
	if err := renamed.Close(); err != nil {
		t.Fatal(err)
	}
	mustSync(t, l, testStart)
	if n := l.Stats().Segments; n != 1 {
		t.Errorf("%d segments once nobody needs them, want 1", n)
	}
}

// TestAdoptCursorFaults has each file operation fail: the cursor has its old
// name or its new one, and all that is in it.
func TestAdoptCursorFaults(t *testing.T) {
	for op, want := range map[string]string{opList: "before", opAdoptCursor: "before", opSyncFolder: "after"} {
		t.Run(op, func(t *testing.T) {
			d := newDisk(1)
			l := openTest(t, Options{Path: t.TempDir(), FS: d})
			keepCursor(t, l, "before")
			d.failing(map[string]error{op: unix.EIO})
			if err := l.AdoptCursor("before", "after"); !errors.Is(err, unix.EIO) {
				t.Errorf("handing it over: %v", err)
			}
			d.failing(nil)
			if got, err := l.Cursors(); err != nil || !slices.Equal(got, []string{want}) {
				t.Errorf("cursors are %q, %v, want %q", got, err, want)
			}
			mustKeep(t, l, want)
			if err := l.AdoptCursor("before", "after"); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("handing it over again: %v", err)
			}
			mustKeep(t, l, "after")
		})
	}
}

// TestAdoptCursorPower cuts the power after each file operation of a start
// that hands a cursor over and saves the endpoint that has it: there is always
// one of the two, and the names never say that it is the new one before it is.
func TestAdoptCursorPower(t *testing.T) {
	for seed := range uint64(20) {
		for cut, done := 0, false; !done; cut++ {
			t.Run(fmt.Sprintf("seed %d, cut after %d", seed, cut), func(t *testing.T) {
				d := newDisk(seed)
				o := Options{Path: t.TempDir(), FS: d}
				l := openTest(t, o)
				keepCursor(t, l, "before")
				if err := l.SaveEndpoints([]string{"before"}); err != nil {
					t.Fatal(err)
				}
				mustSync(t, l, testStart)

				left := cut
				d.mu.Lock()
				d.fault = func(string, string) error {
					if left--; left < 0 {
						return unix.EIO
					}
					return nil
				}
				d.mu.Unlock()
				err := l.AdoptCursor("before", "after")
				if err == nil {
					err = l.SaveEndpoints([]string{"after"})
				}
				done = err == nil
				cutPower(t, l, d)
				d.failing(nil)

				l, err = Open(context.Background(), o, testStart)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				names, err := l.Endpoints()
				if err != nil || len(names) != 1 {
					t.Fatalf("endpoints are %q, %v", names, err)
				}
				if has, err := l.Cursors(); err != nil || names[0] == "after" && !slices.Contains(has, "after") || len(has) == 0 {
					t.Fatalf("cursors are %q, endpoints %q, %v", has, names, err)
				} else {
					mustKeep(t, l, has[0])
				}
				if done && names[0] != "after" {
					t.Errorf("endpoints are %q after all is done", names)
				}
			})
		}
	}
}

// keepCursor makes a cursor with something to be known by, of a log that has
// something in it.
func keepCursor(t *testing.T, l *Log, name string) {
	t.Helper()
	mustAppend(t, l, roundOf(testSeries(l, 1), testStart, 0), testStart)
	c, err := l.Cursor(name, StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Save(c.Position(), []byte("kept")), l.Sync(testStart), c.Close()); err != nil {
		t.Fatal(err)
	}
}

// mustKeep checks that a cursor is what keepCursor has made.
func mustKeep(t *testing.T, l *Log, name string) {
	t.Helper()
	c, err := l.Cursor(name, StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.State()) != "kept" {
		t.Errorf("cursor %q has state %q", name, c.State())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
