package wal

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

var update = flag.Bool("update", false, "write the golden files, and print the example of doc.go")

// fixedLog is a log whose bytes are the same each time.
func fixedLog(t *testing.T) *Log {
	l := openTest(t, Options{Path: t.TempDir()})
	l.id = logID([]byte("sixteen  letters"))
	return l
}

// exampleSegment is the one that doc.go shows: one round of one sample.
func exampleSegment(t *testing.T) []byte {
	l := fixedLog(t)
	s := l.Series(labels.FromStrings("__name__", "up", "job", "pg"), Metadata{Type: "gauge"})
	mustAppend(t, l, &Round{Samples: []Sample{{Series: s, T: testStart.UnixMilli(), V: 1}}}, testStart.Add(5*time.Millisecond))
	return readSegment(t, l, 1)
}

// goldenSegment has every kind of record and frame.
func goldenSegment(t *testing.T) []byte {
	l := fixedLog(t)
	now := testStart
	next := func() int64 { now = now.Add(time.Second); return now.UnixMilli() }
	ms := next()
	up := l.Series(labels.FromStrings("__name__", "up", "job", "pg"), Metadata{Type: "gauge", Help: "Is it up?"})
	h := l.Series(labels.FromStrings("__name__", "took_seconds"), Metadata{Type: "histogram", Unit: "seconds"})
	mustAppend(t, l, &Round{
		Samples: []Sample{{Series: up, T: ms, ST: ms - 10_000, V: 1}},
		Histograms: []Histogram{{Series: h, T: ms, H: &histogram.Histogram{
			Schema: 3, ZeroThreshold: 1e-128, Count: 6, Sum: 8.5,
			PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}}, PositiveBuckets: []int64{2, 2},
		}}},
		Exemplars: []Exemplar{{Series: h, T: ms - 5, V: 0.25, Labels: labels.FromStrings("trace_id", "abc")}},
	}, now)
	ms = next()
	mustAppend(t, l, &Round{Histograms: []Histogram{{Series: h, T: ms, FH: &histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 4,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2}, CustomValues: []float64{1, 5},
	}}}}, now)
	mustAppend(t, l, &Round{OwnTime: true, Samples: []Sample{{Series: up, T: ms, V: 2}}}, now)
	l.Series(up.Labels(), Metadata{Type: "gauge", Help: "Is it?"})
	ms = next()
	mustAppend(t, l, &Round{Samples: []Sample{{Series: up, T: ms, V: 3}}}, now)
	mustSync(t, l, now.Add(time.Hour)) // too old: sealed
	return readSegment(t, l, 1)
}

func readSegment(t *testing.T, l *Log, first uint64) []byte {
	t.Helper()
	b, err := os.ReadFile(l.segmentPath(first))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGoldenBytes holds the format: what is written today is what was written
// when the format was made. Compressed payloads are compared by what they
// decompress to, for a new version of the library may compress otherwise.
func TestGoldenBytes(t *testing.T) {
	for name, make := range map[string]func(*testing.T) []byte{"example": exampleSegment, "segment": goldenSegment} {
		t.Run(name, func(t *testing.T) {
			got, file := make(t), filepath.Join("testdata", name+".hex")
			if *update {
				if err := os.WriteFile(file, []byte(hex.Dump(got)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			dump, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(plainFrames(t, undump(t, string(dump))), plainFrames(t, got)); diff != "" {
				t.Errorf("segment differs (-golden +written):\n%s", diff)
			}
		})
	}
}

// plainFrames shows a segment with its payloads decompressed.
func plainFrames(t *testing.T, b []byte) string {
	t.Helper()
	d := newPayloadDecoder()
	defer d.close()
	out := hex.Dump(b[:segmentHeaderSize])
	for b = b[segmentHeaderSize:]; len(b) > 0; {
		h, err := decodeFrameHeader(b)
		if err == nil {
			err = verifyFrame(b[:h.size()])
		}
		payload := b[frameHeaderSize:h.size()]
		if err == nil && h.flags&flagZstd != 0 {
			payload, err = d.zstd.DecodeAll(payload, make([]byte, 0, h.raw))
		}
		if err != nil {
			t.Fatal(err)
		}
		b = b[h.size():]
		h.payload = 0
		out += fmt.Sprintf("%+v\n%s", h, hex.Dump(payload))
	}
	return out
}

// undump reads hex.Dump back.
func undump(t *testing.T, dump string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(dump) {
		line, _, _ = strings.Cut(line, "|")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		part, err := hex.DecodeString(strings.Join(fields[1:], ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

// readSegments puts segments into a folder and reads them.
func readSegments(t *testing.T, segments map[uint64][]byte) ([]readSample, Totals, Totals) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(segmentsFolder(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for first, b := range segments {
		if err := os.WriteFile(segmentPath(dir, first), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return readFolderAt(t, dir)
}

func readFolderAt(t *testing.T, dir string) ([]readSample, Totals, Totals) {
	t.Helper()
	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return readAll(t, r)
}

// TestGoldenSegmentIsRead reads the golden file itself, zstd and all, so that
// a new version of a library cannot change what old logs mean.
func TestGoldenSegmentIsRead(t *testing.T) {
	dump, err := os.ReadFile(filepath.Join("testdata", "segment.hex"))
	if err != nil {
		t.Fatal(err)
	}
	samples, _, damaged := readSegments(t, map[uint64][]byte{1: undump(t, string(dump))})
	ms := testStart.UnixMilli()
	up := `{__name__="up", job="pg"}`
	want := []readSample{{up, ms + 1000, 1}, {up, ms + 2000, 2}, {up, ms + 3000, 3}}
	if diff := cmp.Diff(want, samples); diff != "" || !damaged.IsZero() {
		t.Errorf("damaged %+v; samples (-want +got):\n%s", damaged, diff)
	}
}

// TestDocumentedExample reads the bytes that doc.go shows.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	line := regexp.MustCompile(`(?m)^//\t([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+?)(?:  +.*)?$`)
	for _, m := range line.FindAllStringSubmatch(string(doc), -1) {
		part, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	if want := exampleSegment(t); !bytes.Equal(b, want) {
		t.Fatalf("doc.go shows\n%s\nthe log writes\n%s", hex.Dump(b), hex.Dump(want))
	}
	samples, _, _ := readSegments(t, map[uint64][]byte{1: b})
	want := []readSample{{`{__name__="up", job="pg"}`, testStart.UnixMilli(), 1}}
	if diff := cmp.Diff(want, samples); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}
