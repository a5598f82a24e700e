package collect

import "testing"

func TestScrapesLikePrometheus(t *testing.T) {
	compareScrapes(t, map[string]sideBySide{
		"text": {pages: []page{textPage(`# HELP orders Orders.
# TYPE orders gauge
orders{status="open"} 3
orders{status="paid"} -2.5e3
orders{status=""} NaN
# HELP served_total Requests \\ answers.
# TYPE served_total counter
served_total 7
# TYPE size histogram
size_bucket{le="1"} 1
size_bucket{le="2.50"} 2
size_bucket{le="+Inf"} 3
size_sum 7.5
size_count 3
# TYPE wait summary
wait{quantile="0.5"} 1
wait{quantile="1"} +Inf
wait_sum 3
wait_count 2
# TYPE served_created gauge
served_created 1.7e9
plain 1
{"dotted.name", "a label"="x"} 1
`)}},
		"OpenMetrics": {pages: []page{openMetrics(`# TYPE served counter
# UNIT served requests_served
# HELP other Not that.
# EOF
`), openMetrics(`# TYPE bytes_seconds counter
# UNIT bytes_seconds seconds
# HELP bytes_seconds Time.
bytes_seconds_total{a="1"} 5
bytes_seconds_created{a="1"} 1.7e9
bytes_seconds_total{a="2"} 6
bytes_seconds_created{a="2"} 1700000000.5
bytes_seconds_total{a="3"} 7
# TYPE size histogram
size_bucket{a="1",le="1"} 1 # {trace_id="x"} 0.5 1700000001.5
size_bucket{a="1",le="+Inf"} 3 # {trace_id="y"} 4
size_sum{a="1"} 7.5
size_count{a="1"} 3
size_created{a="1"} 1700000001
size_bucket{a="2",le="+Inf"} 3
size_sum{a="2"} 7.5
size_count{a="2"} 3
size_created{a="2"} 1700000002
# TYPE wait summary
wait{quantile="0.5"} 1
wait_sum 3
wait_count 2
wait_created 1700000003
# TYPE build info
build_info{version="1"} 1
# TYPE mode stateset
mode{mode="on"} 1
mode{mode="off"} 0
# TYPE queue gaugehistogram
queue_bucket{le="1"} 1
queue_bucket{le="+Inf"} 1
queue_gsum 1
queue_gcount 1
# TYPE made gauge
made_created 5
# EOF
`)}},
		"a series goes and comes back": {pages: []page{
			textPage("a 1\nb 1\n"), textPage("a 2\n"), textPage("a 3\nb 3\n"), textPage("c 1\n"),
		}},
		"an empty page": {pages: []page{textPage("a 1\n"), textPage(""), textPage("a 1\n")}},
		"comments only": {pages: []page{textPage("a 1\n"), textPage("# nothing\n"), textPage("a 1\n")}},
		"failed scrapes": {pages: []page{
			textPage("a 1\nb 1\n"), {status: 503}, {status: 503}, textPage("a 1\nc 1\n"),
		}},
		// The fault comes first: what is read before it Prometheus takes for
		// stored, and marks it stale too late or for nothing.
		"malformed pages": {pages: []page{
			textPage("a 1\nb 1\n"), textPage("d 1\nb one\na 1\n"), textPage("a 1\nd 2\n"),
			openMetrics("c 1\n"), openMetrics("c 1\n# EOF\na 1\n"), textPage("a 1\nc 1\n"),
		}},
		"no metrics": {pages: []page{textPage("a 1\n"), {kind: "text/html", body: "<html>"}, {body: "a 1\n"}, textPage("a 1\n")}},
		"conflicting labels": {pages: []page{textPage(`a{job="x",instance="y",team="z",exported_team="w"} 1
a{job="",team="shop"} 1
`)}},
		"one label twice": {pages: []page{textPage("a 1\n"), textPage("b{x=\"1\",x=\"2\"} 1\na 1\n")}},
		"one series twice": {pages: []page{
			textPage("a{x=\"1\"} 1\na{x=\"1\"} 2\n"), textPage("a{x=\"1\"} 3\n"),
		}},
		"one series in two spellings": {pages: []page{
			textPage("a{x=\"1\",y=\"2\"} 1\n"), textPage("a{y=\"2\",x=\"1\"} 2\n"), textPage("b 1\n"),
		}},
		"own times": {pages: []page{
			openMetrics("a 1 " + soon(-60) + "\nb 1\n# EOF\n"), openMetrics("a 1 " + soon(-60) + "\nb 1\n# EOF\n"),
			openMetrics("a 2 " + soon(-50) + "\n# EOF\n"), openMetrics("b 1\n# EOF\n"), openMetrics("# EOF\n"),
		}},
		"a series gets its own time":  {pages: []page{openMetrics("a 1\n# EOF\n"), openMetrics("a 1 " + soon(-60) + "\n# EOF\n"), openMetrics("# EOF\n")}},
		"own times go back":           {pages: []page{openMetrics("a 1 " + soon(-60) + "\n# EOF\n"), openMetrics("a 2 " + soon(-70) + "\n# EOF\n")}},
		"own times far ahead":         {pages: []page{openMetrics("a 1 " + soon(7200) + "\nb 1\n# EOF\n")}},
		"several times of one series": {pages: []page{openMetrics("a 1 " + soon(-60) + "\na 2 " + soon(-50) + "\n# EOF\n")}},
		"exemplars": {pages: []page{
			openMetrics("# TYPE a counter\na_total 1 # {t=\"1\"} 1 1.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"1\"} 1 1.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"2\"} 2 2.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"3\"} 3\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"3\"} 3\n# EOF\n"),
		}},
		"metadata changes": {pages: []page{
			textPage("# HELP a One.\n# TYPE a gauge\na 1\n"), textPage("# HELP a Two.\n# TYPE a gauge\na 1\n"),
			textPage("# HELP a Two.\n# TYPE a counter\na 1\n"),
		}},
		"series that follow another family": {pages: []page{textPage("# TYPE a counter\na 1\na_sum 1\nb 1\n")}},
	})
}
