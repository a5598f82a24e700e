package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/agent/collect"
	"sql2metrics/config"
	"sql2metrics/sources"
)

// client is what asks one source: a database or an exposition.
type client struct {
	name       string
	database   sources.Source
	exposition *sources.Exposition
	health     *collect.Health
	users      sync.WaitGroup // workers that run
}

// openSources opens the clients of the first configuration.
func (a *Agent) openSources() (err error) {
	a.sources, _, err = a.openClients(a.config)
	return err
}

// collect makes and starts the workers of the first configuration.
func (a *Agent) collect(ctx context.Context) {
	for _, s := range a.sources {
		a.openTasks(s, nil)
	}
	a.self = a.openSelf(a.config.Self)
	collect.KeepStates(a.log, runners(a.tasks()))
	a.show()
	for _, t := range a.tasks() {
		t.start(ctx)
	}
}

// openClient asks nobody: a server that is down is found out by the workers.
func (a *Agent) openClient(s config.Source) (*client, error) {
	c := &client{name: s.Name, health: collect.NewHealth(s.Name, a.logger)}
	var err error
	if s.Type == config.TypePrometheus {
		c.exposition, err = sources.OpenExposition(s)
	} else {
		o := sources.Options{Logger: a.logger}
		a.metrics.Connections(s.Name, &o)
		c.database, err = sources.Open(s, o)
	}
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", s.Name, err)
	}
	return c, nil
}

// close comes after the workers have ended.
func (c *client) close() error {
	if c.exposition != nil {
		return c.exposition.Close()
	}
	return c.database.Close()
}

// source is one of the configuration, with what works for it.
type source struct {
	config  config.Source
	client  *client
	queries []*task // in the order of config.Queries; the scrape of an exposition
	up      *task   // nil for an exposition, whose scrape sees to it
}

// tasks are all of a source, in the order of the page.
func (s *source) tasks() []*task {
	if s.up == nil {
		return s.queries
	}
	return append(s.queries[:len(s.queries):len(s.queries)], s.up)
}

// task is a worker with its goroutine.
type task struct {
	collect.Runner
	client *client // nil for the agent's own
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	// retired says that a reload has ended it, though Run may still hang.
	retired bool
}

// start runs the worker until cancel is called. It outlives ctx.
func (t *task) start(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.done = make(chan struct{})
	if t.client != nil {
		t.client.users.Add(1)
	}
	go func() {
		defer close(t.done)
		if t.client != nil {
			defer t.client.users.Done()
		}
		t.Run(ctx)
	}()
}

// openTasks makes the workers of s. It takes those of before, the source of
// that name that runs, which have nothing to do differently; before may be nil.
func (a *Agent) openTasks(s, before *source) {
	kept := before != nil && before.client == s.client && sameTarget(before.config, s.config)
	if s.client.exposition != nil {
		if kept && reflect.DeepEqual(before.config, s.config) {
			s.queries = before.queries
			return
		}
		s.queries = []*task{{client: s.client, Runner: collect.NewScrape(collect.ScrapeOptions{
			Source: s.config, Exposition: s.client.exposition,
			Log: a.log, Metrics: a.metrics, Limit: a.limit, Logger: a.logger, Clock: a.clock.Now,
		})}}
		return
	}
	for _, q := range s.config.Queries {
		if kept {
			if t := before.query(q); t != nil {
				s.queries = append(s.queries, t)
				continue
			}
		}
		s.queries = append(s.queries, &task{client: s.client, Runner: collect.NewWorker(collect.WorkerOptions{
			Source: s.config, Query: q, Client: s.client.database, Health: s.client.health,
			Log: a.log, Metrics: a.metrics, Limit: a.limit, Logger: a.logger, Clock: a.clock.Now,
		})})
	}
	if kept && before.config.Interval == s.config.Interval {
		s.up = before.up
		return
	}
	s.up = &task{client: s.client, Runner: collect.NewUp(collect.UpOptions{
		Source: s.config, Client: s.client.database, Health: s.client.health,
		Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: a.clock.Now,
	})}
}

