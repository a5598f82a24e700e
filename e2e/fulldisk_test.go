package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		why := fmt.Sprintf("a tmpfs cannot be mounted: %s: %s; run the test as root, or under unshare -rm", err, out)
		if os.Getenv("E2E_REQUIRE") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s: %s", err, out)
		}
	})
	return dir
}

// fill takes all space that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(b)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk of a running agent: it goes on serving its page,
// keeps rounds in memory, and goes on by itself when there is space again, with
// nothing lost and every sample accounted for.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "24m")
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 100)
	s.trade(t)
	watch := setup{config: s.config(100*time.Millisecond, r.URL()), storage: filepath.Join(disk, "data")}
	a := start(t, watch)
	l := follow(t, watch.storage)
	waitForSamples(t, a, 500)

	const waiting, prefix = "sql2metrics_wal_waiting_samples", "sql2metrics_wal_"
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	eventually(t, "samples that wait in memory", func() error { return atLeast(sum(a.metrics(t), waiting), 200) })
	for _, page := range []string{"/metrics", "/-/healthy", "/-/ready"} {
		if _, err := a.get(page); err != nil {
			t.Errorf("%s on a full disk: %v", page, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an empty memory", func() error {
		if n := sum(a.metrics(t), waiting); n != 0 {
			return fmt.Errorf("%v samples wait", n)
		}
		return nil
	})
	waitForSamples(t, a, 1500)
	if m := a.metrics(t); sum(m, prefix+"lost_samples_total") != 0 || sum(m, prefix+"write_errors_total") == 0 {
		t.Errorf("lost %v, write errors %v", sum(m, prefix+"lost_samples_total"), sum(m, prefix+"write_errors_total"))
	}
	checkBooks(t, a)
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}
