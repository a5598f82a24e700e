package wal

import (
	"fmt"
	"os"
	"slices"

	"github.com/prometheus/prometheus/tsdb/record"
)

// segment is what the writer knows of a file in the segments folder.
type segment struct {
	first    uint64
	size     int64
	created  int64  // time of its first append; 0 unknown
	start    Totals // running totals before its first frame
	newer    bool   // of a newer format version: not ours to read
	foreign  bool   // of another log, or a copy
	stepped  bool   // an older version has gone on after it: taken up by Sync
	headless bool   // its header is damaged, and perhaps more than that
}

// readable tells whether the segment has its place among the frames that
// readers go through.
func (s *segment) readable() bool { return !s.newer && !s.foreign && !s.stepped }

// openSegment is the one that rounds are appended to. Its file is made by the
// first of them, so there is never a segment without a frame.
type openSegment struct {
	header   segmentHeader
	file     File
	size     int64
	table    []*Series // by reference; 0 is unused
	tableLen int       // how many of them are on disk
	tail     tail
	failed   bool // a sync of it failed; the syncer's
}

// newSegment prepares the segment after the last frame.
func (l *Log) newSegment(now int64) *openSegment {
	return &openSegment{
		header: segmentHeader{version: l.o.version, id: l.id, first: l.end.Seq + 1, created: now, start: l.end.Totals, floor: l.floor},
		table:  make([]*Series, 1, 64),
		tail:   tail{end: tailStart{seq: l.end.Seq, totals: l.end.Totals, floor: l.floor, states: l.states}},
	}
}

// create makes the file of a segment that has none.
func (l *Log) create(seg *openSegment) error {
	if seg.file != nil {
		return nil
	}
	f, err := l.makeFile(opCreate, l.segmentPath(seg.header.first), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	seg.file = f
	l.open = seg
	l.segments = append(l.segments, segment{first: seg.header.first, created: seg.header.created, start: seg.header.start})
	l.folderChanged = true
	return nil
}

// grow counts what has been written to the open segment.
func (l *Log) grow(seg *openSegment, bytes int64) {
	seg.size += bytes
	l.segments[len(l.segments)-1].size += bytes
	l.bytes += bytes
	l.end.Segment, l.end.Offset = seg.header.first, seg.size
}

// due tells whether the open segment is large or old enough to be sealed, or
// keeps too much in memory. One from the future, after the clock was set back, is old too; one without a
// frame never is.
func (l *Log) due(now int64) bool {
	if l.end.Seq < l.open.header.first {
		return false
	}
	age := now - l.open.header.created
	limit := l.o.SegmentAge.Milliseconds()
	return l.open.size >= l.o.SegmentBytes || age >= limit || age <= -limit ||
		len(l.open.table) > maxSegmentSeries/2 || l.series.idle > l.series.maxIdle
}

// seal ends the open segment with its series table, so that no damaged frame
// costs the samples of another. A segment that cannot get its table is sealed
// without.
func (l *Log) seal(now int64) {
	seg, e := l.open, l.enc
	e.reset()
	l.encodeTable(seg.table[1:], frameHeader{seq: l.end.Seq, appendedAt: now, before: l.end.Totals})
	if _, err := seg.file.WriteAt(opSeal, e.out, seg.size); err == nil {
		l.grow(seg, int64(len(e.out)))
		l.remember(seg, e.out)
	} else {
		l.writeErrors++
		cut := seg.file.Truncate(opCutWrite, seg.size)
		l.log.Warn("segment is left without its series table, which matters only if it is damaged",
			"segment", l.segmentPath(seg.header.first), "err", err, "cut", cut)
	}
	l.leave(seg)
}

// encodeTable appends frames with the first series of a segment's table.
func (l *Log) encodeTable(series []*Series, h frameHeader) {
	e := l.enc
	h.flags = flagTable
	for ref := 1; len(series) > 0; {
		n, bytes := 0, 0
		for n < len(series) && n < tableItems && (n == 0 || bytes+seriesBytes(series[n]) <= frameBytes) {
			s := series[n]
			bytes += seriesBytes(s)
			e.series = append(e.series, record.RefSeries{Ref: seriesRef(ref + n), Labels: s.labels})
			if *s.metadata != (Metadata{}) {
				m := s.refMetadata()
				m.Ref = seriesRef(ref + n)
				e.metadata = append(e.metadata, m)
			}
			n++
		}
		e.encodeFrame(h)
		ref, series = ref+n, series[n:]
	}
}

// leave hands the open segment over to the next sync, which closes it.
func (l *Log) leave(seg *openSegment) {
	l.open = nil
	l.rolled = append(l.rolled, seg)
	l.series.left(seg.table[min(1, len(seg.table)):], l.now)
}

// dropRolled closes a segment that waits for a sync it needs no more: it has
// been written again, or removed. A sync of it may be under way, for which the
// file stays open.
func (l *Log) dropRolled(first uint64) {
	i := slices.IndexFunc(l.rolled, func(s *openSegment) bool { return s.header.first == first })
	if i < 0 {
		return
	}
	seg := l.rolled[i]
	l.rolled = slices.Delete(l.rolled, i, i+1)
	l.forgetTail(seg)
	seg.tail.gone = true
	if err := seg.file.Close(); err != nil {
		l.log.Warn("close failed", "segment", l.segmentPath(first), "err", err)
	}
}

// abandon leaves a segment that a failed write has put so many bytes into,
// which could not be cut off again.
func (l *Log) abandon(seg *openSegment, bytes int64) {
	l.grow(seg, bytes)
	l.leave(seg)
}

// discard removes a segment whose first round could not be written.
func (l *Log) discard(seg *openSegment) {
	l.open = nil
	path := l.segmentPath(seg.header.first)
	if err := seg.file.Close(); err != nil {
		l.log.Warn("close failed", "segment", path, "err", err)
	}
	if err := l.fs.Remove(opRemoveSegment, path); err != nil {
		l.log.Warn("an empty segment could not be removed; readers skip it", "segment", path, "err", err)
		return
	}
	l.segments = l.segments[:len(l.segments)-1]
}

func (l *Log) segmentPath(first uint64) string { return segmentPath(l.o.Path, first) }
