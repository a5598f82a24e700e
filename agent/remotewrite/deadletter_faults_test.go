package remotewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/wal"
)

// letterDisk counts the operations on the dead letter, and has them fail.
type letterDisk struct {
	wal.FileSystem
	mu    sync.Mutex
	calls map[string]int
	order []string
	fault func(op string) error
}

func newLetterDisk() *letterDisk {
	return &letterDisk{FileSystem: wal.OperatingSystem(), calls: map[string]int{}, fault: func(string) error { return nil }}
}

func (d *letterDisk) call(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[op]++
	d.order = append(d.order, op)
	return d.fault(op)
}

// took returns the operations since the last call.
func (d *letterDisk) took() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = map[string]int{}
	return calls
}

func (d *letterDisk) fails(ops ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = func(op string) error {
		if slices.Contains(ops, op) {
			return errors.New("input/output error, says the test")
		}
		return nil
	}
}

func (d *letterDisk) MkdirAll(op, path string, perm fs.FileMode) error {
	return errors.Join(d.call(op), d.FileSystem.MkdirAll(op, path, perm))
}

func (d *letterDisk) OpenFile(op, path string, flag int, perm fs.FileMode) (wal.File, error) {
	f, err := d.FileSystem.OpenFile(op, path, flag, perm)
	return &letterDiskFile{f, d}, err
}

func (d *letterDisk) ReadDir(op, path string) ([]fs.DirEntry, error) {
	if err := d.call(op); err != nil {
		return nil, err
	}
	return d.FileSystem.ReadDir(op, path)
}

func (d *letterDisk) Remove(op, path string) error {
	if err := d.call(op); err != nil {
		return err
	}
	return d.FileSystem.Remove(op, path)
}

func (d *letterDisk) Rename(op, from, to string) error {
	if err := d.call(op); err != nil {
		return err
	}
	return d.FileSystem.Rename(op, from, to)
}

func (d *letterDisk) SyncDir(op, path string) error {
	return errors.Join(d.call(op+" folder"), d.FileSystem.SyncDir(op, path))
}

type letterDiskFile struct {
	wal.File
	disk *letterDisk
}

