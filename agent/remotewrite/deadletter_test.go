package remotewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// openDead opens a dead letter of 1 MiB unless o says more.
func openDead(tb testing.TB, o DeadLetterOptions) *DeadLetter {
	tb.Helper()
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	d, err := OpenDeadLetter(o)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func gaugeOf(tb testing.TB, g prometheus.Collector) int64 {
	tb.Helper()
	return int64(testutil.ToFloat64(g))
}

// segmentsIn lists all files below the folder of a dead letter.
func segmentsIn(tb testing.TB, path string) (files []string) {
	tb.Helper()
	err := filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, strings.TrimPrefix(file, path+"/"))
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

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

// TestDeadLetterIsBounded writes letters of two endpoints.
func TestDeadLetterIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deadletter")
	const bound, letters = 300_000, 1000
	r := prometheus.NewRegistry()
	d := openDead(t, DeadLetterOptions{Path: path, MaxBytes: bound, Registerer: r})
	for i := range letters {
		l := testLetter([]string{"a", "../b/:"}[i%2])
		l.Time = epoch.Add(time.Duration(i) * time.Second)
		d.keep(l, fmt.Appendf(nil, "%700d", i))
	}
	kept := lettersOf(t, path)
	for i, l := range kept[len(kept)-100:] {
		if want := epoch.Add(time.Duration(letters-100+i) * time.Second); !l.Time.Equal(want) {
			t.Errorf("letter %d is of %s, want %s: the oldest go", i, l.Time, want)
		}
	}
	bytes := int64(0)
	for _, file := range segmentsIn(t, path) {
		info, err := os.Stat(filepath.Join(path, file))
		if err != nil {
			t.Fatal(err)
		}
		bytes += onDisk(info.Size())
	}
	if bytes > bound || bytes < bound*3/4 {
		t.Errorf("%d letters of %d bytes, the bound is %d", len(kept), bytes, bound)
	}
	show := func(evicted, written int) string {
		return fmt.Sprintf(`
# HELP sql2metrics_dead_letter_bytes Bytes of the dead letter on disk.
# TYPE sql2metrics_dead_letter_bytes gauge
sql2metrics_dead_letter_bytes %d
# HELP sql2metrics_dead_letter_requests Refused requests in the dead letter.
# TYPE sql2metrics_dead_letter_requests gauge
sql2metrics_dead_letter_requests %d
# HELP sql2metrics_dead_letter_requests_evicted_total Requests removed from the dead letter to keep storage.dead_letter_max_bytes.
# TYPE sql2metrics_dead_letter_requests_evicted_total counter
sql2metrics_dead_letter_requests_evicted_total %d
# HELP sql2metrics_dead_letter_requests_written_total Refused requests that were written to the dead letter.
# TYPE sql2metrics_dead_letter_requests_written_total counter
sql2metrics_dead_letter_requests_written_total %d
`, bytes, len(kept), evicted, written)
	}
	names := []string{"sql2metrics_dead_letter_bytes", "sql2metrics_dead_letter_requests", "sql2metrics_dead_letter_requests_evicted_total", "sql2metrics_dead_letter_requests_written_total"}
	if err := testutil.GatherAndCompare(r, strings.NewReader(show(letters-len(kept), letters)), names...); err != nil {
		t.Error(err)
	}
	r = prometheus.NewRegistry()
	openDead(t, DeadLetterOptions{Path: path, MaxBytes: bound, Registerer: r})
	if err := testutil.GatherAndCompare(r, strings.NewReader(show(0, 0)), names...); err != nil {
		t.Errorf("after a start: %v", err)
	}
	if of, err := Letters(path, "../b/:"); err != nil || len(of) == 0 || len(of) == len(kept) {
		t.Errorf("%d letters of one endpoint, %v", len(of), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the folder there are %v, %v", entries, err)
	}
}

// TestDeadLetterBounds has bounds of which a segment is a large part.
func TestDeadLetterBounds(t *testing.T) {
	var out bytes.Buffer
	path := t.TempDir()
	d := openDead(t, DeadLetterOptions{Path: path, MaxBytes: 8192, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for i := range 9 {
		d.keep(testLetter(strconv.Itoa(i%3)), fmt.Appendf(nil, "%4000d", i))
		if n := len(lettersOf(t, path)); n != 1 {
			t.Fatalf("%d letters, want the newest", n)
		}
	}
	d.keep(testLetter("0"), make([]byte, 9000))
	if n := len(lettersOf(t, path)); n != 1 || !strings.Contains(out.String(), "over storage.dead_letter_max_bytes, 8192") {
		t.Errorf("%d letters after one that does not fit, and the log says %q", n, out.String())
	}
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

// TestForeignFilesAreLeftAlone has others' files in the folder, and a segment
// of a version to come.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	path := t.TempDir()
	newer := letterFile{folder: "a", number: 3}.path("")
	files := []string{"20260301T120000-1-0.letter", "a/20260301T120000-1-0.letter", "a/20260301T120000-1-0.letter.tmp", "a/b/c", "notes", newer}
	for _, file := range files {
		file = filepath.Join(path, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("s2mdlet2 and more"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	d := openDead(t, DeadLetterOptions{Path: path, MaxBytes: 16384})
	if gaugeOf(t, d.letters) != 0 || gaugeOf(t, d.bytes) != 0 {
		t.Errorf("%d letters are counted", gaugeOf(t, d.letters))
	}
	for i := range 20 {
		d.keep(testLetter("a"), fmt.Appendf(nil, "%3000d", i))
	}
	if got := segmentsIn(t, path); !slices.Contains(got, strings.TrimPrefix(newer, "/")) || len(got) < len(files)+1 {
		t.Errorf("files are %q", got)
	}
	letters, err := Letters(path, "a")
	if len(letters) == 0 || err == nil || !strings.Contains(err.Error(), newer) {
		t.Errorf("%d letters, %v, want some, and the segment named", len(letters), err)
	}
}

// TestDeletedFolder has somebody delete all letters by hand.
func TestDeletedFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deadletter")
	d := openDead(t, DeadLetterOptions{Path: path})
	d.keep(testLetter("a"), []byte("first"))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	d.sync("a")
	d.keep(testLetter("a"), []byte("second"))
	if n := len(lettersOf(t, path)); n != 1 || gaugeOf(t, d.letters) != 1 {
		t.Errorf("%d letters, counted as %d, want the new one", n, gaugeOf(t, d.letters))
	}
}

// TestAdoptedLetters hands letters over, with faults in between.
func TestAdoptedLetters(t *testing.T) {
	long := strings.Repeat("long/", 60)
	short, err := wal.CursorName(long)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, from string }{"a name": {"old", "old"}, "a short form": {long, short}} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			disk := newLetterDisk()
			d := openDead(t, DeadLetterOptions{Path: path, MaxBytes: 64 << 10, FS: disk})
			for i := range 6 {
				d.keep(testLetter(c.was), fmt.Appendf(nil, "%5000d", i))
			}
			d.keep(testLetter("new"), []byte("left from before"))
			disk.fails(opMoveLetters)
			if err := d.moveLetters(c.from, "new"); err == nil {
				t.Error("no error is told")
			}
			disk.fails()
			for range 2 {
				if err := d.moveLetters(c.from, "new"); err != nil {
					t.Error(err)
				}
			}
			letters, err := Letters(path, "")
			if err != nil || len(letters) != 7 {
				t.Errorf("%d letters, %v, want 7", len(letters), err)
			}
			for _, l := range letters {
				if l.Endpoint != "new" {
					t.Errorf("a letter is of %q", l.Endpoint)
				}
			}
			if of, err := Letters(path, "new"); err != nil || len(of) != 7 {
				t.Errorf("%d letters of the endpoint, %v", len(of), err)
			}
			if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
				t.Errorf("folders are %v, %v", entries, err)
			}
			d.keep(testLetter("new"), []byte("goes on"))
			if n := len(lettersOf(t, path)); n != 8 || gaugeOf(t, d.letters) != 8 {
				t.Errorf("%d letters, counted as %d, want 8", n, gaugeOf(t, d.letters))
			}
		})
	}
}

