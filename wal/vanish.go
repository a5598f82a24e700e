package wal

import (
	"errors"
	"io/fs"
	"slices"
)

// noticeVanished finds out that segments have been removed from under a running
// log. As long as the newest is there nothing needs to be done: readers count
// what they miss. Without it, appends would go on in a file that nobody can
// open, so the next of them begins a new segment, in a folder that is made again.
func (l *Log) noticeVanished() {
	l.mu.Lock()
	newest, closed := uint64(0), l.closed
	if l.open != nil {
		newest = l.open.header.first
	}
	l.mu.Unlock()
	if closed {
		return
	}
	list, err := listSegments(l.fs, l.o.Path)
	vanished := errors.Is(err, fs.ErrNotExist) || err == nil && newest != 0 && !slices.Contains(list, newest)
	if !vanished {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fs.MkdirAll(opMakeFolder, segmentsFolder(l.o.Path), 0o750); err != nil {
		l.log.Error("the folder of segments has been removed and cannot be made again", "path", segmentsFolder(l.o.Path), "err", err)
		return
	}
	if list, err = listSegments(l.fs, l.o.Path); err != nil {
		return // the next sync tries again
	}
	gone := func(s segment) bool { return !slices.Contains(list, s.first) }
	if l.open != nil && gone(segment{first: l.open.header.first}) {
		l.leave(l.open)
	}
	before := len(l.segments)
	for _, s := range l.segments {
		if gone(s) {
			l.dropRolled(s.first)
			l.bytes -= s.size
		}
	}
	l.segments = slices.DeleteFunc(l.segments, gone)
	l.folderChanged = true
	l.publish()
	if n := before - len(l.segments); n > 0 {
		l.log.Error("segments have been removed by somebody else; what endpoints had not read is counted, and appends go on in a new one",
			"path", segmentsFolder(l.o.Path), "segments", n)
	}
}
