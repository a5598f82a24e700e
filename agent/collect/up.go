package collect

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// Health is what the workers of one source know together of whether it can be
// reached. The zero Health knows nothing. Any goroutine may use it.
type Health struct {
	mu sync.Mutex
	at time.Time
	up bool
}

func (h *Health) saw(up bool, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.at = up, at
}

// since returns the newest knowledge if it is not older than t.
func (h *Health) since(t time.Time) (up, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up, !h.at.Before(t) && !h.at.IsZero()
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
	loop    loop
	metrics *Metrics
	logger  *slog.Logger

	last time.Time // the tick before
	down bool
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
		loop:    newLoop(o.Source.Interval, o.Source.Name, o.Source.Timeout, o.Clock),
		metrics: o.Metrics,
		logger:  o.Logger.With("source", o.Source.Name),
	}
}

// Run steps at each tick until ctx ends.
func (u *Up) Run(ctx context.Context) { u.loop.run(ctx, u.Step, func(int) {}) }

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (u *Up) Overdue(now time.Time) time.Duration { return u.loop.overdue(now) }

// Step appends one sample of up, stamped tick. The error, if the source does
// not answer, is for the loop's backoff, and has been logged.
func (u *Up) Step(ctx context.Context, tick time.Time) error {
	up, known := u.health.since(u.last)
	u.last = tick
	var err error
	if !known {
		up, err = u.ping(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	var v float64
	if up {
		v = 1
	}
	u.metrics.up.WithLabelValues(u.source.Name).Set(v)
	u.round.Samples = append(u.round.Samples[:0], wal.Sample{Series: u.series, T: tick.UnixMilli(), V: v})
	_, appendErr := u.log.Append(&u.round, tick)
	u.report(up, err, appendErr)
	return err
}

func (u *Up) ping(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, u.source.Timeout)
	defer cancel()
	err := u.client.Ping(ctx)
	return err == nil, err
}

// report logs when the source goes or comes back. Why it went is logged by the
// queries, unless nothing but this worker has asked it.
func (u *Up) report(up bool, pingErr, appendErr error) {
	err := errors.Join(pingErr, appendErr)
	switch {
	case up && u.down:
		u.logger.Info("source is back")
	case !up && !u.down:
		u.logger.Warn("source does not answer", "err", err)
	case appendErr != nil:
		u.logger.Debug("up not appended", "err", appendErr)
	}
	u.down = !up
}

// Close gives back what the worker holds in the log. It writes no stale
// marker.
func (u *Up) Close() {
	u.log.Release(u.series)
	u.metrics.up.DeleteLabelValues(u.source.Name)
}
