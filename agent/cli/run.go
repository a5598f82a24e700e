package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"sql2metrics/agent"
)

func addRun(app *kingpin.Application) (string, command) {
	cmd := app.Command("run", "Run the agent (the default).").Default()
	address := cmd.Flag("web.listen-address", "Where /metrics is served.").Default(":9399").String()
	webConfig := cmd.Flag("web.config.file", "TLS and basic auth for /metrics, as Prometheus exporters have it.").String()
	lifecycle := cmd.Flag("web.enable-lifecycle", "Have POST /-/reload reload the configuration. SIGHUP does it at all times.").Bool()
	pprof := cmd.Flag("web.enable-pprof", "Serve profiles of the process on /debug/pprof.").Bool()
	watch := cmd.Flag("config.auto-reload", "Reload when the configuration or one of its collector files changes; --no-config.auto-reload switches it off.").Default("true").Bool()
	return cmd.FullCommand(), func(g *global) error {
		c, err := g.loadAloud()
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", *address)
		if err != nil {
			return fmt.Errorf("listen on --web.listen-address: %w", err)
		}
		limitMemory()
		if *pprof {
			runtime.MemProfileRate = profileRate
		}
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		ctx, stop := interruptible(g)
		defer stop()
		return agent.Run(ctx, agent.Options{
			Config:        c,
			Listener:      l,
			WebConfigFile: *webConfig,
			Logger:        g.logger,
			Load:          g.loadAloud,
			Reload:        hangup,
			Lifecycle:     *lifecycle,
			Pprof:         *pprof,
			Watch:         *watch,
		})
	}
}

// interruptible returns a context that the first SIGINT or SIGTERM ends. The
// second one ends the process at once: whoever sends it is in a hurry, and
// what has not been shipped is on disk.
func interruptible(g *global) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done, returned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(returned)
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					g.logger.Warn("stopping at once", "signal", s.String())
					os.Exit(exitError)
				}
				g.logger.Info("stopping; a second signal stops at once", "signal", s.String())
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-returned
		cancel()
	}
}
