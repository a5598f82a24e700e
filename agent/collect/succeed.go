package collect

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Runner is a worker of any kind: a [*Worker], a [*Scrape], an [*Up] or a
// [*Self]. Its life is Prepare, if a reload brings it in, then [Succession.Carry],
// Run, and Close when Run has returned.
type Runner interface {
	// Prepare collects what will be the worker's first round and keeps it.
	// Neither the log nor the page see it before Carry. Where that fails, or ctx
	// ends first, the worker begins with what those it replaces have. They are
	// among before; those that it follows are retired, or have ended.
	Prepare(ctx context.Context, before []Runner)

	// Run steps at each tick until ctx ends.
	Run(ctx context.Context)

	// Overdue returns for how long the loop should have turned and has not; any
	// goroutine may ask.
	Overdue(now time.Time) time.Duration

	// Retire has what is still collected discarded, for a worker whose Run has
	// been told to end and hangs in a query. It returns false while a round is
	// being appended, which ends by itself. Any goroutine may call it.
	Retire() bool

	// Close gives back what the worker holds in the log, takes its self metrics
	// off the registry, and leaves alone what a page shows.
	Close()

	begin(stamp time.Time, before []Runner)
	living(dst []*wal.Series) []*wal.Series
	bury(stamp time.Time, left map[*wal.Series]bool) error
}

// Succession is the step of a reload in which workers take the place of
// others. All append to one log.
type Succession struct {
	Staying  []Runner // they run all the while
	Leaving  []Runner // they have ended, or are retired
	Entering []Runner // they do not run yet
}

// Carry appends the first rounds of those that enter, and one stale marker for
// each series of those that leave that no other worker has. All are stamped
// now, or a millisecond later: nothing of those that leave is as late.
//
// Where the first round of a query could not be collected, its worker begins
// with the last values of the metrics it has in common with those that leave;
// they are not appended again.
//
// When it returns, a page may show those that enter in place of those that
// leave. An error is the log's, about markers that it could not take.
func (s Succession) Carry(now time.Time) error {
	stamp := now.Add(time.Millisecond)
	s.keepStates()
	for _, r := range s.Entering {
		r.begin(stamp, s.Leaving)
	}
	living := map[*wal.Series]bool{}
	var all []*wal.Series
	for _, r := range slices.Concat(s.Staying, s.Entering) {
		all = r.living(all[:0])
		for _, series := range all {
			living[series] = true
		}
	}
	var errs []error
	for _, r := range s.Leaving {
		errs = append(errs, r.bury(stamp, living))
	}
	return errors.Join(errs...)
}

// keepStates has the log forget what only those that leave had.
func (s Succession) keepStates() {
	for _, r := range s.Leaving {
		if w, ok := r.(*Worker); ok {
			KeepStates(w.values.log, slices.Concat(s.Staying, s.Entering))
			return
		}
	}
}

// Follows tells whether next goes on from more than the last round of before,
// which then has to be retired, or to have ended, when next is prepared: what it
// still collected would be sent or counted twice.
func Follows(next, before Runner) bool {
	w, ok := next.(*Worker)
	old, same := before.(*Worker)
	return ok && same && w.values.follows(&old.values)
}

// Prepare implements [Runner].
func (w *Worker) Prepare(ctx context.Context, before []Runner) {
	for _, r := range before {
		if old, ok := r.(*Worker); ok {
			w.values.succeed(&old.values, w.logger)
		}
	}
	err := w.collect(ctx, w.clock())
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	w.observeHealth(err, w.clock())
	if err != nil {
		w.values.abandon()
		w.endRefusals()
		w.ended(w.failed(err), w.rows, 0)
		return
	}
	w.prepared = true
}

// Retire implements [Runner].
func (w *Worker) Retire() bool { return w.values.tenure.retire() }

func (w *Worker) begin(stamp time.Time, before []Runner) {
	if !w.prepared {
		for _, r := range before {
			old, ok := r.(*Worker)
			if ok && old.source == w.source && old.attaches(w) {
				w.inherit(old)
			}
		}
		return
	}
	w.prepared, w.loop.entered = false, true
	w.values.restamp(stamp)
	w.ended(w.succeed(stamp, stamp), w.rows, len(w.values.last))
}

