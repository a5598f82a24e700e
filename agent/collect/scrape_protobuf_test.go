package collect

import (
	"fmt"
	"testing"
)

// metricKinds are one family of each type of protobuf, in two spellings of a
// number where there are two.
const metricKinds = `name: "served_total" help: "Requests." type: COUNTER
metric { label { name: "code" value: "200" } counter { value: 7 created_timestamp { seconds: 1700000000 nanos: 5000000 }
  exemplar { label { name: "trace_id" value: "a" } value: 1.5 timestamp { seconds: 1700000001 } } } }
metric { label { name: "code" value: "500" } counter { value: 1 exemplar { label { name: "trace_id" value: "b" } value: 2 } } }
---
name: "queue" help: "" type: GAUGE unit: "jobs"
metric { gauge { value: -0.5 } }
---
name: "plain" type: UNTYPED
metric { label { name: "a" value: "" } label { name: "b" value: "é" } untyped { value: 3 } }
---
name: "wait_seconds" help: "Waits." type: SUMMARY unit: "seconds"
metric { summary { sample_count: 4 sample_sum: 9.5 quantile { quantile: 0.5 value: 2 } quantile { quantile: 1 value: inf } created_timestamp { seconds: 1700000000 } } }
metric { label { name: "a" value: "none" } summary { sample_count: 1 sample_sum: 1 } }
---
name: "size_bytes" help: "Sizes." type: HISTOGRAM
metric { histogram { sample_count: 5 sample_sum: 11 created_timestamp { seconds: 1700000002 }
  bucket { cumulative_count: 2 upper_bound: 1 exemplar { label { name: "trace_id" value: "c" } value: 0.7 timestamp { seconds: 1700000003 } } }
  bucket { cumulative_count: 4 upper_bound: 2.5 exemplar { label { name: "trace_id" value: "d" } value: 2 } } } }
metric { label { name: "a" value: "inf" } histogram { sample_count: 5 sample_sum: 11
  bucket { cumulative_count: 4 upper_bound: 1e6 } bucket { cumulative_count: 5 upper_bound: inf } } }
metric { label { name: "a" value: "float" } histogram { sample_count_float: 2.5 sample_sum: 11
  bucket { cumulative_count_float: 1.5 upper_bound: 1 } } }
---
name: "depth" type: GAUGE_HISTOGRAM
metric { histogram { sample_count: 2 sample_sum: 3 bucket { cumulative_count: 1 upper_bound: 1 } } }
`

// nativeKinds are native histograms: of integers and of floats, with and without
// classic buckets, beside one that is classic only.
const nativeKinds = `name: "native" help: "N." type: HISTOGRAM unit: "seconds"
metric { label { name: "a" value: "1" } histogram { sample_count: 3 sample_sum: 4 schema: 2 zero_threshold: 0.001 zero_count: 1
  positive_span { offset: 0 length: 1 } positive_span { offset: 3 length: 1 } positive_delta: 1 positive_delta: 0
  created_timestamp { seconds: 1700000000 }
  exemplars { label { name: "t" value: "b" } value: 2 timestamp { seconds: 1700000003 } }
  exemplars { label { name: "t" value: "a" } value: 1 timestamp { seconds: 1700000002 } }
  exemplars { label { name: "t" value: "e" } value: 1 timestamp { seconds: 1700000003 } } } }
metric { label { name: "a" value: "2" } histogram { sample_count_float: 3.5 sample_sum: -4 schema: 0 zero_threshold: 0.001 zero_count_float: 0.5
  positive_span { offset: 0 length: 1 } positive_count: 1 negative_span { offset: 1 length: 2 } negative_count: 1 negative_count: 1 } }
---
name: "both" help: "B." type: HISTOGRAM
metric { histogram { sample_count: 3 sample_sum: 4 schema: 0 zero_threshold: 0.001 zero_count: 0
  positive_span { offset: 0 length: 2 } positive_delta: 1 positive_delta: 1
  bucket { cumulative_count: 1 upper_bound: 1 exemplar { label { name: "t" value: "c" } value: 1 timestamp { seconds: 1700000003 } } }
  bucket { cumulative_count: 3 upper_bound: 2 exemplar { label { name: "t" value: "d" } value: 2 } } } }
metric { label { name: "a" value: "classic" } histogram { sample_count: 3 sample_sum: 4
  bucket { cumulative_count: 1 upper_bound: 1 } bucket { cumulative_count: 3 upper_bound: 2 } } }
---
name: "gauges" help: "G." type: GAUGE_HISTOGRAM
metric { histogram { sample_count: 3 sample_sum: 4 schema: 0 zero_threshold: 0.001
  positive_span { offset: 0 length: 2 } positive_delta: 1 positive_delta: 1 } }
metric { label { name: "a" value: "float" } histogram { sample_count_float: 3 sample_sum: 4 schema: 0 zero_threshold: 0.001
  positive_span { offset: 0 length: 1 } positive_count: 3 } }
---
name: "nothing_yet" type: HISTOGRAM
metric { histogram { sample_count: 0 sample_sum: 0 schema: 3 zero_threshold: 2.938735877055719e-39 positive_span { offset: 0 length: 0 } } }
---
name: "after" type: GAUGE
metric { gauge { value: 1 } }
`

