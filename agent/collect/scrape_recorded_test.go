package collect

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordings are the answers in testdata/expositions, two of each kind, by
// server and format.
func recordings(t *testing.T) map[string][]page {
	t.Helper()
	first, err := filepath.Glob("testdata/expositions/*-1.*")
	if err != nil || len(first) == 0 {
		t.Fatalf("%d recordings: %v", len(first), err)
	}
	all := map[string][]page{}
	for _, file := range first {
		name := strings.Replace(filepath.Base(file), "-1.", " ", 1)
		all[name] = []page{recording(t, file), recording(t, strings.Replace(file, "-1.", "-2.", 1))}
	}
	return all
}

func recording(t *testing.T, file string) page {
	t.Helper()
	answer, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return page{kind: res.Header.Get("Content-Type"), body: string(text)}
}

// TestRecordedLikePrometheus lets both read what real servers answered: the
// first page, the second, and the first again, so that what went comes back.
func TestRecordedLikePrometheus(t *testing.T) {
	cases := map[string]sideBySide{}
	for name, pages := range recordings(t) {
		pages = append(pages, pages[0])
		cases[name] = sideBySide{pages: pages}
		switch name {
		case "client_golang protobuf", "sql2metrics protobuf":
			for also, config := range map[string]string{
				"native":             "scrape_native_histograms: true",
				"native and classic": "scrape_native_histograms: true\nalways_scrape_classic_histograms: true",
				"all native":         "scrape_native_histograms: true\nconvert_classic_histograms_to_nhcb: true",
				"coarser":            "scrape_native_histograms: true\nnative_histogram_bucket_limit: 4\nnative_histogram_min_bucket_factor: 2",
			} {
				cases[name+", "+also] = sideBySide{config: config, pages: pages}
			}
		case "client_golang text", "client_golang openmetrics":
			cases[name+", all native"] = sideBySide{config: "convert_classic_histograms_to_nhcb: true", pages: pages}
		case "pushgateway text", "pushgateway protobuf":
			cases[name+", honor_labels"] = sideBySide{config: "honor_labels: true", pages: pages}
		case "node text":
			cases[name+", relabelled"] = sideBySide{pages: pages, config: `
metric_relabel_configs:
- {source_labels: [__name__], regex: 'go_.*|promhttp_.*', action: drop}
- {regex: device, action: labeldrop}
- {source_labels: [__name__, mode], regex: 'node_cpu_seconds_total;(.*)', target_label: __name__, replacement: 'node_cpu_${1}_seconds_total'}
- {source_labels: [collector], regex: (.+), target_label: job}
sample_limit: 10000
label_limit: 20
label_name_length_limit: 100
label_value_length_limit: 300`}
			cases[name+", too many samples"] = sideBySide{config: "sample_limit: 100", pages: pages, unmarked: []int{2, 3}}
			cases[name+", too long labels"] = sideBySide{config: "label_value_length_limit: 40", pages: pages, unmarked: []int{2, 3}}
		}
	}
	compareScrapes(t, cases)
}

// TestDamagedLikePrometheus lets both read recordings that were cut off or had a
// bit turned over, at places that a seed decides: either keeps all of such a page
// or nothing, and so does the other. By chance no bit is turned where
// docs/scraping.md tells of a difference.
func TestDamagedLikePrometheus(t *testing.T) {
	cases := map[string]sideBySide{}
	for name, pages := range recordings(t) {
		whole := pages[0].body
		if len(whole) > 30_000 {
			continue // it says nothing that the others do not
		}
		r := rand.New(rand.NewPCG(16, uint64(len(whole))))
		add := func(damage, body string) {
			cases[name+damage] = sideBySide{config: "scrape_native_histograms: true", pages: []page{{kind: pages[0].kind, body: body}}}
		}
		for range 6 {
			at := r.IntN(len(whole))
			add(fmt.Sprintf(" cut at %d", at), whole[:at])
			turned := []byte(whole)
			at = r.IntN(len(whole))
			turned[at] ^= 1 << r.IntN(8)
			add(fmt.Sprintf(" with %q at %d", turned[at], at), string(turned))
		}
	}
	compareScrapes(t, cases)
}

// TestBrokenExemplar reads an exemplar that is none. Prometheus, told to read
// start timestamps, looks ahead over it for ever, so that it is not asked.
func TestBrokenExemplar(t *testing.T) {
	t.Parallel()
	for name, convert := range map[string]bool{"as it is": false, "converted": true} {
		t.Run(name, func(t *testing.T) {
			source := scrapedSource()
			source.Scrape.ConvertToNHCB = convert
			r := newScrapeRigOf(t, source, openMetrics("# TYPE a counter\na_total 1\na_total{x=\"1\"} 1 # \xe4trace_id=\"x\"} 1\n# EOF\n"))
			if got := r.stepAt(t0); !strings.Contains(got, `up{instance="h:1", job="pg", team="shop"} 0 @now`) || strings.Contains(got, "a_total") {
				t.Error(got)
			}
		})
	}
}
