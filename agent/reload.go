package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
)

const (
	// prepareTime bounds how long a reload waits for the first results of
	// queries that are new.
	prepareTime = 10 * time.Second
	// retireTime bounds how long it waits for workers that it replaces: one may
	// hang in its query.
	retireTime = 2 * time.Second
)

var errStopping = errors.New("the agent is stopping")

// request asks for a reload.
type request struct {
	why    string
	answer chan<- error // buffered
}

// reloader returns what POST /-/reload calls: it waits for the reload, and for
// those before it. Nil where that is switched off.
func (a *Agent) reloader(ctx context.Context, o Options) func(context.Context) error {
	if !o.Lifecycle || o.Load == nil {
		return nil
	}
	return func(asked context.Context) error {
		answer := make(chan error, 1)
		select {
		case a.requests <- request{"POST /-/reload", answer}:
			return <-answer
		case <-asked.Done():
			return asked.Err()
		case <-ctx.Done():
			return errStopping
		}
	}
}

// takeReloads reloads whenever it is asked for, one after the other, until ctx
// ends.
func (a *Agent) takeReloads(ctx context.Context, o Options) {
	if o.Load == nil {
		<-ctx.Done()
		return
	}
	var changed chan struct{}
	if o.Watch {
		a.watcher = newWatcher(a.config.Files, a.logger)
		defer a.watcher.close()
		changed = a.watcher.changed
		defer start(ctx, a.watcher.run).stop()
	}
	again := time.NewTicker(openAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			if a.unopened != nil {
				a.tryEndpoints(ctx)
			}
			continue
		case r := <-a.requests:
			r.answer <- a.reload(ctx, r.why)
			continue
		case <-o.Reload:
			_ = a.reload(ctx, "SIGHUP")
		case <-changed:
			if a.edited(ctx) {
				_ = a.reload(ctx, "a file has changed")
			}
		}
	}
}

// edited tells whether the files are other than at the last reload, however that
// was asked for and went, or at the start.
func (a *Agent) edited(ctx context.Context) bool {
	now, err := content(ctx, a.config.Files)
	return err == nil && now != a.tried
}

// reload takes up the configuration as it is in the files now, whole or not at
// all. Its error has been logged, and says why all runs on as before: the new
// configuration is not valid, or needs a restart. A server that is down, or a
// query that fails, is none.
func (a *Agent) reload(ctx context.Context, why string) error {
	began := time.Now()
	files := a.config.Files
	var next *succession
	var err error
	if files.Loaded, err = content(ctx, files); err == nil {
		next, err = a.prepare(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			a.tries(files)
			a.reloads.failed()
			a.logger.Error("configuration not reloaded; the agent goes on with the one before", "asked_by", why, "err", err)
		}
		return err
	}
	a.swap(ctx, next)
	a.tries(a.config.Files)
	a.reloads.succeeded(time.Now())
	a.logger.Info("configuration reloaded", append([]any{"asked_by", why, "took", time.Since(began).Round(time.Millisecond)}, next.report.attributes()...)...)
	return nil
}

// tries notes what a reload has read, so that it is read again when it is other
// than that.
func (a *Agent) tries(files config.Files) {
	a.tried = files.Loaded
	if a.watcher != nil {
		a.watcher.follow(files)
	}
}

// succession is what a reload changes.
type succession struct {
	config  *config.Config
	sources []*source
	self    *task
	report  report

	staying, leaving, entering []*task
	opened, closing            []*client
}

// prepare makes everything that the swap needs and leaves alone what runs.
func (a *Agent) prepare(ctx context.Context) (*succession, error) {
	c, err := unlessOver(ctx, a.load)
	if err != nil {
		return nil, err
	}
	if err := a.takesRestart(c); err != nil {
		return nil, err
	}
	for _, e := range c.RemoteWrite {
		err = errors.Join(err, remotewrite.Check(e))
	}
	if err != nil {
		return nil, err
	}
	n := &succession{config: c}
	if n.sources, n.opened, err = a.openClients(c); err != nil {
		return nil, err
	}
	a.plan(n)
	retire(n.followed())
	a.limit.Begin(n.workers(), c.Limits.MaxSeries)
	if err := n.collect(ctx); err != nil {
		a.limit.Rollback()
		a.discard(n)
		return nil, err
	}
	return n, nil
}

