package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// startWatched starts an agent on the configuration at file.
func startWatched(t *testing.T, file string, flags ...string) *agent {
	t.Helper()
	a := command(t, 0, append([]string{
		"run", "--config.file=" + file, "--storage.path=" + filepath.Join(t.TempDir(), "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json",
	}, flags...)...)
	a.waitReady(t)
	eventually(t, "the first values", func() error { return a.shows(`# HELP orders`) })
	return a
}

// shows returns an error until a line of the page begins so.
func (a *agent) shows(line string) error {
	page, err := a.get("/metrics")
	if err == nil && !strings.Contains("\n"+string(page), "\n"+line) {
		err = fmt.Errorf("the page has no line %q", line)
	}
	return err
}

// described is the configuration with another help.
func described(text, help string) string {
	return strings.Replace(text, "type: gauge, ", "type: gauge, help: "+help+", ", 1)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReloadWhenAsked changes the configuration and asks for a reload, by a
// signal and by HTTP.
func TestReloadWhenAsked(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	text := reloadConfig(newShop(t, 20), r.URL())
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	writeFile(t, file, described(text, "First."))
	a := startWatched(t, file, "--no-config.auto-reload", "--web.enable-lifecycle")

	writeFile(t, file, described(text, "Second."))
	a.signal(t, syscall.SIGHUP)
	eventually(t, "the reload by SIGHUP", func() error { return a.shows("# HELP orders Second.") })

	writeFile(t, file, described(text, "Third."))
	if status, answer := a.post(t, "/-/reload"); status != http.StatusOK {
		t.Errorf("POST /-/reload answers %d: %s", status, answer)
	}
	if err := a.shows("# HELP orders Third."); err != nil {
		t.Error(err)
	}

	writeFile(t, file, "nonsense: 1\n")
	if status, answer := a.post(t, "/-/reload"); status != http.StatusInternalServerError || !strings.Contains(answer, "nonsense: unknown field") {
		t.Errorf("POST /-/reload of a broken file answers %d: %s", status, answer)
	}
	for _, line := range []string{"# HELP orders Third.", "sql2metrics_config_last_reload_successful 0"} {
		if err := a.shows(line); err != nil {
			t.Error(err)
		}
	}
	checkRuns(t, a.metrics(t))
	a.stop(t)
	for series, samples := range r.Samples(t, everything) {
		for _, s := range samples {
			if s.Stale() {
				t.Errorf("%s has a stale marker", series)
			}
		}
	}
}

// checkRuns checks on a page that no run of a query has failed, except for want
// of time: a busy machine may do that.
func checkRuns(t *testing.T, page map[string]float64) {
	t.Helper()
	const name = "sql2metrics_query_errors_total"
	failed := sum(page, name)
	for _, late := range []string{"timeout", "connect", "busy"} {
		failed -= sum(page, name, `reason="`+late+`"`)
	}
	if failed != 0 {
		t.Errorf("%v runs failed", failed)
	}
}

// TestReloadNeedsItsFlag asks by HTTP where nobody may.
func TestReloadNeedsItsFlag(t *testing.T) {
	t.Parallel()
	text := reloadConfig(newShop(t, 1), "http://127.0.0.1:1")
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	writeFile(t, file, described(text, "First."))
	a := startWatched(t, file)
	if status, answer := a.post(t, "/-/reload"); status != http.StatusForbidden || !strings.Contains(answer, "Lifecycle API is not enabled") {
		t.Errorf("POST /-/reload answers %d: %s", status, answer)
	}
}

// TestReloadWhenFilesChange changes files as an editor and as Kubernetes do it,
// and asks nobody.
func TestReloadWhenFilesChange(t *testing.T) {
	t.Run("rename", func(t *testing.T) {
		t.Parallel()
		text := reloadConfig(newShop(t, 1), "http://127.0.0.1:1")
		folder := t.TempDir()
		file := filepath.Join(folder, "sql2metrics.yml")
		writeFile(t, file, described(text, "First."))
		a := startWatched(t, file)
		writeFile(t, filepath.Join(folder, ".new"), described(text, "Second."))
		if err := os.Rename(filepath.Join(folder, ".new"), file); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the reload", func() error { return a.shows("# HELP orders Second.") })

		writeFile(t, file, "nonsense: 1\n")
		eventually(t, "a broken file to be refused", func() error { return a.shows("sql2metrics_config_last_reload_successful 0") })
		writeFile(t, file, described(text, "Third."))
		eventually(t, "the reload of the mended one", func() error { return a.shows("# HELP orders Third.") })
	})
	t.Run("a collector file more", func(t *testing.T) {
		t.Parallel()
		text := reloadConfig(newShop(t, 1), "http://127.0.0.1:1")
		folder := t.TempDir()
		file := filepath.Join(folder, "sql2metrics.yml")
		if err := os.Mkdir(filepath.Join(folder, "collectors"), 0o755); err != nil {
			t.Fatal(err)
		}
		collector := func(name string) {
			writeFile(t, filepath.Join(folder, "collectors", name+".yml"), "collector_name: more_"+name+
				"\nmetrics: [{metric_name: "+name+", type: gauge, help: More., values: [n], query: SELECT 1 AS n}]\n")
		}
		collector("first")
		writeFile(t, file, described(strings.Replace(text, "collectors: [shop]", "collectors: [shop, 'more_*']", 1), "First.")+
			"collector_files: [collectors/*.yml]\n")
		a := startWatched(t, file)
		collector("second")
		eventually(t, "the metric of the new file", func() error { return a.shows("# HELP second More.") })
	})
	t.Run("ConfigMap", func(t *testing.T) {
		t.Parallel()
		text := reloadConfig(newShop(t, 1), "http://127.0.0.1:1")
		folder := t.TempDir()
		put := func(version, help string) {
			if err := os.Mkdir(filepath.Join(folder, version), 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(folder, version, "sql2metrics.yml"), described(text, help))
			for _, err := range []error{
				os.Symlink(version, filepath.Join(folder, "..data_tmp")),
				os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		put("..2026_11_22_00", "First.")
		file := filepath.Join(folder, "sql2metrics.yml")
		if err := os.Symlink(filepath.Join("..data", "sql2metrics.yml"), file); err != nil {
			t.Fatal(err)
		}
		a := startWatched(t, file)
		for i, help := range []string{"Second.", "Third."} {
			put(fmt.Sprintf("..2026_11_22_0%d", i+1), help)
			if err := os.RemoveAll(filepath.Join(folder, fmt.Sprintf("..2026_11_22_0%d", i))); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the reload", func() error { return a.shows("# HELP orders " + help) })
		}
	})
}

// reloadConfig watches a shop without a help, which described adds. Its values
// outlive a run that takes too long.
func reloadConfig(s *shop, url string) string {
	return fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
self: {enabled: false}
remote_write: [{url: '%s', name: test, queue_config: {batch_send_deadline: %s}}]
sources: [{name: shop, type: sqlite, path: '%s', instance: shop, collectors: [shop]}]
collectors:
  - collector_name: shop
    on_error: keep
    metrics: [{metric_name: orders, type: gauge, key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}]
`, url, 100*time.Millisecond, s.path)
}

// post asks the agent's web server for something.
func (a *agent) post(t *testing.T, path string) (status int, answer string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post("http://"+a.addr+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