func accumulates(m config.Metric) bool {
	return m.HistogramOptions != nil && m.HistogramOptions.Mode == config.HistogramAccumulate
}

// attaches tells whether both give their series the same labels of the target.
func (w *Worker) attaches(o *Worker) bool {
	return labels.Equal(w.target.labels, o.target.labels) && labels.Equal(w.target.remote, o.target.remote)
}

// inherit takes over the last values of the metrics that old has as well. The
// round after them ends those that it does not have.
func (w *Worker) inherit(old *Worker) {
	families := map[*family]*family{}
	become := func(f *family) *family {
		now, known := families[f]
		if !known {
			now = w.continues(old, f)
			families[f] = now
		}
		return now
	}
	for _, p := range old.values.lastGood() {
		if f := become(p.series.family); f != nil {
			w.values.inherit(p, f)
		}
	}
	for _, p := range old.values.lastTimed() {
		if f := become(p.series.family); f != nil {
			w.values.inheritTimed(p, f)
		}
	}
	if w.values.inherited {
		w.hold.inherit(&old.hold)
		w.lastStamp = max(w.lastStamp, w.hold.get().emitted.UnixMilli())
		w.metrics.series.Set(float64(len(w.values.last)))
	}
}

// continues returns what a family of old's has become here; nil if there is
// none that has the same series.
func (w *Worker) continues(old *Worker, f *family) *family {
	for _, before := range old.query.Metrics {
		if !mapsTo(before, f.name) {
			continue
		}
		for _, now := range w.query.Metrics {
			if sameSeries(before, now) {
				meta := f.meta
				meta.Help = now.Help
				if before.Type != now.Type {
					meta.Type = model.MetricType(now.Type)
				}
				return &family{f.name, meta}
			}
		}
	}
	return nil
}

// mapsTo tells whether a metric makes series of that name.
func mapsTo(m config.Metric, name string) bool {
	suffix, ok := strings.CutPrefix(name, m.Name)
	return ok && slices.Contains([]string{"", "_bucket", "_sum", "_count", "_info"}, suffix)
}

// sameSeries tells whether two metrics, of equal rows, make the same values of
// the same series, however they are described.
func sameSeries(a, b config.Metric) bool {
	single := func(t config.MetricType) bool { return t == config.Gauge || t == config.Counter }
	if single(a.Type) && single(b.Type) {
		a.Type = b.Type
	}
	a.Help, a.Unit = b.Help, b.Unit
	return reflect.DeepEqual(a, b)
}

func (w *Worker) living(dst []*wal.Series) []*wal.Series { return w.values.living(dst) }

func (w *Worker) bury(stamp time.Time, left map[*wal.Series]bool) error {
	appended, err := w.values.bury(stamp, left)
	w.appended(appended)
	return err
}

// Prepare implements [Runner].
func (s *Scrape) Prepare(ctx context.Context, _ []Runner) {
	s.first = s.collect(ctx, s.clock())
	s.prepared = true
}

// Retire implements [Runner].
func (s *Scrape) Retire() bool { return s.values.tenure.retire() }

func (s *Scrape) begin(stamp time.Time, _ []Runner) {
	if !s.prepared {
		return
	}
	s.prepared, s.loop.entered = false, true
	s.lastStamp = stamp.UnixMilli()
	s.values.restamp(stamp)
	s.ended(s.commit(stamp, s.first), s.exposition.scraped, len(s.values.last))
}

func (s *Scrape) living(dst []*wal.Series) []*wal.Series {
	return append(s.values.living(dst), s.companions...)
}

func (s *Scrape) bury(stamp time.Time, left map[*wal.Series]bool) error {
	appended, err := s.values.bury(stamp, left)
	s.appended(appended)
	if s.accompanied.Load() {
		err = errors.Join(err, buryAll(s.values.log, s.values.entry.book, s.companions, stamp, left))
	}
	return err
}

// Prepare implements [Runner].
func (u *Up) Prepare(ctx context.Context, _ []Runner) { u.health.saw(u.ping(ctx), u.clock()) }

// Retire implements [Runner].
func (u *Up) Retire() bool { return u.tenure.retire() }

