package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
)

// Frame is one decoded frame. It is filled by Reader.Next, which reuses its
// slices: what is in it is valid until the next call.
type Frame struct {
	Position   Position // just after this frame
	AppendedAt int64    // Unix milliseconds
	MinT, MaxT int64    // of its samples and histograms
	Counts     Totals   // of what is in it
	OwnTime    bool     // the samples' times come from the data

	// Evicted and Damaged count what lies between the reader's last position
	// and the end of this frame and is no more: removed to keep the bound, or
	// unreadable. With Counts they are all there is between the two.
	Evicted, Damaged Totals

	Samples         []record.RefSample
	Histograms      []record.RefHistogramSample
	FloatHistograms []record.RefFloatHistogramSample
	Exemplars       []record.RefExemplar
	// Series is indexed by Ref: the series of this frame's segment seen so
	// far; 0 is unused. It belongs to the reader and grows from frame to frame
	// until Position.Segment changes, when it begins anew.
	Series []SeriesEntry
}

// SeriesEntry is a series as a segment's table has it.
type SeriesEntry struct {
	Labels   labels.Labels
	Metadata Metadata
}

// Reader reads frames in order. It is for one goroutine; any number of readers
// read beside each other and beside appends.
type Reader struct {
	path    string
	fs      FileSystem
	source  segmentSource
	version uint32 // the newest that is known
	// report is told of bytes that cannot be read; nil: nobody is. Without a
	// file it is a segment that cannot be opened.
	report func(f File, d Damage)
	// patience is how often in a row a place may fail to be read before it is
	// taken for damaged; 0: what cannot be read or opened is damaged at once.
	patience int
	failures int

	passed  Position // the position of the last frame given out
	segment uint64   // the segment that is open, or was last
	evicted bool     // segments after passed were removed, rather than damaged

	file     File // nil: none is open
	frames   frameScanner
	offset   int64 // of the next frame
	seq      uint64
	series   []SeriesEntry
	damaged  bool // a frame of this segment could not be read
	torn     bool // the last call of Next ended before bytes that are no frame
	payloads *payloadDecoder
}

// Reader returns a reader that begins after from, which is a cursor's or a
// frame's position. It gives out synced frames only. The caller closes it.
func (l *Log) Reader(from Position) *Reader {
	r := newReader(l.o.Path, l.fs, logSource{l.published}, from, l.o.version)
	r.report = l.quarantine.keep
	r.patience = patience
	return r
}

// patience is how often an endpoint tries to read what the disk does not give
// out. Between two tries it waits for as long as between two requests.
const patience = 64

func newReader(path string, fs FileSystem, source segmentSource, from Position, version uint32) *Reader {
	return &Reader{path: path, fs: fs, source: source, version: version, passed: from, payloads: newPayloadDecoder()}
}

// Next reads the next frame into f. io.EOF means that there is none yet: call
// again after Log.Changed. Damage is skipped and counted in the frame after
// it; other errors are the disk's, and the same frame is tried again by the
// next call. A place that fails so often, while the disk gives out others, is
// damage as well. What may not be read is waited for.
func (r *Reader) Next(f *Frame) error {
	for {
		if r.file == nil {
			if err := r.openNext(); err != nil {
				return err
			}
		}
		limit, err := r.source.limit(r.segment)
		if err != nil {
			return err
		}
		h, err := r.nextFrame(f, limit)
		if err == nil {
			r.give(h, f)
			return nil
		}
		if !errors.Is(err, io.EOF) && r.giveUp() {
			r.frames.blank = true
			continue
		}
		if !errors.Is(err, io.EOF) || !limit.final {
			return err
		}
		if err := r.leave(); err != nil {
			return err
		}
	}
}

