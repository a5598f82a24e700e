package collect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// accumulating makes histograms of all rows there ever were. It counts each row
// once, by its place behind the cursor, and goes on from there after a restart:
// how far it has come is kept in the log with the samples that say what it has
// counted.
//
// If the log loses them, what is in memory stays ahead, and the next round has
// all of it. If the process ends before that, it goes on from what the log has,
// and the rows after it are read once more: they are in no count that is kept.
type accumulating struct {
	*histograms
	key     string // of the state
	cursor  config.Cursor
	start   place
	counted counted
	behind  bool // the log has an older state, or none
	all     []*gathered[histogramRows]
	state   []byte
	sweep   sweep
	most    int    // rows of a run: a LIMIT is not below it
	strange string // the class of a row that is not that of start
	warned  bool   // of strange

	// Of the round being collected.
	fresh   map[rowID]bool // rows that counted does not have
	added   []rowID        // likewise, in order
	next    reach          // what that of counted becomes
	near    []rowID        // likewise
	seen    int            // where in counted.near the next row may be
	last    place          // of the row before
	top     place          // the highest place, also of rows that are counted
	rows    int
	then    sweep // what sweep becomes
	mixed   bool  // places did not rise
	offered bool  // the round has the state
}

// counted is what all settled rounds have counted. It changes in settle and
// restore only.
type counted struct {
	reach
	// near are the rows behind the floor, in order.
	near []rowID
	// groups are the observations by the key of their labels.
	groups map[string]*observations
}

// reach is how far rows are counted.
type reach struct {
	at    place // the highest place of a row
	floor place // rows up to here are counted, or never will be
}

// sweep is a series of runs that reads all rows behind the floor. Most are one
// run; a LIMIT ends a run, and the next one goes on where it ended.
type sweep struct {
	onward place // where the next run goes on; none: at the floor, with a sweep of its own
	// cursor is the one there was after the first run. A row that was not there
	// yet when it was passed had appeared behind that, so what the next sweep has
	// to read begins overlap before it.
	cursor place
}

// rowID tells rows apart.
type rowID struct {
	at  place
	key string
}

// compare orders rows of one kind by their places, and is zero for equal rows
// alone.
func (id rowID) compare(o rowID) int {
	return cmp.Or(
		cmp.Compare(id.at.kind, o.at.kind), cmp.Compare(id.at.n, o.at.n), cmp.Compare(id.at.f, o.at.f),
		strings.Compare(id.at.text, o.at.text), strings.Compare(id.key, o.key),
	)
}

func newAccumulating(m *mapper) *accumulating {
	a := &accumulating{
		histograms: newHistograms(m),
		key:        m.origin.key("histogram", m.metric),
		cursor:     *m.metric.HistogramOptions.Cursor,
		fresh:      map[rowID]bool{},
	}
	a.start = startPlace(a.cursor.Start)
	a.lasting = true
	a.reset()
	m.values.keepers = append(m.values.keepers, a)
	return a
}

// reset begins at the start.
func (a *accumulating) reset() {
	a.sweep = sweep{}
	a.counted = counted{groups: map[string]*observations{}}
}

// columns are the observation, the cursor and the key.
func (a *accumulating) columns() []string {
	return []string{a.options.Value, a.cursor.Column, a.cursor.Key}
}

// Where the columns are in mapper.cells.
const (
	accumulatedCursor = 1
	accumulatedKey    = 2
)

func (a *accumulating) begin() {
	a.histograms.begin()
	a.discard()
}

// discard implements [keeper].
func (a *accumulating) discard() {
	clear(a.fresh)
	a.next = a.counted.reach
	a.seen, a.last, a.mixed, a.offered = 0, place{}, false, false
	a.top, a.rows, a.then = place{}, 0, a.sweep
	a.round = a.round[:0]
}