// query returns the worker of a query that is exactly so; nil if there is none.
func (s *source) query(q config.Query) *task {
	for i := range s.config.Queries {
		if reflect.DeepEqual(s.config.Queries[i], q) {
			return s.queries[i]
		}
	}
	return nil
}

// sameClient tells whether one client does for both: they differ at most in
// what is asked and in how it is called. An exposition is for one worker, and
// the one that enters asks while the one that leaves still runs.
func sameClient(a, b config.Source) bool {
	if a.Type == config.TypePrometheus {
		return reflect.DeepEqual(a, b)
	}
	a.Queries, a.Job, a.Instance, a.Labels, a.Interval = b.Queries, b.Job, b.Instance, b.Labels, b.Interval
	return reflect.DeepEqual(a, b)
}

// sameTarget tells whether the series of both have the same labels beside
// their own.
func sameTarget(a, b config.Source) bool {
	return a.Job == b.Job && a.Instance == b.Instance && labels.Equal(a.Labels, b.Labels)
}

// openSelf makes the worker of the agent's own metrics; nil if there is to be
// none.
func (a *Agent) openSelf(self config.Self) *task {
	if !self.Enabled {
		return nil
	}
	if self.Instance == "" {
		self.Instance = a.instance()
	}
	return &task{Runner: collect.NewSelf(collect.SelfOptions{
		Self: self, Gatherer: a.registry, Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: a.clock.Now,
	})}
}

// tasks are all that run.
func (a *Agent) tasks() []*task { return tasksOf(a.sources, a.self) }

func tasksOf(sources []*source, self *task) (all []*task) {
	for _, s := range sources {
		all = append(all, s.tasks()...)
	}
	if self != nil {
		all = append(all, self)
	}
	return all
}

// show has the page show what runs, at once and whole.
func (a *Agent) show() {
	var shown []collect.Shown
	for _, t := range a.tasks() {
		if s, ok := t.Runner.(collect.Shown); ok {
			shown = append(shown, s)
		}
	}
	a.page.Show(shown...)
}

// stopCollecting ends all workers and waits for them.
func (a *Agent) stopCollecting() {
	for _, t := range a.tasks() {
		t.cancel()
	}
	for _, t := range a.tasks() {
		<-t.done
	}
}

// closeTasks gives back what workers hold, when they have ended, and waits for
// those that a reload replaced and their clients.
func (a *Agent) closeTasks() {
	a.page.Show()
	for _, t := range a.tasks() {
		t.Close()
	}
	a.departing.Wait()
}

func (a *Agent) closeClients() {
	for _, s := range a.sources {
		a.closeClient(s.client)
	}
}

func (a *Agent) closeClient(c *client) {
	if err := c.close(); err != nil {
		a.logger.Warn("source not closed cleanly", "source", c.name, "err", err)
	}
}

// dismiss gives back what replaced workers and clients hold, as soon as they
// have ended. It does not wait for one that hangs.
func (a *Agent) dismiss(tasks []*task, clients []*client) {
	for _, t := range tasks {
		a.departing.Go(func() {
			<-t.done
			t.Close()
		})
	}
	for _, c := range clients {
		a.departing.Go(func() {
			c.users.Wait()
			a.closeClient(c)
		})
	}
}

// openClients opens a client for each source of the configuration. Where a
// running source has one that does as well, it is taken.
func (a *Agent) openClients(c *config.Config) (all []*source, opened []*client, err error) {
	var errs []error
	for _, cfg := range c.Sources {
		s := &source{config: cfg}
		if before := a.source(cfg.Name); before != nil && sameClient(before.config, cfg) {
			s.client = before.client
		} else if s.client, err = a.openClient(cfg); err != nil {
			errs = append(errs, err)
			continue
		} else {
			opened = append(opened, s.client)
		}
		all = append(all, s)
	}
	if err := errors.Join(errs...); err != nil {
		for _, c := range opened {
			a.closeClient(c)
		}
		return nil, nil, err
	}
	return all, opened, nil
}

// source returns the running source of that name; nil if there is none.
func (a *Agent) source(name string) *source {
	for _, s := range a.sources {
		if s.config.Name == name {
			return s
		}
	}
	return nil
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
