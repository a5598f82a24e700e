package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// movedSuffix ends the name of a segment on its way to the right one.
const movedSuffix = ".moved"

// foundSegment is a file in the segments folder as Open finds it.
type foundSegment struct {
	segment
	name    string
	written time.Time
	header  segmentHeader // zero when it is damaged or of a newer version
	err     error         // why
}

// ours tells whether the header is whole and of this log.
func (f *foundSegment) ours(id logID) bool { return f.err == nil && f.header.id == id }

// findSegments lists the segments and reads their headers. Above taken there is
// no name that a folder or a link has, which is no segment whatever it is called.
func (l *Log) findSegments() (found []foundSegment, taken uint64, err error) {
	entries, err := l.fs.ReadDir(opList, segmentsFolder(l.o.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("list segments: %w", err)
	}
	for _, e := range entries {
		first, ok := segmentName(e.Name())
		if !ok && !strings.HasSuffix(e.Name(), segmentSuffix+movedSuffix) {
			l.removePart(e.Name())
			continue
		}
		if !e.Type().IsRegular() {
			l.log.Warn("what has a segment's name and is no file is left alone", "path", filepath.Join(segmentsFolder(l.o.Path), e.Name()))
			if first <= farthest {
				taken = max(taken, first)
			}
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("list segments: %w", err)
		}
		f := foundSegment{name: e.Name(), written: info.ModTime()}
		f.header, f.err = readSegmentHeader(l.fs, filepath.Join(segmentsFolder(l.o.Path), f.name), l.o.version)
		f.segment = segment{
			first: first, size: info.Size(),
			created: f.header.created, start: f.header.start,
			newer: errors.Is(f.err, errNewerVersion), headless: f.err != nil,
		}
		found = append(found, f)
	}
	return found, taken, nil
}

// electID is the id that most segments and cursors have, or else the newest
// segment: a few files of another log among ours change nothing. Where no
// segment has a whole header, as after damage to the only one, it is the id
// that most cursors have: what they count goes on.
func electID(found []foundSegment, cursors []cursorRecord) (id logID) {
	votes := make(map[logID]int)
	for _, c := range cursors {
		votes[c.id]++
	}
	for i := len(found) - 1; i >= 0; i-- {
		if found[i].err == nil {
			votes[found[i].header.id]++
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		if f := &found[i]; f.err == nil && votes[f.header.id] > votes[id] {
			id = f.header.id
		}
	}
	if id != (logID{}) {
		return id
	}
	for _, c := range cursors {
		if votes[c.id] > votes[id] {
			id = c.id
		}
	}
	return id
}

// putInPlace gives segments their own names back, and tells those that have no
// place in this log: of another one, or a copy. They are not read and not
// touched, unless to keep a bound.
func (l *Log) putInPlace(found []foundSegment) []foundSegment {
	taken := make(map[uint64]bool) // names that a segment has by right
	for i := range found {
		if f := &found[i]; f.first != 0 && (!f.ours(l.id) || f.header.first == f.first) {
			taken[f.first] = true
		}
	}
	// All leave their names before any takes a new one: two may have been swapped.
	var moving []*foundSegment
	for i := range found {
		f := &found[i]
		switch {
		case f.err == nil && f.header.id != l.id:
			f.foreign = true
			l.log.Warn("a segment of another log is left alone; only its own log can read it", "segment", f.name)
		case f.err != nil && f.first > farthest:
			f.foreign = true
			l.log.Warn("a file with a name that no segment can have is left alone", "segment", f.name, "err", f.err)
		case !f.ours(l.id) || f.header.first == f.first:
		case taken[f.header.first]:
			f.foreign = true
			l.log.Warn("a copy of a segment is left alone", "segment", f.name, "first_seq", f.header.first)
		default:
			taken[f.header.first] = true
			moving = append(moving, f)
		}
	}
	for _, f := range moving {
		if f.first == 0 {
			continue
		}
		if err := l.move(f, f.name+movedSuffix); err != nil {
			f.foreign = true
		}
	}
	for _, f := range moving {
		if f.foreign {
			continue
		}
		if err := l.move(f, filepath.Base(segmentPath("", f.header.first))); err != nil {
			f.first, f.foreign = 0, true
			continue
		}
		l.log.Warn("a segment had another name than its own, and has it back", "segment", f.name)
		f.first = f.header.first
	}
	// What is left without a name is of no use before the next start.
	found = slices.DeleteFunc(found, func(f foundSegment) bool { return f.first == 0 })
	slices.SortFunc(found, func(a, b foundSegment) int { return cmp.Compare(a.first, b.first) })
	return found
}

func (l *Log) move(f *foundSegment, name string) error {
	folder := segmentsFolder(l.o.Path)
	err := l.fs.Rename(opPlace, filepath.Join(folder, f.name), filepath.Join(folder, name))
	if err != nil {
		l.log.Warn("a segment cannot be given its own name; it is read after a start when it can", "segment", f.name, "err", err)
		return err
	}
	f.name = name
	l.folderChanged = true
	return nil
}

// markStepped marks the segments that an older version has stepped over: one
// of an older format follows. They are taken up by Sync.
func (l *Log) markStepped(found []foundSegment) {
	var oldest uint32 // version among the segments that follow
	for i := len(found) - 1; i >= 0; i-- {
		f := &found[i]
		if !f.ours(l.id) || f.foreign {
			continue
		}
		if f.stepped = oldest != 0 && f.header.version > oldest; !f.stepped {
			oldest = f.header.version
		}
	}
}
