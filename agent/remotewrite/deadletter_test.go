package remotewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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
