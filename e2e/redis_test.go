package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// redisConfig counts who is online in a region, in a Redis of each. It takes the
// help, and the address of each region's server. Values outlive a run that takes
// too long.
const redisConfig = `
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
self: {enabled: false}
storage: {fsync_interval: 50ms}
%s
sources:
%scollectors:
  - collector_name: online
    on_error: keep
    metrics:
      - {metric_name: lct_online_count_redis, type: gauge, help: %s, values: [value], query: "GET lct:online:count"}
`

// online is the metric by region.
type online map[string]float64

// onPage returns what the page says.
func onPage(a *agent) (online, error) {
	page, err := a.get("/metrics")
	found := online{}
	for line := range strings.Lines(string(page)) {
		if region, is := strings.CutPrefix(line, `lct_online_count_redis{region="`); is {
			region, value, _ := strings.Cut(strings.TrimSpace(region), `"} `)
			if found[region], err = strconv.ParseFloat(value, 64); err != nil {
				return nil, err
			}
		}
	}
	return found, err
}

// inReceiver returns what a query finds there.
func inReceiver(t *testing.T, r *receiver.Receiver) (online, error) {
	t.Helper()
	found := online{}
	for series, v := range r.Query(t, "max by (region) (lct_online_count_redis)", time.Now()) {
		found[strings.TrimSuffix(strings.TrimPrefix(series, `{region="`), `"}`)] = v
	}
	return found, nil
}

// TestRedisRegions collects one metric from three Redis servers, told apart by
// a label of each source. Over reloads no value is missing, wrong or old, on the
// page or in the receiver.
func TestRedisRegions(t *testing.T) {
	t.Parallel()
	regions := []string{"cn", "eu", "us"}
	redis, want := map[string]*servers.RedisServer{}, online{}
	var sources strings.Builder
	for i, region := range regions {
		redis[region] = servers.Redis(t)
		redis[region].Do(t, "SET", "lct:online:count", 1000*(i+1))
		want[region] = float64(1000 * (i + 1))
		fmt.Fprintf(&sources, "  - {name: online-%s, type: redis, host: %s, port: %d, labels: {region: %[1]s}, collectors: [online]}\n",
			region, redis[region].Host, redis[region].Port)
	}
	r := receiver.Start(t, receiver.Options{})
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	write := func(help string) {
		writeFile(t, file, fmt.Sprintf(redisConfig, remoteWrite(r.URL()), sources.String(), help))
	}
	write("First.")
	a := command(t, 0, "run", "--config.file="+file, "--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json", "--web.enable-lifecycle", "--no-config.auto-reload")
	a.waitReady(t)
	arrive := func() {
		t.Helper()
		for where, read := range map[string]func() (online, error){
			"on the page":     func() (online, error) { return onPage(a) },
			"in the receiver": func() (online, error) { return inReceiver(t, r) },
		} {
			eventually(t, "the values "+where, func() error {
				got, err := read()
				if diff := cmp.Diff(want, got); err == nil && diff != "" {
					err = fmt.Errorf("(-want +got):\n%s", diff)
				}
				return err
			})
		}
	}
	arrive()
	if err := a.shows("# HELP lct_online_count_redis First.\n# TYPE lct_online_count_redis gauge\n" +
		"lct_online_count_redis{region=\"cn\"} 1000\n"); err != nil {
		t.Error(err)
	}

	// The numbers rise by 7, so that whatever is shown at any moment is known to
	// be a number that was there, and none is older than one shown before.
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan int, 1)
	go func() {
		last, pages := online{}, 0
		for ; ctx.Err() == nil; pages++ {
			got, err := onPage(a)
			if err != nil {
				t.Error(err)
			}
			for i, region := range regions {
				v, first := got[region], float64(1000*(i+1))
				if v < max(first, last[region]) || v >= first+1000 || int(v-first)%7 != 0 {
					t.Errorf("%s shows %v after %v", region, v, last[region])
				}
			}
			last = got
		}
		watched <- pages
	}()
	for i := range 5 {
		for _, region := range regions {
			redis[region].Do(t, "INCRBY", "lct:online:count", 7)
			want[region] += 7
		}
		write(fmt.Sprintf("Number %d.", i))
		if status, answer := a.post(t, "/-/reload"); status != http.StatusOK {
			t.Fatalf("the reload answers %d: %s", status, answer)
		}
		if err := a.shows(fmt.Sprintf("# HELP lct_online_count_redis Number %d.\n", i)); err != nil {
			t.Error(err)
		}
		arrive()
	}
	cancel()
	if pages := <-watched; pages == 0 {
		t.Error("no page was looked at")
	}
	checkRuns(t, a.metrics(t))
	a.stop(t)

	series := r.Samples(t, `{__name__="lct_online_count_redis"}`)
	if len(series) != len(regions) {
		t.Errorf("the receiver has %d series", len(series))
	}
	for i, region := range regions {
		instance := fmt.Sprintf("%s:%d", redis[region].Host, redis[region].Port)
		name := fmt.Sprintf(`{__name__="lct_online_count_redis", instance=%q, job="redis", region=%q}`, instance, region)
		last := float64(1000 * (i + 1))
		for _, s := range series[name] {
			if s.Stale() || s.V < last || int(s.V-last)%7 != 0 {
				t.Errorf("%s has %v after %v", name, s.V, last)
			}
			last = s.V
		}
		if last != want[region] {
			t.Errorf("%s ends with %v, want %v", name, last, want[region])
		}
	}
}
