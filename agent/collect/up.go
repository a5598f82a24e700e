package collect

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// Health is what the workers of one source know together of whether it can be
// reached, so that an outage is one line in the log however many queries it
// hits. Any goroutine may use it.
type Health struct {
	logger *slog.Logger

	mu   sync.Mutex
	at   time.Time // when a query last found out
	err  error     // why it could not reach the source
	down bool      // as last told
}

// NewHealth returns a Health that knows nothing of the source of that name.
func NewHealth(source string, logger *slog.Logger) *Health {
	return &Health{logger: logger.With("source", source)}
}

// saw notes what a query found out: that the source was reached at a time, or
// why it was not.
func (h *Health) saw(err error, at time.Time) {
	h.mu.Lock()
	h.err, h.at = err, at
	h.mu.Unlock()
	h.tell(err)
}

// tell logs it when the source goes, with the reason, and when it comes back.
func (h *Health) tell(err error) {
	h.mu.Lock()
	down := h.down
	h.down = err != nil
	h.mu.Unlock()
	switch {
	case err != nil && !down:
		h.logger.Warn("source is down", "err", err)
	case err == nil && down:
		h.logger.Info("source is back")
	}
}

// since returns what queries last found out, if it is not older than t.
func (h *Health) since(t time.Time) (err error, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err, !h.at.Before(t) && !h.at.IsZero()
}

// UpOptions are what an Up is made of. All fields are needed.
type UpOptions struct {
	Source  config.Source
	Client  sources.Source
	Health  *Health
	Log     *wal.Log
	Metrics *Metrics
	Logger  *slog.Logger
	Clock   func() time.Time
}

// Up writes the series up of one source: 1 if it answered, 0 if not, as a
// scrape would have done it. It asks the source itself only when no query has
// since the last tick. The page leaves up to whoever scrapes it and shows
// sql2metrics_source_up.
type Up struct {
	source  config.Source
	client  sources.Source
	health  *Health
	log     *wal.Log
	series  *wal.Series
	round   wal.Round
	entry   entry
	loop    loop
	clock   func() time.Time
	metrics *Metrics
	shown   prometheus.Gauge
	logger  *slog.Logger

	last    time.Time // the tick before
	failing bool      // the last sample could not be appended
	tenure  tenure
	begun   atomic.Bool // the series has a sample
}

// NewUp returns a worker that has not run yet. Close it when it has stopped.
func NewUp(o UpOptions) *Up {
	t := newTarget(o.Source.Job, o.Source.Instance, o.Source.Labels)
	lset, _ := t.attach("up", labels.NewBuilder(labels.EmptyLabels()))
	return &Up{
		source: o.Source,
		client: o.Client,
		health: o.Health,
		log:    o.Log,
		series: o.Log.Series(lset, wal.Metadata{
			Type: model.MetricTypeGauge,
			Help: "Whether the source answered.",
		}),
		loop:    newLoop(newSchedule(config.Clock{Interval: o.Source.Interval, RunOnStart: true}, o.Source.Name), o.Source.Timeout, o.Clock),
		clock:   o.Clock,
		metrics: o.Metrics,
		shown:   o.Metrics.sourceUp(o.Source.Name),
		entry:   entry{book: o.Metrics.books.open(o.Log, bookName{source: o.Source.Name, query: bookUp}, nil)},
		logger:  o.Logger.With("source", o.Source.Name),
		last:    time.UnixMilli(o.Log.Floor()),
	}
}

// Run steps at each tick until ctx ends.
func (u *Up) Run(ctx context.Context) { u.loop.run(ctx, task{step: u.Step}) }

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (u *Up) Overdue(now time.Time) time.Duration { return u.loop.overdue(now) }

// Step appends one sample of up, stamped tick. The error, if the source does
// not answer, is for the loop's backoff, and has been logged.
func (u *Up) Step(ctx context.Context, tick time.Time) error {
	if !tick.After(u.last) {
		return errClockBack
	}
	err, known := u.health.since(u.last)
	u.last = tick
	if !known {
		asked := u.ping(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Connections that are all busy with long queries say no more than was
		// known before.
		if busy := (*sources.BusyError)(nil); !errors.As(asked, &busy) {
			err = asked
			u.health.tell(err)
		}
	}
	if !u.append(tick, err) {
		return errRetired
	}
	if known {
		return nil // whoever found out backs off itself
	}
	return err
}

// append appends a sample of up as the source answered; false: the worker was
// replaced meanwhile.
func (u *Up) append(tick time.Time, answer error) bool {
	if !u.tenure.enter() {
		return false
	}
	defer u.tenure.leave()
	u.begun.Store(true)
	var v float64
	if answer == nil {
		v = 1
	}
	u.shown.Set(v)
	u.round.Samples = append(u.round.Samples[:0], wal.Sample{Series: u.series, T: tick.UnixMilli(), V: v})
	u.entry.mapped = 1
	_, unwritten := u.entry.append(u.log, &u.round, u.clock())
	if (unwritten != nil) != u.failing {
		u.failing = unwritten != nil
		if u.failing {
			u.logger.Warn("up cannot be appended", "err", unwritten)
		} else {
			u.logger.Info("up is appended again")
		}
	}
	return true
}

func (u *Up) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, u.source.Timeout)
	defer cancel()
	return u.client.Ping(ctx)
}

// Close gives back what the worker holds in the log. It writes no stale
// marker.
func (u *Up) Close() {
	u.log.Release(u.series)
	u.entry.book.close(nil)
	u.metrics.forgetSourceUp(u.source.Name)
}