func (a *accumulating) row(r *sources.Row) {
	a.rows++
	id, ok := a.identify(r)
	if !ok {
		return
	}
	if id.at.compare(a.top) > 0 {
		a.top = id.at
	}
	if class := id.at.class(); class != a.start.class() {
		a.strange = class
	}
	if a.before(id) {
		return
	}
	if a.fresh[id] {
		a.offer(1)
		a.refuseDuplicate("are at the same place behind the cursor: name a column that tells them apart in cursor.key; they")
		return
	}
	a.mixed = a.mixed || id.at.compare(a.last) < 0
	a.last = id.at
	a.fresh[id] = true
	if id.at.compare(a.next.at) > 0 && !a.ahead(id.at) {
		a.next.at = id.at
	}
	g, first := a.of(r)
	if g == nil {
		return
	}
	if first {
		a.resume(g)
	}
	a.observe(r, &g.rows)
}

// identify reads the cursor and the key of a row. Without them it is refused:
// it could not be told from those that are counted.
func (a *accumulating) identify(r *sources.Row) (id rowID, ok bool) {
	for i := accumulatedCursor; i <= accumulatedKey; i++ {
		if cell := a.cells[i]; cell >= 0 && r.Values[cell].IsNull() {
			a.offer(1)
			if a.refuse(refusedNull, 1) {
				a.explain(refusedNull, fmt.Errorf("column %q is NULL, and tells rows apart: leave such rows out of the query", r.Columns[cell]))
			}
			return id, false
		}
	}
	v := r.Values[a.cells[accumulatedCursor]]
	if id.at, ok = placeOf(v, a.start); !ok {
		a.offer(1)
		if a.refuse(refusedUnparsable, 1) {
			a.explain(refusedUnparsable, fmt.Errorf("column %q is %q: a cursor is a number, a time, or a text without a backslash", r.Columns[a.cells[accumulatedCursor]], v.AppendText(nil)))
		}
		return id, false
	}
	if cell := a.cells[accumulatedKey]; cell >= 0 {
		id.key = string(r.Values[cell].AppendText(nil))
	}
	return id, true
}

// before tells whether the row was in an earlier round, or lies where rows are
// no longer counted.
func (a *accumulating) before(id rowID) bool {
	if id.at.compare(a.counted.floor) <= 0 {
		return true
	}
	near := a.counted.near
	if a.seen < len(near) && near[a.seen] == id { // rows mostly come in order
		a.seen++
		return true
	}
	at, there := slices.BinarySearchFunc(near, id, rowID.compare)
	if there {
		a.seen = at + 1
	}
	return there
}

// farAhead is how far ahead of the clock a time may move the cursor: one that
// is wrong would hide all rows up to it. Zones are within a day.
const farAhead = 24 * time.Hour

func (a *accumulating) ahead(p place) bool {
	return p.isTime() && p.n > a.values.stamp*1e6+int64(farAhead)
}

// resume fills g with what it has counted so far.
func (a *accumulating) resume(g *gathered[histogramRows]) {
	g.rows.begin(a.histograms)
	if before := a.counted.groups[g.key]; before != nil {
		g.rows.observations.set(before)
	}
}

var errUnordered = &refused{refusedLimit, errors.New("the result was cut by a limit, and its rows were not in order of the cursor: none of them is counted; add ORDER BY with the cursor's column to the query, or raise the limit")}

// end adds all histograms to the round, with the state that goes with them:
// those without new rows go on as they are.
func (a *accumulating) end(cut bool) {
	if cut && a.mixed {
		a.giveUp(errUnordered)
	}
	a.then = a.goOn()
	a.most = max(a.most, a.rows)
	a.next.floor = a.raised()
	if a.offered = len(a.fresh) > 0 || a.behind; a.offered {
		a.near = a.nearby(a.near[:0])
		a.state = a.encode(a.state[:0], a.next, a.near, a.round)
		if room := a.values.log.StateRoom(a.key); len(a.fresh) > 0 && len(a.state) > room {
			a.giveUp(a.crowded(room))
			return
		}
		a.values.round.State = append(a.values.round.State, wal.State{Key: a.key, Value: a.state})
	}
	if len(a.all) != len(a.known) {
		a.all = slices.AppendSeq(a.all[:0], maps.Values(a.known))
		slices.SortFunc(a.all, func(a, b *gathered[histogramRows]) int { return labels.Compare(a.labels, b.labels) })
	}
	for _, g := range a.all {
		if g.number != a.values.number {
			if a.counted.groups[g.key] == nil {
				continue // of a round that was discarded
			}
			a.resume(g)
		}
		a.emitHistogram(g)
	}
}

