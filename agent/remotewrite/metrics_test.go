package remotewrite

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"sql2metrics/wal"
)

func TestMetrics(t *testing.T) {
	j, f, o := backlog(t)
	r := prometheus.NewRegistry()
	o.Registerer = r
	o.Endpoint.Queue.MaxSamplesPerSend = 5
	o.Endpoint.Queue.MaxShards = 1
	s := newShip(t, o)
	s.learned.Confirmed = true
	j.appendDue(20)
	f.takesBut(2)
	s.step(epoch)
	f.says(http.StatusConflict, "no")
	s.drain(epoch.Add(1e9))
	f.says(http.StatusServiceUnavailable, "")
	now := epoch.Add(1e12)
	j.append(now, round(j.family("due", 3), now, 2)...)
	s.step(now.Add(1e10))

	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	want := `
# HELP sql2metrics_remote_write_samples_appended_total Number of samples appended to the log since this endpoint's cursor began. It is the sum of sent, dropped, unconfirmed and pending.
# TYPE sql2metrics_remote_write_samples_appended_total counter
sql2metrics_remote_write_samples_appended_total{endpoint="test"} 23
# HELP sql2metrics_remote_write_samples_dropped_total Number of samples that the receiver will not get, by reason.
# TYPE sql2metrics_remote_write_samples_dropped_total counter
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="damaged"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="disabled"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="duplicate"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="evicted"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="isolation_limit"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="lone_exemplar"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="max_block"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="rejected"} 5
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="relabel"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="too_large"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="too_old"} 0
sql2metrics_remote_write_samples_dropped_total{endpoint="test",reason="unsupported"} 0
# HELP sql2metrics_remote_write_samples_pending Number of samples in the log that are still to be sent or answered.
# TYPE sql2metrics_remote_write_samples_pending gauge
sql2metrics_remote_write_samples_pending{endpoint="test"} 3
# HELP sql2metrics_remote_write_samples_sent_total Number of samples that the receiver accepted.
# TYPE sql2metrics_remote_write_samples_sent_total counter
sql2metrics_remote_write_samples_sent_total{endpoint="test"} 10
# HELP sql2metrics_remote_write_samples_unconfirmed_total Number of samples that the receiver refused in a request that an earlier attempt may already have stored, or of which it cannot be known what was stored.
# TYPE sql2metrics_remote_write_samples_unconfirmed_total counter
sql2metrics_remote_write_samples_unconfirmed_total{endpoint="test"} 5
# HELP sql2metrics_remote_write_endpoint_state 1 for the state that the endpoint is in and 0 for the others: unknown (not asked since the start), up, throttled (it answers 429), down (no answer, or one such as 503), misconfigured (it takes nothing as it is configured), stalled (the log cannot be read or the cursor not be saved).
# TYPE sql2metrics_remote_write_endpoint_state gauge
sql2metrics_remote_write_endpoint_state{endpoint="test",state="down"} 1
sql2metrics_remote_write_endpoint_state{endpoint="test",state="misconfigured"} 0
sql2metrics_remote_write_endpoint_state{endpoint="test",state="stalled"} 0
sql2metrics_remote_write_endpoint_state{endpoint="test",state="throttled"} 0
sql2metrics_remote_write_endpoint_state{endpoint="test",state="unknown"} 0
sql2metrics_remote_write_endpoint_state{endpoint="test",state="up"} 0
# HELP sql2metrics_remote_write_protocol_info The version of the protocol that is spoken with the endpoint.
# TYPE sql2metrics_remote_write_protocol_info gauge
sql2metrics_remote_write_protocol_info{endpoint="test",protocol="2.0"} 1
`
	names := []string{namespace + "protocol_info", namespace + "endpoint_state"}
	for _, of := range []string{"appended_total", "dropped_total", "pending", "sent_total", "unconfirmed_total"} {
		names = append(names, namespace+"samples_"+of)
	}
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(r); n != 0 || err != nil {
		t.Errorf("%d metrics after close, %v", n, err)
	}
}

