package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestNewerSegment puts a segment of the next format version into the log, as
// after a downgrade: the agent sets it aside, says so, and goes on.
func TestNewerSegment(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 20)
	watch := setup{config: s.config(50*time.Millisecond, r.URL()), storage: filepath.Join(t.TempDir(), "data")}
	a := start(t, watch)
	waitForSamples(t, a, 100)
	a.stop(t)

	newer := []byte("sql2mwal")
	newer = binary.LittleEndian.AppendUint32(newer, 2)
	newer = binary.LittleEndian.AppendUint32(newer, crc32.Checksum(newer, crc32.MakeTable(crc32.Castagnoli)))
	newer = append(newer, "what only a newer program understands"...)
	const name = "00000000000000900000.seg"
	write(t, filepath.Join(watch.storage, "segments", name), string(newer), 0o644)

	a = start(t, watch)
	waitForSamples(t, a, 100)
	if !strings.Contains(a.output.String(), name) {
		t.Errorf("the log does not name %s", name)
	}
	if kept := find(t, watch.storage, newer); len(kept) != 1 {
		t.Errorf("%d files hold the newer segment as it was, want 1", len(kept))
	}
	arrived := len(r.Samples(t, "orders"))
	a.stop(t)
	if arrived == 0 {
		t.Error("nothing arrived")
	}
	if kept := find(t, watch.storage, newer); len(kept) != 1 {
		t.Errorf("%d files hold the newer segment at the end, want 1", len(kept))
	}
}

// find returns the files of a folder that hold exactly this.
func find(t *testing.T, dir string, content []byte) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var got []byte
			if got, err = os.ReadFile(path); bytes.Equal(got, content) {
				found = append(found, path)
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // an agent that runs makes and removes files
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSecondProcess starts an agent on a folder that another one holds, as in
// a rolling restart: it waits, says so, and takes over.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 20)
	watch := setup{config: s.config(50*time.Millisecond, r.URL()), storage: filepath.Join(t.TempDir(), "data")}
	first := start(t, watch)
	l := follow(t, watch.storage)
	waitForSamples(t, first, 100)

	second := launch(t, watch)
	eventually(t, "the second agent to wait", func() error { return second.hasLogged("another process holds the log; waiting until it ends") })
	first.stop(t)
	second.waitReady(t)
	waitForSamples(t, second, 100)
	second.stop(t)

	l.close(t)
	l.compare(t, r.Samples(t, everything))
	l.checkDeliveries(t, r.Requests())
}
