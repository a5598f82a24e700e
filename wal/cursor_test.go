package wal

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// cursorFile is the path of the only cursor of a log.
func cursorFile(t *testing.T, dir, name string) string {
	t.Helper()
	path, err := cursorPath(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCursorSlots saves, loses slots, and opens again.
func TestCursorSlots(t *testing.T) {
	p := func(seq uint64) Position {
		return Position{Seq: seq, Segment: 1, Offset: 100, Totals: Totals{Samples: seq}}
	}
	zero := func(slot int) func(b []byte) {
		return func(b []byte) { clear(b[slot*cursorSlotSize:][:cursorSlotSize]) }
	}
	torn := func(slot int) func(b []byte) {
		return func(b []byte) { clear(b[slot*cursorSlotSize+60:][:100]) }
	}
	for name, c := range map[string]struct {
		damage    []func(b []byte)
		want      uint64
		recovered bool
	}{
		// Seq 1 and 2 are in slot 0, synced; 3 in slot 1, synced; 4 and 5 in slot 0.
		"whole":                      {nil, 5, false},
		"the newest is torn":         {[]func([]byte){torn(0)}, 3, false},
		"the newest is zero":         {[]func([]byte){zero(0)}, 3, false},
		"the older is torn":          {[]func([]byte){torn(1)}, 5, false},
		"both are lost":              {[]func([]byte){zero(0), torn(1)}, 0, true},
		"one bit":                    {[]func([]byte){func(b []byte) { b[40] ^= 1 }}, 3, false},
		"impossible length of state": {[]func([]byte){func(b []byte) { b[114] = 0xff }}, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir})
			series := testSeries(l, 1)
			for i := range 5 {
				now := testStart.Add(time.Duration(i) * time.Second)
				mustAppend(t, l, roundOf(series, now, 0), now)
			}
			cur, err := l.Cursor("mimir", StartEnd)
			if err != nil {
				t.Fatal(err)
			}
			save := func(seq uint64) {
				if err := cur.Save(p(seq), []byte{byte(seq)}); err != nil {
					t.Fatal(err)
				}
			}
			save(1)
			save(2)
			mustSync(t, l, testStart)
			save(3)
			mustSync(t, l, testStart)
			save(4)
			save(5)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			path := cursorFile(t, dir, "mimir")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, damage := range c.damage {
				damage(b)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, Options{Path: dir})
			if cur, err = l.Cursor("mimir", StartEnd); err != nil {
				t.Fatal(err)
			}
			if got := cur.Position(); got.Seq != c.want || cur.Recovered() != c.recovered {
				t.Errorf("position %+v, recovered %t; want seq %d, %t", got, cur.Recovered(), c.want, c.recovered)
			}
			if got := cur.State(); c.want > 0 && !bytes.Equal(got, []byte{byte(c.want)}) {
				t.Errorf("state %v does not belong to seq %d", got, c.want)
			}
		})
	}
}

func TestCursorLimits(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	if _, err := l.Cursor("", StartEnd); err == nil {
		t.Error("a cursor without a name was made")
	}
	for _, name := range []string{"mimir", "..", "a/b\x00", "https://mimir/api?x=1", strings.Repeat("long", 100), "ünïcode"} {
		c, err := l.Cursor(name, StartEnd)
		if err != nil {
			t.Fatalf("cursor %q: %v", name, err)
		}
		if _, err := l.Cursor(name, StartEnd); err == nil {
			t.Errorf("cursor %q is open twice", name)
		}
		state := bytes.Repeat([]byte{1}, MaxCursorState)
		if err := c.Save(c.Position(), state); err != nil || !bytes.Equal(c.State(), state) {
			t.Errorf("cursor %q with the largest state: %v", name, err)
		}
		if err := c.Save(c.Position(), append(state, 1)); err == nil {
			t.Errorf("cursor %q takes a state over the limit", name)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Save(c.Position(), nil); err == nil {
			t.Errorf("cursor %q can be saved when closed", name)
		}
	}
	if got, want := diskUsage(t, dir), l.Stats().Bytes; got != want {
		t.Errorf("%d bytes on disk, Stats says %d", got, want)
	}
}

// TestCursorOfAnotherLog holds that a position is never applied to frames it
// knows nothing of.
func TestCursorOfAnotherLog(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir})
	mustAppend(t, l, roundOf(testSeries(l, 2), testStart, 0), testStart)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	otherCursor(damageCase{t, dir})
	l = openTest(t, Options{Path: dir})
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	if c.Position().Totals.Samples != 0 || c.Recovered() {
		t.Errorf("position %+v, recovered %t", c.Position(), c.Recovered())
	}
}

