package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	segmentMagic   = "sql2mwal"
	segmentVersion = 1

	preambleSize      = 16
	segmentHeaderSize = preambleSize + 68

	segmentSuffix = ".seg"

	// farthest is as far as a log can get. A file that is named beyond it and
	// does not say that it is ours is none of ours, and no name is taken by it.
	farthest = 1 << 61
)

// noFloor is the floor of a log without any sample.
const noFloor = math.MinInt64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNewerVersion says that a segment was written by a newer program.
var errNewerVersion = errors.New("segment of a newer format version")

// logID tells one log from another, so that a cursor is never applied to
// frames it knows nothing of.
type logID [16]byte

// segmentHeader is what a segment begins with, after the preamble.
type segmentHeader struct {
	version uint32
	id      logID
	first   uint64 // sequence number of the first frame
	created int64  // Unix milliseconds
	start   Totals // running totals before the first frame
	floor   int64  // largest time of a sample in all frames before, own-time frames left out
}

func appendSegmentHeader(b []byte, h segmentHeader) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, h.version)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	start = len(b)
	b = append(b, h.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.created))
	b = appendTotals(b, h.start)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.floor))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decodeSegmentHeader reads preamble and header of a segment of the known
// version or an older one. It returns errNewerVersion where the preamble is
// whole and says so: nothing after it is looked at.
func decodeSegmentHeader(b []byte, known uint32) (segmentHeader, error) {
	if len(b) < preambleSize {
		return segmentHeader{}, fmt.Errorf("segment has %d bytes, less than its preamble", len(b))
	}
	if string(b[:8]) != segmentMagic {
		return segmentHeader{}, errors.New("segment does not begin with its magic")
	}
	if crc32.Checksum(b[:12], castagnoli) != binary.LittleEndian.Uint32(b[12:]) {
		return segmentHeader{}, errors.New("checksum of the segment's preamble does not match")
	}
	version := binary.LittleEndian.Uint32(b[8:])
	switch {
	case version > known:
		return segmentHeader{}, errNewerVersion
	case version == 0:
		return segmentHeader{}, errors.New("segment has format version 0, which never was")
	}
	if len(b) < segmentHeaderSize {
		return segmentHeader{}, fmt.Errorf("segment has %d bytes, less than its header", len(b))
	}
	b = b[preambleSize:segmentHeaderSize]
	if crc32.Checksum(b[:64], castagnoli) != binary.LittleEndian.Uint32(b[64:]) {
		return segmentHeader{}, errors.New("checksum of the segment's header does not match")
	}
	return segmentHeader{
		version: version,
		id:      logID(b[:16]),
		first:   binary.LittleEndian.Uint64(b[16:]),
		created: int64(binary.LittleEndian.Uint64(b[24:])),
		start:   decodeTotals(b[32:]),
		floor:   int64(binary.LittleEndian.Uint64(b[56:])),
	}, nil
}

func appendTotals(b []byte, t Totals) []byte {
	b = binary.LittleEndian.AppendUint64(b, t.Samples)
	b = binary.LittleEndian.AppendUint64(b, t.Histograms)
	return binary.LittleEndian.AppendUint64(b, t.Exemplars)
}

func decodeTotals(b []byte) Totals {
	return Totals{
		Samples:    binary.LittleEndian.Uint64(b),
		Histograms: binary.LittleEndian.Uint64(b[8:]),
		Exemplars:  binary.LittleEndian.Uint64(b[16:]),
	}
}

func segmentsFolder(path string) string { return filepath.Join(path, "segments") }

func segmentPath(path string, first uint64) string {
	return filepath.Join(segmentsFolder(path), fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// segmentName reads a file name back; false for what is not a segment.
func segmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	// What cannot be read may be named farthest, and be larger than nothing.
	return first, err == nil && first > 0 && first < 2*farthest
}