// stamped is a gauge, a classic and a native histogram with a time of their own.
func stamped(ms int64, v int) string {
	return fmt.Sprintf(`name: "g" type: GAUGE
metric { gauge { value: %[2]d } timestamp_ms: %[1]d }
---
name: "c" type: HISTOGRAM
metric { histogram { sample_count: %[2]d sample_sum: 4 bucket { cumulative_count: 1 upper_bound: 1 } } timestamp_ms: %[1]d }
---
name: "h" type: HISTOGRAM
metric { histogram { sample_count: %[2]d sample_sum: 4 schema: 0 zero_threshold: 0.001 positive_span { offset: 0 length: 1 } positive_delta: %[2]d } timestamp_ms: %[1]d }
`, ms, v)
}

func TestProtobufLikePrometheus(t *testing.T) {
	// Their counts and sums have suffixes that are not those of gauge histograms.
	gauges := []string{"depth", "gauges_"}
	const on = "scrape_native_histograms: true"
	empty := protobuf("name: \"other\" type: GAUGE\nmetric { gauge { value: 1 } }\n")
	compareScrapes(t, map[string]sideBySide{
		"every type":             {undescribed: gauges, pages: []page{protobuf(metricKinds), protobuf(metricKinds), empty}},
		"native histograms":      {config: on, undescribed: gauges, pages: []page{protobuf(nativeKinds), protobuf(nativeKinds), empty, protobuf(nativeKinds)}},
		"native parts ignored":   {undescribed: gauges, pages: []page{protobuf(nativeKinds), protobuf(nativeKinds), empty}},
		"classic ones as well":   {config: on + "\nalways_scrape_classic_histograms: true", undescribed: gauges, pages: []page{protobuf(nativeKinds), protobuf(nativeKinds), empty}},
		"converted":              {config: on + "\nconvert_classic_histograms_to_nhcb: true", undescribed: gauges, pages: []page{protobuf(metricKinds), protobuf(nativeKinds), protobuf(nativeKinds), empty}},
		"converted and classic":  {config: on + "\nconvert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true", undescribed: gauges, pages: []page{protobuf(metricKinds), protobuf(nativeKinds), empty}},
		"converted, native off":  {config: "convert_classic_histograms_to_nhcb: true", undescribed: gauges, pages: []page{protobuf(metricKinds), protobuf(nativeKinds), empty}},
		"a failed scrape":        {config: on, undescribed: gauges, pages: []page{protobuf(nativeKinds), {status: 500}, protobuf(nativeKinds)}},
		"an empty page":          {config: on, undescribed: gauges, pages: []page{protobuf(nativeKinds), protobuf(""), protobuf(nativeKinds)}},
		"own times":              {config: on, undescribed: gauges, pages: []page{protobuf(stamped(ago(60), 1)), protobuf(stamped(ago(60), 1)), protobuf(stamped(ago(50), 2)), empty}},
		"own times not honoured": {config: on + "\nhonor_timestamps: false", undescribed: gauges, pages: []page{protobuf(stamped(ago(60), 1)), protobuf(stamped(ago(60), 1)), empty}},
		"own times tracked":      {config: on + "\ntrack_timestamps_staleness: true", undescribed: gauges, pages: []page{protobuf(stamped(ago(60), 1)), protobuf(stamped(ago(60), 1)), protobuf(stamped(ago(50), 2)), empty, empty}},
		"a histogram becomes native": {config: on, undescribed: gauges, pages: []page{
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 sample_sum: 1 bucket { cumulative_count: 1 upper_bound: 1 } } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 sample_sum: 1 zero_threshold: 1 zero_count: 1 } }\n"),
			protobuf("name: \"h\" type: GAUGE\nmetric { gauge { value: 1 } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count_float: 1 sample_sum: 1 zero_threshold: 1 zero_count_float: 1 } }\n"),
			empty,
		}},
		"formats change": {config: on, undescribed: gauges, pages: []page{
			protobuf("name: \"a\" type: GAUGE\nmetric { label { name: \"x\" value: \"1\" } gauge { value: 1 } }\n"),
			textPage("a{x=\"1\"} 2\n"),
			openMetrics("a{x=\"1\"} 3\n# EOF\n"),
			protobuf("name: \"a\" type: GAUGE\nmetric { label { name: \"x\" value: \"1\" } gauge { value: 4 } }\n"),
		}},
		"UTF-8": {pages: []page{protobuf("name: \"a.b c\" help: \"é\" type: GAUGE\nmetric { label { name: \"l.1\" value: \"\\303\\251\" } gauge { value: 1 } }\n")}},
		"one series twice": {config: on, undescribed: gauges, pages: []page{
			protobuf("name: \"a\" type: GAUGE\nmetric { gauge { value: 1 } }\nmetric { gauge { value: 2 } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 zero_threshold: 1 zero_count: 1 } }\nmetric { histogram { sample_count: 2 zero_threshold: 1 zero_count: 2 } }\n"),
		}},
		"a histogram that is not valid": {config: on, undescribed: gauges, pages: []page{
			protobuf("name: \"a\" type: GAUGE\nmetric { gauge { value: 1 } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 zero_threshold: 1 zero_count: 7 } }\n---\nname: \"b\" type: GAUGE\nmetric { gauge { value: 1 } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 schema: 99 zero_threshold: 1 zero_count: 1 } }\n"),
			protobuf("name: \"h\" type: HISTOGRAM\nmetric { histogram { sample_count: 1 zero_threshold: 1 positive_span { length: 3 } positive_delta: 1 } }\n"),
		}},
	})
}

