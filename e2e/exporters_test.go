package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/proto"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// exporters are Debian's exporters of a machine, a MariaDB and a Redis, and a
// Pushgateway, with an agent that scrapes them and a receiver.
type exporters struct {
	byJob    map[string]*servers.Exporter
	push     servers.PushgatewayServer
	tap      *tap
	receiver *receiver.Receiver
	setup    setup // of the agent
	agent    *agent
	log      *ledger
}

// tappedJobs are the jobs that are scraped through the tap.
func tappedJobs() []string { return []string{"node", "mysqld", "redis", "push"} }

// The formats in which groups are pushed.
const pushedText = "text/plain; version=0.0.4"

var pushedProtobuf = expfmt.NewFormat(expfmt.TypeProtoDelim)

// onPages selects all series but the companions of scrapes.
const onPages = `{__name__!~"|up|scrape_.+"}`

// lasting are those without the machine's, whose disks and mounts come and go.
const lasting = `{__name__!~"|up|scrape_.+", job!="node"}`

// startExporters starts them all. The Pushgateway is scraped under two jobs: push,
// as its manual tells to, with honor_labels, and pushed, without. All others than
// pushed are scraped through the tap.
func startExporters(t *testing.T) *exporters {
	t.Helper()
	push := servers.Pushgateway(t)
	x := &exporters{
		byJob: map[string]*servers.Exporter{
			"node":   servers.NodeExporter(t),
			"mysqld": servers.MySQLdExporter(t, servers.MySQL(t)),
			"redis":  servers.RedisExporter(t, servers.Redis(t)),
			"push":   push.Exporter,
			"pushed": push.Exporter,
		},
		push:     push,
		tap:      startTap(t),
		receiver: receiver.Start(t, receiver.Options{}),
	}
	var sources strings.Builder
	for job, e := range x.byJob {
		through := ", proxy_url: " + x.tap.URL
		if job == "pushed" {
			through = ""
		}
		fmt.Fprintf(&sources, "  - {name: %s, type: prometheus, job: %[1]s, url: %q, honor_labels: %t%s}\n", job, "http://"+e.Addr(), job == "push", through)
	}
	x.setup = setup{storage: filepath.Join(t.TempDir(), "data"), config: fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
self: {enabled: false}
storage: {fsync_interval: 50ms}
remote_write: [{name: mimir, url: %s, queue_config: {batch_send_deadline: 50ms, min_backoff: 30ms, max_backoff: 200ms}}]
sources:
%s`, x.receiver.URL(), sources.String())}
	return x
}

// startAgent starts the agent, and once more after its end.
func (x *exporters) startAgent(t *testing.T) {
	t.Helper()
	x.agent = start(t, x.setup)
	if x.log == nil {
		x.log = follow(t, x.setup.storage)
	}
}

// exposed is what a page says.
type exposed struct {
	values map[string]float64 // by label set, as a receiver is to have it
	about  map[string]metadata.Metadata
}

// read reads a page of a job.
func (x *exporters) read(t *testing.T, job string, page tapped) exposed {
	t.Helper()
	p, err := textparse.New(page.body, page.contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := exposed{map[string]float64{}, map[string]metadata.Metadata{}}
	var lset labels.Labels
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch entry {
		case textparse.EntryHelp:
			name, help := p.Help()
			m := all.about[string(name)]
			m.Help = string(help)
			all.about[string(name)] = m
		case textparse.EntryType:
			name, kind := p.Type()
			m := all.about[string(name)]
			m.Type = kind
			all.about[string(name)] = m
		case textparse.EntrySeries:
			_, _, v := p.Series()
			p.Labels(&lset)
			all.values[x.attach(job, lset).String()] = v
		}
	}
}

// attach returns the labels of a series as a scrape of a job makes them.
func (x *exporters) attach(job string, own labels.Labels) labels.Labels {
	lb := labels.NewBuilder(own)
	for name, value := range map[string]string{"job": job, "instance": x.byJob[job].Addr()} {
		if job != "push" {
			lb.Set("exported_"+name, own.Get(name)).Set(name, value)
		} else if !own.Has(name) { // not even empty
			lb.Set(name, value)
		}
	}
	return lb.Labels()
}

// agree waits until the receiver has the newest scrape of a job, and compares
// that with the pages since: it is one of them, and which one is not known of a
// scrape that was late. It returns the page.
func (x *exporters) agree(t *testing.T, job string) (page exposed) {
	t.Helper()
	var diff string
	eventually(t, "what the page of "+job+" says", func() error {
		var scrape int64
		for _, samples := range x.receiver.Samples(t, fmt.Sprintf("up{job=%q}", job)) {
			scrape = samples[len(samples)-1].T
		}
		got := map[string]float64{}
		for series, samples := range x.receiver.Samples(t, onPages) {
			for _, s := range samples {
				if s.T == scrape && !s.Stale() {
					got[series] = s.V
				}
			}
		}
		pages := x.tap.since(x.byJob[job].Addr(), scrape)
		whole := len(pages) > 0
		for _, from := range pages {
			page = x.read(t, job, from)
			if len(got) < len(page.values) { // the scrape goes in several requests
				whole = false
			} else if diff = cmp.Diff(page.values, got, cmpopts.EquateNaNs()); diff == "" {
				return nil
			}
		}
		if !whole {
			return fmt.Errorf("%d series have arrived", len(got))
		}
		return nil // and diff says what is wrong
	})
	if diff != "" {
		t.Errorf("%s (-page +received):\n%s", job, diff)
	}
	return page
}

// arrive waits until everything is up and the receiver has what the pages say.
func (x *exporters) arrive(t *testing.T) {
	t.Helper()
	x.health(t, 1, slices.Collect(maps.Keys(x.byJob))...)
	for _, job := range tappedJobs() {
		x.agree(t, job)
	}
}

// health waits until the receiver has this for up of some jobs.
func (x *exporters) health(t *testing.T, up float64, jobs ...string) {
	t.Helper()
	for _, job := range jobs {
		want := map[string]float64{fmt.Sprintf(`{__name__="up", instance=%q, job=%q}`, x.byJob[job].Addr(), job): up}
		eventually(t, fmt.Sprintf("up %v of %s", up, job), func() error {
			if diff := cmp.Diff(want, x.receiver.Query(t, fmt.Sprintf("up{job=%q}", job), time.Now())); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
}

// gone waits until every series that matches a selector has ended with a stale
// marker.
func (x *exporters) gone(t *testing.T, selector string) {
	t.Helper()
	eventually(t, "the end of "+selector, func() error {
		all := x.receiver.Samples(t, selector)
		for series, samples := range all {
			if !samples[len(samples)-1].Stale() {
				return fmt.Errorf("%s goes on", series)
			}
		}
		return atLeast(len(all), 1)
	})
}

// described is the metadata that the receiver was told, by label set.
func (x *exporters) described() map[string]metadata.Metadata {
	all := map[string]metadata.Metadata{}
	for _, r := range x.receiver.Requests() {
		for _, s := range r.Series {
			all[s.Labels] = s.Metadata
		}
	}
	return all
}

// balance checks the agent's books from the lines of the pages to the receiver.
func (x *exporters) balance(t *testing.T) {
	t.Helper()
	checkBooks(t, x.agent)
	if sums, err := x.agent.get("/debug/completeness?format=json"); err != nil || !strings.Contains(string(sums), `"adds_up": true`) {
		t.Errorf("the page of completeness: %v %s", err, sums)
	}
}

// finish stops the agent and holds the receiver against its log: everything
// came, in order, and nothing was refused but what had come before: a request
// that was on its way when the agent was killed is sent again.
func (x *exporters) finish(t *testing.T) {
	t.Helper()
	x.balance(t)
	x.agent.stop(t)
	x.log.close(t)
	x.log.compare(t, x.receiver.Samples(t, everything))
	requests := x.receiver.Requests()
	x.log.checkDeliveries(t, requests)
	type place struct {
		series string
		at     int64
	}
	stored, refused := map[place]bool{}, map[place]int{}
	for _, r := range requests {
		for _, series := range r.Series {
			for _, s := range series.Samples {
				if p := (place{series.Labels, s.T}); r.Status/100 == 2 {
					stored[p] = true
				} else {
					refused[p] = r.Status
				}
			}
		}
	}
	for p, status := range refused {
		if !stored[p] {
			t.Errorf("%v was answered with %d", p, status)
			return
		}
	}
}

// TestExporters forwards what Debian's exporters say, while they and the agent
// are killed and come back, and groups come and go at the Pushgateway.
func TestExporters(t *testing.T) {
	t.Parallel()
	x := startExporters(t)
	x.push.Push(t, "job/backup/instance/db1", pushedText, []byte("# HELP saved_bytes Size of the backup.\n# TYPE saved_bytes gauge\nsaved_bytes 7\n"))
	x.push.Push(t, "job/report", string(pushedProtobuf), pushed(t, "report_seconds"))
	x.startAgent(t)
	x.arrive(t)

	t.Run("labels of a Pushgateway", func(t *testing.T) {
		own := fmt.Sprintf(`instance=%q, job="pushed"`, x.push.Addr())
		want := map[string]float64{
			`{__name__="saved_bytes", instance="db1", job="backup"}`:                                7,
			`{__name__="saved_bytes", exported_instance="db1", exported_job="backup", ` + own + `}`: 7,
			`{__name__="report_seconds_bucket", job="report", le="1.0"}`:                            1,
			`{__name__="report_seconds_bucket", exported_job="report", ` + own + `, le="1.0"}`:      1,
		}
		eventually(t, "the pushed series", func() error {
			if diff := cmp.Diff(want, x.receiver.Query(t, `saved_bytes or report_seconds_bucket{le="1.0"}`, time.Now())); diff != "" {
				return fmt.Errorf("(-want +got):\n%s", diff)
			}
			return nil
		})
	})
	t.Run("companions", func(t *testing.T) {
		for job := range x.byJob {
			for _, companion := range []string{"scrape_samples_scraped", "scrape_samples_post_metric_relabeling"} {
				query := fmt.Sprintf(`%s{job=%q} == scalar(count({job=%[2]q, __name__!~"up|scrape_.+"}))`, companion, job)
				if job == "push" { // whose series have jobs of their own
					query = fmt.Sprintf(`%s{job="push"} == scalar(scrape_samples_scraped{job="pushed"})`, companion)
				}
				eventually(t, query, func() error { return atLeast(len(x.receiver.Query(t, query, time.Now())), 1) })
			}
			for _, companion := range []string{"scrape_duration_seconds", "scrape_series_added"} {
				query := fmt.Sprintf("max_over_time(%s{job=%q}[1h]) > 0", companion, job)
				if len(x.receiver.Query(t, query, time.Now())) != 1 {
					t.Errorf("there is no %s", query)
				}
			}
		}
	})
	t.Run("metadata", func(t *testing.T) {
		for _, job := range tappedJobs() {
			page, received := x.agree(t, job), x.described()
			told := 0
			for series := range page.values {
				name, _, _ := strings.Cut(strings.TrimPrefix(series, `{__name__="`), `"`)
				want, ok := page.about[name]
				if !ok {
					continue // a part of a histogram or a summary
				}
				told++
				if diff := cmp.Diff(want, received[series]); diff != "" {
					t.Errorf("%s (-page +received):\n%s", series, diff)
				}
			}
			if err := atLeast(told, len(page.values)/2); err != nil {
				t.Errorf("series of %s with metadata: %v", job, err)
			}
		}
	})
	t.Run("a group ends", func(t *testing.T) {
		x.push.Delete(t, "job/backup/instance/db1")
		x.gone(t, "saved_bytes")
		x.health(t, 1, "push", "pushed")
	})
	t.Run("killed exporters", func(t *testing.T) {
		for _, e := range x.byJob {
			if err := e.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		x.health(t, 0, slices.Collect(maps.Keys(x.byJob))...)
		x.gone(t, onPages)
		for _, e := range x.byJob {
			if err := e.Start(); err != nil {
				t.Fatal(err)
			}
		}
		x.arrive(t)
	})

	x.balance(t)
	before := x.receiver.Query(t, lasting, time.Now())
	x.agent.kill()
	x.startAgent(t)
	x.arrive(t)
	eventually(t, "the series from before the agent was killed", func() error {
		after := x.receiver.Query(t, lasting, time.Now())
		for series := range before {
			if _, ok := after[series]; !ok {
				return fmt.Errorf("%s is lost", series)
			}
		}
		return nil
	})
	x.finish(t)
}

// pushed is a histogram as protobuf.
func pushed(t *testing.T, name string) []byte {
	t.Helper()
	var body strings.Builder
	if err := expfmt.NewEncoder(&body, pushedProtobuf).Encode(&dto.MetricFamily{
		Name: proto.String(name), Type: dto.MetricType_HISTOGRAM.Enum(),
		Metric: []*dto.Metric{{Histogram: &dto.Histogram{
			SampleCount: proto.Uint64(3), SampleSum: proto.Float64(12.5),
			Bucket: []*dto.Bucket{{UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(1)}},
		}}},
	}); err != nil {
		t.Fatal(err)
	}
	return []byte(body.String())
}

// TestExporterLimits scrapes one exporter as several jobs, which take only a
// part of its page, or nothing because it is too much.
func TestExporterLimits(t *testing.T) {
	t.Parallel()
	node := servers.NodeExporter(t)
	r := receiver.Start(t, receiver.Options{})
	start(t, setup{config: fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - name: load
    type: prometheus
    url: &node %s
    instance: here
    job: load
    metric_relabel_configs:
      - {source_labels: [__name__], regex: "node_load.*", action: keep}
      - {source_labels: [__name__], regex: "node_load(.*)", target_label: minutes, replacement: "$1"}
      - {target_label: __name__, replacement: load}
    sample_limit: 3
    label_limit: 4
  - {name: samples, type: prometheus, url: *node, job: samples, sample_limit: 5}
  - {name: labels, type: prometheus, url: *node, job: labels, label_limit: 3}
  - {name: names, type: prometheus, url: *node, job: names, label_name_length_limit: 10}
  - {name: values, type: prometheus, url: *node, job: values, label_value_length_limit: 10}
  - {name: body, type: prometheus, url: *node, job: body, body_size_limit: 10KB}
`, remoteWrite(r.URL()), node.URL())})
	up := map[string]float64{`{job="load"}`: 1} // at any time
	for _, job := range []string{"samples", "labels", "names", "values", "body"} {
		up[fmt.Sprintf("{job=%q}", job)] = 0
	}
	for query, want := range map[string]map[string]float64{
		"max by (job) (max_over_time(up[1h]))": up,
		"load * 0": {
			`{instance="here", job="load", minutes="1"}`: 0, `{instance="here", job="load", minutes="5"}`: 0, `{instance="here", job="load", minutes="15"}`: 0,
		},
		`count by (job) (` + onPages + `)`:                      {`{job="load"}`: 3},
		`scrape_samples_post_metric_relabeling{job="load"} - 3`: {`{instance="here", job="load"}`: 0},
	} {
		eventually(t, query, func() error {
			if diff := cmp.Diff(want, r.Query(t, query, time.Now())); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
}
