package wal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// takeUp appends once more what is in a segment that an older version has set
// aside and stepped over, and removes it then. One is enough for one step. Its
// samples come behind younger ones of the same series; what a receiver makes
// of that is its own to say, and is accounted there.
func (l *Log) takeUp(now int64) error {
	l.mu.Lock()
	i := slices.IndexFunc(l.segments, func(s segment) bool { return s.stepped })
	if i < 0 || len(l.waiting.rounds) > 0 {
		l.mu.Unlock()
		return nil
	}
	first, from := l.segments[i].first, l.taken
	if from.Segment != first {
		from = Position{Seq: first - 1, Segment: first, Totals: l.segments[i].start}
	}
	l.mu.Unlock()

	err := l.appendAgain(oneSegment(first), from, now)
	if err == nil {
		err = l.syncer.to(maxSeq)
	}
	if err != nil {
		return fmt.Errorf("take up %s, which an older version had set aside: %w", l.segmentPath(first), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.publish()
	if i = slices.IndexFunc(l.segments, func(s segment) bool { return s.first == first }); i < 0 {
		return nil // gone to keep a bound
	}
	return l.remove(i)
}

// appendAgain appends the frames of a segment after from.
func (l *Log) appendAgain(source oneSegment, from Position, now int64) error {
	r := newReader(l.o.Path, l.fs, source, from, l.o.version)
	r.report = l.quarantine.keep
	var again, damaged Totals
	var series []*Series // by reference
	defer func() {
		for _, s := range series {
			if s != nil {
				l.Release(s)
			}
		}
	}()
	for {
		var f Frame
		err := r.Next(&f)
		if errors.Is(err, io.EOF) {
			l.log.Info("a segment that an older version had set aside is taken up", "segment", l.segmentPath(uint64(source)),
				"samples", again.Samples, "damaged_samples", damaged.Samples)
			return r.Close()
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
		damaged = damaged.Add(f.Damaged)
		for _, entry := range f.Series[len(series):] {
			series = append(series, l.seriesAgain(entry.Labels, entry.Metadata))
		}
		l.mu.Lock()
		round := f.round(series)
		out, err := l.append(round, now)
		l.takenUp = l.takenUp.Add(round.Totals())
		l.taken = f.Position
		l.publish()
		l.mu.Unlock()
		again = again.Add(out.Appended)
		if err == nil && !out.Kept.IsZero() {
			err = errors.New("the log cannot be written")
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
	}
}

// seriesAgain is Series for labels from the log: what is known of the metric
// from elsewhere stays. Without labels, which a damaged frame had, it is nil.
func (l *Log) seriesAgain(lset labels.Labels, m Metadata) *Series {
	if lset.IsEmpty() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.series.find(lset)
	if s == nil {
		s = l.series.intern(lset, m)
	}
	s.users++
	return s
}

// round is the frame as it was appended.
func (f *Frame) round(series []*Series) *Round {
	r := &Round{OwnTime: f.OwnTime, again: true}
	for _, s := range f.Samples {
		r.Samples = append(r.Samples, Sample{Series: series[s.Ref], ST: s.ST, T: s.T, V: s.V})
	}
	for _, h := range f.Histograms {
		r.Histograms = append(r.Histograms, Histogram{Series: series[h.Ref], ST: h.ST, T: h.T, H: h.H})
	}
	for _, h := range f.FloatHistograms {
		r.Histograms = append(r.Histograms, Histogram{Series: series[h.Ref], ST: h.ST, T: h.T, FH: h.FH})
	}
	for _, e := range f.Exemplars {
		r.Exemplars = append(r.Exemplars, Exemplar{Series: series[e.Ref], T: e.T, V: e.V, Labels: e.Labels})
	}
	return r
}

// oneSegment is the source of a reader that reads one segment to its end.
type oneSegment uint64

func (s oneSegment) segments() ([]uint64, error) { return []uint64{uint64(s)}, nil }

func (s oneSegment) limit(uint64) (limit, error) {
	return limit{end: math.MaxInt64, until: math.MaxUint64, final: true}, nil
}
