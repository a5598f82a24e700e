package collect

import (
	"slices"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/wal"
)

// exemplarRunes is how long an exemplar's labels may be, by the specification
// of OpenMetrics; receivers refuse longer ones.
const exemplarRunes = exemplar.ExemplarMaxLabelSetLength

// exemplars are those of a page.
type exemplars struct {
	one    exemplar.Exemplar
	sample []exemplar.Exemplar // of one
	before []outdone
}

// outdone is the exemplar that a series had before a page had a newer one.
type outdone struct {
	series   *scraped
	exemplar *exemplar.Exemplar // nil: none
}

// take puts those of a sample that its series has not had before into the
// round. One without a time gets that of the sample, at.
func (x *exemplars) take(p textparse.Parser, s *scraped, at int64, native bool, r *wal.Round) {
	x.sample = x.sample[:0]
	for x.one = (exemplar.Exemplar{}); p.Exemplar(&x.one); x.one = (exemplar.Exemplar{}) {
		e := x.one
		if !e.HasTs {
			if native {
				continue // Prometheus has no means to know it again
			}
			e.Ts = at
		}
		if runes(e.Labels) <= exemplarRunes {
			x.sample = append(x.sample, e)
		}
	}
	if len(x.sample) == 0 {
		return
	}
	slices.SortFunc(x.sample, exemplar.Compare)
	last := s.lastExemplar
	for i := range x.sample {
		e := &x.sample[i]
		if last != nil && !follows(e, last) {
			continue
		}
		last = e
		r.Exemplars = append(r.Exemplars, wal.Exemplar{Series: s.handle, T: e.Ts, V: e.Value, Labels: e.Labels})
	}
	if last != s.lastExemplar {
		x.before = append(x.before, outdone{s, s.lastExemplar})
		newest := *last
		s.lastExemplar = &newest
	}
}

// follows tells whether Prometheus stores an exemplar behind another one of its
// series. Targets show one until they have a newer.
func follows(e, last *exemplar.Exemplar) bool {
	switch {
	case e.Equals(*last):
		return false
	case e.Ts != last.Ts:
		return e.Ts > last.Ts
	case e.Value != last.Value:
		return e.Value > last.Value
	}
	return e.Labels.Hash() > last.Labels.Hash()
}

func runes(lset labels.Labels) (n int) {
	lset.Range(func(l labels.Label) { n += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value) })
	return n
}

// end comes after the round has been appended, or abandoned.
func (x *exemplars) end(good bool) {
	if !good {
		for _, o := range slices.Backward(x.before) {
			o.series.lastExemplar = o.exemplar
		}
	}
	clear(x.before)
	x.before = x.before[:0]
}
