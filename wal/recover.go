package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// recentlyWritten is how long before the newest segment's last write another
// one may have been written and not yet been synced.
const recentlyWritten = time.Minute

// tooFarAhead is how far a time in the log may lie ahead of the clock and be
// believed. The floor of a log whose clock was once years ahead would refuse
// every sample until then.
const tooFarAhead = 24 * time.Hour

// recover finds out where the log ends, as the package documentation
// describes. The caller has the folder's lock.
func (l *Log) recover() error {
	l.floor = noFloor
	found, taken, err := l.findSegments()
	if err != nil {
		return err
	}
	cursors, bytes, err := readCursors(l.fs, l.o.Path)
	if err != nil {
		return err
	}
	l.bytes += bytes
	l.id = electID(found, cursors)
	found = l.putInPlace(found)
	l.markStepped(found)

	headers := make([]segmentHeader, len(found))
	for i, f := range found {
		switch {
		case f.newer:
			l.log.Warn("a segment of a newer format version is set aside; the version that wrote it can read it",
				"segment", l.segmentPath(f.first))
		case f.foreign:
		case errors.Is(f.err, fs.ErrPermission):
			l.log.Error("segment may not be read, and endpoints wait for it; let the agent's user own the log's folder and all in it",
				"segment", l.segmentPath(f.first), "err", f.err)
		case f.err != nil:
			l.log.Warn("segment has a damaged header; its frames stand for themselves",
				"segment", l.segmentPath(f.first), "err", f.err)
		default:
			headers[i] = f.header
		}
		l.segments = append(l.segments, f.segment)
		l.bytes += f.size
	}
	l.recoverEnd(headers, taken)
	l.fillStarts(headers)
	l.followCursors(cursors)
	if l.id == (logID{}) {
		rand.Read(l.id[:])
	}
	if ahead := l.now + tooFarAhead.Milliseconds(); l.floor > ahead {
		l.log.Warn("the log has samples far ahead of the clock, which hold back no other series",
			"newest", time.UnixMilli(l.floor).UTC(), "clock", time.UnixMilli(l.now).UTC())
		l.floor = l.now
	}
	l.series.floor = max(l.series.floor, l.floor)
	l.reopenUnsynced(found)
	return nil
}

// recoverEnd takes sequence number and totals from the newest segment that has
// them, and continues it if it is the last one and not sealed. Where its header
// is damaged, the floor comes from the ones before too.
//
// The numbers go on above all names that are taken, and above everything that
// the segments which cannot be read may hold: a frame is longer than a byte.
func (l *Log) recoverEnd(headers []segmentHeader, above uint64) {
	l.series = newSeriesTable(noFloor)
	for i := len(l.segments) - 1; i >= 0; i-- {
		s, found := l.segments[i], false
		if s.readable() {
			var err error
			if found, err = l.recoverSegment(i, headers[i]); err != nil {
				l.log.Error("segment cannot be read; going on after it", "segment", l.segmentPath(s.first), "err", err)
			}
		}
		if found && headers[i] != (segmentHeader{}) {
			break
		}
		if !found && l.end == (Position{}) && s.first <= farthest {
			above = max(above, s.first)
			if !s.foreign {
				above = max(above, s.first+uint64(s.size))
			}
		}
	}
	if l.end.Seq < above {
		l.end.Seq = above
		l.stopContinuing()
	}
	// A segment that was empty is gone.
	l.segments = slices.DeleteFunc(l.segments, func(s segment) bool { return s.size < 0 })
}

// recoverSegment reads a whole segment. If no newer one had the log's end it is
// there, and what follows the last whole frame is cut off. It returns false if
// there was nothing in it to go on from.
func (l *Log) recoverSegment(i int, h segmentHeader) (found bool, err error) {
	s := &l.segments[i]
	path := l.segmentPath(s.first)
	f, err := l.fs.OpenFile(opRecover, path, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("open segment: %w; see to it that the agent's user may read and write it", err)
	}
	t, unreadable := scanTail(frameScanner{file: f}, h)
	if unreadable != nil {
		l.log.Error("a part of the newest segment cannot be read; going on after it", "segment", path, "err", unreadable)
		if t, err = scanTail(frameScanner{file: f, blank: true}, h); err != nil {
			return false, errors.Join(err, f.Close())
		}
		t.damaged = true
	}
	whole := h != segmentHeader{}
	if !whole && t.frames == 0 {
		if s.size < segmentHeaderSize+frameHeaderSize {
			l.removeEmpty(s, path)
		}
		return false, f.Close()
	}
	cut := s.size - t.end
	if cut > 0 && unreadable == nil && l.end == (Position{}) {
		l.quarantine.keep(f, Damage{Segment: s.first, From: t.end, To: s.size})
		err := f.Truncate(opCutTail, t.end)
		l.log.Warn("the log is cut at its last whole frame", "segment", path, "bytes", cut, "err", err)
		if err != nil {
			t.damaged = true
		} else {
			s.size -= cut
			l.bytes -= cut
		}
	}
	l.floor = max(l.floor, t.floor)
	if whole {
		l.floor = max(l.floor, h.floor)
	}
	if l.end != (Position{}) {
		return true, f.Close()
	}
	l.recoverStates(i, t, whole)
	l.end = Position{Seq: s.first - 1, Segment: s.first, Offset: t.end, Totals: h.start}
	if t.frames > 0 {
		l.end.Seq, l.end.Totals = t.seq, t.totals
	}
	if unreadable != nil {
		l.end.Seq = max(l.end.Seq, s.first+uint64(s.size)) // it may be readable the next time
	}
	if i != len(l.segments)-1 || !whole || t.sealed || t.damaged || h.version != l.o.version {
		l.end.Seq = max(l.end.Seq, s.first) // the name is taken
		return true, f.Close()
	}
	l.open = &openSegment{header: h, file: f, size: t.end, table: make([]*Series, 1, len(t.series)), tail: tail{gone: true}}
	for ref, entry := range t.series[1:] {
		s := l.series.intern(entry.Labels, entry.Metadata)
		s.segment, s.described, s.ref = h.first, h.first, seriesRef(ref+1)
		l.open.table = append(l.open.table, s)
		l.series.rest(s)
	}
	l.open.tableLen = len(t.series) - 1
	return true, nil
}

