package remotewrite

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/wal"
)

func TestAdopt(t *testing.T) {
	named := func(name, adoptFrom string) config.RemoteWrite {
		return config.RemoteWrite{Name: name, AdoptFrom: adoptFrom}
	}
	for name, c := range map[string]struct {
		cursors   []string
		endpoints []config.RemoteWrite
		want      []string
		says      string // nothing if empty
	}{
		"nothing new":               {[]string{"a"}, []config.RemoteWrite{named("a", "")}, []string{"a"}, ""},
		"the first start":           {nil, []config.RemoteWrite{named("a", "")}, nil, ""},
		"one vanished, one new":     {[]string{"a", "b"}, []config.RemoteWrite{named("a", ""), named("c", "")}, []string{"a", "c"}, "endpoint=c from=b"},
		"one vanished":              {[]string{"a", "b"}, []config.RemoteWrite{named("a", "")}, []string{"a", "b"}, "cursor=b"},
		"two vanished, one new":     {[]string{"a", "b"}, []config.RemoteWrite{named("c", "")}, []string{"a", "b"}, "cursor=a"},
		"one vanished, two new":     {[]string{"a"}, []config.RemoteWrite{named("b", ""), named("c", "")}, []string{"a"}, "cursor=a"},
		"adopt_from":                {[]string{"a", "b"}, []config.RemoteWrite{named("c", "b"), named("d", "a")}, []string{"c", "d"}, "endpoint=d from=a"},
		"adopt_from and the rest":   {[]string{"a", "b"}, []config.RemoteWrite{named("c", "b"), named("d", "")}, []string{"c", "d"}, "endpoint=d from=a"},
		"adopt_from what is gone":   {[]string{"a"}, []config.RemoteWrite{named("c", "b")}, []string{"a"}, "adopt_from=b"},
		"adopt_from with a cursor":  {[]string{"a", "b"}, []config.RemoteWrite{named("a", "b")}, []string{"a", "b"}, "cursor=b"},
		"a name too long for files": {[]string{strings.Repeat("x", 300)}, []config.RemoteWrite{named("a", strings.Repeat("x", 300))}, []string{"a"}, "endpoint=a"},
	} {
		t.Run(name, func(t *testing.T) {
			j := openJournal(t, t.TempDir(), wal.Options{})
			for _, name := range c.cursors {
				cursor, err := j.Cursor(name, wal.StartEnd)
				if err != nil {
					t.Fatal(err)
				}
				if err := cursor.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			if err := Adopt(j.Log, c.endpoints, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
				t.Fatal(err)
			}
			got, err := j.Cursors()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("cursors (-want +got):\n%s", d)
			}
			if c.says == "" && out.Len() > 0 || !strings.Contains(out.String(), c.says) {
				t.Errorf("want %q in the log:\n%s", c.says, out.String())
			}
		})
	}
}

// TestAdoptedEndpointGoesOn renames an endpoint with a backlog, to the same
// address and to another.
func TestAdoptedEndpointGoesOn(t *testing.T) {
	for _, moved := range []bool{false, true} {
		j, f, o := backlog(t)
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
		if err := Adopt(j.Log, []config.RemoteWrite{o.Endpoint}, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
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
