package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/e2e/receiver"
)

// oneNameConfig has metrics of the same names from three sources, each with
// labels and a help of its own. Nothing ends because a run takes too long: the
// queries keep their values, and the exposition has more time.
const oneNameConfig = `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, on_error: keep}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - {name: first, type: sqlite, path: '%[2]s', job: first, instance: one, collectors: [first]}
  - {name: second, type: sqlite, path: '%[2]s', job: second, instance: one, collectors: [second]}
  - {name: third, type: prometheus, job: third, instance: one, url: '%[3]s', scrape_interval: 5s, scrape_timeout: 5s}
collectors:
  - collector_name: first
    metrics:
      - {metric_name: stock, type: gauge, help: First., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}
      - {metric_name: sold_total, type: counter, help: First., key_labels: [id], values: [n], query: "SELECT id, n FROM orders"}
  - collector_name: second
    metrics:
      - {metric_name: stock, type: gauge, help: Second., key_labels: [shelf], values: [n], query: "SELECT 'a' AS shelf, 'b' AS box, 20 AS n"}
      - {metric_name: sold_total, type: counter, help: Second., key_labels: [shelf], values: [n], query: "SELECT 'a' AS shelf, 'b' AS box, 20 AS n"}
`

const oneNameExposition = `# HELP stock Third.
# TYPE stock gauge
stock{hall="x"} 300
# HELP sold_total Third.
# TYPE sold_total counter
sold_total{hall="x"} 300
`

// family is what a parser of Prometheus's reads of one metric name.
type family struct {
	Types, Helps []string
	Series       map[string]float64
}

// families reads those that are named of a page.
func (a *agent) families(accept string, names ...string) (map[string]family, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+a.addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	p, err := textparse.New(body, res.Header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	all := map[string]family{}
	note := func(name string, what func(*family)) {
		// OpenMetrics calls a counter's family by its name without _total.
		if name = strings.TrimSuffix(name, "_total"); slices.Contains(names, name) {
			f := all[name]
			what(&f)
			all[name] = f
		}
	}
	for {
		entry, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case entry == textparse.EntryType:
			name, kind := p.Type()
			note(string(name), func(f *family) { f.Types = append(f.Types, string(kind)) })
		case entry == textparse.EntryHelp:
			name, help := p.Help()
			note(string(name), func(f *family) { f.Helps = append(f.Helps, string(help)) })
		case entry == textparse.EntrySeries:
			var lset labels.Labels
			p.Labels(&lset)
			_, _, v := p.Series()
			note(lset.Get("__name__"), func(f *family) {
				if f.Series == nil {
					f.Series = map[string]float64{}
				}
				f.Series[lset.MatchLabels(false, "__name__").String()] = v
			})
		}
	}
}

// TestOneNameFromThreeSources collects metrics of the same names from two
// databases and an exposition, with different labels and helps: the page has
// one family of each, the receiver all the series, each with the help of its
// own source, before and after a reload.
func TestOneNameFromThreeSources(t *testing.T) {
	t.Parallel()
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, oneNameExposition)
	}))
	t.Cleanup(exporter.Close)
	r := receiver.Start(t, receiver.Options{})
	text := fmt.Sprintf(oneNameConfig, remoteWrite(r.URL()), newShop(t, 1).path, exporter.URL)
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	writeFile(t, file, text)
	a := command(t, 0, "run", "--config.file="+file, "--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json", "--web.enable-lifecycle", "--no-config.auto-reload")
	a.waitReady(t)

	shows := func(help, second string) error {
		for _, accept := range []string{"text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"} {
			got, err := a.families(accept, "stock", "sold")
			if err != nil {
				return err
			}
			series := map[string]float64{`{id="o0001"}`: 1, second: 20, `{hall="x"}`: 300}
			want := map[string]family{
				"stock": {[]string{"gauge"}, []string{help}, series},
				"sold":  {[]string{"counter"}, []string{help}, series},
			}
			if d := cmp.Diff(want, got); d != "" {
				return fmt.Errorf("%s (-want +got):\n%s", accept, d)
			}
		}
		return nil
	}
	stored := func(second string) error {
		for _, name := range []string{"stock", "sold_total"} {
			want := map[string]float64{
				`{__name__="` + name + `", id="o0001", instance="one", job="first"}`:    1,
				`{__name__="` + name + `", instance="one", job="second", ` + second[1:]: 20,
				`{__name__="` + name + `", hall="x", instance="one", job="third"}`:      300,
			}
			if d := cmp.Diff(want, r.Query(t, name, time.Now())); d != "" {
				return fmt.Errorf("(-want +got):\n%s", d)
			}
		}
		return nil
	}
	eventually(t, "the page", func() error { return shows("First.", `{shelf="a"}`) })
	eventually(t, "the receiver", func() error { return stored(`{shelf="a"}`) })

	text = strings.ReplaceAll(text, "First.", "Other.")
	text = strings.ReplaceAll(text, "help: Second., key_labels: [shelf]", "help: New., key_labels: [shelf, box]")
	writeFile(t, file, text)
	if status, answer := a.post(t, "/-/reload"); status != http.StatusOK {
		t.Fatalf("POST /-/reload answers %d: %s", status, answer)
	}
	if err := shows("Other.", `{box="b", shelf="a"}`); err != nil {
		t.Errorf("the page after the reload: %v", err)
	}
	if page, err := a.get("/metrics"); err != nil || strings.Contains(string(page), "\nsql2metrics_exposition_conflicts_total 1") {
		t.Errorf("the page has conflicts: %v", err)
	}
	eventually(t, "the helps at the receiver", func() error {
		helps := map[string]string{} // as the newest request has them
		for _, request := range r.Requests() {
			for _, s := range request.Series {
				if strings.Contains(s.Labels, `"stock"`) {
					helps[s.Labels] = s.Metadata.Help
				}
			}
		}
		if d := cmp.Diff(map[string]string{
			`{__name__="stock", id="o0001", instance="one", job="first"}`:          "Other.",
			`{__name__="stock", box="b", instance="one", job="second", shelf="a"}`: "New.",
			`{__name__="stock", instance="one", job="second", shelf="a"}`:          "Second.",
			`{__name__="stock", hall="x", instance="one", job="third"}`:            "Third.",
		}, helps); d != "" {
			return fmt.Errorf("(-want +got):\n%s", d)
		}
		return nil
	})
	checkRuns(t, a.metrics(t))
	a.stop(t)

	stale := map[string]int{}
	for series, samples := range r.Samples(t, `{__name__=~"stock|sold_total"}`) {
		for _, s := range samples {
			if s.Stale() {
				stale[series]++
			}
		}
	}
	want := map[string]int{
		`{__name__="sold_total", instance="one", job="second", shelf="a"}`: 1,
		`{__name__="stock", instance="one", job="second", shelf="a"}`:      1,
	}
	if d := cmp.Diff(want, stale); d != "" {
		t.Errorf("stale markers (-want +got):\n%s", d)
	}
}
