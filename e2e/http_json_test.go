package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// jobsConfig reads jobs from an API. It takes the endpoints, the API's address
// and a help.
const jobsConfig = `
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
  - {name: jobs, type: http_json, url: "http://%s/api/", instance: jobs, allow_post: true, collectors: [jobs]}
collectors:
  - collector_name: jobs
    queries:
      - query_name: jobs
        query: |
          POST search

          {"state": "*"}
        json: {rows: data.jobs, columns: {id: "@key", owner: meta.owner, done: counts.0}}
    metrics:
      - {metric_name: job_done_total, type: counter, help: %s, key_labels: [id, owner, serial], values: [done], query_ref: jobs}
      - {metric_name: job_state, type: gauge, help: 1 while it runs., key_labels: [id], values: [state], value_map: {running: 1, paused: 0.5, failed: 0}, query_ref: jobs}
      - {metric_name: job_enabled, type: gauge, help: 1 if it is., key_labels: [id], values: [enabled], value_map: {"true": 1, "false": 0}, query_ref: jobs}
      - {metric_name: jobs, type: gauge, help: Jobs., values: [n], query: GET count, json: {rows: total, columns: {n: "@this"}}}
      - {metric_name: jobs_api_status, type: gauge, help: Status of the last answer., values: [status], query: HEAD /}
`

// jobs is an API that can be taken down and comes back at its address. What its
// first job has done grows with each answer.
type jobs struct {
	address string
	port    net.Listener
	server  *http.Server
	ended   chan struct{}
	done    atomic.Int64
}

func startJobs(t *testing.T) *jobs {
	j := &jobs{address: servers.HoldPort(t)}
	j.start(t)
	t.Cleanup(j.stop)
	return j
}

func (j *jobs) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", j.address)
	if err != nil {
		t.Fatal(err)
	}
	server, ended := &http.Server{Handler: j}, make(chan struct{})
	j.port, j.server, j.ended = l, server, ended
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
}

func (j *jobs) stop() {
	_ = servers.Unlisten(j.port)
	<-j.ended
	_ = j.server.Close()
}

// ServeHTTP implements [http.Handler].
func (j *jobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch text := fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, strings.TrimSpace(string(body))); text {
	case `POST /api/search {"state": "*"}`:
		fmt.Fprintf(w, `{"data":{"jobs":{
			"mail \"a\"": {"serial": 9007199254740993, "meta": {"owner": "j\u00f6rg"}, "counts": [%d, 7], "state": "running", "enabled": true},
			"backup": {"serial": 18446744073709551616, "meta": {"owner": null}, "counts": [1e2], "state": "paused", "enabled": false}}}}`, j.done.Add(1))
	case "GET /api/count ":
		fmt.Fprint(w, `{"total": 2}`)
	case "HEAD / ":
	default:
		http.Error(w, "no such thing: "+text, http.StatusNotFound)
	}
}

// TestHTTPJSON reads an API through kills of the agent, an outage of the API and
// a reload: labels are exact, texts and bools become numbers, and no value is
// one that the API has not given.
func TestHTTPJSON(t *testing.T) {
	t.Parallel()
	api := startJobs(t)
	r := receiver.Start(t, receiver.Options{})
	file, storage := filepath.Join(t.TempDir(), "sql2metrics.yml"), filepath.Join(t.TempDir(), "data")
	write := func(help string) {
		writeFile(t, file, fmt.Sprintf(jobsConfig, remoteWrite(r.URL()), api.address, help))
	}
	write("First.")
	run := func() *agent {
		a := command(t, 0, "run", "--config.file="+file, "--storage.path="+storage,
			"--web.listen-address=127.0.0.1:0", "--log.format=json", "--web.enable-lifecycle", "--no-config.auto-reload")
		a.waitReady(t)
		return a
	}
	stored := func(query string, want map[string]float64) {
		t.Helper()
		eventually(t, query, func() error {
			if diff := cmp.Diff(want, r.Query(t, query, time.Now())); diff != "" {
				return fmt.Errorf("(-want +got):\n%s", diff)
			}
			return nil
		})
	}
	// grows waits until the first job has done more than before.
	grows := func() {
		t.Helper()
		before := float64(api.done.Load())
		eventually(t, "newer values", func() error {
			for _, v := range r.Query(t, `max(job_done_total{serial="9007199254740993"})`, time.Now()) {
				if v > before {
					return nil
				}
			}
			return fmt.Errorf("none is over %v", before)
		})
	}

	a := run()
	stored("count by (id, owner, serial) (job_done_total)", map[string]float64{
		`{id="mail \"a\"", owner="jörg", serial="9007199254740993"}`: 1,
		`{id="backup", serial="18446744073709551616"}`:               1,
	})
	stored("sum by (id) (job_state)", map[string]float64{`{id="mail \"a\""}`: 1, `{id="backup"}`: 0.5})
	stored("sum by (id) (job_enabled)", map[string]float64{`{id="mail \"a\""}`: 1, `{id="backup"}`: 0})
	stored(`sum by (id) (job_done_total{id="backup"})`, map[string]float64{`{id="backup"}`: 100})
	stored("sum by (__name__, job, instance) ({__name__=~'jobs|jobs_api_status|up'})", map[string]float64{
		`{__name__="jobs", instance="jobs", job="http_json"}`:            2,
		`{__name__="jobs_api_status", instance="jobs", job="http_json"}`: 200,
		`{__name__="up", instance="jobs", job="http_json"}`:              1,
	})
	eventually(t, "the jobs on the page", func() error { return a.shows("jobs 2\n") })

	for range 3 {
		a.kill()
		a = run()
		grows()
	}

	api.stop()
	stored("up", map[string]float64{`{__name__="up", instance="jobs", job="http_json"}`: 0})
	stored("job_state", map[string]float64{})
	api.start(t)
	stored("up", map[string]float64{`{__name__="up", instance="jobs", job="http_json"}`: 1})
	stored("sum by (id) (job_state)", map[string]float64{`{id="mail \"a\""}`: 1, `{id="backup"}`: 0.5})
	grows()

	write("Second.")
	if status, answer := a.post(t, "/-/reload"); status != http.StatusOK {
		t.Fatalf("the reload answers %d: %s", status, answer)
	}
	eventually(t, "the new help on the page", func() error { return a.shows("# HELP job_done_total Second.\n") })
	grows()
	checkBooks(t, a)
	a.stop(t)

	last := 0.0
	for series, samples := range r.Samples(t, `{__name__="job_done_total",serial="9007199254740993"}`) {
		for _, s := range samples {
			if s.Stale() {
				continue
			}
			if s.V < last || s.V > float64(api.done.Load()) {
				t.Errorf("%s has %v after %v, of %d", series, s.V, last, api.done.Load())
			}
			last = s.V
		}
	}
}
