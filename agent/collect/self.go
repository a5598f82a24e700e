package collect

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// SelfOptions are what a Self is made of. All fields are needed.
type SelfOptions struct {
	Self     config.Self
	Gatherer prometheus.Gatherer // the agent's own registry
	Log      *wal.Log
	Metrics  *Metrics // among those of the gatherer
	Logger   *slog.Logger
	Clock    func() time.Time
}

// Self is the worker that writes the agent's own registry to the log, as a
// scrape of /metrics would have, so that the agent's alerts work where its
// data is. Classic histograms and summaries become their usual series.
type Self struct {
	gatherer prometheus.Gatherer
	target   target
	values   values
	families map[string]*family
	series   map[string]*series
	loop     loop
	logger   *slog.Logger
	clock    func() time.Time
	last     time.Time // the tick before
	failing  bool
}

// NewSelf returns a worker that has not run yet. Close it when it has stopped.
func NewSelf(o SelfOptions) *Self {
	s := &Self{
		gatherer: o.Gatherer,
		target:   newTarget(o.Self.Job, o.Self.Instance, labels.EmptyLabels()),
		values:   values{log: o.Log},
		families: map[string]*family{},
		series:   map[string]*series{},
		loop:     newLoop(newSchedule(config.Clock{Interval: o.Self.Interval, RunOnStart: true}, o.Self.Job+"/"+o.Self.Instance), 0, o.Clock),
		logger:   o.Logger,
		clock:    o.Clock,
		last:     time.UnixMilli(o.Log.Floor()),
	}
	s.values.entry.book = o.Metrics.books.open(o.Log, bookName{query: bookSelf}, &s.values)
	return s
}

// Run steps at each tick until ctx ends.
func (s *Self) Run(ctx context.Context) { s.loop.run(ctx, task{step: s.Step}) }

// Overdue returns for how long the loop should have turned and has not; any
// goroutine may ask.
func (s *Self) Overdue(now time.Time) time.Duration { return s.loop.overdue(now) }

// Step appends the registry's samples and up as one round, stamped tick. It
// skips a tick that is not after the last one. An error of the registry or the
// log has been logged.
func (s *Self) Step(_ context.Context, tick time.Time) error {
	if !tick.After(s.last) {
		return errClockBack
	}
	s.last = tick
	s.values.begin(tick)
	gathered, err := s.gatherer.Gather()
	for _, mf := range gathered {
		s.family(mf)
	}
	s.add("up", wal.Metadata{Type: model.MetricTypeGauge}, nil, 1)
	_, _, appendErr := s.values.finish(s.clock())
	if err == nil {
		err = appendErr
	}
	if (err != nil) != s.failing {
		s.failing = err != nil
		if s.failing {
			s.logger.Warn("self metrics not collected whole", "err", err)
		} else {
			s.logger.Info("self metrics collected whole again")
		}
	}
	return err
}

// Close gives back what the worker holds in the log. It writes no stale
// markers.
func (s *Self) Close() { s.values.close() }

// family adds all samples of a metric family to the round.
func (s *Self) family(mf *dto.MetricFamily) {
	name := mf.GetName()
	meta := wal.Metadata{
		Type: model.MetricType(strings.ToLower(mf.GetType().String())),
		Help: mf.GetHelp(),
		Unit: mf.GetUnit(),
	}
	for _, m := range mf.GetMetric() {
		own := m.GetLabel()
		switch mf.GetType() {
		case dto.MetricType_COUNTER:
			s.add(name, meta, own, m.GetCounter().GetValue())
		case dto.MetricType_GAUGE:
			s.add(name, meta, own, m.GetGauge().GetValue())
		case dto.MetricType_SUMMARY:
			for _, q := range m.GetSummary().GetQuantile() {
				s.add(name, meta, with(own, "quantile", q.GetQuantile()), q.GetValue())
			}
			s.add(name+"_sum", meta, own, m.GetSummary().GetSampleSum())
			s.add(name+"_count", meta, own, float64(m.GetSummary().GetSampleCount()))
		case dto.MetricType_HISTOGRAM:
			count := float64(m.GetHistogram().GetSampleCount())
			for _, b := range m.GetHistogram().GetBucket() {
				s.add(name+"_bucket", meta, with(own, model.BucketLabel, b.GetUpperBound()), float64(b.GetCumulativeCount()))
			}
			s.add(name+"_bucket", meta, with(own, model.BucketLabel, math.Inf(1)), count)
			s.add(name+"_sum", meta, own, m.GetHistogram().GetSampleSum())
			s.add(name+"_count", meta, own, count)
		default:
			s.add(name, meta, own, m.GetUntyped().GetValue())
		}
	}
}

// with returns own and one more label, whose value is spelled as Prometheus
// stores bucket bounds and quantiles.
func with(own []*dto.LabelPair, name string, bound float64) []*dto.LabelPair {
	value := labels.FormatOpenMetricsFloat(bound)
	return append(own[:len(own):len(own)], &dto.LabelPair{Name: &name, Value: &value})
}

func (s *Self) add(name string, meta wal.Metadata, own []*dto.LabelPair, x float64) {
	key := name
	for _, l := range own {
		key += fmt.Sprintf("\xff%s\xff%s", l.GetName(), l.GetValue())
	}
	known := s.series[key]
	if known == nil {
		if s.families[name] == nil {
			s.families[name] = &family{name, meta}
		}
		lb := labels.NewBuilder(labels.EmptyLabels())
		for _, l := range own {
			lb.Set(l.GetName(), l.GetValue())
		}
		inLog, onPage := s.target.attach(name, lb)
		known = &series{
			family: s.families[name],
			handle: s.values.log.Series(inLog, meta),
			page:   onPage,
			forget: func(*series) { delete(s.series, key) },
		}
		s.series[key] = known
	}
	s.values.add(known, x)
}
