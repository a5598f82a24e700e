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

	account
	loop  loop
	clock func() time.Time

	lastStamp int64 // of the newest round, Unix milliseconds
	prepared  bool  // values has a round that Prepare collected
}

// NewWorker returns a worker that has not run yet. Close it when it has
// stopped.
func NewWorker(o WorkerOptions) *Worker {
	name := o.Source.Name + "/" + o.Query.Collector + "/" + o.Query.Name
	w := &Worker{
		source: o.Source.Name,
		target: newTarget(o.Source.Job, o.Source.Instance, o.Source.Labels),
		query:  o.Query,
		client: o.Client,
		health: o.Health,
		values: values{log: o.Log, limit: o.Limit, most: o.Query.Policies.SampleLimit},
		account: account{
			what:    "query",
			shared:  true,
			metrics: o.Metrics.query(o.Source.Name, o.Query.Collector, o.Query.Name),
			logger:  o.Logger.With("source", o.Source.Name, "collector", o.Query.Collector, "query", o.Query.Name),
		},
		loop:  newLoop(o.Query.Clock.Interval, name, o.Query.Timeout+watchdog, o.Clock),
		clock: o.Clock,
	}
	for _, m := range o.Query.Metrics {
		w.mappers = append(w.mappers, newMapper(m, w.target, &w.values))
	}
	w.each = w.row
	return w
}

// Run steps at each tick until ctx ends, which also cancels a running query.
// Ticks that pass while a step runs are skipped and counted. A server that
// could not be reached is asked again before the next tick, with backoff.
func (w *Worker) Run(ctx context.Context) {
	w.loop.run(ctx, w.turn, func(ticks int) { w.metrics.overrun.Add(float64(ticks)) })
}

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (w *Worker) Overdue(now time.Time) time.Duration { return w.loop.overdue(now) }

// turn is one turn of the loop: a step, and what there is to say about it.
func (w *Worker) turn(ctx context.Context, tick time.Time) error {
	err := w.Step(ctx, tick)
	if ctx.Err() == nil {
		w.ended(err, w.rows, len(w.values.last))
	}
	return err
}

// Step runs the query once and appends what it found as one round, stamped
// tick. A failed run appends stale markers for the series of the last good
// one. The error has been counted. It wraps a [*sources.ConnectError] if the
// server could not be reached, and [context.DeadlineExceeded] after the
// query's timeout.
func (w *Worker) Step(ctx context.Context, tick time.Time) error {
	if tick.UnixMilli() <= w.lastStamp {
		return w.behindClock()
	}
	w.lastStamp = tick.UnixMilli()
	err := w.collect(ctx, tick)
	if ctx.Err() != nil {
		w.values.abandon()
		if err == nil {
			w.metrics.discarded.Inc()
		}
		return ctx.Err()
	}
	now := w.clock()
	w.observeHealth(err, now)
	if err != nil {
		return w.fail(err, now)
	}
	return w.succeed(tick, now)
}

// collect runs the query for a round that is stamped tick.
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
	w.metrics.rows.Add(float64(w.rows))
	return err
}

// watchdog is how much longer than its timeout a query may take before the
// worker gives up on the source, which ends queries at their timeout itself.
const watchdog = 2 * time.Second

func (w *Worker) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.query.Timeout+watchdog)
	defer cancel()
	err := w.client.Query(ctx, w.query, w.each)
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

// points implements [Shown].
func (w *Worker) points(dst []shown) []shown { return w.values.points(dst) }

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

func (w *Worker) succeed(tick, now time.Time) error {
	stale, appended, err := w.values.finish(now)
	w.appended(stale, appended)
	w.endRefusals()
	w.metrics.series.Set(float64(len(w.values.last)))
	w.metrics.resets.Add(float64(w.values.resets))
	switch {
	case errors.Is(err, errRetired):
		w.metrics.discarded.Inc()
		return err
	case err != nil:
		return w.failed(&appendError{err})
	}
	w.metrics.lastSuccess.Set(seconds(tick))
	return nil
}

func (w *Worker) fail(cause error, now time.Time) error {
	stale, appended, err := w.values.fail(now)
	w.appended(stale, appended)
	w.endRefusals()
	w.metrics.series.Set(0)
	if stamp := now.UnixMilli(); stale > 0 && stamp > w.lastStamp {
		w.lastStamp = stamp
	}
	if err != nil {
		cause = errors.Join(cause, w.failed(&appendError{err}))
	}
	return w.failed(cause)
}

func (w *Worker) endRefusals() {
	for _, m := range w.mappers {
		w.refusedIn(&m.refusals, "metric", m.metric.Name)
		w.metrics.nulls.Add(float64(m.nulls))
		m.nulls = 0
	}
	w.refusedIn(&w.late)
}

// observeHealth tells the source's other workers what the run says about it. A
// timeout says nothing: the server may be busy with the query, or gone.
func (w *Worker) observeHealth(err error, now time.Time) {
	if err == nil || classify(err) != failedTimeout {
		var unreached *sources.ConnectError
		if !errors.As(err, &unreached) {
			err = nil
		}
		w.health.saw(err, now)
	}
}

// Close gives back what the worker holds in the log and takes its self
// metrics off the page. It writes no stale markers.
func (w *Worker) Close() {
	w.values.close()
	w.metrics.remove()
}
