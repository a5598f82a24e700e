// Package collect turns databases' rows into samples: a [Worker] per query
// runs it on its clock, maps the rows, appends the round to the log and keeps
// the last values, which a [Page] shows. Three more kinds of worker go beside
// them: [Up] writes a source's series up, [Scrape] what an exposition says,
// [Self] the agent's own registry.
//
// A sample's way through the package is Worker.Step → mapper.row → values.add
// → values.finish → wal.Log.Append; that of a scraped one Scrape.Step →
// exposition.parse → values.add and on.
package collect

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// WorkerOptions are what a Worker is made of. All fields are needed but Limit.
type WorkerOptions struct {
	Source  config.Source
	Query   config.Query
	Client  sources.Source // shared by all workers of the source, not closed by them
	Health  *Health        // likewise
	Log     *wal.Log
	Metrics *Metrics
	Limit   *SeriesLimit // shared by all workers of the agent; nil: none
	Logger  *slog.Logger
	Clock   func() time.Time
}

// Worker runs one query of one source. Its methods are for one goroutine,
// except that a Page may look at its last values at any time.
type Worker struct {
	source  string
	target  target
	query   config.Query
	client  sources.Source
	health  *Health
	values  values
	mappers []*mapper
	each    func(*sources.Row) error
	rows    int

	statement statement
	account
	loop  loop
	clock func() time.Time

	hold      hold
	lastStamp int64 // of the newest round, Unix milliseconds
	prepared  bool  // values has a round that Prepare collected
	partial   error // the round lacks some of the source's databases; nil: none
}

// watchdog is how much longer than it may take a query is waited for before
// the worker gives up on the source, which keeps to its limits itself.
const watchdog = 2 * time.Second

// NewWorker returns a worker that has not run yet. Close it when it has
// stopped.
func NewWorker(o WorkerOptions) *Worker {
	name := o.Source.Name + "/" + o.Query.Collector + "/" + o.Query.Name
	// A query may wait for a connection as long as it may run.
	longest := o.Query.Timeout + o.Source.Timeout + o.Query.Timeout + watchdog
	if o.Source.Databases != nil {
		longest += o.Query.Clock.Interval // in which it begins to run in the last of them
	}
	w := &Worker{
		source: o.Source.Name,
		target: newTarget(o.Source.Job, o.Source.Instance, o.Source.Labels),
		query:  o.Query,
		client: o.Client,
		health: o.Health,
		values: values{log: o.Log, limit: o.Limit.share(), most: o.Query.Policies.SampleLimit},
		account: account{
			what:    "query",
			shared:  true,
			metrics: o.Metrics.query(o.Source.Name, o.Query.Collector, o.Query.Name),
			logger:  o.Logger.With("source", o.Source.Name, "collector", o.Query.Collector, "query", o.Query.Name),
		},
		loop:  newLoop(newSchedule(o.Query.Clock, name), longest, o.Clock),
		clock: o.Clock,
		hold:  hold{clock: o.Query.Clock},

		lastStamp: o.Log.Floor(),
	}
	w.values.entry.book = o.Metrics.books.open(o.Log, bookName{o.Source.Name, o.Query.Collector, o.Query.Name}, &w.values)
	for _, m := range o.Query.Metrics {
		w.mappers = append(w.mappers, newMapper(m, w.target, &w.values, origin{o.Source.Name, o.Query}))
	}
	w.values.restoreFrom(o.Log, w.logger)
	w.statement = newStatement(o.Query.SQL, w.mappers)
	w.each = w.row
	return w
}

// Run steps at each tick until ctx ends, which also cancels a running query.
// Ticks that pass while a step runs are skipped and counted. A run that failed
// is tried again before the next tick, with backoff. Between and during runs
// the last result is emitted again when it is time, until it ends.
func (w *Worker) Run(ctx context.Context) {
	w.loop.run(ctx, task{
		step:    w.turn,
		refresh: w.refresh,
		overrun: func(ticks int) { w.metrics.overrun.Add(float64(ticks)) },
		late:    func(ticks int) { w.metrics.late.Add(float64(ticks)) },
	})
}

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (w *Worker) Overdue(now time.Time) time.Duration { return w.loop.overdue(now) }

// turn is one turn of the loop: a step, and what there is to say about it.
func (w *Worker) turn(ctx context.Context, tick time.Time) error {
	step := w.Step
	if next := w.hold.next(); !next.IsZero() && next.Before(w.clock().Add(w.loop.longest)) {
		step = w.stepAside
	}
	err := step(ctx, tick)
	if ctx.Err() == nil {
		w.ended(err, w.rows, len(w.values.last))
	}
	return err
}

// Step runs the query once and appends what it found as one round. It is
// stamped tick, or with the moment of its arrival if the series have a newer
// sample by then. What a failed run appends, if anything, are stale markers
// for the series of the last good one, as the query's on_error says. The error
// has been counted. It wraps a [*sources.ConnectError] if the server could not
// be reached, and [context.DeadlineExceeded] after the query's timeout. With a
// [*sources.PartialError] the rest of the result was appended; with a
// [*sources.NotApplicableError] nothing was run, and the series have ended.
func (w *Worker) Step(ctx context.Context, tick time.Time) error {
	if err := w.admit(tick); err != nil {
		return err
	}
	return w.commit(ctx, tick, w.collect(ctx, tick))
}

// admit refuses a tick at which no sample could be appended.
func (w *Worker) admit(tick time.Time) error {
	if !w.after(tick) && !w.after(w.clock()) {
		return w.behindClock()
	}
	return nil
}

// after tells whether t is after the newest round.
func (w *Worker) after(t time.Time) bool { return t.UnixMilli() > w.lastStamp }

