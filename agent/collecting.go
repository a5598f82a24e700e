package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"sql2metrics/agent/collect"
	"sql2metrics/config"
	"sql2metrics/sources"
)

// worker is what every kind of worker is to the agent.
type worker interface {
	Run(context.Context)
	Overdue(now time.Time) time.Duration
	Close()
}

// client is what asks one source: a database or an exposition.
type client struct {
	source     config.Source
	database   sources.Source
	exposition *sources.Exposition
}

// openClients makes the clients of all sources. It asks none of them: a server
// that is down is found out by the workers.
func (a *Agent) openClients() error {
	for _, s := range a.config.Sources {
		c := client{source: s}
		var err error
		if s.Type == config.TypePrometheus {
			c.exposition, err = sources.OpenExposition(s)
		} else {
			c.database, err = sources.Open(s, sources.Options{Logger: a.logger})
		}
		if err != nil {
			return fmt.Errorf("open source %s: %w", s.Name, err)
		}
		a.clients = append(a.clients, c)
	}
	return nil
}

func (a *Agent) closeClients() {
	for _, c := range a.clients {
		var err error
		if c.exposition != nil {
			err = c.exposition.Close()
		} else {
			err = c.database.Close()
		}
		if err != nil {
			a.logger.Warn("source not closed cleanly", "source", c.source.Name, "err", err)
		}
	}
}

// openWorkers makes the workers of all sources and of the agent itself, and
// puts those with collected metrics on the page.
func (a *Agent) openWorkers() {
	var shown []collect.Shown
	for _, c := range a.clients {
		if c.exposition != nil {
			shown = append(shown, a.openScrape(c))
		} else {
			shown = append(shown, a.openQueries(c)...)
		}
	}
	a.page.Show(shown...)
	if self := a.config.Self; self.Enabled {
		if self.Instance == "" {
			self.Instance = a.instance()
		}
		a.workers = append(a.workers, collect.NewSelf(collect.SelfOptions{
			Self: self, Gatherer: a.registry, Log: a.log, Logger: a.logger, Clock: a.clock.Now,
		}))
	}
}

// openQueries makes a worker for each query of a database and one for up.
func (a *Agent) openQueries(c client) (shown []collect.Shown) {
	health := collect.NewHealth(c.source.Name, a.logger)
	for _, q := range c.source.Queries {
		w := collect.NewWorker(collect.WorkerOptions{
			Source: c.source, Query: q, Client: c.database, Health: health,
			Log: a.log, Metrics: a.metrics, Limit: a.limit, Logger: a.logger, Clock: a.clock.Now,
		})
		shown = append(shown, w)
		a.workers = append(a.workers, w)
	}
	a.workers = append(a.workers, collect.NewUp(collect.UpOptions{
		Source: c.source, Client: c.database, Health: health,
		Log: a.log, Metrics: a.metrics, Logger: a.logger, Clock: a.clock.Now,
	}))
	return shown
}

// openScrape makes the one worker of a source that is scraped.
func (a *Agent) openScrape(c client) collect.Shown {
	w := collect.NewScrape(collect.ScrapeOptions{
		Source: c.source, Exposition: c.exposition,
		Log: a.log, Metrics: a.metrics, Limit: a.limit, Logger: a.logger, Clock: a.clock.Now,
	})
	a.workers = append(a.workers, w)
	return w
}

func (a *Agent) closeWorkers() {
	a.page.Show()
	for _, w := range a.workers {
		w.Close()
	}
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