// recoverStates takes the states from the segment with the log's end, which has
// them all, and where a part of it is missing from the ones before as well.
func (l *Log) recoverStates(i int, t segmentTail, whole bool) {
	changes, all := t.states, whole && t.frames > 0 && !t.damaged
	for i--; i >= 0 && !all; i-- {
		s := l.segments[i]
		if !s.readable() {
			continue
		}
		f, err := l.fs.OpenFile(opRecover, l.segmentPath(s.first), os.O_RDONLY, 0)
		if err != nil {
			continue
		}
		t, err := scanTail(frameScanner{file: f, blank: true}, segmentHeader{first: s.first})
		f.Close()
		if err != nil {
			continue
		}
		changes, all = append(t.states, changes...), !s.headless && t.frames > 0 && !t.damaged
	}
	l.states = states(nil).with(changes)
}

// removePart removes a segment that was to be written again when the process
// ended. The one it was made from is still there.
func (l *Log) removePart(name string) {
	if !strings.HasSuffix(name, segmentSuffix+newSuffix) {
		return
	}
	path := filepath.Join(segmentsFolder(l.o.Path), name)
	if err := l.fs.Remove(opRemoveSegment, path); err != nil {
		l.log.Warn("a part of a segment could not be removed", "path", path, "err", err)
	}
}

// removeEmpty removes a segment that was made and not written when the power
// went. There is no frame in it.
func (l *Log) removeEmpty(s *segment, path string) {
	if err := l.fs.Remove(opRemoveSegment, path); err != nil {
		l.log.Warn("an empty segment could not be removed; readers skip it", "segment", path, "err", err)
		return
	}
	l.bytes -= s.size
	s.size = -1
	l.folderChanged = true
}

// stopContinuing leaves the recovered segment, which may then not be sealed:
// its frames are not the newest.
func (l *Log) stopContinuing() {
	if l.open == nil {
		return
	}
	for _, s := range l.open.table[1:] {
		s.segment, s.described = 0, 0
	}
	l.leave(l.open)
}

// segmentTail is what a segment's frames tell about the log's end.
type segmentTail struct {
	end     int64 // after the last whole frame
	frames  int
	seq     uint64
	totals  Totals
	floor   int64
	sealed  bool
	damaged bool // what comes before the end is not all readable
	series  []SeriesEntry
	states  []State // in order
}

func scanTail(frames frameScanner, h segmentHeader) (t segmentTail, err error) {
	payloads := newPayloadDecoder()
	defer payloads.close()
	payloads.stateful = true
	defer func() { t.states = payloads.states }()
	t.floor = noFloor
	t.series = make([]SeriesEntry, 1, 64)
	var off int64
	if h != (segmentHeader{}) {
		off = segmentHeaderSize
		t.end = off
	}
	for {
		fh, frame, err := frames.at(off, math.MaxInt64)
		if errors.Is(err, errDamaged) {
			if off, err = frames.next(off+1, math.MaxInt64); err == nil {
				t.damaged = true
				continue
			}
		}
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return t, err
		}
		off += int64(fh.size())
		t.end = off
		if fh.isTable() && t.frames > 0 {
			t.sealed = true
			continue
		}
		if fh.isTable() { // of a segment that was written again
			if err := payloads.decode(fh, frame[frameHeaderSize:], &t.series, nil); err != nil {
				t.damaged = true
			}
			continue
		}
		if t.frames > 0 && fh.seq <= t.seq {
			t.damaged = true
			continue
		}
		t.frames++
		t.seq, t.totals = fh.seq, fh.after()
		if !fh.ownTime() && fh.timed() {
			t.floor = max(t.floor, fh.maxT)
		}
		if err := payloads.decode(fh, frame[frameHeaderSize:], &t.series, nil); err != nil {
			t.damaged = true
		}
	}
}

