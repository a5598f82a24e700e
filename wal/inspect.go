package wal

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Overview is what the files of a log say about it, from outside: it may be
// made beside a running agent, and changes nothing.
type Overview struct {
	Segments []SegmentInfo // oldest first
	Cursors  []CursorInfo
	// Newest is the newest frame's append, and NewestSeq its sequence number,
	// zero when there is none; Start are the running totals before the oldest
	// frame, End those after the newest.
	Newest           time.Time
	NewestSeq        uint64
	Start, End       Totals
	Bytes            int64  // of everything in the folder
	Unlisted         string // why Bytes lacks a part of it; empty when it does not
	QuarantineBytes  int64
	QuarantinedFiles int
}

// SegmentInfo is one segment by its header.
type SegmentInfo struct {
	First   uint64
	Bytes   int64
	Created time.Time // of the first append; zero when the header does not say
	Start   Totals    // running totals before it
	// Problem says why it is not read, or cannot be read as a whole; empty for
	// a good one.
	Problem string
}

// CursorInfo is the place of one endpoint, as last saved.
type CursorInfo struct {
	Name     string
	Path     string // of its file
	Position Position
	Problem  string // why the place is not known; empty when it is
	// Orphan tells that no endpoint of the last start or reload has the cursor,
	// so that it holds nothing back. It is false where their names are not known.
	Orphan bool
}

// Inspect looks at the log's folder without its lock: the header of each
// segment, the newest one's frames, and the cursors.
func Inspect(path string) (o Overview, err error) { return inspect(osFileSystem{}, path) }

func inspect(fs FileSystem, path string) (o Overview, err error) {
	r, err := readFolder(fs, path)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	id := r.source.(*folderSource).id
	o.Start = r.passed.Totals
	if err := o.addSegments(r.fs, path, id); err != nil {
		return o, err
	}
	if err := o.addCursors(r.fs, path, id); err != nil {
		return o, err
	}
	o.addSizes(r.fs, path)
	return o, nil
}

func (o *Overview) addSegments(fs FileSystem, path string, id logID) error {
	entries, err := fs.ReadDir(opList, segmentsFolder(path))
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		_, ok := segmentName(e.Name())
		return !ok || !e.Type().IsRegular()
	})
	var ours []uint64
	for i, e := range entries {
		first, _ := segmentName(e.Name())
		s := SegmentInfo{First: first, Bytes: sizeOf(e)}
		if s.Bytes < segmentHeaderSize && i == len(entries)-1 {
			continue // a running agent has made it and not yet written to it
		}
		h, err := readSegmentHeader(fs, segmentPath(path, first), segmentVersion)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue // removed since it was listed
		case err != nil:
			s.Problem = err.Error()
		case h.id != id:
			s.Problem = "segment of another log"
		case h.first != first:
			s.Problem = fmt.Sprintf("segment that is named %d by its header", h.first)
		default:
			s.Created, s.Start = time.UnixMilli(h.created).UTC(), h.start
			o.End, o.Newest = h.start, s.Created
		}
		if s.Problem == "" || err != nil && !errors.Is(err, errNewerVersion) {
			ours = append(ours, first)
		}
		o.Segments = append(o.Segments, s)
	}
	for _, first := range slices.Backward(ours) {
		found, err := o.addEnd(fs, segmentPath(path, first))
		if err != nil {
			i := slices.IndexFunc(o.Segments, func(s SegmentInfo) bool { return s.First == first })
			o.Segments[i].Problem = err.Error()
		}
		if found {
			break
		}
	}
	return nil
}

// addEnd takes the log's end from the frames of a segment; false if it has none.
func (o *Overview) addEnd(fs FileSystem, path string) (found bool, err error) {
	f, err := fs.OpenFile(opRead, path, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open segment: %w", err)
	}
	frames := frameScanner{file: f}
	for off := int64(0); ; {
		off, err = frames.next(off, math.MaxInt64)
		if err != nil {
			break
		}
		h, _, err := frames.at(off, math.MaxInt64)
		if err != nil {
			break
		}
		o.End, o.NewestSeq, o.Newest, found = h.after(), h.seq, time.UnixMilli(h.appendedAt).UTC(), true
		off += int64(h.size())
	}
	return found, f.Close()
}

