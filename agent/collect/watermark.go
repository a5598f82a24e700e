package collect

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// timestamped is a gauge or a counter whose rows bring their own time. What was
// sent of a series ends at its watermark, and nothing up to there is sent
// again, after a restart neither: the watermarks are kept in the log with the
// samples.
type timestamped struct {
	*scalar
	key   string // of the state
	order int    // of the rows
	cells []timedCell
	// marks are the watermarks, Unix milliseconds, by a hash of the series'
	// labels. Series that rows no longer have keep theirs: the rows may return.
	marks map[uint64]int64
	ahead map[uint64]int64 // those that move in the round
	state []byte
}

// timedCell is a sample that the round may get.
type timedCell struct {
	series *series
	order  int // of its row and column
	at     int64
	v      float64
}

func newTimestamped(m *mapper) *timestamped {
	t := &timestamped{
		scalar: newScalar(m, m.metric.Name, m.metric.StaticValue),
		key:    m.origin.key("watermarks", m.metric),
		marks:  map[uint64]int64{},
		ahead:  map[uint64]int64{},
	}
	m.values.keepers = append(m.values.keepers, t)
	return t
}

// columns are those of the values, and that of the time.
func (t *timestamped) columns() []string {
	return append(slices.Clone(t.metric.Values), t.metric.TimestampValue)
}

func (t *timestamped) begin() {
	t.scalar.begin()
	t.discard()
}

func (t *timestamped) row(r *sources.Row) {
	t.prefix = len(t.mapper.key)
	at, ok := t.time(r)
	if !ok {
		return
	}
	if t.static != nil {
		t.offer(1)
		t.take(r, 0, at, *t.static)
		return
	}
	for i := range t.metric.Values {
		if x, ok := t.number(r, i); ok {
			t.take(r, i, at, x)
		}
	}
}

// time reads the time of the row, or refuses all its cells.
func (t *timestamped) time(r *sources.Row) (at int64, ok bool) {
	cell := t.mapper.cells[len(t.metric.Values)]
	v, column := r.Values[cell], r.Columns[cell]
	refuse := func(why reason, format string, a ...any) (int64, bool) {
		n := max(1, len(t.metric.Values))
		t.offer(n)
		if t.refuse(why, n) {
			t.explain(why, fmt.Errorf("column %q "+format, append([]any{column}, a...)...))
		}
		return 0, false
	}
	if v.IsNull() {
		return refuse(refusedNull, "is NULL, and is the time of the row: leave such rows out of the query")
	}
	at, err := ownTime(v, t.metric.Timestamp)
	if err != nil {
		return refuse(refusedUnparsable, "is %q: %w: set timestamp.unit, or convert it in the query", v.AppendText(nil), err)
	}
	if at > t.values.stamp+maxAhead.Milliseconds() {
		return refuse(refusedFuture, "is %q, which is more than %s ahead: the clock of its host is wrong, or timestamp.unit or timestamp.timezone", v.AppendText(nil), maxAhead)
	}
	if oldest := t.oldest(); at < oldest {
		return refuse(refusedOld, "is %q, which is older than max_age, %s: leave such rows out of the query", v.AppendText(nil), t.metric.Timestamp.MaxAge)
	}
	return at, true
}

// oldest is the first time that max_age takes.
func (t *timestamped) oldest() int64 {
	if t.metric.Timestamp.MaxAge == 0 {
		return math.MinInt64
	}
	return t.values.stamp - t.metric.Timestamp.MaxAge.Milliseconds()
}

// take keeps the sample of the row's i-th series for the end of the round, or
// refuses it.
func (t *timestamped) take(r *sources.Row, i int, at int64, x float64) {
	t.mapper.key = binary.AppendUvarint(t.mapper.key[:t.prefix], uint64(i))
	s := t.find()
	if s == nil {
		var why *refused
		if s, why = t.learn(r, i); why != nil {
			t.refuseAs(why, 1)
			return
		}
	}
	t.before.next = s
	t.before = s
	t.order++
	if s.round != t.values.number {
		s.round, s.at = t.values.number, t.order
	}
	t.use(1)
	t.cells = append(t.cells, timedCell{s, t.order, at, x})
}

