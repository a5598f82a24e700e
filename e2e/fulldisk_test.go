package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// asRoot tells whether this process may mount. One that may not runs the test
// once more in a process that may: root in namespaces of its own, which are
// gone with it.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		lacking(t, fmt.Sprintf("this is not root, and unshare -rm fails: %s: %s", err, out))
	}
	a := run(t, exec.Command("unshare", "-rm", "--kill-child", os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$"))
	<-a.exited
	t.Logf("under unshare -rm:\n%s", tail(a.output.String(), 3))
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	return false
}

// lacking ends a test that this machine cannot run.
func lacking(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("E2E_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		lacking(t, fmt.Sprintf("a tmpfs cannot be mounted: %s: %s", err, out))
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

// poll gets the pages of an agent one after the other, which must answer each
// time, until the function it returns is called.
func poll(t *testing.T, a *agent, pages ...string) (stop func()) {
	ended, stopped := make(chan struct{}), make(chan struct{})
	answers := 0
	go func() {
		defer close(stopped)
		for ; ; answers++ {
			if _, err := a.get(pages[answers%len(pages)]); err != nil {
				t.Errorf("after %d answers: %v", answers, err)
				return
			}
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(ended)
		<-stopped
		t.Logf("%d pages answered", answers)
	})
	t.Cleanup(stop)
	return stop
}

// TestFullDisk fills the disk of a running agent: it serves its pages all
// along, ships what it has, keeps rounds in memory, and goes on by itself when
// there is space again, with nothing lost and every sample accounted for at
// each moment.
func TestFullDisk(t *testing.T) {
	if !asRoot(t) {
		return
	}
	disk := smallDisk(t, "24m")
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 100)
	s.trade(t)
	watch := setup{config: s.config(100*time.Millisecond, r.URL()), storage: filepath.Join(disk, "data")}
	a := start(t, watch)
	l := follow(t, watch.storage)
	waitForSamples(t, a, 500)
	stopPolling := poll(t, a, "/metrics", "/-/healthy", "/-/ready")
	b := books{receiver: r}
	page := func() map[string]float64 {
		b.check(t, a)
		return a.metrics(t)
	}

	const prefix = "sql2metrics_wal_"
	for fills := range 2 {
		before := sum(page(), prefix+"appended_samples_total", `kind="sample"`)
		ballast := filepath.Join(disk, "ballast")
		fill(t, ballast)
		eventually(t, "samples that wait in memory", func() error { return atLeast(sum(page(), prefix+"waiting_samples"), 200) })
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an empty memory", func() error {
			if n := sum(page(), prefix+"waiting_samples"); n != 0 {
				return fmt.Errorf("%v samples wait", n)
			}
			return nil
		})
		eventually(t, "more in the log", func() error {
			return atLeast(sum(page(), prefix+"appended_samples_total", `kind="sample"`)-before, 500)
		})
		if m := page(); sum(m, prefix+"lost_samples_total") != 0 || sum(m, prefix+"write_errors_total") <= float64(fills) {
			t.Errorf("lost %v, write errors %v", sum(m, prefix+"lost_samples_total"), sum(m, prefix+"write_errors_total"))
		}
	}
	stopPolling()
	checkBooks(t, a)
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
	if n := l.checkDeliveries(t, r.Requests()); n > 0 {
		t.Errorf("%d samples came twice", n)
	}
}

// TestFirstStartOnFullDisk starts an agent for the first time where there is
// no room, and makes room later. Without room for bytes it watches its database
// and keeps rounds in memory; without room for its folder it waits. Either way
// it serves its pages, goes on by itself, and loses nothing of what it collects.
func TestFirstStartOnFullDisk(t *testing.T) {
	if !asRoot(t) {
		return
	}
	const prefix = "sql2metrics_wal_"
	for name, files := range map[string]bool{"no bytes": false, "no files": true} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "24m,nr_inodes=50")
			ballast := filepath.Join(disk, "ballast")
			if err := os.Mkdir(ballast, 0o755); err != nil {
				t.Fatal(err)
			}
			fill(t, filepath.Join(ballast, "bytes"))
			for n, err := 0, error(nil); files && err == nil; n++ {
				err = os.Mkdir(filepath.Join(ballast, strconv.Itoa(n)), 0o755)
			}
			r := receiver.Start(t, receiver.Options{})
			s := newShop(t, 100)
			s.trade(t)
			a := launch(t, setup{config: s.config(100*time.Millisecond, r.URL()), storage: filepath.Join(disk, "data")})
			a.waitFor(t, "/metrics")
			stopPolling := poll(t, a, "/metrics", "/-/healthy")
			if files {
				eventually(t, "the reason in the log", func() error {
					if a.logged("the disk has no room") == nil {
						return errors.New("it is not said")
					}
					return nil
				})
			} else {
				a.waitReady(t)
				eventually(t, "samples that wait in memory", func() error { return atLeast(sum(a.metrics(t), prefix+"waiting_samples"), 500) })
			}
			if n := r.Attempts(); n > 0 {
				t.Errorf("%d requests before anything is on the disk", n)
			}
			if err := os.RemoveAll(ballast); err != nil {
				t.Fatal(err)
			}
			a.waitReady(t)
			l := follow(t, a.storage)
			b := books{receiver: r}
			eventually(t, "samples in the log, and none in memory", func() error {
				b.check(t, a)
				m := a.metrics(t)
				if n := sum(m, prefix+"waiting_samples"); n != 0 {
					return fmt.Errorf("%v samples wait", n)
				}
				return atLeast(sum(m, prefix+"appended_samples_total", `kind="sample"`), 1000)
			})
			if lost := sum(a.metrics(t), prefix+"lost_samples_total"); lost != 0 {
				t.Errorf("%v samples are lost", lost)
			}
			stopPolling()
			checkBooks(t, a)
			a.stop(t)
			l.close(t)
			l.compare(t, r.Samples(t, everything))
			if n := l.checkDeliveries(t, r.Requests()); n > 0 {
				t.Errorf("%d samples came twice", n)
			}
		})
	}
}
