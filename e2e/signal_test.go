package e2e

import (
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestSignalFlushes stops an agent that has a backlog: it ships what is left
// and exits with 0.
func TestSignalFlushes(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			r := receiver.Start(t, receiver.Options{})
			r.Behave(receiver.Status(http.StatusServiceUnavailable, 0))
			s := newShop(t, 20)
			a := start(t, setup{config: s.config(50*time.Millisecond, r.URL())})
			l := follow(t, a.storage)
			eventually(t, "a request to be refused", func() error { return atLeast(r.Attempts(), 2) })

			r.Behave(receiver.Up)
			a.signal(t, sig)
			if code := a.exitCode(t); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}

			l.close(t)
			l.compare(t, r.Samples(t, everything))
		})
	}
}

// TestSecondSignalStopsAtOnce hangs the flush on a receiver that does not
// answer. What it held comes with the next start.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	r.Behave(receiver.Slow(time.Hour))
	s := newShop(t, 20)
	watch := setup{config: s.config(50*time.Millisecond, r.URL()), storage: filepath.Join(t.TempDir(), "data")}
	a := start(t, watch)
	l := follow(t, a.storage)
	eventually(t, "a request to hang", func() error { return atLeast(r.Attempts(), 1) })

	a.signal(t, syscall.SIGTERM)
	eventually(t, "the agent to begin to stop", func() error { return a.hasLogged("stopping; a second signal stops at once") })
	a.signal(t, syscall.SIGTERM)
	if code := a.exitCode(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if err := a.hasLogged("stopping at once"); err != nil {
		t.Error(err)
	}

	r.Behave(receiver.Up)
	start(t, watch).stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}

// hasLogged returns an error until a message that begins so is in the log.
func (a *agent) hasLogged(msg string) error {
	if a.logged(msg) == nil {
		return errors.New("not logged: " + msg)
	}
	return nil
}

// atLeast returns an error until n has come to want.
func atLeast[N int | uint64 | float64](n, want N) error {
	if n < want {
		return errors.New("only " + strconv.FormatFloat(float64(n), 'g', -1, 64))
	}
	return nil
}