// takesRestart returns an error if what only a start can change is not as it
// was: the log is opened once.
func (a *Agent) takesRestart(c *config.Config) error {
	was, is := a.config.Storage, c.Storage
	var keys []string
	for key, changed := range map[string]bool{
		"path":                  was.Path != is.Path,
		"max_bytes":             was.MaxBytes != is.MaxBytes,
		"max_age":               was.MaxAge != is.MaxAge,
		"min_free":              was.MinFree != is.MinFree,
		"fsync":                 was.Fsync != is.Fsync,
		"fsync_interval":        was.FsyncInterval != is.FsyncInterval,
		"dead_letter_max_bytes": was.DeadLetterMaxBytes != is.DeadLetterMaxBytes,
	} {
		if changed {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	return fmt.Errorf("storage: %s cannot be changed by a reload: restart the agent, or set it back", strings.Join(keys, ", "))
}

// plan decides which workers stay, leave and enter, and makes those that enter.
func (a *Agent) plan(n *succession) {
	running := map[*task]bool{}
	for _, t := range a.tasks() {
		running[t] = true
	}
	clients := map[*client]bool{}
	for _, s := range n.sources {
		a.openTasks(s, a.source(s.config.Name))
		clients[s.client] = true
	}
	if a.self != nil && a.config.Self == n.config.Self {
		n.self = a.self
	} else {
		n.self = a.openSelf(n.config.Self)
	}
	for _, t := range tasksOf(n.sources, n.self) {
		if running[t] {
			n.staying = append(n.staying, t)
			delete(running, t)
		} else {
			n.entering = append(n.entering, t)
		}
	}
	for _, t := range a.tasks() {
		if running[t] {
			n.leaving = append(n.leaving, t)
		}
	}
	for _, s := range a.sources {
		if !clients[s.client] {
			n.closing = append(n.closing, s.client)
		}
	}
	n.report = a.compare(n)
}

func (n *succession) workers() collect.Succession {
	return collect.Succession{Staying: runners(n.staying), Leaving: runners(n.leaving), Entering: runners(n.entering)}
}

// followed are the workers that end before the others do, because what they
// remember is where those that enter begin. What they showed stays until the
// swap.
func (n *succession) followed() (all []*task) {
	for _, before := range n.leaving {
		if slices.ContainsFunc(n.entering, func(t *task) bool { return collect.Follows(t.Runner, before.Runner) }) {
			all = append(all, before)
		}
	}
	return all
}

// collect has the workers that enter collect their first rounds, all at once.
// It returns an error only if ctx ends.
func (n *succession) collect(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	before := runners(n.leaving)
	var first sync.WaitGroup
	for _, t := range n.entering {
		first.Go(func() { t.Prepare(within, before) })
	}
	first.Wait()
	return ctx.Err()
}

// discard gives up what prepare has made.
func (a *Agent) discard(n *succession) {
	for _, t := range n.entering {
		t.Close()
	}
	for _, c := range n.opened {
		a.closeClient(c)
	}
}

// swap puts what is prepared in the place of what runs.
func (a *Agent) swap(ctx context.Context, n *succession) {
	a.replaceEndpoints(ctx, n.config)
	retire(n.leaving)
	if err := n.workers().Carry(time.Now()); err != nil {
		a.logger.Error("stale markers of what was removed are lost; it ends five minutes after its last samples", "err", err)
	}
	a.limit.Commit()
	a.config, a.sources, a.self = n.config, n.sources, n.self
	a.show()
	for _, t := range n.entering {
		t.start(ctx)
	}
	a.watchLoops()
	a.dismiss(n.leaving, n.closing)
}

// retire ends workers, and waits for those that do not hang in a query. What
// the others still collect is discarded. It does so once with each.
func retire(tasks []*task) {
	tasks = slices.DeleteFunc(slices.Clone(tasks), func(t *task) bool { return t.retired })
	for _, t := range tasks {
		t.cancel()
	}
	over, cancel := context.WithTimeout(context.Background(), retireTime)
	defer cancel()
	for _, t := range tasks {
		select {
		case <-t.done:
		case <-over.Done():
			if !t.Retire() {
				<-t.done
			}
		}
		t.retired = true
	}
}

func runners(tasks []*task) (all []collect.Runner) {
	for _, t := range tasks {
		all = append(all, t.Runner)
	}
	return all
}

// reloadMetrics say how the last reload went. The start counts as one.
type reloadMetrics struct{ successful, at prometheus.Gauge }

func newReloadMetrics(r prometheus.Registerer) *reloadMetrics {
	m := &reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sql2metrics_config_last_reload_successful",
			Help: "Whether the last attempt to reload the configuration succeeded; after a failed one all runs on as before.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sql2metrics_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration was last loaded with success.",
		}),
	}
	r.MustRegister(m.successful, m.at)
	return m
}

func (m *reloadMetrics) succeeded(at time.Time) {
	m.successful.Set(1)
	m.at.Set(float64(at.UnixMilli()) / 1000)
}

func (m *reloadMetrics) failed() { m.successful.Set(0) }
