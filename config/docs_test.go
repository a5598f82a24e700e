package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

var fenced = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// documented returns the examples of a file in docs, each a whole configuration,
// an entry of remote_write, or one of metrics.
func documented(t *testing.T, file string) []*Config {
	t.Helper()
	text, err := os.ReadFile("../docs/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*Config
	for _, block := range fenced.FindAllStringSubmatch(string(text), -1) {
		example := block[1]
		switch {
		case strings.HasPrefix(example, "- url:"):
			example = "remote_write:\n" + example
		case strings.HasPrefix(example, "- metric_name:"), strings.HasPrefix(example, "- {metric_name:"):
			example = "sources: [{name: s, type: sqlite, path: a.db, collectors: [c]}]\n" +
				"collectors:\n- collector_name: c\n  metrics:\n" + regexp.MustCompile("(?m)^").ReplaceAllString(example, "  ")
		}
		c, err := Load(place(t, example), Options{Getenv: func(name string) (string, bool) { return name, true }})
		if err != nil {
			t.Fatalf("%v in\n%s", err, example)
		}
		for _, w := range c.Warnings {
			t.Errorf("%v in\n%s", w, example)
		}
		all = append(all, c)
	}
	return all
}

// TestDocumentedExamples loads what the documentation shows.
func TestDocumentedExamples(t *testing.T) {
	for file, least := range map[string]int{"remote-write.md": 7, "configuration.md": 9, "scraping.md": 7} {
		if got := len(documented(t, file)); got < least {
			t.Errorf("found %d examples in %s, fewer than there were", got, file)
		}
	}
}

// TestDocumentedTenants: in the example of a tenant per source, each source and
// the agent itself reach one tenant, the right one.
func TestDocumentedTenants(t *testing.T) {
	var tenants *Config
	for _, c := range documented(t, "remote-write.md") {
		if len(c.RemoteWrite) == 3 {
			tenants = c
		}
	}
	if tenants == nil {
		t.Fatal("the example with three endpoints is gone")
	}
	series := map[string]labels.Labels{
		"dba": labels.FromStrings("__name__", "up", "job", tenants.Self.Job, "instance", "db:9399"),
	}
	for i, tenant := range []string{"shop", "billing"} {
		s := tenants.Sources[i]
		series[tenant] = labels.FromStrings("__name__", "up", "job", s.Job, "instance", s.Instance)
	}
	for want, s := range series {
		var got []string
		for _, e := range tenants.RemoteWrite {
			if relabel.ProcessBuilder(labels.NewBuilder(s), e.WriteRelabel...) {
				got = append(got, e.Headers["X-Scope-OrgID"].Reveal())
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s goes to %v, want %s alone", s, got, want)
		}
	}
}

// TestDocumentedReplicas: in the example of two agents, metrics of databases
// have both of the tracker's labels, and the agents' own have no replica.
func TestDocumentedReplicas(t *testing.T) {
	for _, c := range documented(t, "remote-write.md") {
		if c.Global.ExternalLabels.Get("__replica__") == "" {
			continue
		}
		for i, job := range []string{c.Sources[0].Job, c.Self.Job} {
			for j, e := range c.RemoteWrite {
				series := labels.NewBuilder(c.Global.ExternalLabels).Set("__name__", "up").Set("job", job)
				keep := relabel.ProcessBuilder(series, e.WriteRelabel...)
				sent := series.Labels()
				if keep != (i == j) {
					t.Errorf("%s to %s: kept is %v", job, e.Name, keep)
				}
				if keep && (sent.Get("cluster") != "orders" || sent.Has("__replica__") != (i == 0)) {
					t.Errorf("%s to %s is sent as %s", job, e.Name, sent)
				}
			}
		}
		return
	}
	t.Error("the example with __replica__ is gone")
}