// giveUp refuses all rows of the round: they come again.
func (a *accumulating) giveUp(why *refused) {
	for _, g := range a.round {
		a.withdraw(why, g.rows.cells)
		g.number = 0
	}
	a.discard()
}

// crowded is why a round whose state has no room is given up, and the histogram
// is absent: with samples that are ahead of the state, rows would be counted
// twice after a restart.
func (a *accumulating) crowded(room int) *refused {
	return &refused{refusedLimit, fmt.Errorf("its state would take %d bytes and has room for %d, with %d rows within cursor.overlap and %d label sets in it: "+
		"shorten cursor.overlap, or take labels or buckets away; until then the metric is absent, and new rows are left for later", len(a.state), room, len(a.near), len(a.known))}
}

// settle implements [keeper].
func (a *accumulating) settle(round, _ outcome) {
	a.sweep = a.then
	if !a.offered {
		return
	}
	a.behind = round != outcomeDone
	for _, g := range a.round {
		o := a.counted.groups[g.key]
		if o == nil {
			o = &observations{}
			a.counted.groups[g.key] = o
		}
		o.set(&g.rows.observations)
	}
	a.counted.reach = a.next
	a.counted.near, a.near = a.near, a.counted.near
	a.discard()
}

// close implements [keeper].
func (a *accumulating) close() {}

// goOn is the sweep after the run. A limit can end a run within the overlap,
// and from the floor the same rows would come for ever, so the next one goes on
// behind them. Once the cursor is reached, the overlap is read from its
// beginning.
func (a *accumulating) goOn() sweep {
	s := a.sweep
	if s.onward.compare(a.counted.floor) <= 0 { // the run began at the floor, or before
		s.cursor = a.next.at
	}
	s.onward = place{}
	if c := a.top.compare(a.counted.at); a.rows > 0 && (c < 0 || c == 0 && a.rows >= a.most) {
		s.onward = a.top
	}
	return s
}

// raised is the floor after the run. It rises over no row that the sweep has
// yet to read, nor over one that the sweep may have missed and that appeared
// within the overlap.
func (a *accumulating) raised() place {
	if a.next.at.kind == placeNone {
		return a.next.floor
	}
	floor := a.then.cursor.before(a.cursor.Overlap)
	if floor.class() == a.start.class() && floor.compare(a.start) < 0 {
		floor = a.start
	}
	if a.top.compare(floor) < 0 {
		floor = a.top
	}
	if floor.compare(a.next.floor) < 0 {
		return a.next.floor
	}
	return floor
}

// nearby appends the rows behind the floor that is to be, those of the round
// among them, in order.
func (a *accumulating) nearby(all []rowID) []rowID {
	a.added = slices.AppendSeq(a.added[:0], maps.Keys(a.fresh))
	slices.SortFunc(a.added, rowID.compare)
	old, added := a.counted.near, a.added
	for len(old)+len(added) > 0 {
		from := &old
		if len(old) == 0 || len(added) > 0 && added[0].compare(old[0]) < 0 {
			from = &added
		}
		if id := (*from)[0]; id.at.compare(a.next.floor) > 0 {
			all = append(all, id)
		}
		*from = (*from)[1:]
	}
	return all
}

// oddity returns, once, what the operator should know of cursor.start.
func (a *accumulating) oddity() error {
	if a.strange == "" || a.warned {
		return nil
	}
	a.warned = true
	return fmt.Errorf("cursor.start %q is a %s, and column %q has a %s: the database may compare them in its own way, and the overlap can reach rows before start; write start as the column has it", a.cursor.Start, a.start.class(), a.cursor.Column, a.strange)
}

// from is the place behind which rows may be new, or for one run were not read
// by the one before.
func (a *accumulating) from() place {
	if a.sweep.onward.compare(a.counted.floor) > 0 {
		return a.sweep.onward
	}
	if a.counted.floor.kind != placeNone {
		return a.counted.floor
	}
	return a.start
}
