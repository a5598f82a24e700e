package receiver

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// Request is one request that Prometheus's handler answered.
type Request struct {
	Message Message
	Header  http.Header
	Bytes   int      // of the compressed body
	Series  []Series // as the request has them; one label set may appear twice
	Status  int      // of the answer, whether or not the sender got it
}

// Series is one time series of a request.
type Series struct {
	Labels  string // as labels.Labels prints itself
	Samples []Sample
	// Metadata is what a request of 2.0 says of the metric.
	Metadata metadata.Metadata
}

// Requests returns the requests that were answered, in order of their answers.
// What Samples has shown before is in them.
func (r *Receiver) Requests() []Request {
	r.storing.Lock()
	defer r.storing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[:len(r.requests):len(r.requests)]
}

// record decodes each request before it hands it to store, and keeps it with
// the answer.
func (r *Receiver) record(store http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		entry := Request{Header: req.Header.Clone(), Bytes: len(body)}
		entry.Message, entry.Series, err = decode(req.Header.Get("Content-Type"), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		r.storing.RLock()
		defer r.storing.RUnlock()
		if req.Context().Err() != nil { // it came too late for a receiver that refuses
			panic(http.ErrAbortHandler)
		}
		store.ServeHTTP(answer, req)
		entry.Status = answer.status
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests = append(r.requests, entry)
	})
}

func decode(contentType string, body []byte) (Message, []Series, error) {
	message, err := remoteapi.ParseProtoMsg(contentType)
	if err != nil {
		return "", nil, err
	}
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return message, nil, fmt.Errorf("decompress request: %w", err)
	}
	if message == V1 {
		series, err := decodeV1(raw)
		return message, series, err
	}
	series, err := decodeV2(raw)
	return message, series, err
}

func decodeV1(raw []byte) ([]Series, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("decode 1.0 request: %w", err)
	}
	var b labels.ScratchBuilder
	all := make([]Series, 0, len(req.Timeseries))
	for _, ts := range req.Timeseries {
		s := Series{Labels: ts.ToLabels(&b, nil).String()}
		for _, sample := range ts.Samples {
			s.Samples = append(s.Samples, Sample{sample.Timestamp, sample.Value})
		}
		all = append(all, s)
	}
	return all, nil
}

func decodeV2(raw []byte) ([]Series, error) {
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("decode 2.0 request: %w", err)
	}
	b := labels.NewScratchBuilder(0)
	all := make([]Series, 0, len(req.Timeseries))
	for _, ts := range req.Timeseries {
		lset, err := ts.ToLabels(&b, req.Symbols)
		if err != nil {
			return nil, fmt.Errorf("decode 2.0 request: %w", err)
		}
		s := Series{Labels: lset.String()}
		if s.Metadata, err = ts.ToMetadata(req.Symbols); err != nil {
			return nil, fmt.Errorf("decode 2.0 request: %w", err)
		}
		for _, sample := range ts.Samples {
			s.Samples = append(s.Samples, Sample{sample.Timestamp, sample.Value})
		}
		all = append(all, s)
	}
	return all, nil
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(code int) {
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}
