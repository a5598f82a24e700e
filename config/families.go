package config

import (
	"fmt"
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
