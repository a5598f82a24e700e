package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/tsdb/record"
)

// errClosed is returned by what is called after Close.
var errClosed = errors.New("log is closed")

// Append writes a round with one write. Its samples are in the log, and
// survive the process, when it returns; Appended says which, also beside an
// error. now is the time of append, by which segments are cut; it is not the
// samples' time.
//
// What cannot be written, because the disk is full or failing, is kept in
// memory, in order, and written by a later Sync; Appended.Kept says what. The
// caller does not append it again. What is refused is refused for good.
//
// An error means that the log is closed, that a round was lost because it is
// larger than all that may wait, that there was no room for some of its states,
// without which it was appended all the same (a [*StateError]), or, with
// SyncAlways, that the round is in the log but not yet safe against power loss,
// which a later sync makes up for.
//
// Anyone may call it; appends are made one after the other.
func (l *Log) Append(r *Round, now time.Time) (Appended, error) {
	l.mu.Lock()
	out, err := l.append(r, now.UnixMilli())
	seq := l.end.Seq
	if l.closed {
		l.publish()
	} else {
		l.book(r.Booked, out)
	}
	l.mu.Unlock()
	if err == nil && l.o.Sync == SyncAlways && !out.Appended.IsZero() {
		err = l.syncer.to(seq)
	}
	return out, err
}

func (l *Log) append(r *Round, now int64) (Appended, error) {
	if l.closed {
		return Appended{}, errClosed
	}
	if l.now-now > rememberFor.Milliseconds() { // the clock was ahead, and has been set back
		l.now = now
		l.series.released.setBack(now)
	}
	l.now = max(l.now, now)
	l.series.forget(l.now)
	if len(r.State) > 0 {
		admitted, without := l.states.admit(r.State)
		if len(without) > 0 {
			part := *r
			part.State = admitted
			out, err := l.writeOrWait(&part, now)
			return out, &StateError{without, err}
		}
	}
	return l.writeOrWait(r, now)
}

func (l *Log) writeOrWait(r *Round, now int64) (Appended, error) {
	if len(l.waiting.rounds) > 0 {
		return l.wait(Appended{}, copyRound(r))
	}
	out, rest, err := l.writeRound(r, now)
	if err == nil {
		return out, nil
	}
	l.log.Error("the log cannot be written; rounds wait in memory for as long as there is room, free some space or mend the disk", "err", err)
	l.waiting.why = err
	return l.wait(out, rest)
}

// wait keeps what could not be written of a round.
func (l *Log) wait(out Appended, rest waitingRound) (Appended, error) {
	out.Kept = l.keep(rest)
	if out.Kept != rest.Totals() {
		return out, fmt.Errorf("round of %d samples is lost, it is too large to wait in memory: %w", len(rest.Samples), l.waiting.why)
	}
	return out, nil
}

// writeRound appends a round and the housekeeping that goes with it. With an
// error, rest is a copy of what it has neither written nor refused.
func (l *Log) writeRound(r *Round, now int64) (out Appended, rest waitingRound, err error) {
	if l.open != nil && l.due(now) {
		l.seal(now)
	}
	seg := l.open
	if seg == nil {
		seg = l.newSegment(now)
	}
	out.Refused, out.Unfit = l.encode(r, seg, now)
	l.refused = l.refused.Add(out.Refused)
	if len(l.enc.frames) == 0 {
		return out, rest, nil
	}
	l.makeRoom(int64(len(l.enc.out)))
	kept, err := l.write(seg)
	if err != nil {
		rest = copyTaken(r, l.enc.taken[l.enc.takenIn(kept):])
	}
	before := l.end.Totals
	l.commit(seg, kept, r)
	out.Appended = l.end.Totals.Sub(before)
	if l.open != nil && l.bytes+l.others > l.o.MaxBytes && len(l.segments) == 1 {
		l.seal(now)
	}
	l.makeRoom(0)
	return out, rest, err
}

// encode makes the round's frames for seg and returns what it refused, and what
// of that was unfit. Nothing of it is final before commit.
func (l *Log) encode(r *Round, seg *openSegment, now int64) (refused, unfit Totals) {
	e := l.enc
	e.reset()
	if seg.file == nil {
		e.out = appendSegmentHeader(e.out, seg.header)
		e.encodeStates(l.states, frameHeader{seq: l.end.Seq, appendedAt: now, before: l.end.Totals})
	}
	l.round++
	h := frameHeader{seq: l.end.Seq, appendedAt: now, before: l.end.Totals}
	if r.OwnTime {
		h.flags = flagOwnTime
	}
	cut := func() {
		h.seq++
		done := e.encodeFrame(h)
		e.frames = append(e.frames, encodedFrame{done, len(e.out), len(e.taken), len(seg.table) - 1, len(e.described)})
		h.before = done.after()
	}

	for i := range r.Samples {
		s := &r.Samples[i]
		bytes := sampleBytes + l.bytesToIntroduce(s.Series, seg)
		if bytes > itemBytes {
			unfit.Samples++
			continue
		}
		if !l.series.take(s.Series, s.T, l.round, r) {
			refused.Samples++
			continue
		}
		if e.full(bytes) {
			cut()
		}
		e.add(s.Series, s.T, bytes)
		e.samples = append(e.samples, record.RefSample{Ref: l.refer(s.Series, seg), ST: s.ST, T: s.T, V: s.V})
	}
	for i := range r.Histograms {
		s := &r.Histograms[i]
		bytes, ok := l.histogramBytes(s, seg)
		if !ok {
			unfit.Histograms++
			continue
		}
		if !l.series.take(s.Series, s.T, l.round, r) {
			refused.Histograms++
			continue
		}
		if e.full(bytes) {
			cut()
		}
		e.add(s.Series, s.T, bytes)
		ref := l.refer(s.Series, seg)
		if s.H != nil {
			e.histograms = append(e.histograms, record.RefHistogramSample{Ref: ref, ST: s.ST, T: s.T, H: s.H})
		} else {
			e.floats = append(e.floats, record.RefFloatHistogramSample{Ref: ref, ST: s.ST, T: s.T, FH: s.FH})
		}
	}
	for i := range r.Exemplars {
		s := &r.Exemplars[i]
		bytes := sampleBytes + int(2*s.Labels.ByteSize()) + l.bytesToIntroduce(s.Series, seg)
		if bytes > itemBytes {
			unfit.Exemplars++
			continue
		}
		if !l.series.takeExemplar(s, l.round, r) {
			refused.Exemplars++
			continue
		}
		if e.full(bytes) {
			cut()
		}
		e.addExemplar(s, i, bytes)
		e.exemplars = append(e.exemplars, record.RefExemplar{Ref: l.refer(s.Series, seg), T: s.T, V: s.V, Labels: s.Labels})
	}
	if !e.counts().IsZero() {
		e.states, e.changes = r.State, r.State
		cut()
	}
	return refused.Add(unfit), unfit
}

