package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// makeRoom removes the oldest segments until so many more bytes fit below
// MaxBytes. The newest segment stays: it carries the totals and the sequence
// number on.
func (l *Log) makeRoom(bytes int64) {
	for l.bytes+bytes > l.o.MaxBytes && len(l.segments) > 1 {
		gone := l.segments[1].start.Sub(l.segments[0].start)
		passed, ok := l.cursors.passed()
		needless := ok && l.segments[1].first-1 <= passed // the next sync would have removed it
		if l.segments[0].newer {
			l.log.Warn("a segment of a newer format version is removed to keep the bound",
				"segment", l.segmentPath(l.segments[0].first), "max_bytes", l.o.MaxBytes)
		}
		if err := l.remove(0); err != nil {
			l.log.Warn("log is over its bound", "max_bytes", l.o.MaxBytes, "err", err)
			return
		}
		if !needless {
			l.evicted = l.evicted.Add(gone)
		}
	}
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
	for i := 0; i < len(l.segments)-1 && l.segments[i+1].first-1 <= passed; {
		if l.segments[i].newer {
			i++ // it was stepped over, not read
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
	l.bytes -= s.size
	l.folderChanged = true
	return nil
}
