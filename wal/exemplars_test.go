package wal

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"
)

// TestExemplarsOfOneTime holds which exemplar may follow another one of its
// series, in a later round too, and what is known of them after a release.
func TestExemplarsOfOneTime(t *testing.T) {
	const t0 = 1_700_000_000_000
	trace := func(id string) labels.Labels { return labels.FromStrings("t", id) }
	low, high := trace("1"), trace("2")
	if low.Hash() > high.Hash() {
		low, high = high, low
	}
	first := Exemplar{T: t0, V: 1, Labels: high}
	for name, c := range map[string]struct {
		then  Exemplar
		taken bool
	}{
		"the same again":            {then: first},
		"later":                     {Exemplar{T: t0 + 1, V: 0, Labels: low}, true},
		"before":                    {Exemplar{T: t0 - 1, V: 9, Labels: high}, false},
		"of a larger value":         {Exemplar{T: t0, V: 2, Labels: low}, true},
		"of a smaller value":        {Exemplar{T: t0, V: 0.5, Labels: high}, false},
		"of a lesser hash":          {Exemplar{T: t0, V: 1, Labels: low}, false},
		"not a number":              {Exemplar{T: t0, V: math.NaN(), Labels: high}, false},
		"not a number, later":       {Exemplar{T: t0 + 1, V: math.NaN(), Labels: high}, true},
		"without labels and larger": {Exemplar{T: t0, V: 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			taken := func(l *Log, e Exemplar) bool {
				return mustAppend(t, l, &Round{Exemplars: []Exemplar{e}}, testStart).Appended.Exemplars == 1
			}
			l := openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1})
			s := testSeries(l, 1)[0]
			before, then := first, c.then
			before.Series, then.Series = s, s
			if out := mustAppend(t, l, &Round{Exemplars: []Exemplar{before, then}}, testStart); out.Appended.Exemplars == 2 != c.taken {
				t.Errorf("in one round: %+v", out)
			}

			l = openTest(t, Options{Path: t.TempDir(), SegmentBytes: 1})
			s = testSeries(l, 1)[0]
			before.Series, then.Series = s, s
			if !taken(l, before) || taken(l, then) != c.taken {
				t.Errorf("in the round after: taken is not %t", c.taken)
			}

			l.Release(s)
			mustSync(t, l, testStart.Add(time.Hour)) // seals
			back := testSeries(l, 1)[0]
			before.Series, then.Series = back, back
			if back == s || taken(l, before) || taken(l, then) {
				t.Error("of a series that was gone, one of the same time is taken")
			}
			if then.T++; !taken(l, then) && then.T > t0 {
				t.Error("of a series that was gone, a later one is not taken")
			}
		})
	}
}

// TestWaitingExemplars are told apart by value when the disk has room again.
func TestWaitingExemplars(t *testing.T) {
	d := newDisk(1)
	l := openTest(t, Options{Path: t.TempDir(), FS: d})
	s := testSeries(l, 1)[0]
	d.failing(map[string]error{opCreate: unix.ENOSPC})
	round := &Round{Samples: []Sample{{Series: s, T: 1}}, Exemplars: []Exemplar{
		{Series: s, T: 5, V: 1}, {Series: s, T: 5, V: 1}, {Series: s, T: 5, V: 2},
	}}
	if out := mustAppend(t, l, round, testStart); out.Kept.Exemplars != 2 || out.Refused.Exemplars != 1 {
		t.Errorf("%+v", out)
	}
	d.failing(nil)
	mustSync(t, l, testStart)
	if s := l.Stats(); s.Appended != (Totals{Samples: 1, Exemplars: 2}) || !s.Waiting.IsZero() {
		t.Errorf("%+v", s)
	}
	if out := mustAppend(t, l, &Round{Exemplars: []Exemplar{{Series: s, T: 5, V: 2}, {Series: s, T: 5, V: 3}}}, testStart); out.Appended.Exemplars != 1 {
		t.Errorf("%+v", out)
	}
}
