package collect

import (
	"fmt"
	"strings"
	"testing"
)

func TestLabelsLikePrometheus(t *testing.T) {
	exposed := textPage(`a{job="x",instance="y",team="z",exported_team="w"} 1
a{job="",team="shop",instance="q"} 2
a{job="",team=""} 3
a 4
up{team="z"} 5
scrape_duration_seconds 6
`)
	long := map[string]string{"a": "1", "exported_team": "2", "team": "3", "zone": "4"}
	compareScrapes(t, map[string]sideBySide{
		"labels of the target":   {pages: []page{exposed, textPage("b 1\nscrape_duration_seconds 1\n")}},
		"honoured":               {config: "honor_labels: true", pages: []page{exposed, exposed, textPage("b 1\nscrape_duration_seconds 1\n")}},
		"exported labels":        {labels: long, pages: []page{exposed, {status: 500}}},
		"exported, and honoured": {labels: long, config: "honor_labels: true", pages: []page{exposed}},
		"a target without more":  {labels: map[string]string{}, pages: []page{exposed}},
	})
}

func TestTimesLikePrometheus(t *testing.T) {
	const off, track = "honor_timestamps: false", "track_timestamps_staleness: true"
	at := func(seconds float64) string { return " " + soon(seconds) }
	compareScrapes(t, map[string]sideBySide{
		"not honoured": {config: off, pages: []page{
			openMetrics("a 1" + at(-60) + " # {t=\"1\"} 1\na 2" + at(-50) + "\nb 1" + at(7200) + "\n# EOF\n"), openMetrics("a 1" + at(-60) + "\n# EOF\n"), openMetrics("# EOF\n"),
		}},
		"tracked": {config: track, pages: []page{
			openMetrics("a 1" + at(-60) + "\nb 1\nc 1" + at(7200) + "\n# EOF\n"), openMetrics("a 1" + at(-60) + "\nb 1\n# EOF\n"),
			openMetrics("a 2" + at(-50) + "\nb 1\n# EOF\n"), openMetrics("b 1\n# EOF\n"), openMetrics("# EOF\n"),
		}},
		"tracked, and the scrape fails": {config: track, pages: []page{openMetrics("a 1" + at(-60) + "\n# EOF\n"), {status: 500}, {status: 500}}},
		"tracked several times":         {config: track, pages: []page{openMetrics("a 1" + at(-60) + "\na 2" + at(-50) + "\n# EOF\n"), openMetrics("# EOF\n")}},
		"with and without":              {pages: []page{openMetrics("a 1" + at(-60) + "\na 2\nb 1\nb 2" + at(-50) + "\n# EOF\n"), openMetrics("a 3\n# EOF\n")}},
		"the text format": {config: track, pages: []page{
			textPage(fmt.Sprintf("a 1 %d\n", soonMillis(-60))), textPage(fmt.Sprintf("a 2 %d\n", soonMillis(-50))), textPage("b 1\n"),
		}},
	})
}

