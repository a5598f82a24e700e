package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenFrames are the bytes of the golden segment.
func goldenFrames(f *testing.F) []byte {
	f.Helper()
	dump, err := os.ReadFile(filepath.Join("testdata", "segment.hex"))
	if err != nil {
		f.Fatal(err)
	}
	var b []byte
	for line := range strings.Lines(string(dump)) {
		line, _, _ = strings.Cut(line, "|")
		if fields := strings.Fields(line); len(fields) > 1 {
			part, err := hex.DecodeString(strings.Join(fields[1:], ""))
			if err != nil {
				f.Fatal(err)
			}
			b = append(b, part...)
		}
	}
	return b
}

// FuzzFrame decodes a frame whose checksum nobody has looked at.
func FuzzFrame(f *testing.F) {
	b := goldenFrames(f)
	for off := segmentHeaderSize; off < len(b); {
		h, err := decodeFrameHeader(b[off:])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[off : off+h.size()])
		// Once more without compression, which hides the records from the fuzzer.
		if h.flags&flagZstd != 0 {
			d := newPayloadDecoder()
			raw, err := d.zstd.DecodeAll(b[off+frameHeaderSize:off+h.size()], make([]byte, 0, h.raw))
			d.close()
			if err != nil {
				f.Fatal(err)
			}
			plain := h
			plain.payload, plain.flags = len(raw), h.flags&^flagZstd
			frame := append(make([]byte, frameHeaderSize), raw...)
			putFrameHeader(frame, plain)
			f.Add(frame)
		}
		off += h.size()
	}
	d := newPayloadDecoder()
	f.Cleanup(d.close)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeFrameHeader(b)
		if err != nil || len(b) < h.size() {
			return
		}
		var frame Frame
		table := make([]SeriesEntry, 1)
		if err := d.decode(h, b[frameHeaderSize:h.size()], &table, &frame); err == nil && frame.decoded() != h.counts {
			t.Errorf("decoded %+v, header says %+v", frame.decoded(), h.counts)
		}
	})
}

// memorySegment is a log of one segment that is nothing but bytes.
type memorySegment struct {
	FileSystem
	File
	bytes []byte
}

func (m memorySegment) segments() ([]uint64, error) { return []uint64{1}, nil }
func (m memorySegment) limit(uint64) (limit, error) {
	return limit{int64(len(m.bytes)), math.MaxUint64, true}, nil
}
func (m memorySegment) ReadAt(_ string, p []byte, off int64) (int, error) {
	return bytes.NewReader(m.bytes).ReadAt(p, off)
}
func (m memorySegment) Close() error { return nil }
func (m memorySegment) OpenFile(string, string, int, fs.FileMode) (File, error) {
	return m, nil
}

// FuzzSegment reads whatever is in a file as a segment: the reader ends, and
// gives out nothing that it has not counted.
func FuzzSegment(f *testing.F) {
	b := goldenFrames(f)
	f.Add(b)
	f.Add(b[:200])
	f.Add(b[segmentHeaderSize:])
	f.Add(append(append([]byte{}, b...), b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReader("", memorySegment{bytes: b}, memorySegment{bytes: b}, Position{}, segmentVersion)
		defer r.Close()
		var frame Frame
		for {
			err := r.Next(&frame)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range frame.Samples {
				if int(s.Ref) >= len(frame.Series) {
					t.Fatalf("sample of series %d, which is not in the table", s.Ref)
				}
			}
		}
	})
}

// FuzzCursor decodes any slot.
func FuzzCursor(f *testing.F) {
	slot := make([]byte, cursorSlotSize)
	encodeCursor(slot, cursorRecord{generation: 7, position: Position{Seq: 3, Segment: 1, Offset: 200}, state: []byte("state")})
	f.Add(slot)
	f.Add(slot[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeCursor(b)
		if err != nil {
			return
		}
		again := make([]byte, cursorSlotSize)
		encodeCursor(again, r)
		if got, err := decodeCursor(again); err != nil || got.position != r.position || string(got.state) != string(r.state) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	})
}
