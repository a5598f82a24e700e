package remotewrite

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// forgetful is a file system whose cursors keep what was synced alone when the
// power fails.
type forgetful struct {
	wal.FileSystem
	mu     sync.Mutex
	synced map[string][]byte // by path
}

func (f *forgetful) OpenFile(op, path string, flag int, perm fs.FileMode) (wal.File, error) {
	file, err := f.FileSystem.OpenFile(op, path, flag, perm)
	if err != nil || !strings.HasSuffix(path, ".cursor") {
		return file, err
	}
	return &forgetfulFile{file, f, path}, nil
}

type forgetfulFile struct {
	wal.File
	fs   *forgetful
	path string
}

func (f *forgetfulFile) Sync(op string) error {
	if err := f.File.Sync(op); err != nil {
		return err
	}
	b, err := os.ReadFile(f.path)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.synced[f.path] = b
	return err
}

// fail returns the folder as it is when the power has failed.
func (f *forgetful) fail(j journal, path string) string {
	to := j.kill(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, b := range f.synced {
		if err := os.WriteFile(filepath.Join(to, "cursors", filepath.Base(p)), b, 0o640); err != nil {
			j.tb.Fatal(err)
		}
	}
	return to
}

// TestPowerLoss cuts the power at every request of several windows that follow
// one another faster than the log is synced. The receiver has stored it, and
// has several samples per series. Nothing that it did not see is refused.
func TestPowerLoss(t *testing.T) {
	for at := 1; at <= 8; at++ {
		t.Run(strconv.Itoa(at), func(t *testing.T) { losePower(t, at, false) })
		t.Run(fmt.Sprintf("%d, with the cursor", at), func(t *testing.T) { losePower(t, at, true) })
	}
}

func losePower(t *testing.T, at int, cursorLost bool) {
	const series, rounds = 10, 3
	disk := &forgetful{FileSystem: wal.OperatingSystem(), synced: map[string][]byte{}}
	path := t.TempDir()
	j := openJournal(t, path, wal.Options{FS: disk, Sync: wal.SyncAlways})
	f := newFake(t)
	st := newStore(harmless)
	o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = series / 2 * rounds
	o.Endpoint.Queue.MaxShards = 1
	s := newShip(t, o)
	if err := j.Sync(epoch); err != nil {
		t.Fatal(err)
	}
	n, cut := 0, ""
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !st.take(p.lines(t)) {
			http.Error(w, "out of order sample", http.StatusBadRequest)
		}
		if n++; n == at {
			if cursorLost {
				for path := range disk.synced {
					disk.synced[path] = make([]byte, 8192)
				}
			}
			cut = disk.fail(j, path)
		}
	})
	due, now := j.family("due", series), epoch
	for cut == "" {
		for range rounds {
			now = now.Add(time.Second)
			if _, err := j.Append(&wal.Round{Samples: round(due, now, 1)}, now); err != nil {
				t.Fatal(err)
			}
		}
		s.drain(now.Add(10 * time.Second))
	}

	j = openJournal(t, cut, wal.Options{})
	o.Log = j.Log
	s = newShip(t, o)
	due = j.family("due", series)
	for range rounds {
		now = now.Add(time.Second)
		j.append(now, round(due, now, 1)...)
	}
	s.drain(now.Add(10 * time.Second))
	l := s.balance()
	if int(l.Appended.Samples) != len(st.stored) {
		t.Errorf("%d samples are in the log, and %d at the receiver", l.Appended.Samples, len(st.stored))
	}
	if !l.Dropped[ReasonRejected].IsZero() || !cursorLost && l.Unconfirmed.Samples > series*rounds {
		t.Errorf("%d rejected and %d unconfirmed, want none and at most one window", l.Dropped[ReasonRejected].Samples, l.Unconfirmed.Samples)
	}
}