// nextFrame decodes the next frame that has not been passed. io.EOF means
// that the segment has no more for now.
func (r *Reader) nextFrame(f *Frame, l limit) (frameHeader, error) {
	for r.torn = false; ; {
		h, frame, err := r.frames.at(r.offset, l.end)
		if errors.Is(err, errDamaged) {
			var next int64
			if next, err = r.frames.next(r.offset+1, l.end); err != nil {
				if errors.Is(err, io.EOF) && !l.final {
					r.frames.forget() // perhaps it is being written just now
					r.torn = true
				}
				if errors.Is(err, io.EOF) && l.final {
					r.noteDamage(r.offset, l.end, r.complete(l))
				}
				return h, err
			}
			r.noteDamage(r.offset, next, r.complete(l))
			r.offset = next
			if !r.damaged {
				r.damaged = true
				r.loadTable(next, l.end)
			}
			continue
		}
		if r.frames.blank && l.final && errors.Is(err, io.EOF) {
			r.noteDamage(r.offset, l.end, r.complete(l))
		}
		if err != nil {
			return h, err
		}
		if h.seq >= l.until {
			return h, io.EOF
		}
		r.offset += int64(h.size())
		if h.isTable() && r.seq == 0 {
			// The segment was begun with what its frames refer to.
			if err := r.payloads.decode(h, frame[frameHeaderSize:], &r.series, nil); err != nil {
				r.damaged = true
			}
		}
		if h.isTable() || h.seq <= r.seq {
			continue
		}
		r.seq = h.seq
		into := f
		if h.seq <= r.passed.Seq {
			into = nil // only its series matter
		}
		if err := r.payloads.decode(h, frame[frameHeaderSize:], &r.series, into); err != nil {
			r.damaged = true
			r.noteDamage(r.offset-int64(h.size()), r.offset, false)
			continue
		}
		if into != nil {
			return h, nil
		}
	}
}

// giveUp tells, after one more error of the disk, whether what it does not give
// out is lost.
func (r *Reader) giveUp() bool {
	if r.frames.blank {
		return false
	}
	r.failures++
	return r.failures > r.patience && (r.patience == 0 || r.diskAnswers())
}

// diskAnswers tells whether any segment can be read: while none can, the disk
// is gone, and not what is on it.
func (r *Reader) diskAnswers() bool {
	list, err := r.source.segments()
	if err != nil {
		return false
	}
	for _, first := range list {
		f, err := r.fs.OpenFile(opRead, segmentPath(r.path, first), os.O_RDONLY, 0)
		if err != nil {
			continue
		}
		var b [1]byte
		_, err = f.ReadAt(opRead, b[:], 0)
		f.Close()
		if err == nil || errors.Is(err, io.EOF) {
			return true
		}
	}
	return false
}

// complete tells whether all frames of the segment have been read: the next
// segment goes on with the next one.
func (r *Reader) complete(l limit) bool { return l.final && r.seq+1 == l.until }

// Damage is a place where a segment cannot be read.
type Damage struct {
	Segment  uint64 // its name: the first sequence number in it
	From, To int64  // offsets; To is math.MaxInt64 where it is the rest of the file
	// Spare means that the place is behind the last frame, and nothing is lost
	// with it: it is of the series table, which only matters when a frame is
	// damaged too, or what a failed write or sync has left.
	Spare bool
}

// Torn returns the place behind the newest frame that cannot be read, when
// Next has returned io.EOF; false if there is none. A process that is writing
// it just now, a frame that was torn, and damage look the same: a start keeps
// the bytes in the quarantine, and counts what of them had been synced.
func (r *Reader) Torn() (Damage, bool) {
	return Damage{Segment: r.segment, From: r.offset, To: math.MaxInt64}, r.torn
}

func (r *Reader) noteDamage(from, to int64, spare bool) {
	if r.report != nil {
		r.report(r.file, Damage{r.segment, from, to, spare})
	}
}

// give fills in what the header knows, and counts what is missing.
func (r *Reader) give(h frameHeader, f *Frame) {
	f.Position = Position{Seq: h.seq, Segment: r.segment, Offset: r.offset, Totals: h.after()}
	f.AppendedAt, f.MinT, f.MaxT, f.OwnTime = h.appendedAt, h.minT, h.maxT, h.ownTime()
	f.Series = r.series
	f.Evicted, f.Damaged = Totals{}, Totals{}
	if missing := missing(r.passed.Totals, h.before); r.evicted {
		f.Evicted = missing
	} else {
		f.Damaged = missing
	}
	r.dropUnknown(f)
	f.Counts = f.decoded()
	f.Damaged = f.Damaged.Add(h.counts.Sub(f.Counts))
	r.passed, r.evicted = f.Position, false
	r.failures, r.frames.blank = 0, false
}

// missing is what lies between two running totals; nothing where they
// contradict each other.
func missing(from, to Totals) Totals {
	if !to.cover(from) {
		return Totals{}
	}
	return to.Sub(from)
}