// TestDeadLetterThatCannotBeWritten counts all the same.
func TestDeadLetterThatCannotBeWritten(t *testing.T) {
	j, f, o := backlog(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o.DeadLetter = openDead(t, DeadLetterOptions{Path: path, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = 1
	s := newShip(t, o)
	j.appendDue(5)
	f.says(http.StatusConflict, "no")
	s.drain(epoch)
	if l := s.balance(); l.Dropped[ReasonRejected].Samples != 5 {
		t.Errorf("ledger is %+v, want 5 samples rejected", l)
	}
	if n := strings.Count(out.String(), "cannot be written"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, out.String())
	}
}

// TestLettersAreSafeBeforeTheirOutcome holds that no cursor says that samples
// were refused before their letter survives power loss.
func TestLettersAreSafeBeforeTheirOutcome(t *testing.T) {
	disk := newLetterDisk()
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{FS: disk})
	o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log, DeadLetter: openDead(t, DeadLetterOptions{Path: t.TempDir(), FS: disk})}
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = 10
	s := newShip(t, o)
	st := newStore(poisonIs("3", "31"))
	st.serve(f)
	j.append(epoch.Add(-time.Minute), round(j.family("due", 40), epoch.Add(-time.Minute), 1)...)
	s.drain(epoch)
	written, unsafe, saved := 0, false, false
	for _, op := range disk.order {
		switch op {
		case opWriteLetter:
			written, unsafe, saved = written+1, true, false
		case opSyncLetters:
			unsafe = false
		case "save cursor":
			saved = true
			if unsafe {
				t.Error("a cursor is saved between a letter and its sync")
			}
		}
	}
	if written != 2 || !saved {
		t.Errorf("%d letters were written, want 2, and the cursor saved: %q", written, disk.order)
	}
}