// end adds what is behind the watermarks to the round, each series in order of
// its times.
func (t *timestamped) end(bool) {
	slices.SortFunc(t.cells, func(a, b timedCell) int {
		return cmp.Or(cmp.Compare(a.series.at, b.series.at), cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
	})
	t.cells = t.resolve(t.cells)
	timed := &t.values.timed
	for i, c := range t.cells {
		newest := i+1 == len(t.cells) || t.cells[i+1].series != c.series
		id := labels.StableHash(c.series.handle.Labels())
		mark, marked := t.marks[id]
		switch {
		case marked && c.at <= mark:
			t.passOver(c, mark)
			if newest && c.at == mark {
				t.values.show(point{series: c.series, v: c.v})
			}
			continue
		case !t.values.fits(1 + len(timed.Samples) - len(t.values.aside)):
			t.withdraw(overLimit, 1)
			continue
		}
		timed.Samples = append(timed.Samples, wal.Sample{Series: c.series.handle, T: c.at, V: c.v})
		t.ahead[id] = c.at // the last of a series is its newest
		if newest {
			t.values.show(point{series: c.series, v: c.v})
		}
	}
	if len(t.ahead) > 0 {
		t.state = encodeMarks(t.state[:0], t.marks, t.ahead)
		timed.State = append(timed.State, wal.State{Key: t.key, Value: t.state})
	}
}

// passOver counts what has been sent already, or can no longer be sent in
// order. Tables that keep their rows have it in each result: only without
// only_newer is it worth a warning.
func (t *timestamped) passOver(c timedCell, mark int64) {
	t.use(-1)
	if t.refuse(refusedNotNewer, 1) && !t.metric.Timestamp.OnlyNewer {
		t.explain(refusedNotNewer, fmt.Errorf("a row of %s is of %s, and what was sent ends at %s: return each row once, or set timestamp.only_newer",
			c.series.page, time.UnixMilli(c.at).UTC().Format(time.RFC3339), time.UnixMilli(mark).UTC().Format(time.RFC3339)))
	}
}

// resolve makes one of the cells, which are sorted, that have equal series and
// times, as on_duplicate says.
func (t *timestamped) resolve(all []timedCell) []timedCell {
	out := all[:0]
	for from, to := 0, 0; from < len(all); from = to {
		one := all[from]
		for to = from + 1; to < len(all) && all[to].series == one.series && all[to].at == one.at; to++ {
			switch t.metric.OnDuplicate {
			case config.OnDuplicateLast:
				one.v = all[to].v
			case config.OnDuplicateSum:
				one.v += all[to].v
			}
		}
		n := to - from - 1
		switch {
		case n == 0:
		case t.metric.OnDuplicate == config.OnDuplicateDrop:
			t.refuseDuplicate(one, n+1)
			continue
		default:
			t.refuseDuplicate(one, n)
		}
		out = append(out, one)
	}
	return out
}

func (t *timestamped) refuseDuplicate(c timedCell, n int) {
	which := "the first one"
	switch t.metric.OnDuplicate {
	case config.OnDuplicateDrop:
		which = "neither"
	case config.OnDuplicateLast, config.OnDuplicateSum:
		which = ""
	}
	t.use(-n)
	if t.refuse(refusedDuplicate, n) && which != "" {
		t.explain(refusedDuplicate, fmt.Errorf("two rows have the labels %s and the same time, and %s counts: add a column to key_labels, aggregate in the query, or set on_duplicate", c.series.page, which))
	}
}

// settle implements [keeper]. What was lost is tried again while its rows are
// there.
func (t *timestamped) settle(_, timed outcome) {
	if timed != outcomeLost {
		maps.Copy(t.marks, t.ahead)
	}
	oldest := t.oldest()
	maps.DeleteFunc(t.marks, func(_ uint64, mark int64) bool {
		return mark < oldest // max_age refuses what it would pass over
	})
	t.forget(t.values.number)
	t.discard()
}

// discard implements [keeper].
func (t *timestamped) discard() {
	t.order, t.cells = 0, t.cells[:0]
	clear(t.ahead)
}

// forget gives back the series that were not in the round.
func (t *timestamped) forget(round uint64) {
	var gone []point
	for _, s := range t.series {
		if s.round != round {
			gone = append(gone, point{series: s})
		}
	}
	t.values.drop(gone)
}

// close implements [keeper].
func (t *timestamped) close() { t.forget(0) }

const watermarksVersion = 2

// encodeMarks appends watermarks, of a series in ahead the one there: a byte for the
// version, and for each, in order of the hashes, the distances of its hash and
// of its time from those of the one before, as varints.
func encodeMarks(b []byte, marks, ahead map[uint64]int64) []byte {
	all := make([]uint64, 0, len(marks)+len(ahead))
	all = slices.AppendSeq(all, maps.Keys(ahead))
	for id := range marks {
		if _, moves := ahead[id]; !moves {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	b = append(b, watermarksVersion)
	var id uint64
	var at int64
	for _, next := range all {
		mark, moves := ahead[next]
		if !moves {
			mark = marks[next]
		}
		b = binary.AppendVarint(binary.AppendUvarint(b, next-id), mark-at)
		id, at = next, mark
	}
	return b
}

// restore implements [keeper].
func (t *timestamped) restore(b []byte) error {
	clear(t.marks)
	r := stateReader{b: b}
	if r.byte() != watermarksVersion {
		return errMalformed
	}
	var id uint64
	var at int64
	for len(r.b) > 0 {
		id += r.uvarint()
		at += r.varint()
		t.marks[id] = at
	}
	if r.bad {
		clear(t.marks)
		return errMalformed
	}
	return nil
}

// afresh implements [keeper].
func (t *timestamped) afresh() string {
	return "rows that have been sent and are still in the result are sent once more"
}

// stateKey implements [keeper].
func (t *timestamped) stateKey() string { return t.key }

// hand implements [keeper].
func (t *timestamped) hand() []byte { return encodeMarks(nil, t.marks, nil) }