func TestRelabelledLikePrometheus(t *testing.T) {
	rules := func(s string) string { return "metric_relabel_configs:\n" + s }
	const families = `# HELP a A.
# TYPE a counter
a{x="1"} 1
a{x="2"} 2
a{x="3"} 3
# HELP b B.
# TYPE b gauge
b{y="1"} 1
b{y="2"} 2
`
	compareScrapes(t, map[string]sideBySide{
		"drop": {config: rules("- {source_labels: [__name__, x], regex: 'a;[12]', action: drop}"), pages: []page{
			textPage(families), textPage(families), textPage("b 1\n"), textPage(families),
		}},
		"drop all":     {config: rules("- {regex: .*, action: drop}"), pages: []page{textPage(families), textPage(families)}},
		"keep":         {config: rules("- {source_labels: [job], regex: other, action: keep}"), pages: []page{textPage(families)}},
		"another name": {config: rules("- {source_labels: [__name__], regex: (.*), target_label: __name__, replacement: my_$1}"), pages: []page{textPage(families), textPage(families), textPage("b 1\n")}},
		"into the family": {config: rules("- {source_labels: [__name__], regex: b, target_label: __name__, replacement: b_total}\n- {source_labels: [__name__], regex: a, target_label: __name__, replacement: a_total}"),
			pages: []page{textPage(families), textPage(families)}},
		"two become one": {config: rules("- {regex: x, action: labeldrop}"), pages: []page{textPage(families), textPage(families), textPage("a{x=\"3\"} 1\n"), textPage("b 1\n")}},
		"labels of the target": {config: rules("- {source_labels: [x], regex: (.+), target_label: instance}\n- {regex: team, action: labeldrop}\n- {source_labels: [job], target_label: service}"), pages: []page{
			textPage(families), textPage("b 1\n"),
		}},
		"exported labels":           {config: rules("- {source_labels: [exported_job], regex: (.+), target_label: job}\n- {regex: exported_.*, action: labeldrop}"), pages: []page{textPage("a{job=\"own\"} 1\nb 1\n")}},
		"no name":                   {config: rules("- {source_labels: [x], regex: '2', target_label: __name__, replacement: ''}"), pages: []page{textPage("b 1\n"), textPage(families)}, unmarked: []int{2}},
		"no label":                  {config: rules("- {regex: .*, action: labeldrop}"), pages: []page{textPage(families), textPage(families)}},
		"a name from a label":       {config: rules("- {source_labels: [x], regex: (.+), target_label: __name__, replacement: 'n $1'}"), pages: []page{textPage(families)}},
		"a label that is not UTF-8": {config: rules("- {source_labels: [x], target_label: l, regex: (.+), replacement: \"\\xff\"}"), pages: []page{textPage("b 1\n"), textPage(families)}, unmarked: []int{2}},
		"OpenMetrics": {config: rules("- {source_labels: [__name__], regex: .*_created, action: drop}\n- {source_labels: [__name__], regex: 'c_total', target_label: __name__, replacement: other}"), pages: []page{
			openMetrics("# TYPE c counter\nc_total 1 # {t=\"1\"} 1\nc_created 1.7e9\n# TYPE g gauge\ng_created 1\n# EOF\n"),
			openMetrics("# TYPE c counter\nc_total 1 # {t=\"2\"} 1\nc_created 1.7e9\n# EOF\n"),
		}},
		"native histograms": {
			config: "scrape_native_histograms: true\n" + rules("- {source_labels: [__name__, a], regex: native;1, action: drop}\n- {source_labels: [__name__], regex: both, target_label: __name__, replacement: one}"),
			pages:  []page{protobuf(nativeKinds), protobuf(nativeKinds)}, undescribed: []string{"both_"},
		},
		"after honour": {config: "honor_labels: true\n" + rules("- {source_labels: [job], regex: own, action: drop}"), pages: []page{textPage("a{job=\"own\"} 1\na{job=\"other\"} 1\n")}},
	})
}