func (o *Overview) addCursors(fs FileSystem, path string, id logID) error {
	entries, err := fs.ReadDir(opList, cursorsFolder(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list cursors: %w", err)
	}
	taken, known := cursorsTaken(fs, path)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), cursorSuffix) {
			continue
		}
		c := CursorInfo{Name: listedName(e.Name()), Path: filepath.Join(cursorsFolder(path), e.Name())}
		c.Orphan = known && !taken[c.Path]
		switch r, err := readCursorFile(fs, c.Path); {
		case errors.Is(err, os.ErrNotExist):
			continue // removed since it was listed
		case err != nil:
			c.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
		case r.id != id && id != logID{}:
			c.Problem = "cursor of another log"
		default:
			c.Position = r.position
		}
		o.Cursors = append(o.Cursors, c)
	}
	return nil
}

// cursorsTaken are the paths of the cursors that endpoints have; false if it is
// not known which endpoints there are.
func cursorsTaken(fs FileSystem, path string) (map[string]bool, bool) {
	names, err := readEndpoints(fs, path)
	if err != nil {
		return nil, false
	}
	taken := make(map[string]bool)
	for _, name := range names {
		if file, err := cursorPath(path, name); err == nil {
			taken[file] = true
		}
	}
	return taken, true
}

func (o *Overview) addSizes(fs FileSystem, path string) {
	err := eachFile(fs, path, func(at string, e os.DirEntry) {
		o.Bytes += sizeOf(e)
		if filepath.Dir(at) == quarantineFolder(path) {
			o.QuarantineBytes += sizeOf(e)
			o.QuarantinedFiles++
		}
	})
	if err != nil {
		o.Unlisted = err.Error()
	}
}

// Read returns a reader over a log's folder without its lock, from the oldest
// frame there is: for looking into a log that a running agent or none writes.
// It gives out what is written, synced or not. The caller closes it.
func Read(path string) (*Reader, error) { return readFolder(osFileSystem{}, path) }

func readFolder(fs FileSystem, path string) (*Reader, error) {
	source := &folderSource{path: path, fs: fs, version: segmentVersion}
	list, err := source.segments()
	if err != nil {
		return nil, err
	}
	var found []foundSegment
	for _, first := range list {
		h, err := readSegmentHeader(source.fs, segmentPath(path, first), source.version)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since it was listed
		}
		found = append(found, foundSegment{segment: segment{first: first}, header: h, err: err})
	}
	cursors, _, err := readCursors(source.fs, path)
	if err != nil {
		return nil, err
	}
	source.id = electID(found, cursors)
	return newReader(path, source.fs, source, oldestOf(fs, path, found, source.id), source.version), nil
}

// oldestOf is the position just before the oldest frame of the segments found.
func oldestOf(fs FileSystem, path string, found []foundSegment, id logID) (oldest Position) {
	next := Totals{math.MaxUint64, math.MaxUint64, math.MaxUint64} // not known
	for _, f := range slices.Backward(found) {
		switch {
		case f.ours(id) && f.header.first == f.first:
			next = f.header.start
		case f.err != nil && !errors.Is(f.err, errNewerVersion):
			next = firstTotals(fs, segmentPath(path, f.first), next)
		default:
			continue
		}
		oldest = Position{Seq: f.first - 1, Segment: f.first, Offset: segmentHeaderSize}
		if next.Samples != math.MaxUint64 {
			oldest.Totals = next
		}
	}
	return oldest
}

// ReadAfter is Read from a place on, as a cursor has it.
func ReadAfter(path string, p Position) (*Reader, error) {
	r, err := Read(path)
	if err != nil {
		return nil, err
	}
	r.passed = p
	return r, nil
}

// OnDamage lets found be told of every place that cannot be read, in the
// goroutine that calls Next. It is to be called before the first Next.
func (r *Reader) OnDamage(found func(Damage)) {
	r.report = func(_ File, d Damage) { found(d) }
}
