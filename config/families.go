package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// seriesSuffixes end the names of the series that a type makes beside its own.
var seriesSuffixes = map[MetricType][]string{
	Histogram: {"_bucket", "_sum", "_count"},
	Summary:   {"_sum", "_count"},
}

// seriesName is the name of a metric's series. OpenMetrics calls an info by its
// name without _info, and Prometheus its series by that with it.
func (m *metric) seriesName() string {
	if m.Type == Info {
		return strings.TrimSuffix(m.Name, "_info") + "_info"
	}
	return m.Name
}

// checkFamilies reports metrics that have one name and two types, and those
// that a histogram or a summary makes a series of the same name beside, among
// the collectors that sources select.
func checkFamilies(sources []*source) {
	var all []*metric
	var seen []*collector
	for _, s := range sources {
		for _, c := range s.collectors {
			if !slices.Contains(seen, c) {
				seen = append(seen, c)
				all = append(all, c.metrics...)
			}
		}
	}
	first := map[string]*metric{}
	for _, m := range all {
		if m.Name == "" || m.Type == "" {
			continue
		}
		other := first[m.seriesName()]
		if other == nil {
			first[m.seriesName()] = m
		} else if other.Type != m.Type {
			at := m.at("type")
			at.fail(fmt.Sprintf("%s is of type %s here and of type %s on %s", m.seriesName(), m.Type, other.Type, other.at("type").place(at)),
				"give both one type, or rename one")
		}
	}
	for _, m := range all {
		for _, suffix := range seriesSuffixes[m.Type] {
			if other := first[m.Name+suffix]; other != nil {
				at := other.at("metric_name")
				at.fail(fmt.Sprintf("%s is a series of the %s %s on %s too", other.seriesName(), m.Type, m.Name, m.at("metric_name").place(at)),
					"rename one of the two")
			}
		}
	}
}

// checkTwins warns of metrics that have one name, and one series each in the
// same source: without labels that tell them apart it is the same one, and has
// the samples of both. Queries with a gate are left out:
// it may be open for one of them alone.
func checkTwins(sources []*source) {
	type pair struct{ first, second *metric }
	warned := map[pair]bool{}
	for _, s := range sources {
		alone := map[string][]*metric{} // metrics with one series, by its name
		for _, c := range s.collectors {
			for _, q := range c.queries {
				if !q.Requires.IsZero() {
					continue
				}
				for _, m := range q.metrics {
					if m.Name == "" || m.Type == StateSet || len(m.KeyLabels) > 0 || m.ValueLabel != "" {
						continue
					}
					name := m.seriesName()
					for _, other := range alone[name] {
						if !maps.Equal(m.StaticLabels, other.StaticLabels) || warned[pair{other, m}] {
							continue
						}
						warned[pair{other, m}] = true
						at := m.at("metric_name")
						at.warn(fmt.Sprintf("%s is on %s too, for the same source %s, and no label tells the two apart: they are one series, which gets the samples of both",
							name, other.at("metric_name").place(at), s.Name), "give each of them static_labels or key_labels, or rename one")
					}
					alone[name] = append(alone[name], m)
				}
			}
		}
	}
}

// checkIdentities warns of sources that no label tells apart: what is written
// beside their samples, such as up, is the same series.
func checkIdentities(sources []*source) {
	type identity struct{ job, instance, labels string }
	first := map[identity]*source{}
	for _, s := range sources {
		id := identity{s.Job, s.Instance, s.Labels.String()}
		other := first[id]
		switch {
		case s.Instance == "":
			continue
		case other == nil:
			first[id] = s
			continue
		}
		shared := "up"
		if s.Scrape != nil && other.Scrape != nil {
			shared = "up, scrape_*"
		}
		at := s.at("name")
		at.warn(fmt.Sprintf("%s has the job %s, the instance %s and the labels of %s on %s: %s and what else both write are one series each, which mixes the samples of the two, and some are refused",
			s.Name, s.Job, s.Instance, other.Name, other.at("name").place(at), shared),
			"give one of the two another job or instance, or a label, such as labels: {source: "+s.Name+"}")
	}
}
