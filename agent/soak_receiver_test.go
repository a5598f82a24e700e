package agent

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// soakReceiver is a receiver of 2.0 that keeps of each series no more than its
// newest sample, so that it is as small after a thousand hours as after one. It
// checks every sample that comes: newer than all before of its series, or a
// repetition, bit for bit, of one whose answer was lost.
//
// It closes each connection with its answer. An idle one would keep the clock
// of a synctest bubble from moving: waiting for a network is not waiting for
// time.
type soakReceiver struct {
	*httptest.Server
	open atomic.Int64 // connections

	mu     sync.Mutex
	mood   mood
	newest map[string]int64
	lost   map[sampleKey]uint64 // samples that are stored, as far as only we know, and their bits
	latest int64                // of all samples

	stored, repeated uint64
	problems         []string
}

// mood is what a receiver does with requests.
type mood string

const (
	moodUp          mood = "up"
	moodUnavailable mood = "503"
	moodBusy        mood = "429"
	moodReset       mood = "reset"
	moodStoreReset  mood = "reset after storing"
	moodStoreFail   mood = "500 after storing"
)

type sampleKey struct {
	series string
	t      int64
}

func startSoakReceiver(t *testing.T) *soakReceiver {
	r := &soakReceiver{mood: moodUp, newest: map[string]int64{}, lost: map[sampleKey]uint64{}}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			r.open.Add(1)
		case http.StateClosed:
			r.open.Add(-1)
		}
	}
	r.Start()
	t.Cleanup(r.Close)
	return r
}

// settle returns when the receiver has closed all connections, which it does a
// moment after its last answer.
func (r *soakReceiver) settle() {
	for r.open.Load() > 0 {
		runtime.Gosched()
	}
}

func (r *soakReceiver) enter(m mood) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mood = m
}

// ServeHTTP implements [http.Handler].
func (r *soakReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Connection", "close")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.mood {
	case moodUnavailable:
		http.Error(w, "the test wants it to be down", http.StatusServiceUnavailable)
		return
	case moodBusy:
		w.Header().Set("Retry-After", "7")
		http.Error(w, "the test wants fewer", http.StatusTooManyRequests)
		return
	case moodReset:
		panic(http.ErrAbortHandler)
	}
	n, err := r.store(body, r.mood != moodUp)
	if err != nil {
		r.problems = append(r.problems, err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch r.mood {
	case moodStoreReset:
		panic(http.ErrAbortHandler)
	case moodStoreFail:
		http.Error(w, "the test wants it to look lost", http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(n))
	w.WriteHeader(http.StatusNoContent)
}

// store checks a request's samples and returns how many there are. The sender
// of a lost one will not learn that they are stored.
func (r *soakReceiver) store(body []byte, lost bool) (n int, err error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return 0, err
	}
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		return 0, err
	}
	b := labels.NewScratchBuilder(0)
	for _, ts := range m.Timeseries {
		lset, err := ts.ToLabels(&b, m.Symbols)
		if err != nil {
			return 0, err
		}
		series := lset.String()
		for _, s := range ts.Samples {
			n++
			r.take(sampleKey{series, s.Timestamp}, math.Float64bits(s.Value), lost)
		}
	}
	return n, nil
}

func (r *soakReceiver) take(k sampleKey, bits uint64, lost bool) {
	before, again := r.lost[k]
	switch newest, known := r.newest[k.series]; {
	case again && bits == before:
		r.repeated++
	case again:
		r.problem("%s at %d came again with another value", k.series, k.t)
	case known && k.t <= newest:
		r.problem("%s at %d came after %d", k.series, k.t, newest)
	default:
		r.stored++
		r.newest[k.series] = k.t
		r.latest = max(r.latest, k.t)
	}
	if lost {
		r.lost[k] = bits
	} else {
		delete(r.lost, k)
	}
}

func (r *soakReceiver) problem(format string, args ...any) {
	if len(r.problems) < 10 {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// counts returns how many samples are stored, how many came again, and what was
// wrong since the last call. It forgets what is more milliseconds behind the
// newest sample: such series are gone, such samples evicted.
func (r *soakReceiver) counts(age int64) (stored, repeated uint64, problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for series, t := range r.newest {
		if t < r.latest-age {
			delete(r.newest, series)
		}
	}
	for k := range r.lost {
		if k.t < r.latest-age {
			delete(r.lost, k)
		}
	}
	problems, r.problems = r.problems, nil
	return r.stored, r.repeated, problems
}