// WriteAt writes a half when it is to fail.
func (f *letterDiskFile) WriteAt(op string, p []byte, off int64) (int, error) {
	if err := f.disk.call(op); err != nil {
		n, _ := f.File.WriteAt(op, p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(op, p, off)
}

func (f *letterDiskFile) Sync(op string) error {
	return errors.Join(f.disk.call(op), f.File.Sync(op))
}

func (f *letterDiskFile) Truncate(op string, size int64) error {
	if err := f.disk.call(op); err != nil {
		return err
	}
	return f.File.Truncate(op, size)
}

// TestDeadLetterFileOperations holds how often the disk is touched.
func TestDeadLetterFileOperations(t *testing.T) {
	disk := newLetterDisk()
	r := prometheus.NewRegistry()
	path := t.TempDir()
	d := openDead(t, DeadLetterOptions{Path: path, FS: disk, Registerer: r})
	d.look(epoch)
	body := 0
	keep := func(endpoint string) {
		body++
		d.keep(testLetter(endpoint), []byte{byte(body)})
	}
	disk.took()
	for _, step := range []struct {
		name string
		do   func()
		want map[string]int
	}{
		{"first letter", func() { keep("a") }, map[string]int{opLetterFolder: 1, opWriteLetter: 1}},
		{"two more", func() { keep("a"); keep("a") }, map[string]int{opWriteLetter: 2}},
		{"sync of another endpoint", func() { d.sync("b") }, map[string]int{}},
		{"sync of all three, and of the name", func() { d.sync("a") }, map[string]int{opSyncLetters: 1, opSyncLetters + " folder": 3}},
		{"nothing to sync", func() { d.sync("a") }, map[string]int{}},
		{"one more, and its sync", func() { keep("a"); d.sync("a") }, map[string]int{opWriteLetter: 1, opSyncLetters: 1}},
		{"one that is there", func() { d.keep(testLetter("a"), []byte{1}) }, map[string]int{}},
		{"a scrape", func() {
			if _, err := r.Gather(); err != nil {
				t.Error(err)
			}
		}, map[string]int{}},
		{"a look too soon", func() { d.look(epoch.Add(lookEvery - 1)) }, map[string]int{}},
		{"a look at a new folder", func() { d.look(epoch.Add(lookEvery)) }, map[string]int{opListLetters: 2}},
		{"a look at nothing new", func() { d.look(epoch.Add(2 * lookEvery)) }, map[string]int{}},
		{"a letter, and a look before its sync", func() {
			keep("a")
			if err := tellRemoved(path); err != nil {
				t.Error(err)
			}
			d.look(epoch.Add(3 * lookEvery))
			d.sync("a")
		}, map[string]int{opWriteLetter: 1, opListLetters: 2, opSyncLetters: 1}},
	} {
		step.do()
		if d := cmp.Diff(step.want, disk.took()); d != "" {
			t.Errorf("%s: operations (-want +got):\n%s", step.name, d)
		}
	}
	d = openDead(t, DeadLetterOptions{Path: path, FS: disk, NoSync: true})
	disk.took()
	keep("a")
	d.sync("a")
	if got := disk.took(); !maps.Equal(got, map[string]int{opWriteLetter: 1}) {
		t.Errorf("without syncs: operations %v", got)
	}
}

// TestDeadLetterFaults has each operation on the disk fail, and then the disk
// be well: letters are lost at most while it fails, are counted, and it is said
// once.
func TestDeadLetterFaults(t *testing.T) {
	for name, c := range map[string]struct {
		ops  []string
		kept int // of the two letters meanwhile
		says string
	}{
		"list":               {[]string{opListLetters}, 0, "cannot be written"},
		"folder":             {[]string{opLetterFolder}, 0, "cannot be written"},
		"write":              {[]string{opWriteLetter}, 0, "cannot be written"},
		"write and cut":      {[]string{opWriteLetter, opCutLetter}, 0, "cannot be written"},
		"write and remove":   {[]string{opWriteLetter, opRemoveLetters}, 0, "cannot be written"},
		"sync":               {[]string{opSyncLetters}, 2, "cannot be synced"},
		"sync of the folder": {[]string{opSyncLetters + " folder"}, 2, "cannot be synced"},
	} {
		for _, before := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, %d letters before", name, before), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "deadletter")
				if before > 0 {
					openDead(t, DeadLetterOptions{Path: path}).keep(testLetter("a"), []byte("before"))
				}
				var out bytes.Buffer
				disk := newLetterDisk()
				if name == "list" {
					disk.fails(c.ops...)
				}
				d := openDead(t, DeadLetterOptions{Path: path, FS: disk, Logger: slog.New(slog.NewTextHandler(&out, nil))})
				disk.fails(c.ops...)
				for i := range 2 {
					d.keep(testLetter("a"), []byte{byte(i)})
					d.sync("a")
				}
				if name == "folder" && before > 0 {
					c.kept, c.says = 2, "" // it is there
				}
				failed := 2
				if c.says == "" || strings.Contains(name, "folder") && c.kept == 2 && c.says == "" {
					failed = 0
				}
				if n := gaugeOf(t, d.failed); n != int64(failed) {
					t.Errorf("%d failures are counted, want %d", n, failed)
				}
				if n := strings.Count(out.String(), "level=ERROR"); n > 1 || c.says != "" && !strings.Contains(out.String(), c.says) {
					t.Errorf("want %q once:\n%s", c.says, out.String())
				}
				if name == "write" {
					if got := segmentsIn(t, filepath.Dir(path)); len(got) != before {
						t.Errorf("segments are %q, want %d", got, before)
					}
					for _, s := range d.segments {
						if info, err := os.Stat(s.path(path)); err != nil || info.Size() != s.size {
							t.Errorf("the segment is %+v, %v, want the half of a letter cut off at %d", info, err, s.size)
						}
					}
				}
				disk.fails()
				d.keep(testLetter("a"), []byte("after"))
				d.sync("a")
				if want := before + c.kept + 1; len(lettersOf(t, path)) != want || gaugeOf(t, d.letters) != int64(want) {
					t.Errorf("%d letters, counted as %d, want %d", len(lettersOf(t, path)), gaugeOf(t, d.letters), want)
				}
				if c.says != "" && strings.Count(out.String(), "again") != 1 {
					t.Errorf("want to be told once that it works again:\n%s", out.String())
				}
				again := openDead(t, DeadLetterOptions{Path: path})
				if got := gaugeOf(t, again.letters); got != gaugeOf(t, d.letters) || gaugeOf(t, again.bytes) != gaugeOf(t, d.bytes) {
					t.Errorf("the next start counts %d letters", got)
				}
			})
		}
	}
}

// TestDeadLetterAfterAKill tears a segment at every byte of its last letter.
// The next life goes on behind the last whole one, writes none twice, and no
// file is left that is of no use.
func TestDeadLetterAfterAKill(t *testing.T) {
	whole := testSegment(t, "first", "second")
	begins := len(testSegment(t, "first"))
	for at := range whole {
		path := t.TempDir()
		file := letterFile{folder: "a", number: 5}.path(path)
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, whole[:at], 0o600)); err != nil {
			t.Fatal(err)
		}
		d := openDead(t, DeadLetterOptions{Path: path})
		for _, body := range []string{"first", "second", "third"} {
			d.keep(testLetter("a"), []byte(body))
		}
		letters := lettersOf(t, path)
		if len(letters) != 3 || len(segmentsIn(t, path)) != 1 {
			t.Fatalf("torn at %d: %d letters in %q, want 3 in one segment", at, len(letters), segmentsIn(t, path))
		}
		if want := 3 - min(1, at/begins); gaugeOf(t, d.written) != int64(want) {
			t.Errorf("torn at %d: %d letters were written again, want %d", at, gaugeOf(t, d.written), want)
		}
	}
}

// TestTornLetterIsCutOff has the next letter be shorter than the torn one.
func TestTornLetterIsCutOff(t *testing.T) {
	path := t.TempDir()
	file := letterFile{folder: "a", number: 5}.path(path)
	torn := testSegment(t, "first", strings.Repeat("x", 5000))
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, torn[:len(torn)-1], 0o600)); err != nil {
		t.Fatal(err)
	}
	openDead(t, DeadLetterOptions{Path: path}).keep(testLetter("a"), []byte("second"))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if frames, end, damage, err := scanLetters(b); err != nil || damage || len(frames) != 2 || end != int64(len(b)) {
		t.Errorf("%d letters, end %d of %d, damage %t, %v", len(frames), end, len(b), damage, err)
	}
}
