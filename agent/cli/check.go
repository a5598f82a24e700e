package cli

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"

	"sql2metrics/config"
	"sql2metrics/sources"
)

func addCheck(app *kingpin.Application) (string, command) {
	cmd := app.Command("check", "Read the configuration and print every mistake in it, as file:line: field: problem; what to do.")
	return cmd.FullCommand(), check
}

func check(g *global) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	queries, metrics := 0, 0
	for _, s := range c.Sources {
		if err := tryOpen(g, s); err != nil {
			return fmt.Errorf("%s: source %s: %w", g.configFile, s.Name, err)
		}
		queries += len(s.Queries)
		for _, q := range s.Queries {
			metrics += len(q.Metrics)
		}
	}
	_, err = fmt.Fprintf(g.stdout, "%s: good: sources %d, queries %d, metrics %d, endpoints %d\n",
		g.configFile, len(c.Sources), queries, metrics, len(c.RemoteWrite))
	return err
}

// tryOpen finds out what only a driver can say about a source's settings. It
// asks no server.
func tryOpen(g *global, s config.Source) error {
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