// fillStarts gives the segments whose header says nothing the totals before
// their first whole frame, so that a cursor that begins there counts just what
// it can read, or where there is none the totals of the next one.
func (l *Log) fillStarts(headers []segmentHeader) {
	known := make(map[uint64]bool, len(headers))
	for _, h := range headers {
		known[h.first] = h != segmentHeader{}
	}
	next := l.end.Totals
	for i := len(l.segments) - 1; i >= 0; i-- {
		s := &l.segments[i]
		if !known[s.first] {
			s.start = next
			if s.readable() {
				s.start = firstTotals(l.fs, l.segmentPath(s.first), next)
			}
		}
		next = s.start
	}
}

// firstTotals is what a segment's first whole frame says was before it; the
// totals of the next segment where there is none.
func firstTotals(fs FileSystem, path string, next Totals) Totals {
	f, err := fs.OpenFile(opRecover, path, os.O_RDONLY, 0)
	if err != nil {
		return next
	}
	defer f.Close()
	frames := frameScanner{file: f}
	off, err := frames.next(0, math.MaxInt64)
	if err != nil {
		return next
	}
	h, _, err := frames.at(off, math.MaxInt64)
	if err != nil || !next.cover(h.before) {
		return next // it contradicts what follows
	}
	return h.before
}

// readCursors returns what the cursors' files say, and their size; one that is
// damaged is for whoever opens it.
func readCursors(fs FileSystem, path string) (cursors []cursorRecord, bytes int64, err error) {
	entries, err := fs.ReadDir(opList, cursorsFolder(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("list cursors: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), cursorSuffix) {
			continue
		}
		bytes += sizeOf(e)
		if c, err := readCursorFile(fs, filepath.Join(cursorsFolder(path), e.Name())); err == nil {
			cursors = append(cursors, c)
		}
	}
	return cursors, bytes, nil
}

// followCursors raises the log's end to what cursors have passed, and to what
// had been synced when they were saved. Damage can take frames from there, a
// power loss with SyncNever, and an older version that cannot read them: their
// sequence numbers and totals are not used again, so that readers count them.
func (l *Log) followCursors(cursors []cursorRecord) {
	for _, c := range cursors {
		if c.id != l.id {
			continue
		}
		l.follow(logEnd{c.position.Seq, c.position.Totals})
		l.follow(c.synced)
	}
}

func (l *Log) follow(end logEnd) {
	if end.seq > l.end.Seq {
		l.log.Warn("log ends before what has been in it; its sequence numbers go on after that, and what is missing is counted",
			"seq", l.end.Seq, "cursor_seq", end.seq, "missing_samples", missing(l.end.Totals, end.totals).Samples)
		l.stopContinuing()
		l.end.Seq = end.seq
	}
	if l.open == nil {
		l.end.Totals = maxTotals(l.end.Totals, end.totals)
	}
}

func maxTotals(a, b Totals) Totals {
	return Totals{max(a.Samples, b.Samples), max(a.Histograms, b.Histograms), max(a.Exemplars, b.Exemplars)}
}

func readCursorFile(fs FileSystem, path string) (cursorRecord, error) {
	f, err := fs.OpenFile(opRecover, path, os.O_RDONLY, 0)
	if err != nil {
		return cursorRecord{}, fmt.Errorf("open cursor: %w", err)
	}
	r, _, err := readCursor(f)
	return r, errors.Join(err, f.Close())
}

// reopenUnsynced puts the segments that may not have been synced before the
// last process ended where the first sync finds them.
func (l *Log) reopenUnsynced(found []foundSegment) {
	var newest time.Time
	written := make(map[uint64]time.Time, len(found))
	for _, f := range found {
		written[f.first] = f.written
		if f.written.After(newest) {
			newest = f.written
		}
	}
	waiting := make(map[uint64]bool)
	for _, s := range l.rolled {
		waiting[s.header.first] = true
	}
	if l.open != nil {
		waiting[l.open.header.first] = true
	}
	var rolled []*openSegment
	for _, s := range l.segments {
		if !s.readable() || waiting[s.first] || newest.Sub(written[s.first]) > recentlyWritten {
			continue
		}
		f, err := l.fs.OpenFile(opRecover, l.segmentPath(s.first), os.O_RDWR, 0)
		if err != nil {
			l.log.Warn("segment cannot be opened to sync it", "segment", l.segmentPath(s.first), "err", err)
			continue
		}
		rolled = append(rolled, &openSegment{header: segmentHeader{first: s.first}, file: f, tail: tail{gone: true}})
	}
	l.rolled = append(rolled, l.rolled...)
}
