package e2e

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// everything selects all series.
const everything = `{__name__=~".+"}`

// TestKill9 kills the agent at random points, with the receiver up, down and
// changing. What the log has, the receiver gets: every sample, with its own
// timestamp, in order, and nothing else. E2E_SEED repeats a run's choices.
func TestKill9(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("E2E_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("E2E_SEED=%d", seed)
	for name, protocol := range map[string]receiver.Message{"1.0": receiver.V1, "2.0": receiver.V2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kill9(t, rand.New(rand.NewPCG(seed, 0)), protocol)
		})
	}
}

func kill9(t *testing.T, random *rand.Rand, protocol receiver.Message) {
	kills := 8
	if soak() {
		kills = 200
	}
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 100)
	s.trade(t)
	watch := setup{
		config:  s.config(100*time.Millisecond, r.URL()+"\n    protobuf_message: "+string(protocol)),
		storage: filepath.Join(t.TempDir(), "data"),
	}
	down := receiver.Status(http.StatusServiceUnavailable, 0)
	// What the receiver does while an agent lives: first and last.
	lives := [][2]receiver.Behaviour{
		{receiver.Up, receiver.Up},
		{down, down},
		{down, receiver.Up},
		{receiver.Up, down},
		{receiver.Reset, receiver.Up},
		{receiver.Slow(30 * time.Millisecond), receiver.Up},
		{receiver.Up, receiver.SlowAnswer(100 * time.Millisecond)},
	}

	var l *ledger
	for i := range kills {
		r.Behave(lives[i%len(lives)][0])
		a := start(t, watch)
		if l == nil {
			l = follow(t, watch.storage)
			eventually(t, "something to account for", func() error {
				return atLeast(sum(a.metrics(t), "sql2metrics_remote_write_samples_appended_total"), 1)
			})
		}
		time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		r.Behave(lives[i%len(lives)][1])
		time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		checkBooks(t, a)
		a.kill()
	}
	r.Behave(receiver.Up)
	a := start(t, watch)
	waitForSamples(t, a, 100)
	checkBooks(t, a)
	a.stop(t)

	l.close(t)
	l.compare(t, r.Samples(t, everything))
	repeated := l.checkDeliveries(t, r.Requests())
	t.Logf("%d kills, %d samples in %d series, %d of them sent more than once", kills, l.count, len(l.samples), repeated)
}

// checkBooks checks that an agent accounts for every sample appended, and has
// given up none.
func checkBooks(t *testing.T, a *agent) {
	t.Helper()
	const prefix = "sql2metrics_remote_write_samples_"
	m := a.metrics(t)
	appended, dropped := sum(m, prefix+"appended_total"), sum(m, prefix+"dropped_total")
	accounted := sum(m, prefix+"sent_total") + dropped + sum(m, prefix+"unconfirmed_total") + sum(m, prefix+"pending")
	if appended == 0 || appended != accounted || dropped != 0 {
		t.Errorf("%v samples appended, %v accounted for, %v of them dropped", appended, accounted, dropped)
	}
}
