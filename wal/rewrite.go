package wal

import (
	"fmt"
	"os"
	"slices"
)

// maxUnsynced bounds the copies of what is not synced. A disk that has taken
// so much and synced nothing of it gets no second chance for the rest: what
// then turns out to be missing is counted as damaged.
const maxUnsynced = 16 << 20

// newSuffix ends the name of a segment that is being written again.
const newSuffix = ".new"

// tail is what a segment's file has beyond what is known to be on the disk.
// After an fdatasync that failed, the kernel may take what it could not write
// for written, so the only safe copy is this one.
type tail struct {
	from  int64 // offset of its first byte
	end   tailStart
	last  uint64 // sequence number of the newest frame in it
	bytes []byte
	gone  bool // it was too much to keep
}

// tailStart is where the log stood just before a tail.
type tailStart struct {
	seq    uint64
	totals Totals
	floor  int64
	table  int // length of the segment's series table
	states states
}

// remember keeps a copy of what has been written to a segment.
func (l *Log) remember(seg *openSegment, b []byte) {
	if l.o.Sync == SyncNever || seg.tail.gone {
		return
	}
	if l.unsynced+len(b) > maxUnsynced {
		l.forgetTail(seg)
		seg.tail.gone = true
		return
	}
	seg.tail.bytes = append(seg.tail.bytes, b...)
	l.unsynced += len(b)
}

// forgetTail drops the copy; the segment is synced, or it is too much.
func (l *Log) forgetTail(seg *openSegment) {
	l.unsynced -= len(seg.tail.bytes)
	seg.tail.bytes = nil
}

// synced drops the copy up to that size, which has been synced while more may
// have been written.
func (l *Log) synced(seg *openSegment, size int64, at tailStart) {
	t := &seg.tail
	if l.o.Sync == SyncNever {
		return
	}
	if t.gone {
		t.gone = seg.size > size
	} else {
		n := int(size - t.from)
		l.unsynced -= n
		t.bytes = t.bytes[:copy(t.bytes, t.bytes[n:])]
	}
	t.from, t.end = size, at
}

// trimTable drops what a rewrite has no use for: the series that are in the
// tail itself. A disk that syncs nothing for long would have them of every
// segment in memory.
func (seg *openSegment) trimTable() {
	keep := 1 + seg.tail.end.table
	if seg.tail.gone {
		keep = 0
	}
	if keep < len(seg.table) {
		seg.table = slices.Clone(seg.table[:keep])
	}
}

// here is where the log stands in its open segment.
func (l *Log) here() tailStart {
	return tailStart{l.end.Seq, l.end.Totals, l.floor, l.open.tableLen, l.states}
}

// rewriteFailed writes what a failed sync has left in doubt to new segments.
// The caller holds s.mu and not Log.mu.
func (s *syncer) rewriteFailed() error {
	l := s.log
	l.mu.Lock()
	rolled := slices.Clone(l.rolled)
	for _, seg := range rolled {
		seg.trimTable()
	}
	l.mu.Unlock()
	for _, seg := range rolled {
		if !seg.failed {
			continue
		}
		if err := s.rewrite(seg); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the tail of a segment again, and syncs it. Where nothing of
// the segment is synced it is replaced, byte for byte. Otherwise the tail goes
// to a segment of its own, which begins with the series table so far; readers
// leave the old one where the new one begins.
func (s *syncer) rewrite(old *openSegment) error {
	l := s.log
	l.mu.Lock()
	if t := &old.tail; t.gone || t.last <= t.end.seq {
		// All that can be done is to sync it once more; or no frame is in
		// doubt, and the next segment has the name a new one would get; or it
		// has been removed to keep a bound.
		old.failed = false
		l.mu.Unlock()
		return nil
	}
	again, b := l.encodeAgain(old)
	l.mu.Unlock()

	path := l.segmentPath(again.first)
	if err := l.writeWhole(path, b); err != nil {
		return fmt.Errorf("write %s again after a failed sync: %w", path, err)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.folderChanged = true
	if !slices.Contains(l.rolled, old) { // removed meanwhile, and with it what is written here
		if err := l.fs.Remove(opRemoveSegment, path); err != nil {
			return fmt.Errorf("remove %s, which is counted as evicted: %w", path, err)
		}
		return nil
	}
	i := slices.IndexFunc(l.segments, func(s segment) bool { return s.first == old.header.first })
	if again.first != old.header.first {
		l.segments = slices.Insert(l.segments, i+1, again)
		l.bytes += again.size
	} else {
		l.bytes += again.size - l.segments[i].size
		l.segments[i].size = again.size
	}
	if l.end.Segment == old.header.first {
		l.end.Segment, l.end.Offset = again.first, again.size
	}
	l.dropRolled(old.header.first)
	l.publish()
	l.log.Warn("what could not be synced has been written again", "segment", path, "bytes", len(b))
	return nil
}

// encodeAgain returns the segment that takes the tail of old, and its bytes.
func (l *Log) encodeAgain(old *openSegment) (segment, []byte) {
	t := &old.tail
	if t.from == 0 {
		return segment{first: old.header.first, created: old.header.created, start: old.header.start, size: int64(len(t.bytes))},
			slices.Clone(t.bytes)
	}
	h := old.header
	h.first, h.start, h.floor = t.end.seq+1, t.end.totals, t.end.floor
	l.enc.reset()
	l.enc.out = appendSegmentHeader(l.enc.out, h)
	begin := frameHeader{seq: t.end.seq, appendedAt: l.now, before: t.end.totals}
	l.enc.encodeStates(t.end.states, begin)
	l.encodeTable(old.table[1:1+t.end.table], begin)
	b := append(slices.Clone(l.enc.out), t.bytes...)
	return segment{first: h.first, created: h.created, start: h.start, size: int64(len(b))}, b
}

// writeWhole makes a file of those bytes, synced, or leaves what was there.
func (l *Log) writeWhole(path string, b []byte) error {
	part := path + newSuffix
	f, err := l.fs.OpenFile(opRewrite, part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(opRewrite, b, 0)
	if err == nil {
		err = f.Sync(opSyncRewrite)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.fs.Rename(opRename, part, path)
	}
	if err != nil {
		if rerr := l.fs.Remove(opRemoveSegment, part); rerr != nil {
			l.log.Warn("a part of a segment could not be removed; the next start does it", "path", part, "err", rerr)
		}
	}
	return err
}
