// Package collect turns databases' rows into samples: a [Worker] per query
// runs it on its clock, maps the rows, appends the round to the log and keeps
// the last values, which a [Page] shows. Two more kinds of worker go beside
// them: [Up] writes a source's series up, [Self] the agent's own registry.
//
// A sample's way through the package is Worker.Step → mapper.row → values.add
// → values.finish → wal.Log.Append.
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

// failure says why a run failed; it is the label reason of
// sql2metrics_query_errors_total.
type failure string

const (
	failedConnect failure = "connect" // the server could not be reached
	failedTimeout failure = "timeout" // the query ran into its timeout
	failedQuery   failure = "query"   // the server refused the query or broke off
	failedAppend  failure = "append"  // the log could not be written
)

// WorkerOptions are what a Worker is made of. All fields are needed.
type WorkerOptions struct {
	Source  config.Source
	Query   config.Query
	Client  sources.Source // shared by all workers of the source, not closed by them
	Health  *Health        // likewise
	Log     *wal.Log
	Metrics *Metrics
	Logger  *slog.Logger
	Clock   func() time.Time
}

// Worker runs one query of one source. Its methods are for one goroutine,
// except that a Page may look at its last values at any time.
type Worker struct {
	query   config.Query
	client  sources.Source
	health  *Health
	values  values
	mappers []*mapper
	each    func(*sources.Row) error
	rows    int

	loop    loop
	metrics *queryMetrics
	logger  *slog.Logger
	clock   func() time.Time

	lastStamp int64    // of the newest round, Unix milliseconds
	late      refusals // samples the log refused for their time
	failing   failure  // of the last turn
}

// NewWorker returns a worker that has not run yet. Close it when it has
// stopped.
func NewWorker(o WorkerOptions) *Worker {
	name := o.Source.Name + "/" + o.Query.Collector + "/" + o.Query.Name
	w := &Worker{
		query:   o.Query,
		client:  o.Client,
		health:  o.Health,
		values:  values{log: o.Log},
		loop:    newLoop(o.Query.Interval, name, o.Query.Timeout, o.Clock),
		metrics: o.Metrics.query(o.Source.Name, o.Query.Collector, o.Query.Name),
		logger:  o.Logger.With("source", o.Source.Name, "collector", o.Query.Collector, "query", o.Query.Name),
		clock:   o.Clock,
	}
	t := newTarget(o.Source.Job, o.Source.Instance, o.Source.Labels)
	for _, m := range o.Query.Metrics {
		w.mappers = append(w.mappers, newMapper(m, t, &w.values))
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

// turn is one turn of the loop: a step, and a line in the log when it fails in
// another way than the one before, or no longer.
func (w *Worker) turn(ctx context.Context, tick time.Time) error {
	err := w.Step(ctx, tick)
	if ctx.Err() != nil {
		return err
	}
	switch why := classify(err); {
	case why == w.failing:
	case err != nil:
		w.logger.Warn("query failed", "reason", string(why), "err", err)
	default:
		w.logger.Info("query works again", "rows", w.rows, "series", len(w.values.last))
	}
	w.failing = classify(err)
	return err
}

// Step runs the query once and appends what it found as one round, stamped
// tick. A failed run appends stale markers for the series of the last good
// one. The error has been counted. It wraps a [*sources.ConnectError] if the
// server could not be reached, and [context.DeadlineExceeded] after the
// query's timeout.
func (w *Worker) Step(ctx context.Context, tick time.Time) error {
	if tick.UnixMilli() <= w.lastStamp {
		w.metrics.clockBack.Inc()
		return nil
	}
	w.lastStamp = tick.UnixMilli()
	w.metrics.lastRun.Set(seconds(tick))

	w.values.begin(tick)
	w.rows = 0
	start := w.clock()
	err := w.run(ctx)
	now := w.clock()
	w.metrics.duration.Observe(now.Sub(start).Seconds())
	w.metrics.rows.Add(float64(w.rows))
	if ctx.Err() != nil {
		w.values.abandon()
		return ctx.Err()
	}
	w.observeHealth(err, now)
	if err != nil {
		return w.fail(err, now)
	}
	return w.succeed(tick, now)
}

func (w *Worker) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.query.Timeout)
	defer cancel()
	return w.client.Query(ctx, w.query, w.each)
}

// points implements [Shown].
func (w *Worker) points(dst []shown) []shown { return w.values.points(dst) }

func (w *Worker) row(r *sources.Row) error {
	w.rows++
	for _, m := range w.mappers {
		m.row(r)
	}
	return nil
}

func (w *Worker) succeed(tick, now time.Time) error {
	n := len(w.values.now)
	stale, appended, err := w.values.finish(now)
	w.countAppend(stale, appended)
	w.endRefusals()
	w.metrics.series.Set(float64(n))
	if err != nil {
		return w.failed(&appendError{err})
	}
	w.metrics.lastSuccess.Set(seconds(tick))
	return nil
}

func (w *Worker) fail(cause error, now time.Time) error {
	stale, appended, err := w.values.fail(now)
	w.countAppend(stale, appended)
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

// failed counts a failure and returns it.
func (w *Worker) failed(err error) error {
	w.metrics.errors[classify(err)].Inc()
	return err
}

func (w *Worker) countAppend(stale int, a wal.Appended) {
	w.metrics.stale.Add(float64(stale))
	w.metrics.samples.Add(float64(a.Appended.Samples))
	if w.late.refuse(refusedTime, int(a.Refused.Samples)) {
		w.late.explain(refusedTime, errLate)
	}
}

var errLate = errors.New("the log has samples of these series that are not older: two queries make the same series, or the clock went back")

// endRefusals counts what the round refused, and logs each reason when it
// first shows up.
func (w *Worker) endRefusals() {
	count := func(why reason, n int) { w.metrics.refused[why].Add(float64(n)) }
	for _, m := range w.mappers {
		m.end(func(why reason, n int, err error) {
			count(why, n)
			if err != nil {
				w.logger.Warn("samples refused", "metric", m.metric.Name, "reason", why.String(), "count", n, "err", err)
			}
		})
	}
	w.late.end(func(why reason, n int, err error) {
		count(why, n)
		if err != nil {
			w.logger.Warn("samples refused", "reason", why.String(), "count", n, "err", err)
		}
	})
}

// observeHealth tells the source's other workers what the run says about it. A
// timeout says nothing: the server may be busy with the query, or gone.
func (w *Worker) observeHealth(err error, now time.Time) {
	if err == nil || classify(err) != failedTimeout {
		w.health.saw(classify(err) != failedConnect, now)
	}
}

// Close gives back what the worker holds in the log and takes its self
// metrics off the page. It writes no stale markers.
func (w *Worker) Close() {
	w.values.close()
	w.metrics.remove()
}

// appendError says that the log could not take the round.
type appendError struct{ err error }

func (e *appendError) Error() string { return "append round: " + e.err.Error() }
func (e *appendError) Unwrap() error { return e.err }

func classify(err error) failure {
	var connect *sources.ConnectError
	var unwritten *appendError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &connect):
		return failedConnect
	case errors.Is(err, context.DeadlineExceeded):
		return failedTimeout
	case errors.As(err, &unwritten):
		return failedAppend
	}
	return failedQuery
}
