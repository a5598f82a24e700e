package remotewrite

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"sql2metrics/wal"
)

const (
	// maxWindow is how many samples a window may hold, unless its first frame
	// alone holds more. It bounds its memory: see weigh.
	maxWindow = 131072
	// histogramWeight is how many samples a histogram without buckets takes the
	// memory of, and bucketsPerSample how many buckets and spans that of one.
	histogramWeight  = 4
	bucketsPerSample = 8
)

// window is a run of whole frames, grouped by series and cut into requests.
// It is filled with add, frame by frame, and then closed with cut. Its memory
// is used again for the next one.
type window struct {
	number  uint64  // of this window in this process
	without without // what the endpoint is not sent

	closed  bool         // cut: no more frames
	cutting cutting      // how
	first   uint64       // sequence number of its first frame
	end     wal.Position // just after its last frame
	oldest  int64        // time of append of its first frame, Unix milliseconds
	frames  int
	counts  wal.Totals // in its frames
	weight  uint64     // of its frames; see weigh
	evicted wal.Totals // lost before or between its frames

	relabelled wal.Totals // dropped for ReasonRelabel; in dropped after cut
	disabled   wal.Totals // dropped for ReasonDisabled; in dropped after cut
	dropped    map[Reason]wal.Totals

	series     []member
	samples    []sample // in the order of the log
	next       []int32  // of each sample: where the next one of its series is
	histograms []histogramSample
	custom     bool // some of them have custom buckets
	exemplars  []exemplar

	requests []request
	answered int // requests before this one are done
}

// without says which kinds an endpoint is not sent.
type without struct{ exemplars, histograms bool }

// member is a series of the window.
type member struct {
	*series
	samples    run
	histograms span
	exemplars  span
	newest     int64 // time of the sample that arrived last
	last       int32 // where that is
	disordered bool  // samples did not arrive in order of time
}

// span is a half-open range of indexes.
type span struct{ first, last int }

func (s span) len() int { return s.last - s.first }

type sample struct {
	st, t int64
	v     float64
}

