package remotewrite

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// metadata lists what requests of metadata hold since the last call; requests
// of samples have to have none.
func (f *fake) metadata() [][]string {
	f.tb.Helper()
	var out [][]string
	for _, p := range f.received() {
		raw, err := snappy.Decode(nil, p.body)
		if err != nil {
			f.tb.Fatal(err)
		}
		var m prompb.WriteRequest
		if err := m.Unmarshal(raw); err != nil {
			f.tb.Fatal(err)
		}
		if len(m.Metadata) == 0 {
			continue
		}
		if len(m.Timeseries) > 0 {
			f.tb.Error("a request has samples and metadata")
		}
		var lines []string
		for _, x := range m.Metadata {
			lines = append(lines, fmt.Sprintf("%s %s %q %q", x.MetricFamilyName, x.Type, x.Help, x.Unit))
		}
		out = append(out, lines)
	}
	return out
}

func TestMetadataV1(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.MetadataConfig = config.MetadataConfig{Send: true, SendInterval: time.Minute, MaxSamplesPerSend: 2}
	s := newShip(t, o)
	var all []*wal.Series
	for _, m := range []struct {
		name string
		meta wal.Metadata
	}{
		{"orders", wal.Metadata{Type: model.MetricTypeGauge, Help: "Orders."}},
		{"seconds_bucket", wal.Metadata{Type: model.MetricTypeHistogram, Help: "Time.", Unit: "seconds"}},
		{"seconds_count", wal.Metadata{Type: model.MetricTypeHistogram, Help: "Time.", Unit: "seconds"}},
		{"money_sum", wal.Metadata{Type: model.MetricTypeSummary, Help: "Money."}},
		{"unknown", wal.Metadata{}},
	} {
		all = append(all, j.Series(labels.FromStrings("__name__", m.name), m.meta))
	}
	ship := func(now time.Time) {
		j.append(now, round(all, now, 1)...)
		s.drain(now.Add(5 * time.Second))
		<-s.metadata.done
	}
	ship(epoch)
	want := [][]string{
		{`money SUMMARY "Money." ""`, `orders GAUGE "Orders." ""`},
		{`seconds HISTOGRAM "Time." "seconds"`},
	}
	if d := cmp.Diff(want, f.metadata()); d != "" {
		t.Errorf("metadata (-want +got):\n%s", d)
	}
	ship(epoch.Add(30 * time.Second))
	if got := f.metadata(); len(got) != 0 {
		t.Errorf("metadata is sent before its interval: %q", got)
	}
	ship(epoch.Add(70 * time.Second))
	if got := f.metadata(); len(got) != 2 {
		t.Errorf("%d requests of metadata after its interval, want 2", len(got))
	}
	if n := testutil.ToFloat64(s.metrics.metadataSent); n != 6 {
		t.Errorf("%v families are counted as sent, want 6", n)
	}
	if l := s.balance(); l.Sent.Samples != 15 {
		t.Errorf("ledger is %+v, want the samples alone", l)
	}
}

// TestMetadataHoldsNothingUp has the receiver hang on metadata.
func TestMetadataHoldsNothingUp(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.MetadataConfig = config.MetadataConfig{Send: true, SendInterval: time.Minute, MaxSamplesPerSend: 10}
	s := newShip(t, o)
	release := make(chan struct{})
	f.answers(func(w http.ResponseWriter, p post) {
		if len(p.lines(t)) == 0 {
			<-release
		}
	})
	series := []*wal.Series{j.Series(labels.FromStrings("__name__", "orders"), wal.Metadata{Type: model.MetricTypeGauge})}
	for i := range 5 {
		now := epoch.Add(time.Duration(i) * time.Minute)
		j.append(now, round(series, now, 1)...)
		s.drain(now.Add(5 * time.Second))
	}
	if l := s.balance(); l.Sent.Samples != 5 {
		t.Errorf("ledger is %+v, want 5 samples sent", l)
	}
	s.metadata.stop()
	close(release)
	if n := testutil.ToFloat64(s.metrics.metadataFailed); n != 1 {
		t.Errorf("%v families are counted as failed, want the one", n)
	}
}

func TestMetadataSwitchedOff(t *testing.T) {
	for name, change := range map[string]func(e *config.RemoteWrite){
		"by metadata_config": func(e *config.RemoteWrite) { e.Protocol = config.ProtocolV1; e.MetadataConfig.Send = false },
		"by 2.0":             func(e *config.RemoteWrite) { e.Protocol = config.ProtocolV2 },
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.MetadataConfig = config.MetadataConfig{Send: true, SendInterval: time.Minute, MaxSamplesPerSend: 10}
			change(&o.Endpoint)
			s := newShip(t, o)
			series := []*wal.Series{j.Series(labels.FromStrings("__name__", "orders"), wal.Metadata{Type: model.MetricTypeGauge})}
			j.append(epoch, round(series, epoch, 1)...)
			s.drain(epoch.Add(time.Minute))
			if n := len(f.received()); n != 1 {
				t.Errorf("%d requests, want the samples alone", n)
			}
		})
	}
}
