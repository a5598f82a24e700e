package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// readAhead is how many bytes a scan asks the disk for at once.
const readAhead = 256 << 10

// diskBlock is what a disk gives out whole or not at all.
const diskBlock = 4 << 10

// frameScanner finds the frames of one segment. It reads ahead, and what it
// returns is valid until the next call.
type frameScanner struct {
	file File
	buf  []byte // what the file has at base
	base int64
	// wasted is how many bytes next has read of what only looked like a frame.
	wasted int64
	// blank takes blocks that the disk does not give out for zeros. Where
	// there is nothing else as far as it reads ahead, the file ends.
	blank bool
}

func (s *frameScanner) reset(f File) {
	s.file = f
	s.forget()
}

// forget drops what has been read ahead; the file may have changed since.
func (s *frameScanner) forget() { s.buf, s.base, s.wasted = s.buf[:0], 0, 0 }

// bytes returns n bytes at off, or with io.EOF fewer: what there is before end
// and the end of the file.
func (s *frameScanner) bytes(off int64, n int, end int64) ([]byte, error) {
	var short error
	if int64(n) > end-off {
		n, short = int(max(end-off, 0)), io.EOF
	}
	if from := off - s.base; from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from : from+int64(n)], short
	}
	size := int(min(int64(max(n, readAhead)), end-off))
	s.buf = slices.Grow(s.buf[:0], size)[:size]
	got, err := s.read(s.buf, off)
	s.buf, s.base = s.buf[:got], off
	switch {
	case got >= n:
		return s.buf[:n], short
	case err == nil || errors.Is(err, io.EOF):
		return s.buf, io.EOF
	}
	s.forget()
	return nil, fmt.Errorf("read segment: %w", err)
}

func (s *frameScanner) read(p []byte, off int64) (n int, err error) {
	n, err = s.file.ReadAt(opRead, p, off)
	any := n > 0
	for s.blank && n < len(p) && err != nil && !errors.Is(err, io.EOF) {
		at := off + int64(n)
		gap := min(int(diskBlock-at%diskBlock), len(p)-n)
		clear(p[n:][:gap])
		n += gap
		if n == len(p) {
			err = nil
			break
		}
		var more int
		more, err = s.file.ReadAt(opRead, p[n:], off+int64(n))
		n += more
		any = any || more > 0
	}
	if s.blank && !any {
		return 0, io.EOF
	}
	return n, err
}

// at returns the frame at off. io.EOF means that there is not a byte more
// before end, errDamaged that there is no whole frame.
func (s *frameScanner) at(off, end int64) (h frameHeader, frame []byte, err error) {
	head, err := s.bytes(off, frameHeaderSize, end)
	if err != nil && (!errors.Is(err, io.EOF) || len(head) == 0) {
		return h, nil, err
	}
	if h, err = decodeFrameHeader(head); err != nil {
		return h, nil, err
	}
	frame, err = s.bytes(off, h.size(), end)
	if errors.Is(err, io.EOF) {
		return h, nil, fmt.Errorf("%w: its end is missing", errDamaged)
	}
	if err != nil {
		return h, nil, err
	}
	return h, frame, verifyFrame(frame)
}

// maxWasted bounds the time that next takes. Damage wastes no more than a
// segment's size, unless somebody has made it to waste more: rubbish that is
// all headers of large frames would be read once for each of them.
const maxWasted = 64 << 20

// next returns where the next whole frame begins, at off or later; io.EOF if
// there is none before end, or none to be found in reasonable time.
func (s *frameScanner) next(off, end int64) (int64, error) {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for {
		window, err := s.bytes(off, readAhead, end)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		i := bytes.Index(window, magic)
		if i < 0 {
			if err != nil {
				return 0, io.EOF
			}
			off += int64(len(window) - len(magic) + 1)
			continue
		}
		off += int64(i)
		_, frame, err := s.at(off, end)
		if err == nil {
			return off, nil
		}
		if !errors.Is(err, errDamaged) {
			return 0, err
		}
		if s.wasted += int64(len(frame)); s.wasted > maxWasted {
			return 0, io.EOF
		}
		off++
	}
}

// loadTable reads the series table at the end of a sealed segment: after a
// damaged frame, the series it introduced are still known from there.
func (r *Reader) loadTable(off, end int64) {
	for {
		h, frame, err := r.frames.at(off, end)
		if err != nil {
			return
		}
		if h.isTable() {
			if err := r.payloads.decode(h, frame[frameHeaderSize:], &r.series, nil); err != nil {
				return
			}
		}
		off += int64(h.size())
	}
}

// listSegments returns the first sequence numbers of the segments in order.
func listSegments(fs FileSystem, path string) ([]uint64, error) {
	entries, err := fs.ReadDir(opList, segmentsFolder(path))
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var list []uint64
	for _, e := range entries {
		if first, ok := segmentName(e.Name()); ok && e.Type().IsRegular() {
			list = append(list, first)
		}
	}
	slices.Sort(list)
	return list, nil
}

func readSegmentHeader(fs FileSystem, path string, known uint32) (segmentHeader, error) {
	f, err := fs.OpenFile(opRecover, path, os.O_RDONLY, 0)
	if err != nil {
		return segmentHeader{}, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	var b [segmentHeaderSize]byte
	n, err := f.ReadAt(opRecover, b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return segmentHeader{}, fmt.Errorf("read segment: %w", err)
	}
	return decodeSegmentHeader(b[:n], known)
}