// dropUnknown removes what belongs to series that a damaged frame introduced:
// whoever gets the frame may look up each reference.
func (r *Reader) dropUnknown(f *Frame) {
	unknown := func(ref seriesRef) bool {
		return uint64(ref) >= uint64(len(r.series)) || r.series[ref].Labels.IsEmpty()
	}
	f.Samples = slices.DeleteFunc(f.Samples, func(s record.RefSample) bool { return unknown(s.Ref) })
	f.Histograms = slices.DeleteFunc(f.Histograms, func(s record.RefHistogramSample) bool { return unknown(s.Ref) })
	f.FloatHistograms = slices.DeleteFunc(f.FloatHistograms, func(s record.RefFloatHistogramSample) bool { return unknown(s.Ref) })
	f.Exemplars = slices.DeleteFunc(f.Exemplars, func(s record.RefExemplar) bool { return unknown(s.Ref) })
}

// openNext opens the segment that comes after what has been passed. io.EOF
// means that there is none yet.
func (r *Reader) openNext() error {
	list, err := r.source.segments()
	if err != nil {
		return err
	}
	var i int
	if r.segment == 0 {
		// The first one: the last that can hold the frame after passed.
		i, _ = slices.BinarySearch(list, r.passed.Seq+2)
		if i > 0 {
			i--
			// A file that got its name by damage may seem to hold it.
			if at, here := slices.BinarySearch(list, r.passed.Segment); here {
				i = min(i, at)
			}
		} else if len(list) > 0 && list[0] > r.passed.Seq+1 {
			r.evicted = true
		}
	} else {
		var here bool
		i, here = slices.BinarySearch(list, r.segment)
		if here {
			i++
		} else if i == 0 && len(list) > 0 {
			r.evicted = true
		}
	}
	for ; i < len(list); i++ {
		err := r.open(list[i])
		if errors.Is(err, errNewerVersion) || errors.Is(err, errGivenUp) {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			r.evicted = true // removed since it was listed
			continue
		}
		return err
	}
	return io.EOF
}

// errGivenUp says that a segment cannot be opened and is counted as damaged.
var errGivenUp = errors.New("segment is given up")

// cannotOpen decides what becomes of a segment that cannot be opened. One that
// may not be read by this user is waited for by endpoints, and so is the
// newest, which is still written to.
func (r *Reader) cannotOpen(first uint64, l limit, err error) error {
	mayNot := errors.Is(err, fs.ErrPermission)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case r.patience > 0 && (mayNot || !l.final):
	case r.giveUp():
		r.segment = first
		r.noteDamage(0, math.MaxInt64, false)
		return errGivenUp
	}
	if mayNot {
		return fmt.Errorf("open segment: %w; let the agent's user own the log's folder and all in it", err)
	}
	return fmt.Errorf("open segment: %w", err)
}

func (r *Reader) open(first uint64) error {
	limit, err := r.source.limit(first)
	if err != nil {
		return err
	}
	if limit.end == 0 {
		return io.EOF
	}
	f, err := r.fs.OpenFile(opRead, segmentPath(r.path, first), os.O_RDONLY, 0)
	if err != nil {
		return r.cannotOpen(first, limit, err)
	}
	r.frames.reset(f)
	head, err := r.frames.bytes(0, segmentHeaderSize, limit.end)
	if err != nil && !errors.Is(err, io.EOF) && r.giveUp() {
		r.frames.blank = true
		head, err = r.frames.bytes(0, segmentHeaderSize, limit.end)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return err
	}
	if len(head) < segmentHeaderSize && !limit.final {
		f.Close()
		return io.EOF // a running agent has made it and not yet written to it
	}
	r.offset = segmentHeaderSize
	if _, err := decodeSegmentHeader(head, r.version); errors.Is(err, errNewerVersion) {
		f.Close()
		return err
	} else if err != nil {
		r.offset = 0 // a damaged header; the frames stand for themselves
	}
	r.file, r.segment = f, first
	r.seq, r.damaged = 0, false
	// Frames that were given out still refer to the old table.
	r.series = make([]SeriesEntry, 1, 64)
	return nil
}

// leave closes the segment, which has been read.
func (r *Reader) leave() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	r.failures, r.frames.blank = 0, false
	if err := f.Close(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

// Close closes the open segment and ends the reader.
func (r *Reader) Close() error {
	r.payloads.close()
	return r.leave()
}