func TestLimitsLikePrometheus(t *testing.T) {
	lines := func(from, to int) page {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "a{n=\"%d\"} %d\n", i, i)
		}
		return textPage(b.String())
	}
	const drop = "\nmetric_relabel_configs: [{source_labels: [n], regex: '[01]', action: drop}]"
	const fine = `name: "h" type: HISTOGRAM
metric { histogram { sample_count: 4 sample_sum: 4 schema: 3 zero_threshold: 0.001
  positive_span { offset: 0 length: 4 } positive_delta: 1 positive_delta: 0 positive_delta: 0 positive_delta: 0 } }
metric { label { name: "a" value: "float" } histogram { sample_count_float: 4 sample_sum: 4 schema: 3 zero_threshold: 0.001
  positive_span { offset: 0 length: 2 } positive_count: 1 positive_count: 1 negative_span { offset: 0 length: 2 } negative_count: 1 negative_count: 1 } }
---
name: "g" type: GAUGE
metric { gauge { value: 1 } }
`
	const far = `name: "h" type: HISTOGRAM
metric { histogram { sample_count: 4 sample_sum: 4 schema: 0 zero_threshold: 0.001
  positive_span { offset: -50 length: 1 } positive_span { offset: 100 length: 1 } positive_delta: 2 positive_delta: 0 } }
---
name: "g" type: GAUGE
metric { gauge { value: 1 } }
`
	native := func(s string) string { return "scrape_native_histograms: true\n" + s }
	const custom = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 3\n# TYPE g gauge\ng 1\n"
	compareScrapes(t, map[string]sideBySide{
		"sample_limit":                    {config: "sample_limit: 3", pages: []page{lines(0, 3), lines(10, 15), lines(0, 3), lines(20, 24), lines(20, 24)}, unmarked: []int{2, 3, 4, 5}},
		"sample_limit after relabelling":  {config: "sample_limit: 3" + drop, pages: []page{lines(0, 5), lines(0, 6), lines(0, 4)}, unmarked: []int{2, 3}},
		"sample_limit and duplicates":     {config: "sample_limit: 2", pages: []page{textPage("a 1\na 2\nb 1\n"), textPage("a 1\nb 1\nc 1\nc 1\n")}, unmarked: []int{2}},
		"sample_limit and times ahead":    {config: "sample_limit: 2", pages: []page{openMetrics("a 1 " + soon(7200) + "\nb 1\n# EOF\n"), openMetrics("a 1 " + soon(7200) + "\nb 1\nc 1\n# EOF\n")}, unmarked: []int{2}},
		"sample_limit and a fault":        {config: "sample_limit: 2", pages: []page{lines(0, 2), textPage("a 1\nb 1\nc 1\nd one\ne 1\n")}, unmarked: []int{2}},
		"label_limit":                     {config: "label_limit: 5", pages: []page{textPage("a{x=\"1\"} 1\nb 1\n"), textPage("c 1\na{x=\"1\",y=\"2\"} 1\nb 1\n"), textPage("b 1\n")}, unmarked: []int{2, 3}},
		"label_limit after relabelling":   {config: "label_limit: 5\nmetric_relabel_configs: [{regex: x, action: labeldrop}]", pages: []page{textPage("a{x=\"1\",y=\"2\"} 1\nb 1\n")}},
		"label_limit of a dropped series": {config: "label_limit: 5\nmetric_relabel_configs: [{source_labels: [x], regex: '1', action: drop}]", pages: []page{textPage("a{x=\"1\",y=\"2\"} 1\nb 1\n")}},
		"label_name_length_limit":         {config: "label_name_length_limit: 8", pages: []page{textPage("b 1\n"), textPage("a{abcdefgh=\"1\"} 1\n"), textPage("a{abcdefghi=\"1\"} 1\nb 1\n")}, unmarked: []int{3}},
		"label_value_length_limit":        {config: "label_value_length_limit: 4", pages: []page{textPage("b 1\n"), textPage("a{x=\"1234\"} 1\n"), textPage("a{x=\"12345\"} 1\nb 1\n"), textPage("a_name 1\n")}, unmarked: []int{3, 4}},
		"bucket limit":                    {config: native("native_histogram_bucket_limit: 2"), pages: []page{protobuf(fine), protobuf(fine)}},
		"bucket limit that cannot be met": {config: native("native_histogram_bucket_limit: 1"), pages: []page{protobuf("name: \"g\" type: GAUGE\nmetric { gauge { value: 1 } }\n"), protobuf(far), protobuf(far)}, unmarked: []int{2, 3}},
		"bucket limit of custom buckets":  {config: native("convert_classic_histograms_to_nhcb: true\nnative_histogram_bucket_limit: 2"), pages: []page{textPage("g 1\n"), textPage(custom)}, unmarked: []int{2}},
		"bucket and sample limit":         {config: native("native_histogram_bucket_limit: 1\nsample_limit: 1"), pages: []page{protobuf(far), protobuf(fine)}, unmarked: []int{2}},
		"min bucket factor":               {config: native("native_histogram_min_bucket_factor: 2"), pages: []page{protobuf(fine)}},
		"min bucket factor between":       {config: native("native_histogram_min_bucket_factor: 1.3"), pages: []page{protobuf(fine)}},
		"min bucket factor that is fine":  {config: native("native_histogram_min_bucket_factor: 1.001"), pages: []page{protobuf(fine)}},
		"body_size_limit":                 {config: "body_size_limit: 30B\nextra_scrape_metrics: true", pages: []page{textPage("a 1\n"), textPage("a 1\n" + strings.Repeat("b", 40) + " 1\n"), textPage("a 1\n")}},
		"extra_scrape_metrics": {config: "extra_scrape_metrics: true\nsample_limit: 2", pages: []page{
			textPage("a 1\n"), textPage("a one\n"), {status: 500}, textPage(""), textPage("a 1\nb 1\nc 1\n"),
		}, unmarked: []int{5}},
		"the fallback":             {config: "fallback_scrape_protocol: PrometheusText0.0.4", pages: []page{{body: "a 1\n"}, {kind: "text/html", body: "a 1\n"}, {kind: "application/openmetrics-text; version=2.0.0", body: "a 1\n"}, {kind: "  ", body: "a 1\n"}}},
		"the fallback to protobuf": {config: "fallback_scrape_protocol: PrometheusProto", pages: []page{{body: protobuf(metricKinds).body}}, undescribed: []string{"depth"}},
	})
}
