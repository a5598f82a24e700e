package e2e

import (
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestStartWithoutReceiver starts an agent whose receiver refuses
// connections: it collects, is ready, and later delivers from the first
// sample on.
func TestStartWithoutReceiver(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	r.Refuse()
	s := newShop(t, 20)
	a := start(t, setup{config: s.config(50*time.Millisecond, r.URL())})
	l := follow(t, a.storage)
	waitForSamples(t, a, 200)

	r.Listen(t)
	eventually(t, "the backlog to arrive", func() error { return atLeast(len(r.Samples(t, "orders")), 20) })
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}

// TestUnknownReceiver has two endpoints, one whose name does not resolve: the
// other gets everything.
func TestUnknownReceiver(t *testing.T) {
	t.Parallel()
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 20)
	a := start(t, setup{config: s.config(50*time.Millisecond, "http://no-such-host.invalid/api/v1/write", r.URL())})
	l := follow(t, a.storage)
	waitForSamples(t, a, 200)
	if _, err := a.get("/-/ready"); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if _, err := a.get("/-/healthy"); err != nil {
		t.Errorf("not healthy: %v", err)
	}
	a.stop(t)
	l.close(t)
	l.compare(t, r.Samples(t, everything))
}

// waitForSamples waits until the agent's queries have made so many samples.
func waitForSamples(t *testing.T, a *agent, n float64) {
	t.Helper()
	eventually(t, "samples", func() error {
		return atLeast(sum(a.metrics(t), "sql2metrics_query_samples_total"), n)
	})
}
