// Package agent wires the parts and owns every goroutine: [Run] is the order
// in which they start and stop, on one screen.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/agent/web"
	"sql2metrics/config"
	"sql2metrics/wal"
)

const (
	// flushTime bounds how long a stopping agent ships what is left.
	flushTime = 5 * time.Second
	// stuckAfter is how long a loop may not turn before /-/healthy fails.
	stuckAfter = 5 * time.Minute
)

// Options are what an agent runs on.
type Options struct {
	Config        *config.Config
	Listener      net.Listener // closed by Run
	WebConfigFile string       // exporter-toolkit's; may be empty
	Logger        *slog.Logger
}

// Agent is everything that runs.
type Agent struct {
	config   *config.Config
	logger   *slog.Logger
	registry *prometheus.Registry
	page     *collect.Page
	metrics  *collect.Metrics
	clock    *collect.Clock
	limit    *collect.SeriesLimit

	log       *wal.Log
	shippers  []*remotewrite.Shipper
	clients   []client // one a source
	workers   []worker // those of queries, of scrapes, of up and of the agent itself
	listening net.Addr
	ready     atomic.Bool
	running   atomic.Pointer[[]loop]                 // what /-/healthy looks at
	shown     atomic.Pointer[[]*remotewrite.Shipper] // what the status page shows
}

// Run runs an agent until ctx ends, and then stops it: collection first, then
// what is in the log is shipped for a few seconds, then the log is closed, and
// the local page last. An error says why the agent could not start.
func Run(ctx context.Context, o Options) error {
	a := newAgent(o)
	serving, err := a.serve(ctx, o)
	if err != nil {
		return err
	}
	defer serving.stop()
	defer a.closeClients()
	if err := a.openClients(); err != nil {
		return err
	}

	// Endpoints close after the log: one that is closed before it holds no
	// segments back.
	defer a.closeEndpoints()
	if err := a.openLog(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it waited for the folder
		}
		return err
	}
	defer a.closeLog()
	if err := a.openEndpoints(); err != nil {
		return err
	}
	defer a.closeWorkers()
	a.openWorkers()

	syncing := start(ctx, a.log.Run)
	flush := make(chan struct{})
	shipping := a.startShipping(ctx, flush)
	collecting := a.startCollecting(ctx)
	loops := a.loops()
	a.running.Store(&loops)
	a.ready.Store(true)
	a.logger.Info("started", "sources", len(a.config.Sources), "endpoints", len(a.shippers))

	<-ctx.Done()
	a.ready.Store(false)
	a.running.Store(nil)
	collecting.stop()
	syncing.stop()
	a.syncLast()
	close(flush)
	shipping.stopAfter(flushTime)
	a.reportLeft()
	return nil
}

func newAgent(o Options) *Agent {
	a := &Agent{
		config:    o.Config,
		logger:    o.Logger,
		registry:  prometheus.NewRegistry(),
		listening: o.Listener.Addr(),
	}
	a.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("sql2metrics"),
	)
	a.page = collect.NewPage(a.registry, a.registry)
	a.metrics = collect.NewMetrics(a.registry)
	a.clock = collect.NewClock(a.registry, a.logger)
	a.limit = collect.NewSeriesLimit(o.Config.Limits.MaxSeries)
	return a
}

// group is some goroutines that are started and stopped together.
type group struct {
	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// start runs each loop in a goroutine of its own. They outlive ctx: the group
// is what stops them.
func start(ctx context.Context, loops ...func(context.Context)) *group {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &group{cancel: cancel}
	for _, run := range loops {
		g.wg.Go(func() { run(ctx) })
	}
	return g
}

// stop ends the goroutines and waits for them.
func (g *group) stop() { g.cancel(); g.wg.Wait() }

// stopAfter waits for the goroutines to end by themselves, and ends them after
// the grace.
func (g *group) stopAfter(grace time.Duration) {
	hurry := time.AfterFunc(grace, g.cancel)
	defer hurry.Stop()
	g.wg.Wait()
	g.cancel()
}

// serve starts the local page. It answers before the log is open, because
// another process may hold the folder for a while during a rolling restart.
func (a *Agent) serve(ctx context.Context, o Options) (*group, error) {
	server, err := web.New(web.Options{
		Page:       a.page,
		Registry:   a.registry,
		Ready:      a.ready.Load,
		Healthy:    func() error { return a.healthy(time.Now()) },
		Endpoints:  a.endpoints,
		Logger:     a.logger,
		ConfigFile: o.WebConfigFile,
	})
	if err != nil {
		return nil, errors.Join(err, o.Listener.Close())
	}
	return start(ctx, func(ctx context.Context) {
		if err := server.Serve(ctx, o.Listener); err != nil {
			a.logger.Error("local page failed; collecting and shipping go on", "err", err)
		}
	}), nil
}

func (a *Agent) openLog(ctx context.Context) error {
	s := a.config.Storage
	mode := map[config.Fsync]wal.Sync{
		config.FsyncInterval: wal.SyncInterval,
		config.FsyncAlways:   wal.SyncAlways,
		config.FsyncNever:    wal.SyncNever,
	}[s.Fsync]
	log, err := wal.Open(ctx, wal.Options{
		Path:         s.Path,
		MaxBytes:     s.MaxBytes,
		MaxAge:       s.MaxAge,
		MinFree:      s.MinFree,
		Sync:         mode,
		SyncInterval: s.FsyncInterval,
		Logger:       a.logger,
		Registerer:   a.registry,
	}, time.Now())
	if err != nil {
		return fmt.Errorf("open the log in %s: %w", s.Path, err)
	}
	a.log = log
	return nil
}

func (a *Agent) closeLog() {
	if err := a.log.Close(); err != nil {
		a.logger.Error("log not closed cleanly; nothing appended is lost unless the machine loses power", "err", err)
	}
}

// loop is what turns for as long as the agent runs.
type loop struct {
	name    string
	overdue func(now time.Time) time.Duration // for how long it should have turned and has not
}

// loops are all that /-/healthy looks at.
func (a *Agent) loops() []loop {
	all := []loop{{"the loop that syncs the log", a.log.Overdue}}
	for _, w := range a.workers {
		all = append(all, loop{"a collection loop", w.Overdue})
	}
	for _, s := range a.shippers {
		all = append(all, loop{"the loop of endpoint " + s.Name(), s.Overdue})
	}
	return all
}

// healthy returns an error when a loop has not turned for stuckAfter. A
// database, a receiver or a disk that is down is no reason: restarting the
// agent would not bring it back.
func (a *Agent) healthy(now time.Time) error {
	running := a.running.Load()
	if running == nil {
		return nil
	}
	for _, l := range *running {
		if late := l.overdue(now); late > stuckAfter {
			return fmt.Errorf("%s has not turned for %s", l.name, late.Round(time.Second))
		}
	}
	return nil
}