type histogramSample struct {
	owner int32
	st, t int64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

// custom tells whether h has custom buckets, which 1.0 has no field for that
// its receivers are bound to read.
func (h *histogramSample) custom() bool {
	if h.h != nil {
		return h.h.UsesCustomBuckets()
	}
	return h.fh.UsesCustomBuckets()
}

type exemplar struct {
	owner  int32
	t      int64
	v      float64
	labels []*symbol
}

// cutting is what forms the requests of a window beside its samples and the
// configuration. It is saved with the window.
type cutting struct {
	Limit  int     `json:"limit,omitempty"`  // most points in a request of several series
	TooOld int64   `json:"tooOld,omitempty"` // points before this time are dropped; Unix milliseconds, 0: none
	Alone  []int32 `json:"alone,omitempty"`  // places of series that are a request each, in order
}

// reset makes w an empty window.
func (w *window) reset(t *table) {
	for _, e := range w.exemplars {
		for _, sym := range e.labels {
			t.release(sym)
		}
	}
	clear(w.series)
	clear(w.histograms)
	clear(w.exemplars)
	clear(w.requests)
	*w = window{
		number:     w.number + 1,
		without:    w.without,
		dropped:    map[Reason]wal.Totals{},
		series:     w.series[:0],
		samples:    w.samples[:0],
		next:       w.next[:0],
		histograms: w.histograms[:0],
		exemplars:  w.exemplars[:0],
		requests:   w.requests[:0],
	}
	t.sweep()
}

// weigh is what a frame takes of maxWindow: one for a sample or an exemplar,
// and for a histogram as many samples as take the same memory.
func (w *window) weigh(f *wal.Frame) uint64 {
	weight := f.Counts.Samples + f.Counts.Histograms + f.Counts.Exemplars
	if w.without.histograms {
		return weight
	}
	for i := range f.Histograms {
		h := f.Histograms[i].H
		weight += heavier(len(h.PositiveSpans) + len(h.NegativeSpans) + len(h.PositiveBuckets) + len(h.NegativeBuckets) + len(h.CustomValues))
	}
	for i := range f.FloatHistograms {
		h := f.FloatHistograms[i].FH
		weight += heavier(len(h.PositiveSpans) + len(h.NegativeSpans) + len(h.PositiveBuckets) + len(h.NegativeBuckets) + len(h.CustomValues))
	}
	return weight
}

// heavier is by how much a histogram weighs more than a sample.
func heavier(buckets int) uint64 { return uint64(histogramWeight - 1 + buckets/bucketsPerSample) }

func (w *window) drop(r Reason, n wal.Totals) {
	if !n.IsZero() {
		w.dropped[r] = w.dropped[r].Add(n)
	}
}

// add takes a frame into the window. Nothing of f is kept.
func (w *window) add(f *wal.Frame, t *table) {
	if w.frames == 0 {
		w.first, w.oldest = f.Position.Seq, f.AppendedAt
	}
	w.frames++
	w.weight += w.weigh(f)
	w.end = f.Position
	w.evicted = w.evicted.Add(f.Evicted)
	w.drop(ReasonEvicted, f.Evicted)
	w.drop(ReasonDamaged, f.Damaged)

	t.enter(f.Position.Segment)
	for i := range f.Samples {
		s := &f.Samples[i]
		w.counts.Samples++
		m := w.member(t, s.Ref, f.Series, wal.Totals{Samples: 1})
		if m == nil {
			continue
		}
		w.append(m, sample{st: s.ST, t: s.T, v: s.V})
	}
	if n := uint64(len(f.Histograms) + len(f.FloatHistograms)); w.without.histograms && n > 0 {
		w.counts.Histograms += n
		w.disabled.Histograms += n
	} else {
		w.addHistograms(f, t)
	}
	if n := uint64(len(f.Exemplars)); w.without.exemplars {
		w.counts.Exemplars += n
		w.disabled.Exemplars += n
		return
	}
	for _, e := range f.Exemplars {
		w.counts.Exemplars++
		if m := w.member(t, e.Ref, f.Series, wal.Totals{Exemplars: 1}); m != nil {
			w.exemplars = append(w.exemplars, exemplar{owner: m.index, t: e.T, v: e.V, labels: t.symbolize(e.Labels)})
		}
	}
}

func (w *window) addHistograms(f *wal.Frame, t *table) {
	for _, h := range f.Histograms {
		w.counts.Histograms++
		if m := w.member(t, h.Ref, f.Series, wal.Totals{Histograms: 1}); m != nil {
			w.custom = w.custom || h.H.UsesCustomBuckets()
			w.histograms = append(w.histograms, histogramSample{owner: m.index, st: h.ST, t: h.T, h: h.H.Copy()})
		}
	}
	for _, h := range f.FloatHistograms {
		w.counts.Histograms++
		if m := w.member(t, h.Ref, f.Series, wal.Totals{Histograms: 1}); m != nil {
			w.custom = w.custom || h.FH.UsesCustomBuckets()
			w.histograms = append(w.histograms, histogramSample{owner: m.index, st: h.ST, t: h.T, fh: h.FH.Copy()})
		}
	}
}

// member returns the place in the window of the series that ref stands for.
// It returns nil, and counts one as dropped, if there is none.
func (w *window) member(t *table, ref chunks.HeadSeriesRef, entries []wal.SeriesEntry, one wal.Totals) *member {
	s := t.resolve(ref, entries)
	switch {
	case s == nil:
		w.drop(ReasonDamaged, one)
		return nil
	case s == t.dropped:
		w.relabelled = w.relabelled.Add(one)
		return nil
	case s.window == w.number:
		return &w.series[s.index]
	}
	// The first to appear describes the series for the whole window.
	if m := entries[ref].Metadata; s.metadata() != m {
		t.describe(s, m)
	}
	s.window, s.index = w.number, int32(len(w.series))
	w.series = append(w.series, member{series: s, newest: math.MinInt64})
	return &w.series[s.index]
}

// cut closes the window: it groups by series and forms requests of at most
// c.Limit points. A series with more of them is a request of its own.
func (w *window) cut(c cutting) {
	w.closed, w.cutting = true, c
	w.drop(ReasonRelabel, w.relabelled)
	w.drop(ReasonDisabled, w.disabled)
	w.orderSamples()
	w.groupHistograms()
	w.dropTooOld()
	w.groupExemplars()

	open := request{}
	size := 0
	flush := func(next int) {
		if size > 0 {
			open.series.last = next
			w.requests = append(w.requests, open)
		}
		open, size = request{piece: piece{series: span{first: next}}}, 0
	}
	alone := c.Alone
	for i := range w.series {
		m := &w.series[i]
		n := m.points()
		lonely := len(alone) > 0 && alone[0] == int32(i)
		if size > 0 && (size+n > c.Limit || lonely) {
			flush(i)
		}
		size += n
		open.counts = open.counts.Add(m.counts())
		if lonely {
			alone = alone[1:]
			flush(i + 1)
		}
	}
	flush(len(w.series))
}

// lonely returns the places of the series that travel alone at now.
func (w *window) lonely(now int64) []int32 {
	var at []int32
	for i := range w.series {
		if w.series[i].aloneUntil > now && len(at) < maxAlone {
			at = append(at, int32(i))
		}
	}
	return at
}

// unanswered returns the first request that is not done, or none.
func (w *window) unanswered() int {
	for w.answered < len(w.requests) && w.requests[w.answered].done {
		w.answered++
	}
	if w.answered == len(w.requests) {
		return none
	}
	return w.answered
}

// unsupported counts what 1.0 cannot carry of p: histograms with custom
// buckets, and the exemplars of series that have nothing else.
func (w *window) unsupported(p *piece) (n wal.Totals) {
	if !w.custom {
		return n
	}
	members := w.members(p)
	for i := range members {
		m := &members[i]
		custom := 0
		for k := m.histograms.first; k < m.histograms.last; k++ {
			if w.histograms[k].custom() {
				custom++
			}
		}
		n.Histograms += uint64(custom)
		if custom == m.points() {
			n.Exemplars += uint64(m.exemplars.len())
		}
	}
	return n
}
