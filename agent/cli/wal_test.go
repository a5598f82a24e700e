package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// makeLog makes a log of three segments with a quick and a slow endpoint.
func makeLog(t *testing.T, path string) *wal.Log {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	log, err := wal.Open(t.Context(), wal.Options{Path: path, Sync: wal.SyncNever, SegmentAge: time.Minute, MinFree: -1, MaxAge: 1 << 62}, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := log.Cursor("slow", wal.StartOldest); err != nil {
		t.Fatal(err)
	}
	orders := log.Series(labels.FromStrings("__name__", "orders", "status", "open \"now\""), wal.Metadata{Type: "gauge"})
	up := log.Series(labels.FromStrings("__name__", "up", "job", "postgres"), wal.Metadata{Type: "gauge"})
	took := log.Series(labels.FromStrings("__name__", "took_seconds"), wal.Metadata{Type: "histogram"})
	for i := range 5 {
		round := wal.Round{Samples: []wal.Sample{
			{Series: orders, T: now.UnixMilli(), V: float64(i) + 0.5}, {Series: up, T: now.UnixMilli(), V: 1},
		}}
		if i == 3 {
			if _, err := log.Cursor("quick", wal.StartEnd); err != nil {
				t.Fatal(err)
			}
			round.Histograms = []wal.Histogram{{Series: took, T: now.UnixMilli(), H: &histogram.Histogram{
				Schema: 1, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
			}}}
		}
		if _, err := log.Append(&round, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(30 * time.Second)
	}
	return log
}

func TestWAL(t *testing.T) {
	golden, err := filepath.Abs("testdata/wal.golden")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	var out strings.Builder
	run := func(args ...string) {
		var stdout, stderr strings.Builder
		code := Main(append(args, "--storage.path=data"), &stdout, &stderr)
		out.WriteString("$ sql2metrics " + strings.Join(args, " ") + "\n" + stdout.String())
		if stderr.Len() > 0 {
			out.WriteString("-- stderr --\n" + stderr.String())
		}
		out.WriteString("-- exit " + string(rune('0'+code)) + " --\n")
	}
	run("wal", "stats")
	log := makeLog(t, "data") // open all the while, as by a running agent
	run("wal", "stats")
	if err := log.SaveEndpoints([]string{"quick"}); err != nil {
		t.Fatal(err)
	}
	run("wal", "stats")
	run("wal", "verify")
	run("wal", "dump")
	run("wal", "dump", "--format=json", "--metric=orders", "--start=2026-03-01T12:00:30Z", "--end=1772366460")
	run("wal", "dump", "--endpoint=quick", "--metric=up")
	run("wal", "dump", "--endpoint=fast")
	run("wal", "dump", "--start=yesterday")
	damage := func(path string, off int64, b string) {
		f, err := os.OpenFile(filepath.Join("data", path), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(b), off); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat("data/segments/00000000000000000001.seg")
	if err != nil {
		t.Fatal(err)
	}
	damage("segments/00000000000000000001.seg", info.Size()-2, "??") // its series table
	damage("segments/00000000000000000003.seg", 200, "??")
	damage("segments/00000000000000000005.seg", 20, "??")
	damage("segments/00000000000000000005.seg", 301, "half a frame")
	damage("cursors/quick.cursor", 8, "??")
	damage("cursors/quick.cursor", 4096+8, "??")
	if err := os.WriteFile("data/segments/00000000000000000004.seg", []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("wal", "stats")
	run("wal", "verify")

	// The lock file, with the process id, is part of the size.
	got := regexp.MustCompile(`size +\d+ bytes`).ReplaceAllString(out.String(), "size        18000 bytes")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}
