package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestStart starts on a log of 1 GiB, which is mostly holes so that it is soon
// made. When the first request arrives, the agent has read the oldest segment,
// which it is shipping, and the newest one, which tells where the log ends. Of
// the others it has read their headers.
func TestStart(t *testing.T) {
	t.Parallel()
	const segments, segmentBytes = 128, 8 << 20
	storage := filepath.Join(t.TempDir(), "data")
	at := time.Now().Add(-segments * 11 * time.Minute)
	for i := range segments { // each is too old when the next begins
		b := backlog{series: 10, rounds: 1}
		if i == 0 {
			b = backlog{series: 20_000, rounds: 10, every: time.Second, endpoints: []string{"null"}} // more than a window
		}
		at = at.Add(11 * time.Minute)
		b.write(t, storage, at)
	}
	files, err := filepath.Glob(filepath.Join(storage, "segments", "*"))
	if err != nil || len(files) != segments {
		t.Fatalf("%d segments, want %d: %v", len(files), segments, err)
	}
	var ends [2]int64 // bytes of the oldest and of the newest
	for i, path := range []string{files[0], files[segments-1]} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = info.Size()
	}
	for _, path := range files[:segments-1] {
		if err := os.Truncate(path, segmentBytes); err != nil {
			t.Fatal(err)
		}
	}

	first := make(chan struct{})
	arrived := sync.OnceFunc(func() { close(first) })
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		arrived()
		<-req.Context().Done() // so that the agent goes no further
	}))
	defer r.Close()
	a := launch(t, setup{config: fmt.Sprintf(benchConfig, r.URL), storage: storage})
	select {
	case <-first:
	case <-a.exited:
		t.Fatal("the agent exited")
	case <-time.After(patience):
		t.Fatal("nothing was sent")
	}
	read := int64(procField(t, a.cmd.Process.Pid, "io", "rchar"))
	a.kill()
	const headers, others = segments * 84, 1 << 20 // others: the configuration, /proc and the like
	t.Logf("read %d bytes; the oldest segment had %d, the newest %d", read, ends[0], ends[1])
	if read > ends[0]+ends[1]+headers+others {
		t.Errorf("it read %d bytes before it sent something, of segments of %d and %d and %d headers", read, ends[0], ends[1], segments)
	}
}
