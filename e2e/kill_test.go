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
	kills := 7
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
		{receiver.Up, receiver.Up}, {down, down}, {down, receiver.Up}, {receiver.Up, down}, {receiver.Reset, receiver.Up},
	}

	var l *ledger
	for i := range kills {
		r.Behave(lives[i%len(lives)][0])
		a := start(t, watch)
		if l == nil {
			l = follow(t, watch.storage)
		}
		time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		r.Behave(lives[i%len(lives)][1])
		time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		a.kill()
	}
	r.Behave(receiver.Up)
	start(t, watch).stop(t)

	l.close(t)
	l.compare(t, r.Samples(t, everything))
	repeated := l.checkDeliveries(t, r.Requests())
	t.Logf("%d kills, %d samples in %d series, %d of them sent more than once", kills, l.count, len(l.samples), repeated)
}
