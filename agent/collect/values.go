package collect

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/wal"
)

// family is what all series of one metric name from one worker share.
type family struct {
	name string
	meta wal.Metadata
}

// series is one label set of a worker, from the round it first shows up in to
// the one it is absent from.
type series struct {
	family *family
	handle *wal.Series
	page   labels.Labels // as /metrics shows them: no name, job or instance
	round  uint64        // the last round it was part of
	live   bool          // part of the last good round
	forget func()        // takes it out of the map it was found in
}

// point is a series with its value in a round.
type point struct {
	series *series
	v      float64
}

// values collects one round after the other and keeps the last good one: for
// the page, and to know which series are absent from the next. A worker owns
// it; only points may be called by others.
//
// Its slices are kept from round to round, so a round of known series
// allocates nothing.
type values struct {
	log    *wal.Log
	number uint64 // of the round being collected
	stamp  int64  // its timestamp, Unix milliseconds
	round  wal.Round
	now    []point
	kept   int // how many of now were in last

	mu   sync.Mutex
	last []point // the last good round; guarded by mu, written by the worker only
}

// begin starts a round whose samples all get the timestamp stamp.
func (v *values) begin(stamp time.Time) {
	v.number++
	v.stamp = stamp.UnixMilli()
	v.round.Samples = v.round.Samples[:0]
	v.now = v.now[:0]
	v.kept = 0
}

// add puts a value into the round. It returns false and does nothing if the
// series has one already.
func (v *values) add(s *series, x float64) bool {
	if s.round == v.number {
		return false
	}
	s.round = v.number
	if s.live {
		v.kept++
	}
	v.now = append(v.now, point{s, x})
	v.round.Samples = append(v.round.Samples, wal.Sample{Series: s.handle, T: v.stamp, V: x})
	return true
}

// finish ends a good round: series of the last one that are absent get a
// stale marker, the round is appended to the log, and the page shows it. An
// error is the log's; the page shows the round all the same.
func (v *values) finish(now time.Time) (stale int, appended wal.Appended, err error) {
	var gone []*series
	if v.kept < len(v.last) {
		for _, p := range v.last {
			if p.series.round != v.number {
				gone = append(gone, p.series)
			}
		}
	}
	v.markStale(gone)
	for _, p := range v.now {
		p.series.live = true
	}
	appended, err = v.log.Append(&v.round, now)
	v.publish()
	v.drop(gone)
	return len(gone), appended, err
}

// fail ends a round that could not be collected: every series of the last
// good one gets a stale marker, stamped now, and the page shows none.
func (v *values) fail(now time.Time) (stale int, appended wal.Appended, err error) {
	v.abandon()
	v.begin(now)
	gone := v.all()
	v.markStale(gone)
	if len(gone) > 0 {
		appended, err = v.log.Append(&v.round, now)
	}
	v.publish()
	v.drop(gone)
	return len(gone), appended, err
}

// abandon ends a round that must leave no trace, as when the agent stops in
// the middle of it.
func (v *values) abandon() {
	var unborn []*series
	for _, p := range v.now {
		if !p.series.live {
			unborn = append(unborn, p.series)
		}
	}
	v.drop(unborn)
	v.now = v.now[:0]
}

// close gives all series back to the log.
func (v *values) close() {
	v.begin(time.Time{})
	gone := v.all()
	v.publish()
	v.drop(gone)
}

// all returns the series of the last good round.
func (v *values) all() []*series {
	all := make([]*series, len(v.last))
	for i, p := range v.last {
		all[i] = p.series
	}
	return all
}

func (v *values) markStale(gone []*series) {
	for _, s := range gone {
		v.round.Samples = append(v.round.Samples, wal.Sample{
			Series: s.handle, T: v.stamp, V: math.Float64frombits(value.StaleNaN),
		})
	}
}

func (v *values) drop(gone []*series) {
	for _, s := range gone {
		s.live = false
		s.forget()
		v.log.Release(s.handle)
	}
}

// publish makes the round just collected the last one, and its slice the room
// for the next.
func (v *values) publish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now, v.last = v.last[:0], v.now
}

// points appends the last good round to dst. Any goroutine may call it.
func (v *values) points(dst []point) []point {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append(slices.Grow(dst, len(v.last)), v.last...)
}
