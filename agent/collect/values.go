package collect

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
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
	family *family // changed by values.describe only
	handle *wal.Series
	page   labels.Labels // as /metrics shows them: no name, job or instance
	round  uint64        // the last round it was part of
	live   bool          // part of the last good round
	// forget takes it out of the map it was found in, when it is absent from a
	// round. Without one it outlives its rounds: who made it gives the handle
	// back to the log.
	forget  func(*series)
	dropped bool // it has been forgotten

	// Where it is in the round being collected: among the points, and among the
	// samples or the native histograms.
	at, sample int
	// last is the value of a counter in the last good round.
	last float64

	// For the mapper: how its rows are recognised.
	key  string
	next *series // came after it when it last was in a round
}

// point is a series with its value in a round: v, or a native histogram where
// h or fh is one. A histogram is not written to once it is in a round.
type point struct {
	series *series
	v      float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

func (p point) native() bool { return p.h != nil || p.fh != nil }

// shown is what a Page needs to know of a point.
type shown struct {
	family *family
	labels labels.Labels
	v      float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

// values collects one round after the other and keeps the last good one: for
// the page, and to know which series are absent from the next. A worker owns
// it; only points may be called by others.
//
// Samples that bring their own time go beside the round: they are appended
// and shown, and never marked stale.
//
// Its slices are kept from round to round, so a round of known series
// allocates nothing.
type values struct {
	log     *wal.Log
	limit   *share // nil: none
	most    int    // samples of a round; 0: no bound
	number  uint64 // of the round being collected
	stamp   int64  // its timestamp, Unix milliseconds
	round   wal.Round
	timed   wal.Round // the samples with their own time
	now     []point
	kept    int       // how many of now were in last
	aside   []point   // those with their own time
	over    bool      // there were more than most
	resets  int       // counters of the round below their last value
	beside  int       // samples of the round that are not of the values
	tracked int       // of now, those whose samples are beside the round
	entry   entry     // of the round
	again   wal.Round // the last good round, for another time
	// repeated is the entry of again.
	repeated entry
	tenure   tenure
	keepers  []keeper
	without  map[string]bool // states that the log had no room for when they were last offered
	news     []string        // those of which that has changed
	// inherited says that last came from another worker, so that its series are
	// found in no map.
	inherited bool

	withdrawn []*series

	mu        sync.Mutex
	last      []point // the last good round; guarded by mu, written by the worker only
	lastAside []point // likewise
	ended     bool    // likewise: the last good round has had its stale markers
}

// begin starts a round whose samples all get the timestamp stamp.
func (v *values) begin(stamp time.Time) {
	v.number++
	v.stamp = stamp.UnixMilli()
	v.round.Samples = v.round.Samples[:0]
	v.round.Histograms = v.round.Histograms[:0]
	v.round.Exemplars = v.round.Exemplars[:0]
	v.round.State, v.timed.State = v.round.State[:0], v.timed.State[:0]
	v.timed.Samples = v.timed.Samples[:0]
	v.timed.Histograms = v.timed.Histograms[:0]
	v.timed.OwnTime = true
	v.now = v.now[:0]
	v.aside = v.aside[:0]
	v.kept, v.tracked, v.over, v.resets = 0, 0, false, 0
}

// fits tells whether so many more samples may be in the round. The first that
// do not fit are noted for overLimit.
func (v *values) fits(n int) bool {
	if v.most > 0 && len(v.now)+len(v.aside)+n > v.most {
		v.over = true
	}
	return !v.over
}

// overLimit returns a [*limitError] if the round had more samples than it may.
func (v *values) overLimit() error {
	if v.over {
		return &limitError{"samples", "sample_limit", v.most}
	}
	return nil
}

// has tells whether the series has been in the round, also if it was withdrawn.
func (v *values) has(s *series) bool { return s.round == v.number }

// add puts a value into the round. It returns false and does nothing if the
// series has one already.
func (v *values) add(s *series, x float64) bool {
	if !v.enter(point{series: s, v: x}) {
		return false
	}
	s.sample = len(v.round.Samples)
	v.round.Samples = append(v.round.Samples, wal.Sample{Series: s.handle, T: v.stamp, V: x})
	return true
}

// addHistogram is add for a native histogram: h, or fh where h is nil.
func (v *values) addHistogram(s *series, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	if !v.enter(point{series: s, h: h, fh: fh}) {
		return false
	}
	s.sample = len(v.round.Histograms)
	v.round.Histograms = append(v.round.Histograms, wal.Histogram{Series: s.handle, ST: st, T: v.stamp, H: h, FH: fh})
	return true
}

// stamped tells whether the round has a sample of the series, not one with its
// own time alone.
func (v *values) stamped(s *series) bool {
	r, i := &v.round, s.sample
	return i < len(r.Samples) && r.Samples[i].Series == s.handle || i < len(r.Histograms) && r.Histograms[i].Series == s.handle
}

func (v *values) enter(p point) bool {
	if p.series.round == v.number {
		return false
	}
	p.series.round = v.number
	if p.series.live {
		v.kept++
	}
	p.series.at = len(v.now)
	v.now = append(v.now, p)
	return true
}

// of returns the value that the series has in the round.
func (v *values) of(s *series) float64 { return v.now[s.at].v }

// replace gives the series another value in the round.
func (v *values) replace(s *series, x float64) {
	v.now[s.at].v = x
	v.round.Samples[s.sample].V = x
}

// withdraw takes the value of the series out of the round, and keeps others
// out. It returns false if that has been done.
func (v *values) withdraw(s *series) bool {
	if v.now[s.at].series == nil {
		return false
	}
	v.now[s.at].series = nil
	v.round.Samples[s.sample].Series = nil
	v.withdrawn = append(v.withdrawn, s)
	return true
}

// settle closes the gaps that withdraw left. It comes after the last sample.
func (v *values) settle() {
	if len(v.withdrawn) == 0 {
		return
	}
	v.now = slices.DeleteFunc(v.now, func(p point) bool { return p.series == nil })
	v.round.Samples = slices.DeleteFunc(v.round.Samples, func(s wal.Sample) bool { return s.Series == nil })
	var unborn []point
	for _, s := range v.withdrawn {
		s.round = 0
		if s.live {
			v.kept--
		} else {
			unborn = append(unborn, point{series: s})
		}
	}
	v.drop(unborn)
	clear(v.withdrawn)
	v.withdrawn = v.withdrawn[:0]
}

// addTimed puts a value with its own time, Unix milliseconds, beside the
// round. A series may have several.
func (v *values) addTimed(s *series, at int64, x float64) {
	v.show(point{series: s, v: x})
	v.send(s, at, x)
}

// send is addTimed for a value that show or track has put beside the round.
func (v *values) send(s *series, at int64, x float64) {
	v.timed.Samples = append(v.timed.Samples, wal.Sample{Series: s.handle, T: at, V: x})
}

// sendHistogram is send for a native histogram.
func (v *values) sendHistogram(s *series, at int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	v.timed.Histograms = append(v.timed.Histograms, wal.Histogram{Series: s.handle, T: at, H: h, FH: fh})
}

// show puts a value beside the round that the log has from an earlier one, or
// gets by send.
func (v *values) show(p point) { v.aside = append(v.aside, p) }

// track is show for a series that gets a stale marker when it is absent, as
// those do whose values have the time of the round.
func (v *values) track(p point) {
	if v.enter(p) {
		v.tracked++
		return
	}
	v.now[p.series.at] = p
}

// finish ends a good round: series of the last one that are absent get a
// stale marker, the round is appended to the log, and the page shows it. An
// error is the log's; the page shows the round all the same.
func (v *values) finish(now time.Time) (stale int, appended wal.Appended, err error) {
	if !v.tenure.enter() {
		v.abandon()
		return 0, wal.Appended{}, errRetired
	}
	defer v.tenure.leave()
	v.settle()
	var gone []point
	if v.kept < len(v.last) {
		for _, p := range v.last {
			if p.series.round != v.number {
				gone = append(gone, p)
			}
		}
	}
	if !v.ended {
		unmarked := v.unmarked(gone)
		stale = len(unmarked)
		markStale(&v.round, unmarked, v.stamp)
	}
	for _, p := range v.now {
		s := p.series
		if s.family.meta.Type == model.MetricTypeCounter {
			if s.live && p.v < s.last {
				v.resets++
			}
			s.last = p.v
		}
		s.live = true
	}
	// Samples with their own time are most often older than the round: a series
	// that has both keeps both.
	inTimed := outcomeDone
	if len(v.aside)+v.tracked > 0 {
		v.entry.mapped = both(v.timed.Totals())
		appended, err = v.append(&v.timed, now)
		inTimed = outcomeOf(&v.timed, appended, err)
	}
	v.entry.mapped, v.entry.stale = uint64(len(v.now)-v.tracked+v.beside), uint64(stale)
	inTime, timeErr := v.append(&v.round, now)
	inRound := outcomeOf(&v.round, inTime, timeErr)
	v.beside = 0
	appended.Appended = appended.Appended.Add(inTime.Appended)
	appended.Refused = appended.Refused.Add(inTime.Refused)
	appended.Unfit = appended.Unfit.Add(inTime.Unfit)
	err = errors.Join(err, timeErr)
	v.publish()
	v.drop(gone)
	v.limit.settle()
	v.settleKeepers(inRound, inTimed)
	return stale, appended, err
}

// fail ends a round that could not be collected: every series of the last
// good one gets a stale marker, stamped now, and the page shows none.
func (v *values) fail(now time.Time) (stale int, appended wal.Appended, err error) {
	v.abandon()
	v.begin(now)
	return v.finish(now)
}

// abandon ends a round that must leave no trace, as when the agent stops in
// the middle of it.
func (v *values) abandon() {
	v.settle()
	var unborn []point
	for _, p := range v.now {
		if !p.series.live {
			unborn = append(unborn, p)
		}
	}
	v.drop(unborn)
	v.now = v.now[:0]
	v.aside = v.aside[:0]
	v.beside, v.tracked = 0, 0
	for _, k := range v.keepers {
		k.discard()
	}
	v.entry.discard(v.log)
}

// close gives all series back to the log. What a page shows stays: an answer
// that was begun before a reload may look at it for a while.
func (v *values) close() {
	v.drop(v.last)
	for _, k := range v.keepers {
		k.close()
	}
	v.entry.book.close(v)
}

// markStale puts a stale marker of each series into a round, of the kind its
// last value was: a series is not to have samples and histograms at once.
func markStale(r *wal.Round, gone []point, stamp int64) {
	marker := math.Float64frombits(value.StaleNaN)
	for _, p := range gone {
		switch {
		case p.fh != nil:
			r.Histograms = append(r.Histograms, wal.Histogram{
				Series: p.series.handle, T: stamp, FH: &histogram.FloatHistogram{Sum: marker},
			})
			continue
		case p.h != nil:
			r.Histograms = append(r.Histograms, wal.Histogram{
				Series: p.series.handle, T: stamp, H: &histogram.Histogram{Sum: marker},
			})
			continue
		}
		r.Samples = append(r.Samples, wal.Sample{Series: p.series.handle, T: stamp, V: marker})
	}
}

func (v *values) drop(gone []point) {
	for _, p := range gone {
		p.series.live = false
		if p.series.forget != nil {
			p.series.dropped, p.series.next = true, nil
			p.series.forget(p.series)
			v.log.Release(p.series.handle)
			v.limit.giveBack()
		}
	}
}

// describe changes what is known of the metric of a series.
func (v *values) describe(s *series, f *family) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.family = f
}

// publish makes the round just collected the last one, and its slices the room
// for the next.
func (v *values) publish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now, v.last = v.last[:0], v.now
	v.aside, v.lastAside = v.lastAside[:0], v.aside
	v.ended = false
}

// onPage returns how many series points has. Any goroutine may call it.
func (v *values) onPage() int {
	if v == nil {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return 0
	}
	return len(v.last) + len(v.lastAside)
}

// points appends the last good round to dst, unless it has ended. Any goroutine
// may call it.
func (v *values) points(dst []shown) []shown {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return dst
	}
	dst = slices.Grow(dst, len(v.last)+len(v.lastAside))
	for _, points := range [][]point{v.last, v.lastAside} {
		for _, p := range points {
			dst = append(dst, shown{p.series.family, p.series.page, p.v, p.h, p.fh})
		}
	}
	return dst
}
