package collect

import (
	"errors"
	"strings"

	"sql2metrics/config"
)

// accumulatedVersion is the first byte of the state of a histogram that
// accumulates.
const accumulatedVersion = 3

// encode appends the state of all that is settled, and beyond it of a round
// that is not: the version, what the counts mean, how far they reach, the rows
// behind the floor, in order, each by its distance from the one before, which
// leaves little of them when the log compresses them, and a zero, and the
// observations of each label set, with a one before each, and a zero.
func (a *accumulating) encode(b []byte, r reach, near []rowID, round []*gathered[histogramRows]) []byte {
	b = append(b, accumulatedVersion)
	b = appendText(b, a.meaning())
	b = r.floor.appendTo(r.at.appendTo(b, place{}), r.at)
	before := r.floor
	for _, id := range near {
		b = appendText(id.at.appendTo(b, before), id.key)
		before = id.at
	}
	b = append(b, 0)
	for _, g := range round {
		b = g.rows.observations.appendTo(appendText(append(b, 1), g.key))
	}
	for key, o := range a.counted.groups {
		if round == nil || a.known[key].number != a.values.number {
			b = o.appendTo(appendText(append(b, 1), key))
		}
	}
	return append(b, 0)
}

// meaning is what a state is of beside its buckets, which are with the
// observations.
func (a *accumulating) meaning() string {
	names := []string{a.options.Value, a.cursor.Column, a.cursor.Key}
	return strings.Join(append(names, a.metric.KeyLabels...), "\x00")
}

// afresh implements [keeper].
func (a *accumulating) afresh() string {
	return "its counts go back, and all rows behind them that are still there are counted again"
}

// stateKey implements [keeper].
func (a *accumulating) stateKey() string { return a.key }

// hand implements [keeper].
func (a *accumulating) hand() []byte { return a.encode(nil, a.counted.reach, a.counted.near, nil) }

var errOtherMeaning = errors.New("its columns or labels are those of another configuration")

// restore implements [keeper].
func (a *accumulating) restore(b []byte) error {
	a.reset()
	err := a.decode(b)
	if err != nil {
		a.reset()
	}
	return err
}

func (a *accumulating) decode(b []byte) error {
	r := stateReader{b: b}
	if r.byte() != accumulatedVersion {
		return errMalformed
	}
	if r.text() != a.meaning() {
		return errOtherMeaning
	}
	a.counted.at = r.place(place{})
	a.counted.floor = r.place(a.counted.at)
	for before := a.counted.floor; ; {
		id := rowID{at: r.place(before)}
		if id.at == (place{}) {
			break
		}
		id.key = r.text()
		if n := len(a.counted.near); n > 0 && id.compare(a.counted.near[n-1]) <= 0 {
			return errMalformed
		}
		a.counted.near = append(a.counted.near, id)
		before = id.at
	}
	for r.byte() == 1 {
		key := r.text()
		lset, ok := a.keyLabels([]byte(key))
		if r.bad || !ok {
			return errMalformed
		}
		o := &observations{bounds: a.options.Bounds, sparse: a.sparse}
		rest, err := o.decode(r.b)
		if err != nil {
			return err
		}
		r.b = rest
		a.counted.groups[key] = o
		if a.known[key] == nil {
			a.know(key, lset)
		}
	}
	if r.bad || len(r.b) > 0 {
		return errMalformed
	}
	a.behind = true // the log's may be older
	return nil
}

// statement is what is sent to the source for a query, which may have a cursor
// in it.
type statement struct {
	text   string
	behind []*accumulating // the metrics of a query with a cursor
	from   place
	made   string // with from
}

func newStatement(text string, mappers []*mapper) statement {
	s := statement{text: text}
	for _, m := range mappers {
		if a, ok := m.shape.(*accumulating); ok {
			s.behind = append(s.behind, a)
		}
	}
	return s
}

// sql returns the statement for the next run. Metrics that have come to
// different places read from the first one; each passes over what it has
// counted.
func (s *statement) sql() string {
	if len(s.behind) == 0 {
		return s.text
	}
	from := s.behind[0].from()
	for _, a := range s.behind[1:] {
		if other := a.from(); other.compare(from) < 0 {
			from = other
		}
	}
	if s.made == "" || from != s.from {
		s.from, s.made = from, strings.ReplaceAll(s.text, config.CursorMark, from.literal())
	}
	return s.made
}