func (u *Up) begin(stamp time.Time, _ []Runner) {
	if err, known := u.health.since(time.Time{}); known {
		u.last = stamp
		u.append(stamp, err)
	}
}

func (u *Up) living(dst []*wal.Series) []*wal.Series { return append(dst, u.series) }

func (u *Up) bury(stamp time.Time, left map[*wal.Series]bool) error {
	if !u.begun.Load() {
		return nil
	}
	return buryAll(u.log, u.entry.book, []*wal.Series{u.series}, stamp, left)
}

// buryAll appends a stale marker for each series that is not among those left,
// and puts it there.
func buryAll(log *wal.Log, b *book, all []*wal.Series, stamp time.Time, left map[*wal.Series]bool) error {
	var r wal.Round
	for _, s := range all {
		if !left[s] {
			left[s] = true
			r.Samples = append(r.Samples, wal.Sample{Series: s, T: stamp.UnixMilli(), V: math.Float64frombits(value.StaleNaN)})
		}
	}
	if len(r.Samples) == 0 {
		return nil
	}
	e := entry{book: b, counts: counts{stale: uint64(len(r.Samples))}}
	_, err := e.append(log, &r, stamp)
	return err
}

// Prepare implements [Runner]: the registry is there when the worker begins.
func (s *Self) Prepare(context.Context, []Runner) {}

// Retire implements [Runner].
func (s *Self) Retire() bool { return s.values.tenure.retire() }

func (s *Self) begin(stamp time.Time, _ []Runner) { _ = s.Step(context.Background(), stamp) }

func (s *Self) living(dst []*wal.Series) []*wal.Series { return s.values.living(dst) }

func (s *Self) bury(stamp time.Time, left map[*wal.Series]bool) error {
	_, err := s.values.bury(stamp, left)
	return err
}

// inherit shows a point of another worker's last good round as one of this
// one's. The log has it already.
func (v *values) inherit(p point, f *family) {
	s := &series{
		family: f,
		handle: v.log.Series(p.series.handle.Labels(), f.meta),
		page:   p.series.page,
		live:   true,
		forget: func(*series) {},
	}
	p.series = s
	v.limit.inherit(s.handle.Labels())
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = append(v.last, p)
	v.inherited = true
}

// inheritTimed is inherit for a point with its own time, which is only shown:
// no round ends it.
func (v *values) inheritTimed(p point, f *family) {
	p.series = &series{family: f, page: p.series.page}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lastAside = append(v.lastAside, p)
	v.inherited = true
}

// unmarked returns those of gone that need a stale marker: not those that were
// inherited and are in the round being collected as series of this worker's
// own.
func (v *values) unmarked(gone []point) []point {
	if !v.inherited {
		return gone
	}
	v.inherited = false
	now := make(map[*wal.Series]bool, len(v.now))
	for _, p := range v.now {
		now[p.series.handle] = true
	}
	return slices.DeleteFunc(slices.Clone(gone), func(p point) bool { return now[p.series.handle] })
}

// lastGood returns the last good round, if it has not ended.
func (v *values) lastGood() []point {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return nil
	}
	return slices.Clone(v.last)
}

// lastTimed returns the samples with their own time of the last good round, if
// it has not ended.
func (v *values) lastTimed() []point {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return nil
	}
	return slices.Clone(v.lastAside)
}

func (v *values) living(dst []*wal.Series) []*wal.Series {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return dst
	}
	for _, p := range v.last {
		dst = append(dst, p.series.handle)
	}
	return dst
}

// bury appends a stale marker for each series of the last good round that is
// not among those left, and puts them there: each gets one.
func (v *values) bury(stamp time.Time, left map[*wal.Series]bool) (wal.Appended, error) {
	var gone []point
	for _, p := range v.lastGood() {
		if !left[p.series.handle] {
			left[p.series.handle] = true
			gone = append(gone, p)
		}
	}
	if len(gone) == 0 {
		return wal.Appended{}, nil
	}
	var r wal.Round
	markStale(&r, gone, stamp.UnixMilli())
	e := entry{book: v.entry.book, counts: counts{stale: uint64(len(gone))}}
	return e.append(v.log, &r, stamp)
}
