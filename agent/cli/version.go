package cli

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

func addVersion(app *kingpin.Application) (string, command) {
	cmd := app.Command("version", "Print version, revision and build.")
	return cmd.FullCommand(), func(g *global) error {
		_, err := fmt.Fprintln(g.stdout, version.Print("sql2metrics"))
		return err
	}
}
