package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// freeShare bounds MinFree on a small volume: no more than this part of it.
const freeShare = 10

// maxUnsyncedSegments is how many segments there may be of which none but the
// oldest is synced before the bound of the log goes before its memory.
const maxUnsyncedSegments = 4

// bound keeps all three bounds. What has been passed is best removed before.
func (l *Log) bound(now int64) {
	others, err := l.measure()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !l.unlisted {
		l.log.Warn("a part of the log's folder cannot be listed, so max_bytes does not cover it", "path", l.o.Path, "err", err)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		others = max(others, l.others) // an error of the disk makes nothing smaller
	}
	l.others = others
	l.unlisted = err != nil
	l.makeRoom(0)
	l.keepBounds(now)
	l.publish()
}

// makeRoom removes the oldest segments until so many more bytes fit below
// MaxBytes.
func (l *Log) makeRoom(bytes int64) {
	for l.bytes+l.others+bytes > l.o.MaxBytes && l.evictable() {
		if !l.evict("max_bytes") {
			return
		}
	}
}

// keepBounds removes the oldest segments until none is older than MaxAge and
// the volume has MinFree left. The caller holds l.mu.
func (l *Log) keepBounds(now int64) {
	for l.evictable() && now-l.newestIn(0) > l.o.MaxAge.Milliseconds() {
		if !l.evict("max_age") {
			return
		}
	}
	free, size, err := l.fs.Free(opFree, l.o.Path)
	if err != nil {
		if !l.blind {
			l.log.Warn("the free space of the volume is not known, so min_free is not kept", "path", l.o.Path, "err", err)
		}
		l.blind = true
		return
	}
	l.blind = false
	// Not one more than is missing: the space of a segment that is being read
	// comes free when the reader leaves it.
	missing := min(l.o.MinFree, size/freeShare) - free
	for missing > 0 && l.evictable() {
		missing -= l.segments[0].size
		if !l.evict("min_free") {
			return
		}
	}
}

// evictable tells whether the oldest segment may go. A disk that does not sync
// is given up on when a few segments wait.
func (l *Log) evictable() bool {
	return len(l.segments) > 1 && (len(l.segments) > maxUnsyncedSegments || l.carriedOn(0))
}

// carriedOn tells whether a segment after the i-th has frames that are synced:
// they carry the totals, the sequence number and the states on.
func (l *Log) carriedOn(i int) bool {
	synced := l.published.get().Synced.Seq
	return slices.ContainsFunc(l.segments[i+1:], func(s segment) bool {
		return s.readable() && !s.headless && s.size > segmentHeaderSize && s.first <= synced
	})
}

// newestIn is the latest that the newest frame of a segment can have been
// appended at: when the next segment was begun. A time that is not known, or
// that lies ahead of the clock, is never too old.
func (l *Log) newestIn(i int) int64 {
	for _, next := range l.segments[i+1:] {
		if next.created != 0 {
			return next.created
		}
	}
	return math.MaxInt64
}

// evict removes the oldest segment to keep a bound, and counts what had not
// been passed. It returns false when the segment cannot be removed.
func (l *Log) evict(bound string) bool {
	gone := l.within(0)
	passed, ok := l.cursors.passed()
	needless := ok && l.endOf(0) <= passed // the next sync would have removed it
	path := l.segmentPath(l.segments[0].first)
	if !l.segments[0].readable() {
		l.log.Warn("a segment that was set aside is removed to keep the bound", "segment", path, "bound", bound)
	}
	if err := l.remove(0); err != nil {
		if !l.over {
			l.log.Warn("log is over its bound", "bound", bound, "err", err)
		}
		l.over = true
		return false
	}
	l.over = false
	if !needless {
		l.evicted = l.evicted.Add(gone)
		if l.evictedFor != bound {
			l.log.Warn("segments are removed before every endpoint has them; the samples are counted", "bound", bound, "segment", path)
		}
		l.evictedFor = bound
	}
	return true
}

// within counts what a segment has of the frames that readers go through.
func (l *Log) within(i int) Totals {
	if !l.segments[i].readable() {
		return Totals{}
	}
	for _, next := range l.segments[i+1:] {
		if next.readable() {
			return missing(l.segments[i].start, next.start)
		}
	}
	return missing(l.segments[i].start, l.end.Totals)
}

// endOf is the last sequence number that a segment can hold.
func (l *Log) endOf(i int) uint64 {
	for _, next := range l.segments[i+1:] {
		if next.readable() && !next.headless {
			return next.first - 1
		}
	}
	return math.MaxUint64
}

// measure adds up what is in the log's folder and below beside segments and
// cursors. The error is of what could not be listed; the rest is added up all
// the same. The caller does not hold l.mu.
func (l *Log) measure() (bytes int64, err error) {
	err = eachFile(l.fs, l.o.Path, func(path string, e fs.DirEntry) {
		_, isSegment := segmentName(e.Name())
		switch folder := filepath.Dir(path); {
		case isSegment && e.Type().IsRegular() && folder == segmentsFolder(l.o.Path):
		case strings.HasSuffix(e.Name(), cursorSuffix) && folder == cursorsFolder(l.o.Path):
		default:
			bytes += sizeOf(e)
		}
	})
	return bytes, err
}

// eachFile calls each for every file in a folder and below. What cannot be
// listed, such as the lost+found of a volume, is left out; the first error of
// that is returned at the end. What has been removed meanwhile is no error.
func eachFile(fsys FileSystem, folder string, each func(path string, e fs.DirEntry)) error {
	entries, first := fsys.ReadDir(opMeasure, folder)
	if errors.Is(first, fs.ErrNotExist) {
		first = nil
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if !e.IsDir() {
			each(path, e)
		} else if err := eachFile(fsys, path, each); first == nil {
			first = err
		}
	}
	return first
}

// sizeOf is 0 for a file that has been removed since it was listed.
func sizeOf(e fs.DirEntry) int64 {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	return info.Size()
}

// removePassed removes the segments that all open cursors have passed. While
// none is open nothing is: nobody has said yet what is needed.
func (l *Log) removePassed() error {
	passed, ok := l.cursors.passed()
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.publish()
	for i := 0; i < len(l.segments)-1 && l.endOf(i) <= passed && l.carriedOn(i); {
		if !l.segments[i].readable() {
			i++ // nobody has read it
			continue
		}
		if err := l.remove(i); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a segment. One that is gone already is as good as removed.
func (l *Log) remove(i int) error {
	s := l.segments[i]
	if err := l.fs.Remove(opRemoveSegment, l.segmentPath(s.first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment: %w", err)
	}
	l.segments = slices.Delete(l.segments, i, i+1)
	l.dropRolled(s.first)
	l.bytes -= s.size
	l.folderChanged = true
	return nil
}
