package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// TestEndpoints saves names and reads them in the process after.
func TestEndpoints(t *testing.T) {
	o := Options{Path: t.TempDir()}
	l := openTest(t, o)
	if names, err := l.Endpoints(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before any were saved there are %q, %v", names, err)
	}
	for _, names := range [][]string{
		{"b", "a/b", "line\nbreak", "ünïcode", "100%", strings.Repeat("long", 100)},
		{"one"},
		{},
	} {
		if err := l.SaveEndpoints(names); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, o)
		got, err := l.Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(slices.Sorted(slices.Values(names)), got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("endpoints (-want +got):\n%s", d)
		}
	}
	if err := l.SaveEndpoints([]string{strings.Repeat("x", maxEndpoints)}); err == nil {
		t.Error("names over the limit were saved")
	}
	if names, err := l.Cursors(); err != nil || len(names) > 0 {
		t.Errorf("the file of the names is a cursor: %q, %v", names, err)
	}
}

// TestEndpointsDamaged holds that damaged names are no names.
func TestEndpointsDamaged(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"cut":         func(b []byte) []byte { return b[:len(b)-6] },
		"a letter":    func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
		"zeros":       func(b []byte) []byte { return make([]byte, len(b)) },
		"more names":  func(b []byte) []byte { return append(b, "other\n"...) },
		"no checksum": func(b []byte) []byte { return b[9:] },
	} {
		t.Run(name, func(t *testing.T) {
			l := openTest(t, Options{Path: t.TempDir()})
			if err := l.SaveEndpoints([]string{"mimir", "thanos"}); err != nil {
				t.Fatal(err)
			}
			path := endpointsPath(l.o.Path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o640); err != nil {
				t.Fatal(err)
			}
			if names, err := l.Endpoints(); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("endpoints are %q, %v", names, err)
			}
			if err := l.SaveEndpoints([]string{"mimir"}); err != nil {
				t.Fatal(err)
			}
			if names, err := l.Endpoints(); err != nil || len(names) != 1 {
				t.Errorf("after the next save endpoints are %q, %v", names, err)
			}
		})
	}
}

// TestEndpointsFaults has each file operation fail: what an earlier start had
// is not taken for what the last one has.
func TestEndpointsFaults(t *testing.T) {
	for _, op := range []string{opSaveEndpoints, opSyncEndpoints, opPlaceEndpoints, opSyncFolder} {
		t.Run(op, func(t *testing.T) {
			d := newDisk(1)
			l := openTest(t, Options{Path: t.TempDir(), FS: d})
			if err := l.SaveEndpoints([]string{"a", "b"}); err != nil {
				t.Fatal(err)
			}
			d.failing(map[string]error{op: unix.ENOSPC})
			if err := l.SaveEndpoints([]string{"b", "a"}); err != nil {
				t.Errorf("saving the same names, which needs no write: %v", err)
			}
			if err := l.SaveEndpoints([]string{"a"}); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("saving others: %v", err)
			}
			if names, err := l.Endpoints(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("endpoints are %q, %v", names, err)
			}
			d.failing(map[string]error{op: unix.ENOSPC, opForgetEndpoints: unix.EROFS})
			if err := l.SaveEndpoints([]string{"a"}); !errors.Is(err, unix.EROFS) {
				t.Errorf("it is not said that the names cannot be removed: %v", err)
			}
			d.failing(nil)
			if err := l.SaveEndpoints([]string{"c"}); err != nil {
				t.Fatal(err)
			}
			if names, err := l.Endpoints(); err != nil || !slices.Equal(names, []string{"c"}) {
				t.Errorf("once the disk works, endpoints are %q, %v", names, err)
			}
		})
	}
}

func FuzzDecodeEndpoints(f *testing.F) {
	for _, lines := range []string{"", "a\nb\n", "a%2Fb", "%zz\n", "\n\n", "a\nb"} {
		f.Add([]byte(lines))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		_, _ = decodeEndpoints(lines)
		names, err := decodeEndpoints(fmt.Appendf(nil, "%08x\n%s", crc32.Checksum(lines, castagnoli), lines))
		if err != nil {
			return
		}
		again, err := decodeEndpoints(encodeEndpoints(names))
		if err != nil || !slices.Equal(again, slices.Sorted(slices.Values(names))) {
			t.Errorf("%q becomes %q, %v", names, again, err)
		}
	})
}
