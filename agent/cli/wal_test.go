package cli

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
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
			round.Exemplars = []wal.Exemplar{{Series: orders, T: now.UnixMilli(), V: 3, Labels: labels.FromStrings("trace_id", "4bf9")}}
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
	run("wal", "dump", "--format=json", "--metric=orders", "--start=2026-03-01T12:01:30Z")
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
	// The oldest segment is damaged in its header alone.
	damage("segments/00000000000000000001.seg", 20, "??")
	run("wal", "verify")
	run("wal", "dump", "--metric=up")

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

// TestWALNewer holds that a segment which this version cannot read is named,
// and that verify does not take it for read.
func TestWALNewer(t *testing.T) {
	path := t.TempDir()
	makeLog(t, path)
	segment := filepath.Join(path, "segments", "00000000000000000001.seg")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[8] = 2 // its version
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], crc32.MakeTable(crc32.Castagnoli)))
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := Main([]string{"wal", "verify", "--storage.path=" + path}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stdout.String(), "segment 00000000000000000001: segment of a newer format version") {
		t.Errorf("exit %d, %s%s", code, stdout.String(), stderr.String())
	}
}

// TestWALBesideEviction runs the commands while a writer makes and removes
// segments: what they look at is whole all the while.
func TestWALBesideEviction(t *testing.T) {
	path := t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	log, err := wal.Open(t.Context(), wal.Options{Path: path, Sync: wal.SyncNever, MaxBytes: 16 << 10, MinFree: -1, MaxAge: 1 << 62}, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := log.Cursor("dead", wal.StartOldest); err != nil {
		t.Fatal(err)
	}
	series := make([]*wal.Series, 50)
	for i := range series {
		series[i] = log.Series(labels.FromStrings("__name__", "orders", "row", strconv.Itoa(i)), wal.Metadata{})
	}
	write := func() {
		now = now.Add(time.Second)
		round := wal.Round{}
		for i, s := range series {
			round.Samples = append(round.Samples, wal.Sample{Series: s, T: now.UnixMilli(), V: float64(i) + 0.37})
		}
		if _, err := log.Append(&round, now); err != nil {
			t.Error(err)
		}
		if err := log.Sync(now); err != nil {
			t.Error(err)
		}
	}
	for log.Stats().Evicted.IsZero() {
		write()
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	defer wait.Wait()
	defer close(stop)
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				write()
			}
		}
	})
	for i := range 10 {
		for _, args := range [][]string{{"wal", "verify"}, {"wal", "stats"}, {"wal", "dump", "--endpoint=dead"}} {
			var stdout, stderr strings.Builder
			code := Main(append(args, "--storage.path="+path), &stdout, &stderr)
			if out := stdout.String() + stderr.String(); code != 0 || args[1] != "dump" && strings.Contains(out, "\nsegment ") {
				t.Fatalf("%v, time %d: exit %d, %.2000s", args, i, code, out)
			}
		}
	}
}

// TestProgress shows a long reading on a terminal, once a second, and wipes it.
func TestProgress(t *testing.T) {
	var terminal strings.Builder
	p := newProgress(&terminal, wal.Overview{Segments: []wal.SegmentInfo{{First: 1, Bytes: 3 << 20}, {First: 9, Bytes: 1 << 20}}})
	begun := p.shown
	place := wal.Position{Segment: 9, Offset: 1 << 19}
	p.at(place, begun.Add(time.Hour))
	p.end()
	if terminal.Len() > 0 {
		t.Errorf("where nobody looks: %q", terminal.String())
	}
	p.w = &terminal
	p.at(place, begun.Add(time.Second-1)) // not yet long
	p.at(wal.Position{Segment: 1, Offset: 1 << 20}, begun.Add(time.Second))
	p.at(place, begun.Add(time.Second+1))
	p.at(place, begun.Add(2*time.Second))
	p.end()
	if want := "\r 25 % of 4 MiB\r 87 % of 4 MiB\r\x1b[K"; terminal.String() != want {
		t.Errorf("%q, want %q", terminal.String(), want)
	}
}
