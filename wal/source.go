package wal

import (
	"math"
	"slices"
)

// segmentSource tells a reader what there is to read.
type segmentSource interface {
	// segments returns the first sequence numbers in order.
	segments() ([]uint64, error)
	limit(segment uint64) (limit, error)
}

// limit is up to where a segment can be read.
type limit struct {
	end int64 // offset; math.MaxInt64 is the end of its file
	// until is the first sequence number of the next segment: frames from
	// there on, which a failed sync has left, have been written again.
	until uint64
	final bool // that is all the segment will ever have
}

// logSource is the log of this process: segments that are synced.
type logSource struct{ published *published }

func (s logSource) segments() ([]uint64, error) {
	list, _, _ := s.published.readable()
	return list, nil
}

func (s logSource) limit(segment uint64) (limit, error) {
	_, bounds, synced := s.published.readable()
	l := limit{end: math.MaxInt64, until: after(bounds, segment), final: true}
	switch {
	case segment == synced.Segment:
		l.end, l.final = synced.Offset, false
	case segment > synced.Segment:
		l.end, l.final = 0, false
	}
	return l, nil
}

// after returns the first of a sorted list that is larger, or one larger than
// all sequence numbers.
func after(list []uint64, n uint64) uint64 {
	if i, _ := slices.BinarySearch(list, n+1); i < len(list) {
		return list[i]
	}
	return math.MaxUint64
}

// folderSource is a folder that anyone may be writing.
type folderSource struct {
	path    string
	fs      FileSystem
	version uint32
	id      logID    // segments of others are passed over
	list    []uint64 // as last listed

	bounded, until uint64 // the segment that was last asked for, and where it ends
}

func (s *folderSource) segments() (list []uint64, err error) {
	list, err = listSegments(s.fs, s.path)
	if err != nil {
		return nil, err
	}
	known := s.list
	s.list = slices.DeleteFunc(list, func(first uint64) bool {
		if _, ok := slices.BinarySearch(known, first); ok {
			return false
		}
		h, err := readSegmentHeader(s.fs, segmentPath(s.path, first), s.version)
		return err != nil && first > farthest || err == nil && (h.first != first || s.id != logID{} && h.id != s.id)
	})
	return s.list, nil
}

// limit says final when a newer segment is there: the writer had left this
// one when it made that.
func (s *folderSource) limit(segment uint64) (limit, error) {
	l := limit{end: math.MaxInt64, until: math.MaxUint64}
	if s.bounded == segment {
		l.until, l.final = s.until, true
		return l, nil
	}
	if after(s.list, segment) == math.MaxUint64 {
		if _, err := s.segments(); err != nil {
			return l, err
		}
	}
	i, _ := slices.BinarySearch(s.list, segment+1)
	if l.final = i < len(s.list); !l.final {
		return l, nil
	}
	for _, next := range s.list[i:] {
		if _, err := readSegmentHeader(s.fs, segmentPath(s.path, next), s.version); err == nil {
			l.until = next
			break
		}
	}
	s.bounded, s.until = segment, l.until
	return l, nil
}
