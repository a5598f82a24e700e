package wal

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Overview is what the files of a log say about it, from outside: it may be
// made beside a running agent, and changes nothing.
type Overview struct {
	Segments []SegmentInfo // oldest first
	Cursors  []CursorInfo
	// Newest is the newest frame's append, zero when there is none; End the
	// totals after it.
	Newest           time.Time
	End              Totals
	Bytes            int64 // of everything in the folder
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
func Inspect(path string) (o Overview, err error) {
	r, err := Read(path)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	id := r.source.(*folderSource).id
	if err := o.addSegments(r.fs, path, id); err != nil {
		return o, err
	}
	if err := o.addCursors(r.fs, path, id); err != nil {
		return o, err
	}
	return o, o.addSizes(path)
}

func (o *Overview) addSegments(fs FileSystem, path string, id logID) error {
	list, err := listSegments(fs, path)
	if err != nil {
		return err
	}
	for _, first := range list {
		info, err := os.Stat(segmentPath(path, first))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return fmt.Errorf("look at segment: %w", err)
		}
		s := SegmentInfo{First: first, Bytes: info.Size()}
		h, err := readSegmentHeader(fs, segmentPath(path, first), segmentVersion)
		switch {
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
		o.Segments = append(o.Segments, s)
		if s.Problem == "" || !errors.Is(err, errNewerVersion) && h.first == 0 {
			if err := o.addEnd(fs, segmentPath(path, first), first == list[len(list)-1]); err != nil {
				o.Segments[len(o.Segments)-1].Problem = err.Error()
			}
		}
	}
	return nil
}

// addEnd takes the log's end from the frames of the newest segment.
func (o *Overview) addEnd(fs FileSystem, path string, newest bool) error {
	if !newest {
		return nil
	}
	f, err := fs.OpenFile(opRead, path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
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
		o.End, o.Newest = h.after(), time.UnixMilli(h.appendedAt).UTC()
		off += int64(h.size())
	}
	return f.Close()
}

func (o *Overview) addCursors(fs FileSystem, path string, id logID) error {
	entries, err := fs.ReadDir(opList, cursorsFolder(path))
	if err != nil {
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

func (o *Overview) addSizes(path string) error {
	return filepath.WalkDir(path, func(at string, e os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("look at the log's folder: %w", err)
		case e.IsDir():
			return nil
		}
		o.Bytes += sizeOf(e)
		if filepath.Dir(at) == quarantineFolder(path) {
			o.QuarantineBytes += sizeOf(e)
			o.QuarantinedFiles++
		}
		return nil
	})
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
