package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// demoReceiver is a remote write 2.0 receiver that keeps nothing but the
// ledger, and can be cut off.
type demoReceiver struct {
	ledger *ledger
	cut    atomic.Bool
	server *http.Server
	addr   string
	done   chan error
}

func startReceiver(l *ledger) (*demoReceiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &demoReceiver{ledger: l, addr: listener.Addr().String(), done: make(chan error, 1)}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { r.done <- r.server.Serve(listener) }()
	return r, nil
}

func (r *demoReceiver) stop(ctx context.Context) error {
	if err := r.server.Shutdown(ctx); err != nil {
		return err
	}
	if err := <-r.done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP takes a write request. Cut off, it breaks the connection, as a
// network does.
func (r *demoReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.cut.Load() {
		panic(http.ErrAbortHandler)
	}
	if !strings.Contains(req.Header.Get("Content-Type"), "io.prometheus.write.v2.Request") {
		http.Error(w, "the demo speaks remote write 2.0", http.StatusUnsupportedMediaType)
		return
	}
	samples, err := r.take(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(samples))
	w.Header().Set("X-Prometheus-Remote-Write-Histograms-Written", "0")
	w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", "0")
	w.WriteHeader(http.StatusNoContent)
}

func (r *demoReceiver) take(body io.Reader) (samples int, err error) {
	packed, err := io.ReadAll(io.LimitReader(body, 64<<20))
	if err != nil {
		return 0, err
	}
	raw, err := snappy.Decode(nil, packed)
	if err != nil {
		return 0, err
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		return 0, err
	}
	var b labels.ScratchBuilder
	for _, ts := range req.Timeseries {
		lset, err := ts.ToLabels(&b, req.Symbols)
		if err != nil {
			return 0, err
		}
		series := withoutExternal(lset)
		for _, s := range ts.Samples {
			r.ledger.received(series, s.Timestamp, s.Value)
			samples++
		}
	}
	return samples, nil
}
