package collect

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"sql2metrics/wal"
)

// TestScrapesLikePrometheus lets Prometheus's own scrape loop and a Scrape read
// the same pages, one after the other, and compares what each of them stores.
func TestScrapesLikePrometheus(t *testing.T) {
	soon := func(seconds float64) string {
		return fmt.Sprintf("%.3f", float64(time.Now().Unix())+seconds)
	}
	cases := map[string][]page{
		"text": {textPage(`# HELP orders Orders.
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
`)},
		"OpenMetrics": {openMetrics(`# TYPE served counter
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
`)},
		"a series goes and comes back": {
			textPage("a 1\nb 1\n"), textPage("a 2\n"), textPage("a 3\nb 3\n"), textPage("c 1\n"),
		},
		"an empty page": {textPage("a 1\n"), textPage(""), textPage("a 1\n")},
		"comments only": {textPage("a 1\n"), textPage("# nothing\n"), textPage("a 1\n")},
		"failed scrapes": {
			textPage("a 1\nb 1\n"), {status: 503}, {status: 503}, textPage("a 1\nc 1\n"),
		},
		// The fault comes first: what is read before it Prometheus takes for
		// stored, and marks it stale too late or for nothing.
		"malformed pages": {
			textPage("a 1\nb 1\n"), textPage("d 1\nb one\na 1\n"), textPage("a 1\nd 2\n"),
			openMetrics("c 1\n"), openMetrics("c 1\n# EOF\na 1\n"), textPage("a 1\nc 1\n"),
		},
		"no metrics": {textPage("a 1\n"), {kind: "text/html", body: "<html>"}, {body: "a 1\n"}, textPage("a 1\n")},
		"conflicting labels": {textPage(`a{job="x",instance="y",team="z",exported_team="w"} 1
a{job="",team="shop"} 1
`)},
		"one label twice": {textPage("a 1\n"), textPage("b{x=\"1\",x=\"2\"} 1\na 1\n")},
		"one series twice": {
			textPage("a{x=\"1\"} 1\na{x=\"1\"} 2\n"), textPage("a{x=\"1\"} 3\n"),
		},
		"one series in two spellings": {
			textPage("a{x=\"1\",y=\"2\"} 1\n"), textPage("a{y=\"2\",x=\"1\"} 2\n"), textPage("b 1\n"),
		},
		"own times": {
			openMetrics("a 1 " + soon(-60) + "\nb 1\n# EOF\n"), openMetrics("a 1 " + soon(-60) + "\nb 1\n# EOF\n"),
			openMetrics("a 2 " + soon(-50) + "\n# EOF\n"), openMetrics("b 1\n# EOF\n"), openMetrics("# EOF\n"),
		},
		"a series gets its own time":  {openMetrics("a 1\n# EOF\n"), openMetrics("a 1 " + soon(-60) + "\n# EOF\n"), openMetrics("# EOF\n")},
		"own times go back":           {openMetrics("a 1 " + soon(-60) + "\n# EOF\n"), openMetrics("a 2 " + soon(-70) + "\n# EOF\n")},
		"own times far ahead":         {openMetrics("a 1 " + soon(7200) + "\nb 1\n# EOF\n")},
		"several times of one series": {openMetrics("a 1 " + soon(-60) + "\na 2 " + soon(-50) + "\n# EOF\n")},
		"exemplars": {
			openMetrics("# TYPE a counter\na_total 1 # {t=\"1\"} 1 1.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"1\"} 1 1.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"2\"} 2 2.5\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"3\"} 3\n# EOF\n"),
			openMetrics("# TYPE a counter\na_total 1 # {t=\"3\"} 3\n# EOF\n"),
		},
		"metadata changes": {
			textPage("# HELP a One.\n# TYPE a gauge\na 1\n"), textPage("# HELP a Two.\n# TYPE a gauge\na 1\n"),
			textPage("# HELP a Two.\n# TYPE a counter\na 1\n"),
		},
		"series that follow another family": {textPage("# TYPE a counter\na 1\na_sum 1\nb 1\n")},
	}
	// Prometheus takes a second for each page, so all cases wait together.
	var running sync.WaitGroup
	var mu sync.Mutex
	stored, asked := map[string][]string{}, http.Header{}
	for name, pages := range cases {
		running.Go(func() {
			rounds, header, err := prometheusScrapes(pages)
			mu.Lock()
			defer mu.Unlock()
			asked = header
			if stored[name] = rounds; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	running.Wait()
	for name, pages := range cases {
		t.Run(name, func(t *testing.T) {
			got, header := ourScrapes(t, pages)
			for _, h := range []string{"Accept", "Accept-Encoding"} {
				if got, want := header.Get(h), asked.Get(h); got != want {
					t.Errorf("%s: Prometheus sends %s, we %s", h, want, got)
				}
			}
			for i, want := range stored[name] {
				if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got[i], "\n")); diff != "" {
					t.Errorf("page %d: Prometheus stores -, we +:\n%s", i+1, diff)
				}
			}
		})
	}
}

func ourScrapes(t *testing.T, pages []page) (rounds []string, asked http.Header) {
	r := newScrapeRig(t, pages...)
	base := time.Now()
	for i := range pages {
		rounds = append(rounds, r.stepAt(base.Add(time.Duration(i)*time.Second)))
	}
	return rounds, r.asked
}

// prometheusScrapes returns what Prometheus stores of each page, and how it
// asks for them.
func prometheusScrapes(pages []page) (rounds []string, asked http.Header, err error) {
	store := &memory{
		rounds: make(chan string, len(pages)), series: map[string]storage.SeriesRef{},
		last: map[storage.SeriesRef]int64{}, exemplars: map[string]bool{},
	}
	over := make(chan struct{})
	served := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served++; served > len(pages) {
			<-over
			return
		}
		asked = r.Header.Clone()
		pages[served-1].serve(w)
	}))
	defer server.Close()
	m, err := scrape.NewManager(&scrape.Options{
		AppendMetadata: true, ParseST: true, DiscoveryReloadInterval: model.Duration(10 * time.Millisecond),
	}, nil, nil, nil, store, prometheus.NewRegistry())
	if err != nil {
		return nil, nil, err
	}
	c, err := promconfig.Load("scrape_configs: [{job_name: pg, scrape_interval: 1s, scrape_timeout: 1s}]", discard)
	if err != nil {
		return nil, nil, err
	}
	if err := m.ApplyConfig(c); err != nil {
		return nil, nil, err
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- map[string][]*targetgroup.Group{"pg": {{Targets: []model.LabelSet{{
		model.AddressLabel: model.LabelValue(strings.TrimPrefix(server.URL, "http://")),
		"instance":         "h:1", "team": "shop",
	}}}}}
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(targets) })
	defer running.Wait()
	defer m.Stop()
	defer close(over)
	for range pages {
		select {
		case round := <-store.rounds:
			rounds = append(rounds, round)
		case <-time.After(time.Minute):
			return rounds, asked, fmt.Errorf("Prometheus has not stored page %d", len(rounds)+1)
		}
	}
	return rounds, asked, nil
}

