package wal

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
