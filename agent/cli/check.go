package cli

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"
)

func addCheck(app *kingpin.Application) (string, command) {
	cmd := app.Command("check", "Read the configuration and print every mistake in it, as file:line: field: problem; what to do. Warnings are of what works and is hardly meant.")
	return cmd.FullCommand(), check
}

func check(g *global) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(g.stdout, "warning: %s\n", w)
	}
	queries, metrics := 0, 0
	for _, s := range c.Sources {
		queries += len(s.Queries)
		for _, q := range s.Queries {
			metrics += len(q.Metrics)
		}
	}
	_, err = fmt.Fprintf(g.stdout, "%s: good: sources %d, queries %d, metrics %d, endpoints %d\n",
		g.configFile, len(c.Sources), queries, metrics, len(c.RemoteWrite))
	return err
}