// TestStepNoticesRemovals has all letters removed while the endpoint is down.
func TestStepNoticesRemovals(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, path := isolating(t, o)
	j.appendDue(5)
	f.says(http.StatusConflict, "no")
	s.drain(epoch)
	f.says(http.StatusServiceUnavailable, "later")
	j.append(epoch, round(j.family("later", 5), epoch, 1)...)
	s.drain(epoch.Add(time.Minute))
	if n, err := RemoveLetters(path, lettersOf(t, path)); n != 1 || err != nil {
		t.Fatalf("removed %d, %v, want one", n, err)
	}
	s.step(epoch.Add(time.Minute + lookEvery))
	if n := gaugeOf(t, s.deadLetter.letters); n != 0 || len(segmentsIn(t, path)) != 0 {
		t.Errorf("%d letters are counted, and %q is left", n, segmentsIn(t, path))
	}
}

// TestResend sends what was refused again, the same bytes.
func TestResend(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, p config.Protocol) {
		j, f, o := backlog(t)
		o.Endpoint.Protocol = p
		s, path := isolating(t, o)
		j.appendDue(5)
		f.says(http.StatusConflict, "no")
		s.drain(epoch)
		refused := f.bodies()[0]
		letters := lettersOf(t, path)
		if len(letters) != 1 {
			t.Fatalf("dead letters are %+v, want one", letters)
		}
		r, err := NewResender(o.Endpoint, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Resend(t.Context(), letters[0]); err == nil || !strings.Contains(err.Error(), "409 Conflict: no") {
			t.Errorf("the error is %v, want the receiver's words", err)
		}
		if n := len(lettersOf(t, path)); n != 1 {
			t.Errorf("%d letters are left after a refusal, want it", n)
		}
		f.received()
		f.takes()
		if answer, err := r.Resend(t.Context(), letters[0]); err != nil || answer != "200 OK" {
			t.Errorf("answer %q, %v", answer, err)
		}
		if got := f.bodies(); len(got) != 1 || got[0] != refused {
			t.Error("the bytes are not those that were refused")
		}
		if n := len(lettersOf(t, path)); n != 0 {
			t.Errorf("%d letters are left", n)
		}
		if _, err := r.Resend(t.Context(), letters[0]); err == nil {
			t.Error("a letter that is gone is sent")
		}
	})
}