// histogramBytes is the size of a histogram in a payload; false if it cannot
// be in one.
func (l *Log) histogramBytes(s *Histogram, seg *openSegment) (bytes int, ok bool) {
	switch {
	case s.H != nil && storableSchema(s.H.Schema):
		bytes = histogramBytes(s.H)
	case s.H == nil && s.FH != nil && storableSchema(s.FH.Schema):
		bytes = floatHistogramBytes(s.FH)
	default:
		return 0, false
	}
	bytes += l.bytesToIntroduce(s.Series, seg)
	return bytes, bytes <= itemBytes
}

// bytesToIntroduce is what the series adds to the frame beside its sample.
func (l *Log) bytesToIntroduce(s *Series, seg *openSegment) int {
	if s.segment == seg.header.first && s.described == seg.header.first {
		return 0
	}
	if s.segment != seg.header.first && len(seg.table) > maxSegmentSeries {
		return itemBytes + 1 // no room in the table
	}
	return seriesBytes(s)
}

// refer returns the series' reference in the segment. The first use in a
// segment introduces it there; so does the first after a change its metadata.
func (l *Log) refer(s *Series, seg *openSegment) (ref seriesRef) {
	known := s.segment == seg.header.first
	if !known {
		s.segment, s.ref = seg.header.first, seriesRef(len(seg.table))
		seg.table = append(seg.table, s)
		l.enc.series = append(l.enc.series, record.RefSeries{Ref: s.ref, Labels: s.labels})
	}
	if s.described != seg.header.first {
		s.described = seg.header.first
		if known || *s.metadata != (Metadata{}) {
			l.enc.metadata = append(l.enc.metadata, s.refMetadata())
			l.enc.described = append(l.enc.described, s)
		}
	}
	return s.ref
}

// write puts the encoded round at the segment's end, and returns how many of
// its frames are in the log now: all, or with an error almost always none.
func (l *Log) write(seg *openSegment) (kept int, err error) {
	frames := l.enc.frames
	if err := l.create(seg); err != nil {
		l.writeErrors++
		return 0, err
	}
	n, err := seg.file.WriteAt(opAppend, l.enc.out, seg.size)
	if err == nil {
		return len(frames), nil
	}
	l.writeErrors++
	err = fmt.Errorf("append round to %s: %w", l.segmentPath(seg.header.first), err)
	if cut := seg.file.Truncate(opCutWrite, seg.size); cut == nil {
		if seg.size == 0 {
			l.discard(seg)
		}
		return 0, err
	} else {
		err = fmt.Errorf("%w; cut it off again: %w; going on in a new segment", err, cut)
	}
	// The frames that are whole are in the log: a reader will find them.
	for kept < len(frames) && frames[kept].out <= n {
		kept++
	}
	l.abandon(seg, int64(n))
	return kept, err
}

// commit makes the first frames of the round final and takes the others back.
// Where the segment was given up, their sequence numbers are not used again:
// what is on the disk of them is not known.
func (l *Log) commit(seg *openSegment, kept int, r *Round) {
	e, taken, table, described := l.enc, 0, seg.tableLen, 0
	if kept > 0 {
		f := e.frames[kept-1]
		taken, table, described = f.taken, f.table, f.described
		l.end.Seq, l.end.Totals = f.header.seq, f.header.after()
		for _, f := range e.frames[:kept] {
			if !f.header.ownTime() && f.header.timed() {
				l.floor = max(l.floor, f.header.maxT)
			}
		}
		if l.open == seg {
			l.grow(seg, int64(len(e.out)))
		}
		seg.tail.last = f.header.seq
		if kept == len(e.frames) {
			l.states = l.states.with(e.changes)
		}
		l.remember(seg, e.out[:f.out])
	}
	if seg.file != nil && l.open != seg {
		l.end.Seq = e.frames[len(e.frames)-1].header.seq
	}
	for _, t := range e.taken[:taken] {
		if t.exemplar == 0 {
			t.series.last = max(t.series.last, t.t)
		} else if p := r.Exemplars[t.exemplar-1].place(); p.after(t.series.exemplars.last) {
			t.series.exemplars.last = p
		}
	}
	for _, s := range seg.table[1+table:] {
		s.segment, s.described = 0, 0
	}
	clear(seg.table[1+table:])
	seg.table = seg.table[:1+table]
	seg.tableLen = table
	for _, s := range e.described[described:] {
		s.described = 0
	}
}
