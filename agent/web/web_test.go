package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type state struct {
	ready     bool
	healthy   error
	endpoints []remotewrite.Status
	reload    func(context.Context) error
	balance   collect.Balance
	pprof     bool
}

// serve serves until the test ends and returns the address.
func serve(t *testing.T, s *state, configFile string) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	server, err := New(Options{
		Page: reg, Registry: reg,
		Ready:      func() bool { return s.ready },
		Healthy:    func() error { return s.healthy },
		Balance:    func() collect.Balance { return s.balance },
		Pprof:      s.pprof,
		Endpoints:  func() []remotewrite.Status { return s.endpoints },
		Reload:     s.reload,
		Logger:     slog.New(slog.DiscardHandler),
		ConfigFile: configFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func request(t *testing.T, method, url string, change func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAnswers(t *testing.T) {
	good := state{ready: true}
	stuck := state{ready: true, healthy: errors.New("a loop has not turned for 6m")}
	for name, c := range map[string]struct {
		state        state
		method, path string
		status       int
		body         string
	}{
		"ready":               {good, "GET", "/-/ready", 200, "is ready"},
		"not ready":           {state{}, "GET", "/-/ready", 503, "not ready"},
		"healthy":             {good, "GET", "/-/healthy", 200, "is healthy"},
		"healthy, not ready":  {state{}, "GET", "/-/healthy", 200, "is healthy"},
		"stuck":               {stuck, "GET", "/-/healthy", 503, "a loop has not turned for 6m"},
		"stuck, and ready":    {stuck, "GET", "/-/ready", 200, "is ready"},
		"metrics":             {good, "GET", "/metrics", 200, "promhttp_metric_handler_requests_in_flight 1"},
		"metrics, not ready":  {state{}, "GET", "/metrics", 200, "promhttp"},
		"status":              {state{endpoints: []remotewrite.Status{{Name: "mimir"}}}, "GET", "/", 200, "<h3>mimir</h3>"},
		"status, not ready":   {state{}, "GET", "/", 200, "None yet"},
		"nothing else":        {good, "GET", "/debug/vars", 404, ""},
		"no profiles":         {good, "GET", "/debug/pprof/", 403, "--web.enable-pprof"},
		"no profile":          {good, "GET", "/debug/pprof/heap", 403, "--web.enable-pprof"},
		"profiles":            {state{pprof: true}, "GET", "/debug/pprof/", 200, "goroutine"},
		"a profile":           {state{pprof: true}, "GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		"a command line":      {state{pprof: true}, "GET", "/debug/pprof/cmdline", 200, "web"},
		"completeness":        {good, "GET", "/debug/completeness", 200, "<h1>Completeness</h1>"},
		"its JSON":            {good, "GET", "/debug/completeness?format=json", 200, `"adds_up": true`},
		"nothing to post to":  {good, "POST", "/metrics", 405, ""},
		"probes may ask HEAD": {good, "HEAD", "/-/ready", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := request(t, c.method, serve(t, &c.state, "")+c.path, nil)
			if status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("answers %d %q, want %d and %q in it", status, body, c.status, c.body)
			}
		})
	}
}

func TestOpenMetrics(t *testing.T) {
	_, body := request(t, "GET", serve(t, &state{ready: true}, "")+"/metrics", func(r *http.Request) {
		r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	})
	if !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("not OpenMetrics: %s", body)
	}
}

func TestBasicAuth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	// bcrypt of "secret", at the lowest cost
	text := "basic_auth_users: {ops: $2y$04$kRsWpG2d7iTj7uBs9kRCtOAM4AhTq8rLO8wHdGYl/SNhBQiD5Kqa6}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, &state{ready: true}, file) + "/metrics"
	if status, _ := request(t, "GET", url, nil); status != http.StatusUnauthorized {
		t.Errorf("without a password: %d", status)
	}
}

func TestBadWebConfig(t *testing.T) {
	_, err := New(Options{ConfigFile: "none.yml"})
	if err == nil || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("New returned %v, want an error that names the file", err)
	}
}
