package agent

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"sql2metrics/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newShop makes a folder with an SQLite database and a configuration that
// collects it fast, and returns the configuration.
func newShop(t *testing.T, receiver string) *config.Config {
	t.Helper()
	folder := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(folder, "shop.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE orders (status TEXT, n INTEGER); INSERT INTO orders VALUES ('open', 3)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "sql2metrics.yml")
	text := `
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
remote_write: [{url: ` + receiver + `, name: test, queue_config: {batch_send_deadline: 100ms}}]
sources: [{name: shop, type: sqlite, path: shop.db, collectors: [shop]}]
self: {interval: 100ms, instance: "agent:9399"}
collectors:
  - collector_name: shop
    metrics: [{metric_name: orders, type: gauge, help: Orders., key_labels: [status], values: [n], query: "SELECT status, n FROM orders"}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, config.Options{StoragePath: filepath.Join(folder, "log")})
	if err != nil {
		t.Fatal(err)
	}
	patient(c)
	return c
}

// patient has the sources that answer asked for longer than a configuration may
// where it has them asked so often: on a busy machine no query is sure to take
// less than a second.
func patient(c *config.Config) {
	for i := range c.Sources {
		s := &c.Sources[i]
		if s.Type == config.TypePostgres { // dead or mute in these tests
			continue
		}
		s.Timeout = 30 * time.Second
		for j := range s.Queries {
			s.Queries[j].Timeout = s.Timeout
		}
	}
}

// startAgent runs an agent until the test ends or stop is called, and returns
// the address of its page.
func startAgent(t *testing.T, c *config.Config) (page string, stop func()) {
	t.Helper()
	return startAgentWith(t, Options{Config: c})
}

// startAgentWith is startAgent with options; it fills in listener and logger.
func startAgentWith(t *testing.T, o Options) (page string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener, o.Logger = l, slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, o)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
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

// await gets url until its body matches, and returns the body.
func await(t *testing.T, url, pattern string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if _, body := get(t, url); regexp.MustCompile(pattern).MatchString(body) {
			return body
		}
	}
	t.Fatalf("%s never matches %s", url, pattern)
	return ""
}

// The metric surface is reviewed as a diff of a golden file, linted, and
// documented name by name.
func TestMetricSurface(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1000000")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	page, _ := startAgent(t, newShop(t, receiver.URL))
	await(t, page+"/-/ready", "is ready")
	await(t, page+"/metrics", `(?m)^orders\{status="open"\} 3$`)
	body := await(t, page+"/metrics", `sql2metrics_remote_write_requests_total\{.*\} [1-9]`)
	await(t, page+"/-/healthy", "is healthy")

	var surface strings.Builder
	for _, line := range strings.SplitAfter(body, "\n") {
		if strings.HasPrefix(line, "# ") && !regexp.MustCompile(`^# \w+ (go|process|promhttp)_`).MatchString(line) {
			surface.WriteString(line)
		}
	}
	golden := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(surface.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), surface.String()); diff != "" {
		t.Errorf("the metric surface changed; go test ./agent -update, and review the diff:\n%s", diff)
	}

	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	docs, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`sql2metrics_[a-z_]+`)
	documented := map[string]bool{}
	for _, n := range name.FindAllString(string(docs), -1) {
		documented[n] = true
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (sql2metrics_[a-z_]+)`).FindAllStringSubmatch(body, -1) {
		shown[m[1]] = true
		if !documented[m[1]] {
			t.Errorf("%s is not in docs/metrics.md", m[1])
		}
	}
	for n := range documented {
		if !shown[n] {
			t.Errorf("docs/metrics.md has %s, /metrics does not", n)
		}
	}
}

// During a rolling restart the new agent answers its probes while the old one
// has the folder, and becomes ready when that one ends.
func TestReadyWhenTheFolderIsFree(t *testing.T) {
	c := newShop(t, "http://127.0.0.1:1")
	first, stopFirst := startAgent(t, c)
	await(t, first+"/-/ready", "is ready")
	second, _ := startAgent(t, c)
	await(t, second+"/-/healthy", "is healthy")
	if status, body := get(t, second+"/-/ready"); status != http.StatusServiceUnavailable {
		t.Errorf("the second agent on a folder is ready: %d %s", status, body)
	}
	stopFirst()
	await(t, second+"/-/ready", "is ready")
}

// A source that can never work is an error before anything is made on disk.
func TestHopelessSource(t *testing.T) {
	c := newShop(t, "http://127.0.0.1:1")
	c.Sources[0].Type = config.TypePostgres
	c.Sources[0].DSN = config.NewSecret("postgres://u:secret@h/db?sslmode=wat")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Options{Config: c, Listener: l, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "open source shop: ") || strings.Contains(err.Error(), "secret") {
		t.Errorf("Run returned %v", err)
	}
	if _, err := os.Stat(c.Storage.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the log was made: %v", err)
	}
}

func TestHealthy(t *testing.T) {
	a := &Agent{}
	if err := a.healthy(time.Now()); err != nil {
		t.Errorf("an agent that runs nothing is not healthy: %v", err)
	}
	for late, healthy := range map[time.Duration]bool{0: true, stuckAfter: true, stuckAfter + time.Second: false} {
		a.running.Store(&[]loop{stuck(0), stuck(late)})
		if err := a.healthy(time.Now()); (err == nil) != healthy {
			t.Errorf("a loop that is late by %s: %v", late, err)
		}
	}
}

// An endpoint whose loop stands still is as unhealthy as a query's.
func TestHealthyLooksAtEndpoints(t *testing.T) {
	c := newShop(t, "http://127.0.0.1:1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := newAgent(Options{Config: c, Listener: l, Logger: slog.New(slog.DiscardHandler)})
	defer a.closeEndpoints()
	if err := a.openLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.closeLog()
	if err := a.openShipping(); err != nil {
		t.Fatal(err)
	}
	a.watchLoops()
	if _, err := a.endpoints[0].shipper.Step(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := a.healthy(time.Now()); err != nil {
		t.Errorf("an endpoint that has just turned: %v", err)
	}
	if err := a.healthy(time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "endpoint test") {
		t.Errorf("an endpoint that has stood for an hour: %v", err)
	}
}

// The log's own loop is looked at as well: one that hangs in a disk ships
// nothing.
func TestHealthyLooksAtTheLog(t *testing.T) {
	c := newShop(t, "http://127.0.0.1:1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := newAgent(Options{Config: c, Listener: l, Logger: slog.New(slog.DiscardHandler)})
	if err := a.openLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.closeLog()
	syncing := start(t.Context(), a.log.Run)
	defer syncing.stop()
	a.watchLoops()
	for deadline := time.Now().Add(20 * time.Second); ; {
		// As if an hour had gone by since it last turned.
		if err := a.healthy(time.Now().Add(time.Hour)); err != nil {
			if !strings.Contains(err.Error(), "syncs the log") {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a log that has stood for an hour is healthy")
		}
	}
}

// stuck is a loop that is overdue for so long.
func stuck(late time.Duration) loop {
	return loop{"a stuck loop", func(time.Time) time.Duration { return late }}
}

// The page speaks OpenMetrics, and nothing but what is documented is served.
func TestOpenMetricsAndUnknownPaths(t *testing.T) {
	page, _ := startAgent(t, newShop(t, "http://127.0.0.1:1"))
	await(t, page+"/-/ready", "is ready")
	req, err := http.NewRequest(http.MethodGet, page+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(b), "# EOF\n") {
		t.Errorf("not OpenMetrics: %s", b)
	}
	if status, _ := get(t, page+"/nothing"); status != http.StatusNotFound {
		t.Errorf("an unknown path answers %d", status)
	}
	if status, body := get(t, page+"/"); status != http.StatusOK || !strings.Contains(body, "<h3>test</h3>") {
		t.Errorf("the status page answers %d: %s", status, body)
	}
	http.DefaultClient.CloseIdleConnections()
}