// TestPartlyWritten has a receiver of 2.0 say that it has written less than it
// was sent.
func TestPartlyWritten(t *testing.T) {
	for name, c := range map[string]struct {
		status             int
		samples, exemplars int // written
		want               []*Written
	}{
		"2xx, a part":            {200, 3, 1, []*Written{{Samples: 3, Exemplars: 1}}},
		"2xx, nothing":           {200, 0, 0, []*Written{nil}},
		"2xx, all but exemplars": {200, 5, 0, nil},
		"4xx, a part":            {400, 3, 1, []*Written{{Samples: 3, Exemplars: 1}}},
		"4xx, all but exemplars": {400, 5, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV2
			s, path := isolating(t, o)
			due := j.family("due", 5)
			j.appendRound(epoch.Add(-time.Minute), wal.Round{
				Samples:   round(due, epoch.Add(-time.Minute), 1),
				Exemplars: []wal.Exemplar{{Series: due[0], T: epoch.Add(-time.Minute).UnixMilli(), V: 1}},
			})
			f.answers(func(w http.ResponseWriter, _ post) {
				w.Header().Set(headerSamplesWritten, strconv.Itoa(c.samples))
				w.Header().Set(headerExemplarsWritten, strconv.Itoa(c.exemplars))
				w.WriteHeader(c.status)
			})
			s.drain(epoch)
			if l := s.balance(); l.Sent.Samples != uint64(c.samples) || l.Dropped[ReasonRejected].Samples != uint64(5-c.samples) || l.Dropped[ReasonRejected].Exemplars != uint64(1-c.exemplars) {
				t.Errorf("ledger is %+v", l)
			}
			var got []*Written
			for _, l := range lettersOf(t, path) {
				got = append(got, l.Written)
				if l.Samples != 5 || l.Exemplars != 1 || l.Status != c.status || l.Reason != ReasonRejected {
					t.Errorf("dead letter is %+v, want the whole request", l)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("what the letters say is written (-want +got):\n%s", d)
			}
		})
	}
}

// TestLetterIsWhatWasRefused has the endpoint spoken to in the other protocol
// by the time that an answer is drawn upon, with what 1.0 cannot carry in the
// request.
func TestLetterIsWhatWasRefused(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, refused config.Protocol) {
		j, f, o := backlog(t)
		o.Endpoint.Protocol = config.ProtocolV1
		if refused == config.ProtocolV1 {
			o.Endpoint.Protocol = config.ProtocolV2
		}
		s, path := isolating(t, o)
		due, wide := j.family("due", 5), j.series("wide")
		at := epoch.Add(-time.Minute)
		j.appendRound(at, wal.Round{
			Samples: round(due, at, 1),
			Histograms: []wal.Histogram{{Series: wide, T: at.UnixMilli(), H: &histogram.Histogram{
				Schema: histogram.CustomBucketsSchema, Count: 1, CustomValues: []float64{1}, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1},
			}}},
			Exemplars: []wal.Exemplar{{Series: wide, T: at.UnixMilli(), V: 1}},
		})
		f.says(http.StatusServiceUnavailable, "later")
		s.drain(epoch)
		s.keepLetter(&s.window.requests[0], ReasonRejected, &answer{protocol: refused, status: 422, words: "no"}, epoch)

		letters := lettersOf(t, path)
		if len(letters) != 1 || letters[0].Protocol != refused {
			t.Fatalf("letters are %+v, want one", letters)
		}
		l := letters[0]
		raw, err := l.body()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = snappy.Decode(nil, raw); err != nil {
			t.Fatal(err)
		}
		var got Written
		if refused == config.ProtocolV1 {
			var m prompb.WriteRequest
			if err := m.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			for _, ts := range m.Timeseries {
				got = Written{got.Samples + uint64(len(ts.Samples)), got.Histograms + uint64(len(ts.Histograms)), got.Exemplars + uint64(len(ts.Exemplars))}
			}
		} else {
			var m writev2.Request
			if err := m.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			for _, ts := range m.Timeseries {
				got = Written{got.Samples + uint64(len(ts.Samples)), got.Histograms + uint64(len(ts.Histograms)), got.Exemplars + uint64(len(ts.Exemplars))}
			}
		}
		if want := (Written{l.Samples, l.Histograms, l.Exemplars}); got != want || got.Samples != 5 {
			t.Errorf("letter counts %+v, and has %+v", want, got)
		}
	})
}
