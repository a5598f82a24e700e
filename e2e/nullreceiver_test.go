package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
)

// nullReceiver counts the samples of the requests it gets, says that it wrote
// them, and forgets them.
type nullReceiver struct {
	*httptest.Server
	delay time.Duration // of each answer
	down  atomic.Bool   // answer 503 and count nothing

	samples, bytes, requests atomic.Int64
	first                    chan struct{} // closed with the first request that counts
	firstOnce                sync.Once
	buffers                  sync.Pool
}

func startNullReceiver(tb testing.TB, delay time.Duration) *nullReceiver {
	tb.Helper()
	r := &nullReceiver{
		delay:   delay,
		first:   make(chan struct{}),
		buffers: sync.Pool{New: func() any { return &nullBuffers{} }},
	}
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

// nullBuffers are used by one request at a time.
type nullBuffers struct {
	body    bytes.Buffer
	message []byte
}

// ServeHTTP implements [http.Handler].
func (r *nullReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.down.Load() {
		_, _ = io.Copy(io.Discard, req.Body)
		http.Error(w, "the benchmark wants it to be down", http.StatusServiceUnavailable)
		return
	}
	b := r.buffers.Get().(*nullBuffers)
	defer r.buffers.Put(b)
	b.body.Reset()
	_, err := b.body.ReadFrom(req.Body)
	if err == nil {
		b.message, err = s2.Decode(b.message[:cap(b.message)], b.body.Bytes())
	}
	timeseries := uint64(1) // the field's number in the message
	if strings.Contains(req.Header.Get("Content-Type"), "v2.Request") {
		timeseries = 5
	}
	n := 0
	if err == nil {
		n, err = countSamples(b.message, timeseries)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.requests.Add(1)
	r.bytes.Add(int64(b.body.Len()))
	r.samples.Add(int64(n))
	r.firstOnce.Do(func() { close(r.first) })
	time.Sleep(r.delay)
	w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(n))
	w.Header().Set("X-Prometheus-Remote-Write-Histograms-Written", "0")
	w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", "0")
	w.WriteHeader(http.StatusNoContent)
}

// countSamples counts the samples of all time series of a request without
// decoding more of it than that. In both versions a sample is field 2 of a
// time series.
func countSamples(message []byte, timeseries uint64) (n int, err error) {
	err = eachField(message, func(number uint64, series []byte) error {
		if number != timeseries {
			return nil
		}
		return eachField(series, func(number uint64, _ []byte) error {
			if number == 2 {
				n++
			}
			return nil
		})
	})
	return n, err
}

// eachField calls each for the fields of a message that have a length, and
// steps over the others.
func eachField(message []byte, each func(number uint64, content []byte) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		length, m := uint64(0), 0
		if n > 0 {
			switch tag & 7 {
			case 0: // varint
				_, m = binary.Uvarint(message[n:])
			case 1:
				length, m = 8, 0
			case 2:
				length, m = binary.Uvarint(message[n:])
			case 5:
				length, m = 4, 0
			}
		}
		if n <= 0 || m < 0 || length > uint64(len(message)-n-m) {
			return errors.New("not a protobuf message")
		}
		message = message[n+m:]
		if tag&7 == 2 {
			if err := each(tag>>3, message[:length]); err != nil {
				return err
			}
		}
		message = message[length:]
	}
	return nil
}
