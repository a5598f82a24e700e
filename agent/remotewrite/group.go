package remotewrite

import (
	"cmp"
	"slices"

	"sql2metrics/wal"
)

// groupSamples lays the samples out by series, each in order of time. Where a
// series has several for one time, which happens when relabelling makes two
// series one, the first to arrive stays.
func (w *window) groupSamples() {
	w.samples = slices.Grow(w.samples[:0], len(w.arrived))[:len(w.arrived)]
	first := 0
	for i := range w.series {
		s := &w.series[i].samples
		n := s.last
		*s = span{first, first}
		first += n
	}
	for i, owner := range w.owners {
		s := &w.series[owner].samples
		w.samples[s.last] = w.arrived[i]
		s.last++
	}
	for i := range w.series {
		m := &w.series[i]
		if !m.disordered {
			continue
		}
		run := w.samples[m.samples.first:m.samples.last]
		slices.SortStableFunc(run, func(a, b sample) int { return cmp.Compare(a.t, b.t) })
		kept := slices.CompactFunc(run, func(a, b sample) bool { return a.t == b.t })
		w.drop(ReasonDuplicate, wal.Totals{Samples: uint64(len(run) - len(kept))})
		m.samples.last = m.samples.first + len(kept)
	}
}

func (w *window) groupHistograms() {
	if len(w.histograms) == 0 {
		return
	}
	slices.SortStableFunc(w.histograms, func(a, b histogramSample) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.t, b.t))
	})
	all := len(w.histograms)
	w.histograms = slices.CompactFunc(w.histograms, func(a, b histogramSample) bool {
		return a.owner == b.owner && a.t == b.t
	})
	w.drop(ReasonDuplicate, wal.Totals{Histograms: uint64(all - len(w.histograms))})
	for i, h := range w.histograms {
		s := &w.series[h.owner].histograms
		if s.len() == 0 {
			s.first = i
		}
		s.last = i + 1
	}
}

// groupExemplars lays the exemplars out by series. The protocol wants a sample
// or a histogram beside them, so those of a series without are dropped.
func (w *window) groupExemplars() {
	if len(w.exemplars) == 0 {
		return
	}
	slices.SortStableFunc(w.exemplars, func(a, b exemplar) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.t, b.t))
	})
	for i, e := range w.exemplars {
		m := &w.series[e.owner]
		if m.points() == 0 {
			w.drop(ReasonLoneExemplar, wal.Totals{Exemplars: 1})
			continue
		}
		if m.exemplars.len() == 0 {
			m.exemplars.first = i
		}
		m.exemplars.last = i + 1
	}
}

// dropTooOld drops the points before the time of the cutting.
func (w *window) dropTooOld() {
	if w.cutting.TooOld == 0 {
		return
	}
	var n wal.Totals
	for i := range w.series {
		m := &w.series[i]
		var old span
		old, m.samples = m.samples.cut(func(i int) bool { return w.samples[i].t < w.cutting.TooOld })
		n.Samples += uint64(old.len())
		old, m.histograms = m.histograms.cut(func(i int) bool { return w.histograms[i].t < w.cutting.TooOld })
		n.Histograms += uint64(old.len())
	}
	w.drop(ReasonTooOld, n)
}
