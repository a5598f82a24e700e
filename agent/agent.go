// Package agent wires the parts and owns every goroutine: [Run] is the order
// in which they start and stop, on one screen.
package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
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

// Options are what an agent runs on. Config, Listener and Logger are needed.
type Options struct {
	Config        *config.Config
	Listener      net.Listener // closed by Run
	WebConfigFile string       // exporter-toolkit's; may be empty
	Logger        *slog.Logger

	// Load reads the configuration again, for a reload; an error says what is
	// wrong with it. Without it there are no reloads.
	Load func() (*config.Config, error)
	// Reload asks for a reload each time something is received.
	Reload <-chan os.Signal
	// Lifecycle has POST /-/reload ask for one.
	Lifecycle bool
	// Pprof has /debug/pprof answer.
	Pprof bool
	// Watch has a change of the files of the configuration ask for one.
	Watch bool
}

// Agent is everything that runs. Its fields are for the goroutine of Run,
// unless they are made for several.
type Agent struct {
	config   *config.Config
	load     func() (*config.Config, error)
	logger   *slog.Logger
	registry *prometheus.Registry
	page     *collect.Page
	metrics  *collect.Metrics
	clock    *collect.Clock
	reloads  *reloadMetrics
	limit    *collect.SeriesLimit

	log        *wal.Log
	deadLetter *remotewrite.DeadLetter
	endpoints  []*endpoint
	unopened   func() // lets the log go on, once all endpoints are open; nil: they are
	sources    []*source
	self       *task          // nil: none
	departing  sync.WaitGroup // what a reload replaced and has not ended yet
	requests   chan request
	watcher    *watcher          // nil: files are not watched
	tried      [sha256.Size]byte // content of the files at the last reload, or at the start
	listening  net.Addr
	ready      atomic.Bool
	running    atomic.Pointer[[]loop]                 // what /-/healthy looks at
	shown      atomic.Pointer[[]*remotewrite.Shipper] // what the status page shows
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
	if err := a.openSources(); err != nil {
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
	if err := a.openShipping(); err != nil {
		return err
	}

	defer a.closeTasks()

	syncing := start(ctx, a.log.Run)
	a.ship(ctx)
	a.collect(ctx)
	a.watchLoops()
	a.ready.Store(true)
	a.logger.Info("started", "sources", len(a.sources), "endpoints", len(a.endpoints))

	a.takeReloads(ctx, o)
	a.ready.Store(false)
	a.running.Store(nil)
	a.stopCollecting()
	syncing.stop()
	a.syncLast()
	a.flushEndpoints(ctx, flushTime)
	return nil
}

func newAgent(o Options) *Agent {
	a := &Agent{
		config:    o.Config,
		load:      o.Load,
		tried:     o.Config.Files.Loaded,
		logger:    o.Logger,
		registry:  prometheus.NewRegistry(),
		limit:     collect.NewSeriesLimit(o.Config.Limits.MaxSeries),
		requests:  make(chan request),
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
	a.reloads = newReloadMetrics(a.registry)
	a.reloads.succeeded(time.Now())
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

// serve starts the local page. It answers before the log is open, because
// another process may hold the folder for a while during a rolling restart.
func (a *Agent) serve(ctx context.Context, o Options) (*group, error) {
	server, err := web.New(web.Options{
		Page:       a.page,
		Registry:   a.registry,
		Ready:      a.ready.Load,
		Healthy:    func() error { return a.healthy(time.Now()) },
		Endpoints:  a.statuses,
		Balance:    a.metrics.Balance,
		Pprof:      o.Pprof,
		Reload:     a.reloader(ctx, o),
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

// watchLoops has /-/healthy look at all loops that there are now.
func (a *Agent) watchLoops() {
	all := []loop{{"the loop that syncs the log", a.log.Overdue}}
	for _, t := range a.tasks() {
		all = append(all, loop{"a collection loop", t.Overdue})
	}
	for _, e := range a.endpoints {
		if e.shipper != nil {
			all = append(all, loop{"the loop of endpoint " + e.config.Name, e.shipper.Overdue})
		}
	}
	a.running.Store(&all)
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
