package collect

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A jump is one line in the log and counted, before the time is known to who
// asked for it; what a time server mends bit by bit is neither.
func TestClockTellsJumps(t *testing.T) {
	var logged strings.Builder
	c := NewClock(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{ReplaceAttr: dropTime})))
	wall, steady := t0, time.Duration(0)
	c.now = func() (time.Time, time.Duration) { return wall, steady }
	for _, move := range []struct{ wall, steady time.Duration }{
		{time.Minute, time.Minute},
		{time.Minute + 50*time.Millisecond, time.Minute},
		{8 * time.Hour, time.Second}, // the machine slept
		{time.Second, time.Second},
		{-time.Hour, time.Second},
		{0, 0},
	} {
		wall, steady = wall.Add(move.wall), steady+move.steady
		for range 3 { // workers
			if now := c.Now(); !now.Equal(wall) {
				t.Fatalf("the time is %s, want %s", now, wall)
			}
		}
	}
	want := `level=WARN msg="the clock jumped ahead: it was set, or the machine was suspended; samples have the new time" by=7h59m59s
level=WARN msg="the clock jumped back: nothing is collected until it has passed the newest sample" by=1h0m1s
`
	if diff := cmp.Diff(want, logged.String()); diff != "" {
		t.Error(diff)
	}
	for direction, want := range map[string]float64{"ahead": 1, "back": 1} {
		if n := testutil.ToFloat64(c.jumps.WithLabelValues(direction)); n != want {
			t.Errorf("%s: counted %v jumps, want %v", direction, n, want)
		}
	}
}

func TestClockGoesOn(t *testing.T) {
	c := NewClock(prometheus.NewRegistry(), discard)
	if before, now := c.Now(), c.Now(); now.Before(before) {
		t.Errorf("%s comes after %s", now, before)
	}
}
