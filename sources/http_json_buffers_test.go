package sources

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sql2metrics/config"
)

// sized answers with a status and, in chunks, a document of a size.
type sized struct {
	status   atomic.Int64
	document atomic.Value
}

func newSized() *sized {
	a := &sized{}
	a.status.Store(http.StatusOK)
	return a
}

// grow sets the size of the next document.
func (a *sized) grow(size int) { a.document.Store([]byte(`["` + strings.Repeat("x", size-4) + `"]`)) }

func (a *sized) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(int(a.status.Load()))
	_ = http.NewResponseController(w).Flush()
	_, _ = w.Write(a.document.Load().([]byte))
}

// openSized returns the source of a server, and what runs a query on it.
func openSized(t *testing.T, server *httptest.Server) (*httpJSON, func() error) {
	t.Helper()
	s, err := openHTTPJSON(config.Source{Name: "api", URL: parseURL(t, server.URL), MaxConnections: 1, Timeout: time.Minute}, Options{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	q := config.Query{Name: "q", SQL: "GET", Timeout: time.Minute, JSON: &config.JSON{}}
	return s.(*httpJSON), func() error { return s.Query(t.Context(), q, func(*Row) error { return nil }) }
}

// allocates returns how many bytes fn allocates in all.
func allocates(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// TestHTTPJSONRoomAfterFailures: the room that is made for an answer is that of
// the last good one, however many have failed since.
func TestHTTPJSONRoomAfterFailures(t *testing.T) {
	answer := newSized()
	answer.grow(100_000)
	server := httptest.NewServer(answer)
	defer server.Close()
	s, run := openSized(t, server)
	good := func() {
		answer.status.Store(http.StatusOK)
		if err := run(); err != nil {
			t.Error(err)
		}
	}
	good()
	want := allocates(good)
	failures := map[string]func(){
		"answers 500": func() { answer.status.Store(http.StatusInternalServerError) },
		"answers 404": func() { answer.status.Store(http.StatusNotFound) },
		"is dead":     func() { server.Close() },
	}
	for _, name := range []string{"answers 500", "answers 404", "is dead"} {
		failures[name]()
		for range 120 {
			if run() == nil {
				t.Fatalf("no error of a server that %s", name)
			}
		}
		if name != "is dead" {
			if got := allocates(good); got > want+1<<20 { // it may need its buffer anew
				t.Errorf("after 120 runs on a server that %s, one allocates %d bytes, %d before", name, got, want)
			}
		}
	}
	if guess := s.body(config.Query{Name: "q"}).size; guess > 150_000 {
		t.Errorf("makes room for %d bytes", guess)
	}
}

// TestHTTPJSONRoomForGrowth: an answer a little longer than the last is read
// into one buffer.
func TestHTTPJSONRoomForGrowth(t *testing.T) {
	answer := newSized()
	server := httptest.NewServer(answer)
	defer server.Close()
	_, run := openSized(t, server)
	for size := 4 << 20; size < 6<<20; size += size / 10 {
		answer.grow(size)
		took := allocates(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
		if size > 4<<20 && took > int64(size)*13/10 {
			t.Errorf("an answer of %d bytes takes %d", size, took)
		}
	}
}

// TestHTTPJSONKeepsNoLargeBuffer: what waits for the next answer is small.
func TestHTTPJSONKeepsNoLargeBuffer(t *testing.T) {
	answer := newSized()
	server := httptest.NewServer(answer)
	defer server.Close()
	s, run := openSized(t, server)
	for _, size := range []int{1000, keptJSON, 1 << 20} {
		answer.grow(size)
		if err := run(); err != nil {
			t.Fatal(err)
		}
		if len(s.idle) != 1 || cap(s.idle[0].buffer) > keptJSON || (size < keptJSON) != (s.idle[0].buffer != nil) {
			t.Errorf("after %d bytes %d buffers wait, the last of %d bytes", size, len(s.idle), cap(s.idle[len(s.idle)-1].buffer))
		}
	}
}
