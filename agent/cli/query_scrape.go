package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/agent/collect"
	"sql2metrics/config"
	"sql2metrics/sources"
)

// scrape shows what one scrape of an exposition would have appended.
func (q *queryCommand) scrape(g *global, s config.Source) error {
	if q.execute || q.collector != "" {
		return fmt.Errorf("source %s is scraped, and runs no statements: leave out --execute and --collector", s.Name)
	}
	ctx, stop := interruptible(g)
	defer stop()
	r := result{Source: s.Name, Samples: []sample{}}
	err := r.scrape(ctx, g, s)
	if err != nil {
		r.Error = err.Error()
	}
	return errors.Join(err, r.print(g.stdout, q.format))
}

// scrape steps a real worker once, as preview does.
func (r *result) scrape(ctx context.Context, g *global, s config.Source) error {
	exposition, err := sources.OpenExposition(s)
	if err != nil {
		return fmt.Errorf("open source %s: %w", s.Name, err)
	}
	defer exposition.Close()
	log, remove, err := scratchLog(ctx, g)
	if err != nil {
		return err
	}
	defer remove()
	w := collect.NewScrape(collect.ScrapeOptions{
		Source:     s,
		Exposition: exposition,
		Log:        log,
		Metrics:    collect.NewMetrics(prometheus.NewRegistry()),
		Logger:     g.logger,
		Clock:      time.Now,
	})
	defer w.Close()
	return r.step(ctx, w.Step, log)
}
