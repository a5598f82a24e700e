package remotewrite

import (
	"cmp"
	"slices"

	"sql2metrics/wal"
)

// run is some samples of one series, in order: the first of them, and those
// that window.next leads to from there. Samples stay where they were put when
// they arrived: there are too many to have them twice.
type run struct{ first, n int32 }

func (r run) len() int { return int(r.n) }

// append puts a sample behind those of its series.
func (w *window) append(m *member, s sample) {
	at := int32(len(w.samples))
	if m.samples.n == 0 {
		m.samples.first = at
	} else {
		w.next[m.last] = at
	}
	m.samples.n++
	m.last = at
	m.disordered = m.disordered || s.t <= m.newest
	m.newest = s.t
	w.samples = append(w.samples, s)
	w.next = append(w.next, at)
}

// appendRun appends the samples of r to dst.
func (w *window) appendRun(dst []sample, r run) []sample {
	for at := r.first; r.n > 0; r.n-- {
		dst = append(dst, w.samples[at])
		at = w.next[at]
	}
	return dst
}

// after returns r without its first n samples.
func (w *window) after(r run, n int) run {
	for range n {
		r.first = w.next[r.first]
		r.n--
	}
	return r
}

// cutRun cuts r where its samples cease to be before a time.
func (w *window) cutRun(r run, boundary int64) (before, after run) {
	before, after = run{first: r.first}, r
	for after.n > 0 && w.samples[after.first].t < boundary {
		before.n++
		after = w.after(after, 1)
	}
	return before, after
}

// orderSamples brings the samples of each series in order of time. Where it has
// several for one time, which happens when relabelling makes two series one,
// the first to arrive stays.
func (w *window) orderSamples() {
	var at []int32
	for i := range w.series {
		m := &w.series[i]
		if !m.disordered {
			continue
		}
		at = at[:0]
		for r := m.samples; r.n > 0; r = w.after(r, 1) {
			at = append(at, r.first)
		}
		slices.SortStableFunc(at, func(a, b int32) int { return cmp.Compare(w.samples[a].t, w.samples[b].t) })
		kept := slices.CompactFunc(at, func(a, b int32) bool { return w.samples[a].t == w.samples[b].t })
		w.drop(ReasonDuplicate, wal.Totals{Samples: uint64(len(at) - len(kept))})
		m.samples = run{kept[0], int32(len(kept))}
		for k, next := range kept[1:] {
			w.next[kept[k]] = next
		}
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
		older, samples := w.cutRun(m.samples, w.cutting.TooOld)
		m.samples = samples
		n.Samples += uint64(older.len())
		old, m.histograms = m.histograms.cut(func(i int) bool { return w.histograms[i].t < w.cutting.TooOld })
		n.Histograms += uint64(old.len())
	}
	w.drop(ReasonTooOld, n)
}
