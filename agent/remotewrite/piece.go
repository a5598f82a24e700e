package remotewrite

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// piece is what one attempt carries: a run of the window's series, or a run of
// the points of one of them. A point is a sample or a histogram.
type piece struct {
	series span
	slice  []member // the one series, with a run of its points; nil: all of them
	from   int64    // of slice: no point before this time, Unix milliseconds
	counts wal.Totals
	doubt  bool // an earlier attempt may have stored it

	refused bool      // as a whole: it is divided before any of it is sent again
	half    bool      // the piece under it is the other half of what was refused
	blocked time.Time // when its first attempt failed; zero: none did
}

// request is a piece of the window that is accounted for at once. It is sent
// whole. What the receiver does not take whole is divided, and then sent piece
// by piece, one after the other.
type request struct {
	piece
	done bool // answered for good

	open    []piece // once divided: what is left, the next to send last
	inquiry *inquiry
	outcome outcome // of the pieces so far
}

// next is the piece to send, or nil when nothing is left.
func (r *request) next() *piece {
	switch {
	case r.done:
		return nil
	case len(r.open) == 0:
		return &r.piece
	}
	return &r.open[len(r.open)-1]
}

// divide replaces the next piece by two, the first of which becomes the next.
func (r *request) divide(first, second piece) {
	if n := len(r.open); n > 0 {
		r.open = r.open[:n-1]
	}
	r.open = append(r.open, second, first)
}

// members returns the series of p with their points.
func (w *window) members(p *piece) []member {
	if p.slice != nil {
		return p.slice
	}
	return w.series[p.series.first:p.series.last]
}

// points is how many samples and histograms there are of m.
func (m *member) points() int { return m.samples.len() + m.histograms.len() }

func (m *member) counts() wal.Totals {
	return wal.Totals{
		Samples:    uint64(m.samples.len()),
		Histograms: uint64(m.histograms.len()),
		Exemplars:  uint64(m.exemplars.len()),
	}
}

func countMembers(members []member) (t wal.Totals) {
	for i := range members {
		t = t.Add(members[i].counts())
	}
	return t
}

// points is how many samples and histograms p has.
func (p *piece) points() int { return int(p.counts.Samples + p.counts.Histograms) }

// inhabited returns the places of the series of p that have points.
func (w *window) inhabited(p *piece) []int {
	var at []int
	for i := p.series.first; i < p.series.last; i++ {
		if w.series[i].points() > 0 {
			at = append(at, i)
		}
	}
	return at
}

// bisect cuts p between two series, about in the middle of its points. It
// cannot if p has points of one series only.
func (w *window) bisect(p piece) (first, second piece, ok bool) {
	at := w.inhabited(&p)
	if p.slice != nil || len(at) < 2 {
		return p, piece{}, false
	}
	before, cut := 0, at[len(at)-1]
	for k, i := range at[:len(at)-1] {
		before += w.series[i].points()
		if 2*before >= p.points() {
			cut = at[k+1]
			break
		}
	}
	first = piece{series: span{p.series.first, cut}, doubt: p.doubt}
	second = piece{series: span{cut, p.series.last}, doubt: p.doubt}
	first.counts = countMembers(w.members(&first))
	second.counts = p.counts.Sub(first.counts)
	return first, second, true
}

// halve cuts p between two series or, if it has points of one only, between
// two times. It cannot if they are all of one time.
func (w *window) halve(p piece) (first, second piece, ok bool) {
	if first, second, ok = w.bisect(p); ok {
		return first, second, true
	}
	var m member
	place := p.series.first
	for i, candidate := range w.members(&p) {
		if candidate.points() > 0 {
			m, place = candidate, p.series.first+i
		}
	}
	boundary, ok := w.middle(&m)
	if !ok {
		return p, piece{}, false
	}
	before, after := w.split(m, boundary)
	at := span{place, place + 1}
	return piece{series: at, slice: []member{before}, from: p.from, counts: before.counts(), doubt: p.doubt},
		piece{series: at, slice: []member{after}, from: boundary, counts: after.counts(), doubt: p.doubt}, true
}

// split divides what m has into what is before a time and what is not.
func (w *window) split(m member, boundary int64) (before, after member) {
	before, after = m, m
	before.samples, after.samples = w.cutRun(m.samples, boundary)
	before.histograms, after.histograms = m.histograms.cut(func(i int) bool { return w.histograms[i].t < boundary })
	before.exemplars, after.exemplars = m.exemplars.cut(func(i int) bool { return w.exemplars[i].t < boundary })
	return before, after
}

// middle returns a time that has points of m before it, and others not.
func (w *window) middle(m *member) (boundary int64, ok bool) {
	switch {
	case m.samples.len() > 1:
		return w.samples[w.after(m.samples, m.samples.len()/2).first].t, true
	case m.histograms.len() > 1:
		return w.histograms[m.histograms.first+m.histograms.len()/2].t, true
	case m.samples.len() == 1 && m.histograms.len() == 1:
		a, b := w.samples[m.samples.first].t, w.histograms[m.histograms.first].t
		return max(a, b), a != b
	}
	return 0, false
}

// cut divides s where before, which holds for a beginning of it, ends to hold.
func (s span) cut(before func(i int) bool) (first, second span) {
	at := s.first
	for at < s.last && before(at) {
		at++
	}
	return span{s.first, at}, span{at, s.last}
}

// oldest returns the oldest point of a series of the window as a piece.
func (w *window) oldestPoint(place int) piece {
	m := w.series[place]
	m.exemplars = span{}
	if m.samples.len() > 0 && (m.histograms.len() == 0 || w.samples[m.samples.first].t <= w.histograms[m.histograms.first].t) {
		m.samples.n, m.histograms = 1, span{}
	} else {
		m.histograms.last, m.samples = m.histograms.first+1, run{}
	}
	return piece{series: span{place, place + 1}, slice: []member{m}, counts: m.counts()}
}

// names returns the label sets of the first series of p, at most so many.
func (w *window) names(p *piece, most int) []string {
	var names []string
	for _, m := range w.members(p) {
		if m.points() == 0 {
			continue
		}
		if len(names) == most {
			break
		}
		b := labels.NewScratchBuilder(len(m.labels) / 2)
		for i := 0; i < len(m.labels); i += 2 {
			b.Add(m.labels[i].text, m.labels[i+1].text)
		}
		names = append(names, b.Labels().String())
	}
	return names
}
