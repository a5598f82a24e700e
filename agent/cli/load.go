package cli

import (
	"errors"
	"fmt"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// load reads the configuration with what the command line overrides, and has
// the sources look at what only they understand. Nothing is asked of a server
// and nothing is made on disk.
func (g *global) load() (*config.Config, error) {
	c, err := config.Load(g.configFile, config.Options{StoragePath: g.storagePath})
	if err != nil {
		return nil, err
	}
	var bad []error
	for _, s := range c.Sources {
		if err := g.tryOpen(s); err != nil {
			bad = append(bad, fmt.Errorf("%s: source %s: %w", g.configFile, s.Name, err))
		}
		for _, q := range s.Queries {
			if err := sources.CheckStatement(s, q); err != nil {
				bad = append(bad, fmt.Errorf("%s: source %s: collector %s: query %s: %w", g.configFile, s.Name, q.Collector, q.Name, err))
			}
		}
	}
	return c, errors.Join(bad...)
}

// loadAloud is load with the configuration's warnings in the log.
func (g *global) loadAloud() (*config.Config, error) {
	c, err := g.load()
	if err == nil {
		for _, w := range c.Warnings {
			g.logger.Warn("the configuration is hardly what is meant", "warning", w.Error())
		}
	}
	return c, err
}

// tryOpen finds out what only a driver can say about a source's settings.
func (g *global) tryOpen(s config.Source) error {
	if s.Type == config.TypePrometheus {
		e, err := sources.OpenExposition(s)
		if err != nil {
			return err
		}
		return e.Close()
	}
	db, err := sources.Open(s, sources.Options{Logger: g.logger})
	if err != nil {
		return err
	}
	return db.Close()
}