// collect runs the query for a round that is stamped tick. Nothing of it shows
// before commit, and it leaves the last result alone.
func (w *Worker) collect(ctx context.Context, tick time.Time) error {
	w.metrics.lastRun.Set(seconds(tick))
	w.values.begin(tick)
	for _, m := range w.mappers {
		m.begin()
	}
	w.rows = 0
	start := w.clock()
	err := w.run(ctx)
	w.metrics.duration.Observe(w.clock().Sub(start).Seconds())
	w.count()
	return err
}

// count puts what became of the rows into the entry of the round.
func (w *Worker) count() {
	c := &w.values.entry.counts
	c.rows = uint64(w.rows)
	for _, m := range w.mappers {
		m.count(c)
	}
}

func (w *Worker) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.loop.longest)
	defer cancel()
	q := w.query
	q.SQL = w.statement.sql()
	err := w.client.Query(ctx, q, w.each)
	w.partial = nil
	if errors.As(err, new(*sources.PartialError)) {
		w.partial, err = err, nil
	}
	cut := w.truncates(err)
	if err != nil && !cut {
		return err
	}
	for _, m := range w.mappers {
		m.end(cut)
	}
	err = w.values.overLimit()
	if cut || w.truncates(err) {
		w.metrics.truncated.Inc()
		return nil
	}
	return err
}

// truncates tells whether err is a limit, and what came before it is used.
func (w *Worker) truncates(err error) bool {
	var over *limitError
	return w.query.Policies.OnLimit == config.OnLimitTruncate && errors.As(err, &over)
}

func (w *Worker) row(r *sources.Row) error {
	if err := overRows(w.query.Policies, w.rows+1); err != nil {
		return err
	}
	w.rows++
	for _, m := range w.mappers {
		m.row(r)
	}
	return w.values.overLimit()
}

// commit makes what was collected the last result, unless err says that it
// failed.
func (w *Worker) commit(ctx context.Context, tick time.Time, err error) error {
	now := w.clock()
	if ctx.Err() != nil {
		w.values.abandon()
		if err == nil {
			w.metrics.discarded.Inc()
		}
		return ctx.Err()
	}
	w.observeHealth(err, now)
	if err != nil {
		return w.fail(err, now)
	}
	return w.succeed(tick, now)
}

func (w *Worker) succeed(tick, now time.Time) error {
	defer w.endRefusals()
	stamp := tick
	if !w.after(stamp) {
		stamp = now
		w.values.restamp(stamp)
	}
	if !w.after(stamp) {
		w.values.abandon()
		return w.behindClock()
	}
	_, appended, err := w.values.finish(now)
	if errors.Is(err, errRetired) {
		w.metrics.discarded.Inc()
		return err
	}
	w.lastStamp = stamp.UnixMilli()
	w.hold.begin(stamp, now)
	w.appended(appended)
	w.metrics.series.Set(float64(len(w.values.last)))
	w.metrics.resets.Add(float64(w.values.resets))
	if err != nil {
		return w.failed(&appendError{err})
	}
	w.metrics.lastSuccess.Set(seconds(tick))
	if w.partial != nil {
		return w.failed(w.partial)
	}
	return nil
}

// fail ends a run that failed. The last result is kept, or ends with stale
// markers, as it does where the query no longer applies; while the clock is
// behind its newest sample they would be refused.
func (w *Worker) fail(cause error, now time.Time) error {
	defer w.endRefusals()
	kept := classify(cause) != notApplicable && w.hold.fail(now)
	if kept || !w.after(now) {
		w.values.abandon()
		return w.failed(cause)
	}
	stale, appended, err := w.values.fail(now)
	return w.failed(errors.Join(cause, w.ends(now, stale, appended, err)))
}

// ends notes that the last result has ended with stale markers.
func (w *Worker) ends(now time.Time, stale int, appended wal.Appended, err error) error {
	if errors.Is(err, errRetired) {
		return nil
	}
	w.hold.end()
	w.appended(appended)
	w.metrics.series.Set(0)
	if stale > 0 {
		w.lastStamp = now.UnixMilli()
	}
	if err != nil {
		return w.failed(&appendError{err})
	}
	return nil
}

func (w *Worker) endRefusals() {
	for _, m := range w.mappers {
		w.refusedIn(&m.refusals, "metric", m.metric.Name)
		w.metrics.nulls.Add(float64(m.nulls))
		m.nulls = 0
		rounded, why := m.rounded.end()
		w.metrics.rounded.Add(float64(rounded))
		if why != nil {
			w.logger.Warn("values are rounded", "metric", m.metric.Name, "err", why)
		}
	}
	w.refusedIn(&w.late)
	w.values.reportStates(w.logger)
	for _, a := range w.statement.behind {
		if err := a.oddity(); err != nil {
			w.logger.Warn("the cursor starts at what the column is not", "metric", a.metric.Name, "err", err)
		}
	}
}

// observeHealth tells the source's other workers what the run says about it. A
// timeout says nothing: the server may be busy with the query, or gone. Nor
// does a run that got no connection.
func (w *Worker) observeHealth(err error, now time.Time) {
	switch classify(err) {
	case failedTimeout, failedBusy:
		return
	case failedConnect:
		w.health.saw(err, now)
	default:
		w.health.saw(nil, now)
	}
}

// points implements [Shown].
func (w *Worker) points(dst []shown) []shown { return w.values.points(dst) }

// Close gives back what the worker holds in the log and takes its self
// metrics off the page. It writes no stale markers.
func (w *Worker) Close() {
	w.values.close()
	w.metrics.remove()
}
