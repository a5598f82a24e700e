// Package cli is the command line, one file per command.
package cli

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

// The exit codes: done, failed, and a command line that makes no sense.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// command is what a subcommand does once the flags are parsed.
type command func(g *global) error

// global holds what every command may use.
type global struct {
	stdout, stderr io.Writer
	logger         *slog.Logger

	configFile  string
	storagePath string
}

// Main parses args, runs the command they name and returns the exit code.
// Errors go to stderr, one line each.
func Main(args []string, stdout, stderr io.Writer) int {
	g := &global{stdout: stdout, stderr: stderr}
	app := kingpin.New("sql2metrics", "Runs queries on a database, turns rows into Prometheus samples and ships them with remote write.")
	app.UsageWriter(stdout)
	app.ErrorWriter(stderr)
	app.HelpFlag.Short('h')
	asked := false // for help or the version: kingpin has answered
	app.Terminate(func(int) { asked = true })
	app.Version(version.Print("sql2metrics"))

	app.Flag("config.file", "The configuration file.").Default("sql2metrics.yml").StringVar(&g.configFile)
	app.Flag("storage.path", "The log's folder, instead of storage.path in the configuration.").StringVar(&g.storagePath)
	level := app.Flag("log.level", "Only log messages of this level or above: debug, info, warn, error.").Default("info").Enum("debug", "info", "warn", "error")
	format := app.Flag("log.format", "Format of the log on standard error: logfmt or json.").Default("logfmt").Enum("logfmt", "json")

	commands := map[string]command{}
	for _, add := range []func(*kingpin.Application) (string, command){
		addRun, addCheck, addQuery, addDeadLetterList, addDeadLetterResend, addDeadLetterRemove, addWALStats, addWALDump, addWALVerify, addDemo, addVersion,
	} {
		name, run := add(app)
		commands[name] = run
	}

	name, err := app.Parse(args)
	if asked {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "sql2metrics: %s; try --help\n", err)
		return exitUsage
	}
	g.logger = newLogger(stderr, *level, *format)
	defer takeOver(g.logger)()
	if err := commands[name](g); err != nil {
		fmt.Fprintln(stderr, err)
		return exitError
	}
	return exitOK
}

// takeOver has logger write the beginning of what libraries print without being
// asked, such as net/http of a server that talks out of turn. The caller ends it.
func takeOver(logger *slog.Logger) (end func()) {
	w, flags := log.Writer(), log.Flags()
	log.SetOutput(beginnings{logger})
	log.SetFlags(0)
	return func() {
		log.SetOutput(w)
		log.SetFlags(flags)
	}
}

// beginnings writes lines without what they quote: it may be of a server, which
// may repeat a login.
type beginnings struct{ logger *slog.Logger }

// Write implements io.Writer.
func (b beginnings) Write(line []byte) (int, error) {
	said, _, _ := strings.Cut(strings.TrimSpace(string(line)), `"`)
	b.logger.Debug("a library says", "line", strings.TrimSpace(said))
	return len(line), nil
}

// newLogger is not promslog's: there, source is the place in the code, and
// here it is a database.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var o slog.HandlerOptions
	o.Level = map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[level]
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &o))
	}
	return slog.New(slog.NewTextHandler(w, &o))
}
