// Package web serves the agent's local HTTP: /metrics with the last values
// and the agent's own metrics, the status page, and what an orchestrator asks:
// /-/healthy, /-/ready and /-/reload. It has its own mux: nothing that is
// registered elsewhere in the process is reachable.
package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
)

// shutdownGrace is how long a server that stops lets requests finish.
const shutdownGrace = 2 * time.Second

// Options are what the handler shows. All fields are needed but Reload, Pprof
// and ConfigFile.
type Options struct {
	Page     prometheus.Gatherer   // what /metrics shows
	Registry prometheus.Registerer // where the handler registers its own metrics
	// Ready tells whether the configuration is loaded and the log open.
	Ready func() bool
	// Healthy returns which loop of the agent has not turned for too long.
	Healthy func() error
	// Endpoints returns what the status page shows of them; nil before they
	// are open.
	Endpoints func() []remotewrite.Status
	// Reload takes up the configuration again, and says why that was not
	// possible; nil if it must not be asked for here.
	Reload func(context.Context) error
	// Balance returns what the workers and the log say of each other.
	Balance func() collect.Balance
	Pprof   bool // whether /debug/pprof answers
	Logger  *slog.Logger
	// ConfigFile is an exporter-toolkit web configuration with TLS and basic
	// auth; empty for neither.
	ConfigFile string
}

// Server answers local HTTP requests.
type Server struct {
	http   *http.Server
	config string
	logger *slog.Logger
}

// New returns a server that does not listen yet; call it once per registry.
func New(o Options) (*Server, error) {
	if err := toolkit.Validate(o.ConfigFile); err != nil {
		return nil, fmt.Errorf("read the web configuration %s: %w", o.ConfigFile, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics(o))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, o.Healthy(), "sql2metrics is healthy.")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		if !o.Ready() {
			err = errors.New("sql2metrics is not ready: it is starting or stopping, or another process has the log's folder")
		}
		answer(w, err, "sql2metrics is ready.")
	})
	mux.HandleFunc("GET /debug/completeness", func(w http.ResponseWriter, r *http.Request) {
		sums := newCompleteness(o.Balance(), o.Endpoints(), time.Now())
		if r.URL.Query().Get("format") == "json" {
			show(w, "application/json", sums.writeJSON)
			return
		}
		show(w, "text/html; charset=utf-8", sums.writeHTML)
	})
	handlePprof(mux, o.Pprof)
	mux.HandleFunc("/-/reload", func(w http.ResponseWriter, r *http.Request) { reload(w, r, o) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		show(w, "text/html; charset=utf-8", func(w io.Writer) error { return writeStatus(w, o.Endpoints(), time.Now()) })
	})
	return &Server{
		http: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		},
		config: o.ConfigFile,
		logger: o.Logger,
	}, nil
}

// show answers with a page that is written whole, or with why it was not.
func show(w http.ResponseWriter, contentType string, write func(io.Writer) error) {
	var page bytes.Buffer
	if err := write(&page); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = page.WriteTo(w) // who asked is gone
}

// reload answers as Prometheus does.
func reload(w http.ResponseWriter, r *http.Request, o Options) {
	switch {
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "Only POST or PUT requests allowed.", http.StatusMethodNotAllowed)
	case o.Reload == nil:
		http.Error(w, "Lifecycle API is not enabled.", http.StatusForbidden)
	case !o.Ready():
		http.Error(w, "sql2metrics is not ready: it is starting or stopping, or another process has the log's folder", http.StatusServiceUnavailable)
	default:
		if err := o.Reload(r.Context()); err != nil {
			http.Error(w, "failed to reload config: "+err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "sql2metrics has reloaded its configuration.")
	}
}

func answer(w http.ResponseWriter, err error, good string) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, good)
}

// Serve answers on l until ctx ends, gives requests a moment to finish, and
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	done := make(chan error, 1)
	go func() {
		done <- toolkit.Serve(l, s.http, &toolkit.FlagConfig{WebConfigFile: &s.config}, s.logger)
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := s.http.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-done
	if err != nil {
		return fmt.Errorf("stop serving %s: %w", l.Addr(), err)
	}
	return nil
}
