package remotewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// keepCursors leaves a cursor of each name behind.
func keepCursors(t *testing.T, j journal, names ...string) {
	t.Helper()
	for _, name := range names {
		c, err := j.Cursor(name, wal.StartEnd)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func mustAdopt(t *testing.T, j journal, letters *DeadLetter, endpoints ...config.RemoteWrite) (logged string) {
	t.Helper()
	var out bytes.Buffer
	if err := Adopt(j.Log, letters, endpoints, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func cursorsOf(t *testing.T, j journal) []string {
	t.Helper()
	names, err := j.Cursors()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func named(name string) config.RemoteWrite { return config.RemoteWrite{Name: name} }

func adopting(name, from string) config.RemoteWrite {
	return config.RemoteWrite{Name: name, AdoptFrom: from, StartAt: config.StartAtEnd}
}

func openLetters(t *testing.T) *DeadLetter {
	t.Helper()
	d, err := OpenDeadLetter(DeadLetterOptions{Path: t.TempDir(), MaxBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAdopt starts with the endpoints there were, whose names are saved, and
// then with others.
func TestAdopt(t *testing.T) {
	long := strings.Repeat("x", 300)
	type endpoints = []config.RemoteWrite
	for name, c := range map[string]struct {
		before  []string // nil: not known
		cursors []string
		now     endpoints
		want    []string
		says    string // nothing if empty
	}{
		"nothing new":    {[]string{"a"}, []string{"a"}, endpoints{named("a")}, []string{"a"}, ""},
		"the first one":  {nil, nil, endpoints{named("a")}, nil, ""},
		"one is added":   {[]string{"a"}, []string{"a"}, endpoints{named("a"), named("b")}, []string{"a"}, ""},
		"two are added":  {[]string{"a"}, []string{"a"}, endpoints{named("a"), named("b"), named("c")}, []string{"a"}, ""},
		"one is renamed": {[]string{"a", "b"}, []string{"a", "b"}, endpoints{named("a"), named("c")}, []string{"a", "c"}, "endpoint=c from=b"},
		"one is removed": {[]string{"a", "b"}, []string{"a", "b"}, endpoints{named("a")}, []string{"a", "b"}, "cursor=b"},
		"all are removed": {[]string{"a", "b"}, []string{"a", "b"}, nil, []string{"a", "b"},
			"cursor=a"},
		"one is added, long after another was removed": {[]string{"a"}, []string{"a", "old"}, endpoints{named("a"), named("b")}, []string{"a", "old"}, "cursor=old"},
		"one is renamed, long after another was removed": {[]string{"a"}, []string{"a", "old"}, endpoints{named("b")}, []string{"b", "old"},
			"endpoint=b from=a"},
		"one is renamed as one was that was removed": {[]string{"a"}, []string{"a", "old"}, endpoints{named("old")}, []string{"a", "old"}, "cursor=a"},
		"two swap names":         {[]string{"a", "b"}, []string{"a", "b"}, endpoints{named("b"), named("a")}, []string{"a", "b"}, ""},
		"two are renamed":        {[]string{"a", "b"}, []string{"a", "b"}, endpoints{named("c"), named("d")}, []string{"a", "b"}, `vanished="[a b]" new="[c d]"`},
		"two vanish, one is new": {[]string{"a", "b"}, []string{"a", "b"}, endpoints{named("c")}, []string{"a", "b"}, `vanished="[a b]" new=[c]`},
		"one vanishes, two are new": {[]string{"a"}, []string{"a"}, endpoints{named("b"), named("c")}, []string{"a"},
			`vanished=[a] new="[b c]"`},
		"two vanish, one without a cursor": {[]string{"a", "b"}, []string{"a"}, endpoints{named("c")}, []string{"a"},
			"vanished=[a] new=[c]"},
		"the one that vanished never had a cursor": {[]string{"a"}, []string{"old"}, endpoints{named("b")}, []string{"old"}, "cursor=old"},
		"names are not known": {nil, []string{"a"}, endpoints{named("b")}, []string{"a"},
			"at the last start is not known"},

		"adopt_from":                          {[]string{"a", "b"}, []string{"a", "b"}, endpoints{adopting("c", "b"), adopting("d", "a")}, []string{"c", "d"}, "endpoint=d from=a"},
		"adopt_from, and one more is renamed": {[]string{"a", "b"}, []string{"a", "b"}, endpoints{adopting("c", "b"), named("d")}, []string{"c", "d"}, "endpoint=d from=a"},
		"adopt_from one that was removed long ago": {[]string{"a"}, []string{"a", "old"}, endpoints{named("a"), adopting("b", "old")}, []string{"a", "b"},
			"endpoint=b from=old"},
		"adopt_from, names are not known":         {nil, []string{"a"}, endpoints{adopting("b", "a")}, []string{"b"}, "endpoint=b from=a"},
		"adopt_from one that is not there":        {[]string{"a"}, []string{"a"}, endpoints{adopting("c", "b")}, []string{"a"}, "adopt_from=b start_at=end orphans=[a]"},
		"adopt_from one that is not there, again": {[]string{"c"}, []string{"c"}, endpoints{adopting("c", "b")}, []string{"c"}, ""},
		"adopt_from one that is not there, and one more is new": {[]string{"a"}, []string{"a"}, endpoints{adopting("c", "b"), named("d")}, []string{"a"},
			"vanished=[a] new=[d]"},
		"adopt_from with a cursor": {[]string{"a", "b"}, []string{"a", "b"}, endpoints{adopting("a", "b")}, []string{"a", "b"}, "does not take over another"},
		"adopt_from, a name too long for a file": {[]string{long}, []string{long}, endpoints{adopting("a", long)}, []string{"a"},
			"endpoint=a"},
		"renamed, a name too long for a file": {[]string{long}, []string{long}, endpoints{named("a")}, []string{"a"}, "endpoint=a"},
	} {
		t.Run(name, func(t *testing.T) {
			j := openJournal(t, t.TempDir(), wal.Options{})
			keepCursors(t, j, c.cursors...)
			if c.before != nil {
				if err := j.SaveEndpoints(c.before); err != nil {
					t.Fatal(err)
				}
			}
			out := mustAdopt(t, j, nil, c.now...)
			if d := cmp.Diff(c.want, cursorsOf(t, j)); d != "" {
				t.Errorf("cursors (-want +got):\n%s", d)
			}
			if c.says == "" && out != "" || !strings.Contains(out, c.says) {
				t.Errorf("want %q in the log:\n%s", c.says, out)
			}
			var want []string
			for _, e := range c.now {
				want = append(want, e.Name)
			}
			slices.Sort(want)
			if got, err := j.Endpoints(); err != nil || !slices.Equal(got, want) {
				t.Errorf("endpoints are %q, %v, want %q", got, err, want)
			}
		})
	}
}

// TestAdoptedEndpointGoesOn renames an endpoint with a backlog, to the same
// address and to another.
func TestAdoptedEndpointGoesOn(t *testing.T) {
	for _, moved := range []bool{false, true} {
		j, f, o := backlog(t)
		mustAdopt(t, j, nil, o.Endpoint)
		s := newShip(t, o)
		j.appendDue(5)
		s.drain(epoch)
		j.append(epoch, round(j.family("due", 5), epoch, 2)...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f.received()
		o.Endpoint.Name = "renamed"
		to := f
		if moved {
			to = newFake(t)
			o.Endpoint.URL = endpoint(t, to.URL).URL
		}
		mustAdopt(t, j, nil, o.Endpoint)
		s = newShip(t, o)
		if l := s.balance(); l.Sent.Samples != 5 || l.Pending.Samples != 5 {
			t.Errorf("ledger is %+v, want the books of the one before", l)
		}
		if s.learned.Confirmed == moved {
			t.Errorf("moved: %t, and what was learned: %+v", moved, s.learned)
		}
		s.drain(epoch.Add(time.Minute))
		if n := len(to.lines()); n != 5 {
			t.Errorf("%d samples arrived, want the 5 that were pending", n)
		}
	}
}

// TestEndpointComesBack removes an endpoint that is behind, and brings it back
// when the log has not all that it missed.
func TestEndpointComesBack(t *testing.T) {
	j := openJournal(t, t.TempDir(), wal.Options{SegmentBytes: 1})
	f := newFake(t)
	behind, present := endpoint(t, f.URL), endpoint(t, f.URL)
	behind.Name, present.Name = "behind", "present"
	mustAdopt(t, j, nil, behind, present)
	away, stays := newShip(t, Options{Endpoint: behind, Log: j.Log}), newShip(t, Options{Endpoint: present, Log: j.Log})
	due := j.family("due", 5)
	now := epoch
	add := func() {
		now = now.Add(time.Minute)
		j.append(now, round(due, now, 1)...)
	}
	add()
	add()
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	mustAdopt(t, j, nil, present)
	stays.drain(now)
	add()
	if n := j.Stats().Segments; n != 1 {
		t.Errorf("%d segments, want that of the last round", n)
	}

	mustAdopt(t, j, nil, behind, present)
	f.received()
	back := newShip(t, Options{Endpoint: behind, Log: j.Log})
	back.drain(now.Add(time.Minute))
	if l := back.balance(); l.Appended.Samples != 15 || l.Dropped[ReasonEvicted].Samples != 10 || l.Sent.Samples != 5 {
		t.Errorf("ledger is %+v, want 15 samples, 10 of them gone and 5 sent", l)
	}
}

// TestDeadLettersGoAlong renames an endpoint with letters to one that has some.
func TestDeadLettersGoAlong(t *testing.T) {
	j := openJournal(t, t.TempDir(), wal.Options{})
	d := openLetters(t)
	for i, name := range []string{"before", "after", "before", "other"} {
		l := testLetter(name)
		l.Samples = uint64(i + 1)
		d.keep(l, []byte{byte(i)})
	}
	keepCursors(t, j, "before", "other")
	mustAdopt(t, j, d, named("before"), named("other"))
	mustAdopt(t, j, d, named("after"), named("other"))
	letters, err := Letters(d.path, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprint(l.Samples, " ", l.Endpoint))
	}
	if diff := cmp.Diff([]string{"1 after", "2 after", "3 after", "4 other"}, slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// TestAdoptionIsMadeGood ends a start between the two moves of an adoption, and
// in the middle of the first: the next start does the rest.
func TestAdoptionIsMadeGood(t *testing.T) {
	for name, e := range map[string]config.RemoteWrite{"renamed": named("after"), "adopt_from": adopting("after", "before")} {
		t.Run(name, func(t *testing.T) {
			j := openJournal(t, t.TempDir(), wal.Options{})
			d := openLetters(t)
			d.keep(testLetter("before"), nil)
			keepCursors(t, j, "before")
			mustAdopt(t, j, d, named("before"))
			if err := d.moveLetters("before", "after"); err != nil {
				t.Fatal(err)
			}
			d.keep(testLetter("before"), nil)

			mustAdopt(t, j, d, e)
			if got := cursorsOf(t, j); !slices.Equal(got, []string{"after"}) {
				t.Errorf("cursors are %q", got)
			}
			if letters, err := Letters(d.path, "after"); err != nil || len(letters) != 2 {
				t.Errorf("letters are %+v, %v", letters, err)
			}
		})
	}
}

// stubborn is a file system that refuses some renames.
type stubborn struct {
	wal.FileSystem
	suffix string // of the new names that are refused; empty: none
}

func (f *stubborn) Rename(op, from, to string) error {
	if f.suffix != "" && strings.HasSuffix(to, f.suffix) {
		return &fs.PathError{Op: op, Path: to, Err: fs.ErrPermission}
	}
	return f.FileSystem.Rename(op, from, to)
}

// TestAdoptionThatFails holds that no start forgets what it could not do.
func TestAdoptionThatFails(t *testing.T) {
	disk := &stubborn{FileSystem: wal.OperatingSystem()}
	j := openJournal(t, t.TempDir(), wal.Options{FS: disk})
	d := openLetters(t)
	d.keep(testLetter("before"), nil)
	keepCursors(t, j, "before")
	mustAdopt(t, j, d, named("before"))
	disk.suffix = ".cursor"
	for range 2 {
		err := Adopt(j.Log, d, []config.RemoteWrite{named("after")}, slog.New(slog.DiscardHandler))
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "see to it that the agent's user may write there") {
			t.Errorf("a cursor that cannot be handed over: %v", err)
		}
		if got := cursorsOf(t, j); !slices.Equal(got, []string{"before"}) {
			t.Errorf("cursors are %q", got)
		}
		if got, err := j.Endpoints(); err != nil || !slices.Equal(got, []string{"before"}) {
			t.Errorf("endpoints are %q, %v", got, err)
		}
	}
	disk.suffix = ""
	mustAdopt(t, j, d, named("after"))
	if got := cursorsOf(t, j); !slices.Equal(got, []string{"after"}) {
		t.Errorf("cursors are %q", got)
	}
	if letters, err := Letters(d.path, "after"); err != nil || len(letters) != 1 {
		t.Errorf("letters are %+v, %v", letters, err)
	}
}

// TestNamesThatCannotBeSaved holds that a start goes on without, and that the
// next one does not go by older names.
func TestNamesThatCannotBeSaved(t *testing.T) {
	disk := &stubborn{FileSystem: wal.OperatingSystem()}
	j := openJournal(t, t.TempDir(), wal.Options{FS: disk})
	keepCursors(t, j, "a", "removed")
	mustAdopt(t, j, nil, named("a"), named("removed"))
	disk.suffix = "endpoints"
	if out := mustAdopt(t, j, nil, named("a")); !strings.Contains(out, "but with adopt_from") {
		t.Errorf("the log does not say what becomes of it:\n%s", out)
	}
	disk.suffix = ""
	if out := mustAdopt(t, j, nil, named("a"), named("b")); !strings.Contains(out, "at the last start is not known") {
		t.Errorf("the log does not say why nothing is handed over:\n%s", out)
	}
	if got := cursorsOf(t, j); !slices.Equal(got, []string{"a", "removed"}) {
		t.Errorf("cursors are %q, want none handed over", got)
	}
}