// memory stores what Prometheus appends, by the rules of its own database.
type memory struct {
	rounds    chan string
	series    map[string]storage.SeriesRef
	last      map[storage.SeriesRef]int64
	exemplars map[string]bool
}

func (m *memory) AppenderV2(context.Context) storage.AppenderV2 { return &memoryRound{memory: m} }

type memoryRound struct {
	*memory
	pending []memorySample
}

type memorySample struct {
	ref storage.SeriesRef
	printedSample
}

func (r *memoryRound) Append(_ storage.SeriesRef, lset labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	if _, twice := lset.HasDuplicateLabelNames(); twice {
		return 0, fmt.Errorf("label name not unique")
	}
	if t > time.Now().Add(10*time.Minute).UnixMilli() {
		return 0, storage.ErrOutOfBounds
	}
	ref := r.series[lset.String()]
	if ref == 0 {
		ref = storage.SeriesRef(len(r.series) + 1)
		r.series[lset.String()] = ref
	}
	if last, ok := r.last[ref]; ok && t < last {
		return 0, storage.ErrOutOfOrderSample
	}
	s := printedSample{labels: lset, st: st, t: t, v: v, meta: wal.Metadata{Type: o.Metadata.Type, Unit: o.Metadata.Unit, Help: o.Metadata.Help}}
	for _, e := range o.Exemplars {
		key := fmt.Sprint(ref, e.Labels, e.Value)
		if e.HasTs {
			key += fmt.Sprint(e.Ts)
		}
		if !r.exemplars[key] {
			r.exemplars[key] = true
			s.exemplars = append(s.exemplars, wal.Exemplar{T: e.Ts, V: e.Value, Labels: e.Labels})
		}
	}
	r.pending = append(r.pending, memorySample{ref, s})
	return ref, nil
}

func (r *memoryRound) Commit() error {
	var round []printedSample
	for _, s := range r.pending {
		if last, ok := r.last[s.ref]; ok && s.t <= last {
			continue
		}
		r.last[s.ref] = s.t
		round = append(round, s.printedSample)
	}
	select {
	case r.rounds <- printRound(round):
	default: // the end of the test
	}
	return nil
}

func (r *memoryRound) Rollback() error { return nil }