func TestNewWithTakenMetrics(t *testing.T) {
	_, _, o := backlog(t)
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: namespace + "retries_total", Help: "Another one.",
	}, []string{"x"}))
	o.Registerer = r
	o.Logger = slog.New(slog.DiscardHandler)
	if s, err := New(o); err == nil {
		s.Close()
		t.Error("a name that is taken is no error")
	}
	if n, err := testutil.GatherAndCount(r); n != 0 || err != nil {
		t.Errorf("%d metrics are left, %v", n, err)
	}
}

// TestScrapesAddUp scrapes as fast as it can while samples, histograms and
// exemplars are appended, shipped, refused and evicted: each scrape adds up.
func TestScrapesAddUp(t *testing.T) {
	f := newFake(t)
	f.answers(func(w http.ResponseWriter, p post) {
		switch n := len(p.body) % 5; n {
		case 0, 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set(headerSamplesWritten, "1")
			w.WriteHeader(http.StatusBadRequest)
		default:
			w.Header().Set(headerSamplesWritten, "1000")
			w.Header().Set(headerHistogramsWritten, "1000")
			w.Header().Set(headerExemplarsWritten, "1000")
		}
	})
	j := openJournal(t, t.TempDir(), wal.Options{MaxBytes: 64 << 10, SegmentBytes: 8 << 10})
	e := endpoint(t, f.URL)
	e.Queue.MaxSamplesPerSend = 30
	r := prometheus.NewRegistry()
	s := newShip(t, Options{Endpoint: e, Log: j.Log, Registerer: r})

	done, scraped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(scraped)
		for n := 1; ; n++ {
			if err := addsUp(r); err != nil {
				t.Errorf("scrape %d: %v", n, err)
				return
			}
			select {
			case <-done:
				return
			case scraped <- struct{}{}: // somebody waits for it
			default:
			}
		}
	}()
	due := j.family("due", 20)
	now := epoch
	for i := range 600 {
		now = now.Add(time.Second)
		var round wal.Round
		for k, series := range due {
			v := float64(i * k)
			if k%4 == 0 {
				round.Histograms = append(round.Histograms, wal.Histogram{Series: series, T: now.UnixMilli(), H: tsdbutil.GenerateTestHistogram(int64(i))})
				continue
			}
			round.Samples = append(round.Samples, wal.Sample{Series: series, T: now.UnixMilli(), V: v})
			round.Exemplars = append(round.Exemplars, wal.Exemplar{Series: series, T: now.UnixMilli(), V: v, Labels: labels.FromStrings("id", strconv.Itoa(i*k))})
		}
		j.appendRound(now, round)
		if i%7 != 0 {
			s.step(now)
		}
		if i%30 == 0 {
			<-scraped // so that there are some, whoever is fast
		}
	}
	close(done)
	for range scraped { // until its goroutine has ended
	}
	l := s.balance()
	if l.Dropped[ReasonEvicted].IsZero() || l.Dropped[ReasonRejected].IsZero() || l.Sent.IsZero() || l.Sent.Histograms == 0 || l.Sent.Exemplars == 0 {
		t.Errorf("the test is too tame: %+v", l)
	}
}

// addsUp gathers, and returns what does not add up.
func addsUp(g prometheus.Gatherer) error {
	families, err := g.Gather()
	if err != nil {
		return err
	}
	sums := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sums[strings.TrimPrefix(family.GetName(), namespace)] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	pending := 0.0
	for _, kind := range []string{"samples", "histograms", "exemplars"} {
		appended := sums[kind+"_appended_total"]
		sum := sums[kind+"_sent_total"] + sums[kind+"_dropped_total"] + sums[kind+"_unconfirmed_total"] + sums[kind+"_pending"]
		if appended != sum {
			return fmt.Errorf("%v %s appended, and %v accounted for: %v", appended, kind, sum, sums)
		}
		pending += sums[kind+"_pending"]
	}
	if pending == 0 && sums["backlog_bytes"] != 0 || sums["endpoint_state"] != 1 {
		return fmt.Errorf("nothing is pending, in %v bytes; %v states", sums["backlog_bytes"], sums["endpoint_state"])
	}
	return nil
}
