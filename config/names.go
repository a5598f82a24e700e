package config

import (
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Names are held to Prometheus's legacy characters although newer receivers
// take any UTF-8: remote write 1.0 forbids others, and which protocol an
// endpoint speaks is known only when it answers.

// ownPrefixes begin the names of the agent's own registry: a collected metric
// of such a name would be left out of the local page.
var ownPrefixes = []string{"sql2metrics_", "go_", "process_", "promhttp_"}

// companions are what is written beside the samples of a source.
var companions = map[string]string{
	"up":                                    "of each source",
	"scrape_duration_seconds":               "of each source that is scraped",
	"scrape_samples_scraped":                "of each source that is scraped",
	"scrape_samples_post_metric_relabeling": "of each source that is scraped",
	"scrape_series_added":                   "of each source that is scraped",
	"scrape_timeout_seconds":                "of each source that is scraped",
	"scrape_sample_limit":                   "of each source that is scraped",
	"scrape_body_size_bytes":                "of each source that is scraped",
}

// metricName sets *into to a legal metric name that is not ours.
func (n node) metricName(into *string) {
	var s string
	n.string(&s)
	if s == "" {
		return
	}
	rename := "choose another name, such as db_" + s
	if !model.LegacyValidation.IsValidMetricName(s) {
		n.fail(fmt.Sprintf("%q is not a legal metric name: receivers of remote write 1.0 take letters, digits, _ and : and no digit first", s),
			"write "+legalName(s, ":"))
	} else if of, ours := companions[s]; ours {
		n.fail(fmt.Sprintf("%s is the agent's own metric %s", s, of), rename)
	}
	for _, prefix := range ownPrefixes {
		if strings.HasPrefix(s, prefix) {
			n.fail(fmt.Sprintf("%s begins with %s, as the agent's own metrics do, and would be left out of the local page", s, prefix), rename)
		}
	}
	*into = s
}

// A label that is made from a column is renamed in two places.
const (
	onlyHere    = ""
	queryAsWell = ", and name the column so in the query with AS"
)

// legalLabel reports a name that no label may have. alsoIn ends the remedy.
func (n node) legalLabel(name, alsoIn string) bool {
	switch {
	case name == "":
		n.fail("a label has no name", "write its name before the colon, or delete it")
	case !model.LegacyValidation.IsValidLabelName(name):
		n.fail(fmt.Sprintf("%q is not a legal label name: receivers of remote write 1.0 take letters, digits and _ and no digit first", name),
			"write "+legalName(name, "")+alsoIn)
	case strings.HasPrefix(name, "__"):
		n.fail(fmt.Sprintf("label %q: names that begin with __ are reserved", name), "choose another name"+alsoIn)
	default:
		return true
	}
	return false
}

// ownLabel reports a name that a label of a source or a metric may not have.
func (n node) ownLabel(name, alsoIn string) bool {
	if name == "job" || name == "instance" {
		n.fail(fmt.Sprintf("a label that collides with %s, which every series of a source has", name),
			fmt.Sprintf("choose another name, such as %s_name%s", name, alsoIn))
		return false
	}
	return n.legalLabel(name, alsoIn)
}

// legalName returns the nearest legal name. extra are characters that are
// legal beside letters, digits and the underscore.
func legalName(name, extra string) string {
	legal := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(extra, r) {
			return r
		}
		return '_'
	}, name)
	if strings.TrimLeft(legal, "0123456789") != legal {
		return "_" + legal
	}
	return legal
}

// externalLabels sets *into to global.external_labels. Names that begin with
// __ are let through: receivers that deduplicate replicas ask for __replica__.
func (n node) externalLabels(into *labels.Labels) {
	found := map[string]string{}
	for _, e := range n.entries() {
		var value string
		e.value.expandAsPrometheus(&value)
		switch {
		case e.key == model.MetricNameLabel:
			e.value.fail("__name__ would rename every metric", "delete it")
		case strings.HasPrefix(e.key, "__") && model.LegacyValidation.IsValidLabelName(e.key), e.value.legalLabel(e.key, onlyHere):
			found[e.key] = value
		}
	}
	*into = labels.FromMap(found)
}
