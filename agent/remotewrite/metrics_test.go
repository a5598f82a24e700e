package remotewrite

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
# HELP sql2metrics_remote_write_samples_unconfirmed_total Number of samples that the receiver refused when they were sent again, and may have from before.
# TYPE sql2metrics_remote_write_samples_unconfirmed_total counter
sql2metrics_remote_write_samples_unconfirmed_total{endpoint="test"} 5
# HELP sql2metrics_remote_write_protocol_info The version of the protocol that is spoken with the endpoint.
# TYPE sql2metrics_remote_write_protocol_info gauge
sql2metrics_remote_write_protocol_info{endpoint="test",protocol="2.0"} 1
`
	names := []string{namespace + "protocol_info"}
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
