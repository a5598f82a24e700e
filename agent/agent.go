// Package agent wires the parts and owns every goroutine: [Run] is the order
// in which they start and stop, on one screen.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/agent/web"
	"sql2metrics/config"
	"sql2metrics/sources"
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
	server   *web.Server

	log       *wal.Log
	shippers  []*remotewrite.Shipper
	clients   []io.Closer // of sources
	workers   []worker    // those of queries, of up and of the agent itself
	listening net.Addr
	ready     atomic.Bool
	running   atomic.Pointer[[]worker] // what /-/healthy looks at
}

// worker is what every kind of worker is to the agent.
type worker interface {
	Run(context.Context)
	Overdue(now time.Time) time.Duration
	Close()
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
	defer a.closeSources()
	if err := a.openSources(); err != nil {
		return err
	}

	syncing := start(ctx, a.log.Run)
	flush := make(chan struct{})
	shipping := a.startShipping(ctx, flush)
	collecting := a.startCollecting(ctx)
	running := a.workers
	a.running.Store(&running)
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
		MaxBytes:     s.MaxBytes - s.DeadLetterMaxBytes,
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

func (a *Agent) openEndpoints() error {
	deadLetter, err := remotewrite.OpenDeadLetter(remotewrite.DeadLetterOptions{
		Path:       remotewrite.DeadLetterFolder(a.config.Storage.Path),
		MaxBytes:   a.config.Storage.DeadLetterMaxBytes,
		Logger:     a.logger,
		Registerer: a.registry,
	})
	if err != nil {
		return err
	}
	if err := remotewrite.Adopt(a.log, a.config.RemoteWrite, a.logger); err != nil {
		return fmt.Errorf("look for cursors to take over: %w", err)
	}
	for _, e := range a.config.RemoteWrite {
		s, err := remotewrite.New(remotewrite.Options{
			Endpoint:       e,
			ExternalLabels: a.config.Global.ExternalLabels,
			Log:            a.log,
			Logger:         a.logger,
			UserAgent:      "sql2metrics/" + version.Version,
			Registerer:     a.registry,
			DeadLetter:     deadLetter,
		})
		if err != nil {
			return fmt.Errorf("open endpoint %s: %w", e.Name, err)
		}
		a.shippers = append(a.shippers, s)
	}
	return nil
}

func (a *Agent) closeEndpoints() {
	for _, s := range a.shippers {
		if err := s.Close(); err != nil {
			a.logger.Error("endpoint not closed cleanly", "err", err)
		}
	}
	a.shippers = nil
}

// startShipping starts the endpoints. Once flush is closed they end by
// themselves: when they have shipped what is left.
func (a *Agent) startShipping(ctx context.Context, flush <-chan struct{}) *group {
	var loops []func(context.Context)
	for _, s := range a.shippers {
		loops = append(loops, func(ctx context.Context) {
			s.Run(ctx, flush)
			_ = s.Flush(ctx) // reportLeft says what it could not ship
		})
	}
	return start(ctx, loops...)
}

// syncLast shows the endpoints what was collected since the last sync.
func (a *Agent) syncLast() {
	if err := a.log.Sync(time.Now()); err != nil {
		a.logger.Error("last sync failed; what was collected since the one before is shipped after the next start", "err", err)
	}
}

// reportLeft says what the next start will ship.
func (a *Agent) reportLeft() {
	for _, s := range a.shippers {
		left := s.Ledger().Pending
		if left.IsZero() {
			a.logger.Info("endpoint stopped, everything is shipped", "endpoint", s.Name())
			continue
		}
		a.logger.Info("endpoint stopped; what is left stays on disk for the next start", "endpoint", s.Name(),
			"samples", left.Samples, "histograms", left.Histograms, "exemplars", left.Exemplars)
	}
}

// openSources makes the workers of every source. A server that is down is
// found out by the queries, not here.
func (a *Agent) openSources() error {
	var shown []collect.Shown
	for _, s := range a.config.Sources {
		open := a.openDatabase
		if s.Type == config.TypePrometheus {
			open = a.openExposition
		}
		workers, err := open(s)
		if err != nil {
			return err
		}
		shown = append(shown, workers...)
	}
	a.page.Show(shown...)
	if self := a.config.Self; self.Enabled {
		if self.Instance == "" {
			self.Instance = a.instance()
		}
		a.workers = append(a.workers, collect.NewSelf(collect.SelfOptions{
			Self: self, Gatherer: a.registry, Log: a.log, Logger: a.logger, Clock: time.Now,
		}))
	}
	return nil
}

// openDatabase makes a worker for each query of the source and one for up, and
// returns those that the page shows.
func (a *Agent) openDatabase(s config.Source) (shown []collect.Shown, err error) {
	client, err := sources.Open(s, sources.Options{Logger: a.logger})
	if err != nil {
		return nil, err
	}
	a.clients = append(a.clients, client)
	health := collect.NewHealth(s.Name, a.logger)
	for _, q := range s.Queries {
		w := collect.NewWorker(collect.WorkerOptions{
			Source: s, Query: q, Client: client, Health: health,
			Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: time.Now,
		})
		shown = append(shown, w)
		a.workers = append(a.workers, w)
	}
	a.workers = append(a.workers, collect.NewUp(collect.UpOptions{
		Source: s, Client: client, Health: health,
		Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: time.Now,
	}))
	return shown, nil
}

// openExposition makes the one worker of a source that is scraped.
func (a *Agent) openExposition(s config.Source) (shown []collect.Shown, err error) {
	client, err := sources.OpenExposition(s)
	if err != nil {
		return nil, err
	}
	a.clients = append(a.clients, client)
	w := collect.NewScrape(collect.ScrapeOptions{
		Source: s, Exposition: client,
		Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: time.Now,
	})
	a.workers = append(a.workers, w)
	return []collect.Shown{w}, nil
}

func (a *Agent) closeSources() {
	a.page.Show()
	for _, w := range a.workers {
		w.Close()
	}
	for _, c := range a.clients {
		if err := c.Close(); err != nil {
			a.logger.Warn("source not closed cleanly", "err", err)
		}
	}
	a.workers, a.clients = nil, nil
}

func (a *Agent) startCollecting(ctx context.Context) *group {
	var loops []func(context.Context)
	for _, w := range a.workers {
		loops = append(loops, w.Run)
	}
	return start(ctx, loops...)
}

// instance is what a scrape of the local page would call it: host and port.
func (a *Agent) instance() string {
	_, port, err := net.SplitHostPort(a.listening.String())
	if err != nil {
		port = "9399"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// healthy returns an error when a loop has not turned for stuckAfter. A
// database, a receiver or a disk that is down is no reason: restarting the
// agent would not bring it back.
func (a *Agent) healthy(now time.Time) error {
	running := a.running.Load()
	if running == nil {
		return nil
	}
	for _, w := range *running {
		if late := w.Overdue(now); late > stuckAfter {
			return fmt.Errorf("a collection loop has not turned for %s", late.Round(time.Second))
		}
	}
	return nil
}
