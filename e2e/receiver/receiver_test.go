package receiver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"

	"sql2metrics/e2e/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const gauge = `{__name__="orders", status="new"}`

var stale = math.Float64frombits(value.StaleNaN)

func TestBothProtocolsAreStoredRecordedAndQueried(t *testing.T) {
	for name, c := range map[string]struct {
		encode   func(*testing.T, ...receiver.Sample) (contentType string, body []byte)
		metadata metadata.Metadata // which 1.0 does not have with the series
	}{
		"1.0": {encodeV1, metadata.Metadata{}},
		"2.0": {encodeV2, metadata.Metadata{Type: model.MetricTypeGauge}},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver.Start(t, receiver.Options{})
			now := time.Now().Truncate(time.Second)
			sent := []receiver.Sample{{T: now.Add(-time.Minute).UnixMilli(), V: 3}, {T: now.UnixMilli(), V: stale}}
			contentType, body := c.encode(t, sent...)

			if status, err := post(r, contentType, body); err != nil || status/100 != 2 {
				t.Fatalf("post: status %d, %v", status, err)
			}

			if diff := cmp.Diff(map[string][]receiver.Sample{gauge: sent}, r.Samples(t, "orders")); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]float64{gauge: 3}, r.Query(t, "orders", now.Add(-time.Second))); diff != "" {
				t.Errorf("queried before the marker (-want +got):\n%s", diff)
			}
			if got := r.Query(t, "orders", now); len(got) != 0 {
				t.Errorf("queried after the marker: got %v, want nothing", got)
			}
			if got := r.QueryRange(t, "orders", now.Add(-time.Minute), now, 30*time.Second)[gauge]; len(got) != 2 {
				t.Errorf("range query: got %v, want two points", got)
			}
			recorded := r.Requests()
			if len(recorded) != 1 {
				t.Fatalf("recorded %d requests, want 1", len(recorded))
			}
			if diff := cmp.Diff([]receiver.Series{{Labels: gauge, Samples: sent, Metadata: c.metadata}}, recorded[0].Series); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBehaviours(t *testing.T) {
	contentType, body := encodeV2(t, receiver.Sample{T: time.Now().UnixMilli(), V: 1})
	for name, c := range map[string]struct {
		behaviour receiver.Behaviour
		status    int
		err       error
		stored    int
	}{
		"up":               {receiver.Up, http.StatusNoContent, nil, 1},
		"status":           {receiver.Status(http.StatusServiceUnavailable, time.Second), http.StatusServiceUnavailable, nil, 0},
		"slow":             {receiver.Slow(time.Millisecond), http.StatusNoContent, nil, 1},
		"slow answer":      {receiver.SlowAnswer(time.Millisecond), http.StatusNoContent, nil, 1},
		"reset":            {receiver.Reset, 0, syscall.ECONNRESET, 0},
		"store then reset": {receiver.StoreThenReset, 0, syscall.ECONNRESET, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver.Start(t, receiver.Options{})
			r.Behave(c.behaviour)
			status, err := post(r, contentType, body)
			if status != c.status || !errors.Is(err, c.err) {
				t.Errorf("post: got %d, %v; want %d, %v", status, err, c.status, c.err)
			}
			if got := len(r.Samples(t, "orders")); got != c.stored {
				t.Errorf("stored %d series, want %d", got, c.stored)
			}
			if got := len(r.Requests()); got != c.stored {
				t.Errorf("recorded %d requests, want %d", got, c.stored)
			}
			if got := r.Attempts(); got != 1 {
				t.Errorf("counted %d attempts, want 1", got)
			}
		})
	}
}

func TestRefuseAndListen(t *testing.T) {
	r := receiver.Start(t, receiver.Options{})
	contentType, body := encodeV1(t, receiver.Sample{T: time.Now().UnixMilli(), V: 1})
	r.Refuse()
	if _, err := post(r, contentType, body); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it refuses: got %v, want connection refused", err)
	}
	r.Listen(t)
	if status, err := post(r, contentType, body); err != nil || status/100 != 2 {
		t.Errorf("when it listens again: status %d, %v", status, err)
	}
}

// TestRefuseWhileSlow closes the port while a request waits to be stored: its
// sender may not take that for an answer.
func TestRefuseWhileSlow(t *testing.T) {
	r := receiver.Start(t, receiver.Options{})
	arrived := make(chan struct{})
	r.Behave(func(w http.ResponseWriter, req *http.Request, store http.Handler) {
		close(arrived)
		receiver.Slow(time.Hour)(w, req, store)
	})
	contentType, body := encodeV1(t, receiver.Sample{T: time.Now().UnixMilli(), V: 1})
	answer := make(chan error)
	go func() {
		status, err := post(r, contentType, body)
		if err == nil {
			err = fmt.Errorf("the answer is %d", status)
		}
		answer <- err
	}()
	<-arrived
	r.Refuse()
	if err := <-answer; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset connection", err)
	}
	if got := len(r.Samples(t, "orders")); got != 0 {
		t.Errorf("stored %d series, want none", got)
	}
}

func TestAcceptOneProtocolOnly(t *testing.T) {
	r := receiver.Start(t, receiver.Options{Accept: []receiver.Message{receiver.V1}})
	contentType, body := encodeV2(t, receiver.Sample{T: time.Now().UnixMilli(), V: 1})
	if status, err := post(r, contentType, body); err != nil || status != http.StatusUnsupportedMediaType {
		t.Errorf("2.0 to a 1.0 receiver: got %d, %v, want 415", status, err)
	}
}

func TestOutOfOrderWindow(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		window time.Duration
		status int
	}{
		"none":   {0, http.StatusBadRequest},
		"covers": {time.Hour, http.StatusNoContent},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver.Start(t, receiver.Options{OutOfOrder: c.window})
			contentType, body := encodeV2(t, receiver.Sample{T: now.UnixMilli(), V: 1})
			if status, err := post(r, contentType, body); err != nil || status != http.StatusNoContent {
				t.Fatalf("newer sample: status %d, %v", status, err)
			}
			contentType, body = encodeV2(t, receiver.Sample{T: now.Add(-time.Minute).UnixMilli(), V: 2})
			if status, err := post(r, contentType, body); err != nil || status != c.status {
				t.Errorf("older sample: got %d, %v, want %d", status, err, c.status)
			}
		})
	}
}

func post(r *receiver.Receiver, contentType string, body []byte) (int, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Post(r.URL(), contentType, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func encodeV1(t *testing.T, samples ...receiver.Sample) (string, []byte) {
	ts := prompb.TimeSeries{Labels: prompb.FromLabels(labels.FromStrings("__name__", "orders", "status", "new"), nil)}
	for _, s := range samples {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: s.T, Value: s.V})
	}
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "application/x-protobuf;proto=" + string(receiver.V1), snappy.Encode(nil, raw)
}

func encodeV2(t *testing.T, samples ...receiver.Sample) (string, []byte) {
	symbols := writev2.NewSymbolTable()
	ts := writev2.TimeSeries{
		LabelsRefs: symbols.SymbolizeLabels(labels.FromStrings("__name__", "orders", "status", "new"), nil),
		Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE},
	}
	for _, s := range samples {
		ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: s.T, Value: s.V})
	}
	raw, err := (&writev2.Request{Symbols: symbols.Symbols(), Timeseries: []writev2.TimeSeries{ts}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "application/x-protobuf;proto=" + string(receiver.V2), snappy.Encode(nil, raw)
}