// ago is a time so many seconds ago, Unix milliseconds.
func ago(seconds int64) int64 { return soonMillis(-seconds) }

func TestConvertedTextsLikePrometheus(t *testing.T) {
	text := "# HELP next N.\n# TYPE next gauge\nnext 1\n# HELP size Sizes.\n# TYPE size histogram\n" +
		"size_bucket{a=\"1\",le=\"1\"} 1\nsize_bucket{a=\"1\",le=\"+Inf\"} 3\nsize_sum{a=\"1\"} 7.5\nsize_count{a=\"1\"} 3\n" +
		"size_bucket{a=\"2\",le=\"1\"} 1\nsize_bucket{a=\"2\",le=\"2\"} 1.5\nsize_bucket{a=\"2\",le=\"+Inf\"} 2\nsize_sum{a=\"2\"} 7.5\nsize_count{a=\"2\"} 2\n" +
		"# HELP last L.\n# TYPE last counter\nlast 1\n# TYPE broken histogram\nbroken_bucket{le=\"1\"} 3\nbroken_bucket{le=\"+Inf\"} 1\nbroken_count 1\nbroken_sum 1\n# TYPE bare histogram\nbare_count 1\nbare_sum 2\n"
	om := "# HELP size Sizes.\n# TYPE size histogram\n# UNIT size \n" +
		"size_bucket{a=\"1\",le=\"1\"} 1 # {t=\"x\"} 0.5 1700000001.5\nsize_bucket{a=\"1\",le=\"+Inf\"} 3 # {t=\"y\"} 4\nsize_sum{a=\"1\"} 7.5\nsize_count{a=\"1\"} 3\nsize_created{a=\"1\"} 1700000001\n" +
		"size_bucket{a=\"2\",le=\"+Inf\"} 3 # {t=\"z\"} 4 1700000002\nsize_sum{a=\"2\"} 7.5\nsize_count{a=\"2\"} 3\nsize_created{a=\"2\"} 1700000002\n" +
		"# TYPE a counter\na_total 1\na_created 1700000003\n# EOF\n"
	const to = "convert_classic_histograms_to_nhcb: true"
	const and = to + "\nalways_scrape_classic_histograms: true"
	compareScrapes(t, map[string]sideBySide{
		"text":                    {config: to, pages: []page{textPage(text), textPage(text), textPage("next 1\n")}},
		"text, and classic":       {config: and, pages: []page{textPage(text), textPage(text), textPage("next 1\n")}},
		"OpenMetrics":             {config: to, pages: []page{openMetrics(om), openMetrics(om), openMetrics("# EOF\n")}},
		"OpenMetrics and classic": {config: and, pages: []page{openMetrics(om), openMetrics(om), openMetrics("# EOF\n")}},
		"a family that is a series too": {config: to, pages: []page{
			textPage("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\nh 5\n"),
			textPage("# TYPE h histogram\nh 5\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n"), textPage("other 1\n"),
		}},
	})
}