// TestCursorsKeepTheLog takes the only segment, or its header, from endpoints
// that have passed all of it: they stay where they are, with what they have
// saved, and the log's totals go on. A cursor of another log changes nothing.
func TestCursorsKeepTheLog(t *testing.T) {
	for name, damage := range map[string]func(c damageCase){
		"the header zeroed":   func(c damageCase) { c.edit(c.segment(1), zero(0, segmentHeaderSize)) },
		"a bit of the header": func(c damageCase) { c.edit(c.segment(1), flip(20)) },
		"an empty file":       func(c damageCase) { c.must(os.Truncate(c.segment(1), 0)) },
		"a file of zeros":     func(c damageCase) { c.edit(c.segment(1), zero(0, 1<<20)) },
		"a missing file":      func(c damageCase) { c.must(os.Remove(c.segment(1))) },
		"all missing":         func(c damageCase) { c.must(os.RemoveAll(segmentsFolder(c.dir))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir})
			mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
			passed := l.end
			for _, name := range []string{"a", "b"} {
				c, err := l.Cursor(name, StartEnd)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Save(passed, []byte("ledger")); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			c := damageCase{t, dir}
			damage(c)
			otherCursor(c)
			now := testStart
			for i := range 3 {
				if o, err := Inspect(dir); err == nil && o.Cursors[0].Problem != "" {
					t.Errorf("start %d: %+v", i, o.Cursors)
				}
				l = openTest(t, Options{Path: dir})
				if got := l.Stats().Appended.Samples; got != uint64(10*(i+1)) {
					t.Errorf("start %d: totals %d", i, got)
				}
				for _, name := range []string{"a", "b"} {
					c, err := l.Cursor(name, StartEnd)
					if err != nil {
						t.Fatal(err)
					}
					if c.Position() != passed || c.Recovered() || string(c.State()) != "ledger" {
						t.Errorf("start %d: position %+v, recovered %t, state %q", i, c.Position(), c.Recovered(), c.State())
					}
				}
				now = now.Add(time.Second)
				mustAppend(t, l, roundOf(testSeries(l, 10), now, 0), now)
				mustSync(t, l, now)
				if got, evicted, damaged := readFrom(t, l, passed); len(got) != 10*(i+1) || !evicted.IsZero() || !damaged.IsZero() {
					t.Errorf("start %d: %d samples, evicted %+v, damaged %+v", i, len(got), evicted, damaged)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestCursorAheadOfTheLog takes the log's end away, as a power loss without
// syncs does, after it was shipped.
func TestCursorAheadOfTheLog(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, Sync: SyncNever})
	series := testSeries(l, 3)
	mustAppend(t, l, roundOf(series, testStart, 0), testStart)
	size := l.end.Offset
	now := testStart.Add(time.Second)
	mustAppend(t, l, roundOf(series, now, 1), now)
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	passed := c.Position()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(segmentPath(dir, 1), size); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir, Sync: SyncNever})
	if got := l.Stats().Appended; got != passed.Totals {
		t.Errorf("totals %+v fell below the cursor's %+v", got, passed.Totals)
	}
	now = now.Add(time.Second)
	mustAppend(t, l, roundOf(testSeries(l, 3), now, 2), now)
	if c, err = l.Cursor("mimir", StartEnd); err != nil || c.Position() != passed {
		t.Fatalf("cursor at %+v, %v; want %+v", c.Position(), err, passed)
	}
	got, evicted, damaged := readFrom(t, l, passed)
	if len(got) != 3 || got[0].V != 2 || !evicted.IsZero() || !damaged.IsZero() {
		t.Errorf("read %v, evicted %+v, damaged %+v", got, evicted, damaged)
	}
	got, _, damaged = readFrom(t, l, Position{})
	if len(got) != 6 || damaged.Samples != 3 {
		t.Errorf("from the beginning: %d samples, damaged %+v; want 6 and 3", len(got), damaged)
	}
}

func TestSecondProcessWaits(t *testing.T) {
	dir := t.TempDir()
	first := openTest(t, Options{Path: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockRetry)
	defer cancel()
	logged := &strings.Builder{}
	_, err := Open(ctx, Options{Path: dir, Logger: textLogger(logged)}, testStart)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process") {
		t.Errorf("waiting ended with %v", err)
	}
	if n := strings.Count(logged.String(), "another process holds the log; waiting"); n != 1 {
		t.Errorf("said %d times that it waits:\n%s", n, logged)
	}
	// One that waits long enough gets it.
	opened := make(chan error)
	go func() {
		l, err := Open(t.Context(), Options{Path: dir}, testStart)
		if err == nil {
			err = l.Close()
		}
		opened <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
