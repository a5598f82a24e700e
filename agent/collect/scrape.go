package collect

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// ScrapeOptions are what a Scrape is made of. All fields are needed but Limit.
type ScrapeOptions struct {
	Source     config.Source
	Exposition *sources.Exposition // not closed by the worker
	Log        *wal.Log
	Metrics    *Metrics
	Limit      *SeriesLimit // shared by all workers of the agent; nil: none
	Logger     *slog.Logger
	Clock      func() time.Time
}

// Scrape is the one worker of a source of type prometheus: it writes to the
// log what Prometheus would have stored of a scrape, up and the scrape_*
// series included. Its own metrics are those of a query named scrape, whose
// rows are the samples in the exposition. Its methods are for one goroutine,
// except that a Page may look at its last values at any time.
type Scrape struct {
	source     string
	client     *sources.Exposition
	rules      *config.Scrape
	timeout    time.Duration
	values     values
	exposition *exposition
	companions []*wal.Series           // up and the scrape_* series
	measures   []func(*Scrape) float64 // their values

	account
	loop  loop
	clock func() time.Time
	up    prometheus.Gauge
	gone  func() // takes up off the page

	lastStamp   int64         // of the newest round, Unix milliseconds
	took        time.Duration // by the newest scrape
	size        int           // of its page, in bytes; -1: over the limit
	health      float64       // what up says of it
	prepared    bool          // values has a round that Prepare collected
	first       error         // why that is a failed one
	accompanied atomic.Bool   // companions have samples
}

// NewScrape returns a worker that has not run yet. Close it when it has
// stopped.
func NewScrape(o ScrapeOptions) *Scrape {
	t := newTarget(o.Source.Job, o.Source.Instance, o.Source.Labels)
	name := o.Source.Name
	s := &Scrape{
		source: name,
		client: o.Exposition,
		rules:  o.Source.Scrape, timeout: o.Source.Timeout,
		values: values{log: o.Log, limit: o.Limit.share()},
		account: account{
			what:    "scrape",
			metrics: o.Metrics.query(name, "", "scrape"),
			logger:  o.Logger.With("source", name),
		},
		loop:  newLoop(newSchedule(config.Clock{Interval: o.Source.Interval, RunOnStart: true}, name), o.Source.Timeout, o.Clock),
		clock: o.Clock,
		up:    o.Metrics.sourceUp(name),
		gone:  func() { o.Metrics.forgetSourceUp(name) },

		lastStamp: o.Log.Floor(),
	}
	s.values.entry.book = o.Metrics.books.open(o.Log, bookName{source: name, query: bookScrape}, &s.values)
	s.exposition = newExposition(name, t, s.rules, &s.values)
	all := usualCompanions
	if s.rules.ExtraMetrics {
		all = slices.Concat(usualCompanions, extraCompanions)
	}
	for _, c := range all {
		s.companions = append(s.companions, o.Log.Series(t.report(c.name), c.meta))
		s.measures = append(s.measures, c.value)
	}
	return s
}

// Run steps at each tick until ctx ends, which also ends a running scrape.
// Ticks that pass while a step runs are skipped and counted. Nothing is
// scraped between ticks, so that up keeps its pace when the target is down.
func (s *Scrape) Run(ctx context.Context) {
	s.loop.run(ctx, task{
		step: func(ctx context.Context, tick time.Time) error {
			err := s.Step(ctx, tick)
			if ctx.Err() == nil {
				s.ended(err, s.exposition.scraped, len(s.values.last))
			}
			return nil
		},
		overrun: func(ticks int) { s.metrics.overrun.Add(float64(ticks)) },
		late:    func(ticks int) { s.metrics.late.Add(float64(ticks)) },
	})
}

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (s *Scrape) Overdue(now time.Time) time.Duration { return s.loop.overdue(now) }

// Step scrapes once and appends what it found, with up and the scrape_*
// series, as one round, stamped tick. A failed scrape appends stale markers
// for the series of the last good one in place of what it found; a page that
// breaks off is one. The error has been counted. It wraps a
// [*sources.ConnectError] if the server could not be reached, and
// [context.DeadlineExceeded] after the source's timeout.
func (s *Scrape) Step(ctx context.Context, tick time.Time) error {
	if tick.UnixMilli() <= s.lastStamp {
		return s.behindClock()
	}
	s.lastStamp = tick.UnixMilli()
	err := s.collect(ctx, tick)
	if ctx.Err() != nil {
		s.discard(err)
		return ctx.Err()
	}
	return s.commit(tick, err)
}

// collect scrapes for a round that is stamped tick.
func (s *Scrape) collect(ctx context.Context, tick time.Time) error {
	s.metrics.lastRun.Set(seconds(tick))
	s.values.begin(tick)
	s.exposition.begin()
	start := s.clock()
	body, contentType, err := s.client.Scrape(ctx)
	s.size = bodySize(body, err)
	if err == nil {
		err = s.exposition.parse(body, contentType, start)
	}
	s.took = s.clock().Sub(start)
	s.metrics.duration.Observe(s.took.Seconds())
	c := &s.values.entry.counts
	c.rows = uint64(s.exposition.scraped)
	s.exposition.count(c)
	return err
}

// discard drops what was collected when there is nobody left to want it.
func (s *Scrape) discard(err error) {
	s.values.abandon()
	s.exposition.end(false)
	if err == nil {
		s.metrics.discarded.Inc()
	}
}

// commit appends the round that was collected, or, if that failed, one of
// stale markers.
func (s *Scrape) commit(tick time.Time, err error) error {
	if err != nil {
		s.values.abandon()
		s.values.begin(tick)
	}
	s.accompany(err == nil)
	n := len(s.values.now)
	_, appended, appendErr := s.values.finish(s.clock())
	if errors.Is(appendErr, errRetired) {
		s.discard(err)
		return appendErr
	}
	s.exposition.end(err == nil && appendErr == nil)

	s.appended(appended)
	s.refusedIn(&s.exposition.refusals)
	s.refusedIn(&s.late)
	s.metrics.series.Set(float64(n))
	if err != nil {
		err = s.failed(err)
	}
	if appendErr != nil {
		return errors.Join(err, s.failed(&appendError{appendErr}))
	}
	if err == nil {
		s.metrics.lastSuccess.Set(seconds(tick))
	}
	return err
}

// points implements [Shown].
func (s *Scrape) points(dst []shown) []shown { return s.values.points(dst) }

// Close gives back what the worker holds in the log and takes its self metrics
// off the page. It writes no stale markers.
func (s *Scrape) Close() {
	s.values.close()
	s.exposition.lines.close()
	for _, c := range s.companions {
		s.values.log.Release(c)
	}
	s.companions = nil
	s.metrics.remove()
	s.gone()
}
