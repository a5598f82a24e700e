package collect

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

// settable is a clock that can be set, over one that only goes forward.
type settable struct {
	real   func() time.Time
	offset time.Duration
}

func (c *settable) now() time.Time { return c.real().Add(c.offset) }

// A loop whose clock is set back goes on at once, so that its steps can count
// what they refuse; one whose clock jumps ahead runs the newest tick. Neither
// makes it look stuck.
func TestLoopOutlivesSteppedClocks(t *testing.T) {
	for name, step := range map[string]time.Duration{"back": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := &settable{real: time.Now}
				l := newLoop(newSchedule(config.Clock{Interval: 10 * time.Second}, "x"), 0, clock.now)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				var before, after int
				l.run(ctx, task{step: func(context.Context, time.Time) error {
					if before++; before == 10 {
						clock.offset += step
					}
					if clock.offset != 0 {
						after++
					}
					return nil
				}})
				if after < 15 {
					t.Errorf("%d steps after the clock was set, want one each 10 s", after)
				}
				if late := l.overdue(clock.now()); late > 0 {
					t.Errorf("the loop looks stuck for %s", late)
				}
			})
		})
	}
}

func TestOverdue(t *testing.T) {
	now := t0
	l := newLoop(newSchedule(config.Clock{Interval: time.Second}, "x"), 5*time.Second, func() time.Time { return now })
	if late := l.overdue(t0.Add(time.Hour)); late != 0 {
		t.Errorf("a loop that has not begun is overdue for %s", late)
	}
	l.turn()
	if late := l.overdue(t0.Add(5*time.Second + maxRest)); late != 0 {
		t.Errorf("overdue for %s within the longest step and rest", late)
	}
	if late := l.overdue(t0.Add(5*time.Second + maxRest + 7*time.Minute)); late.Round(time.Second) != 7*time.Minute {
		t.Errorf("overdue for %s, want 7m", late)
	}
}

func TestLoop(t *testing.T) {
	run := func(t *testing.T, interval, until time.Duration, step func(at time.Duration) error) (ticks []time.Duration, skipped int) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), until)
			defer cancel()
			l := newLoop(newSchedule(config.Clock{Interval: interval}, "x"), 0, time.Now)
			l.schedule.offset = 0
			l.run(ctx, task{
				step: func(_ context.Context, tick time.Time) error {
					ticks = append(ticks, tick.Sub(start))
					return step(time.Since(start))
				},
				overrun: func(n int) { skipped += n },
			})
		})
		return ticks, skipped
	}
	s := time.Second
	t.Run("each tick", func(t *testing.T) {
		ticks, skipped := run(t, 10*s, 35*s, func(time.Duration) error { return nil })
		if diff := cmp.Diff([]time.Duration{0, 10 * s, 20 * s, 30 * s}, ticks[len(ticks)-4:]); diff != "" || skipped != 0 {
			t.Errorf("skipped %d, %s", skipped, diff)
		}
	})
	t.Run("an overrun is skipped and counted", func(t *testing.T) {
		ticks, skipped := run(t, 10*s, 65*s, func(at time.Duration) error {
			if at == 10*s {
				time.Sleep(25 * s)
			}
			return nil
		})
		if diff := cmp.Diff([]time.Duration{10 * s, 40 * s, 50 * s, 60 * s}, ticks[len(ticks)-4:]); diff != "" || skipped != 2 {
			t.Errorf("skipped %d, want 2, %s", skipped, diff)
		}
	})
	t.Run("a server that could not be reached is asked again with backoff", func(t *testing.T) {
		ticks, _ := run(t, 60*s, 65*s, func(time.Duration) error { return errDown })
		want := []time.Duration{0, 2 * s, 6 * s, 14 * s, 30 * s, 60 * s}
		if diff := cmp.Diff(want, ticks[len(ticks)-6:]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("another failure waits for the next tick", func(t *testing.T) {
		ticks, _ := run(t, 60*s, 65*s, func(time.Duration) error { return errors.New("no such table") })
		if diff := cmp.Diff([]time.Duration{0, 60 * s}, ticks[len(ticks)-2:]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("unless that is far, but the server is spared", func(t *testing.T) {
		ticks, _ := run(t, 2*time.Hour, 2*time.Hour+s, func(time.Duration) error { return context.DeadlineExceeded })
		want := []time.Duration{0}
		for _, pause := range []time.Duration{30 * s, 60 * s, 120 * s, 240 * s, 480 * s, 900 * s, 900 * s, 900 * s, 900 * s, 900 * s} {
			want = append(want, want[len(want)-1]+pause)
		}
		if diff := cmp.Diff(append(want, 2*time.Hour), ticks[len(ticks)-len(want)-1:]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("and has at least half of the time for others", func(t *testing.T) {
		if pause := backoff(context.DeadlineExceeded, 0, time.Hour); pause != time.Hour {
			t.Errorf("after a run of an hour that failed, the next one waits %s", pause)
		}
	})
	t.Run("a long interval does not delay the first run", func(t *testing.T) {
		l := newLoop(newSchedule(config.Clock{Interval: time.Hour, RunOnStart: true}, "x"), 0, time.Now)
		if wait := l.schedule.first(t0).Sub(t0); wait > startSpread {
			t.Errorf("the first run waits %s", wait)
		}
	})
}

// What a sleeping machine, or a clock that jumps ahead, has passed over is
// counted and not made up for: with a short interval the next tick is the next
// one, with a long one a run comes soon.
func TestLateTicksAreNotReplayed(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	for name, c := range map[string]struct {
		clock config.Clock
		sleep time.Duration
		runs  []time.Duration // after the start, by the clock on the wall
		late  int
	}{
		"a short interval": {
			config.Clock{Interval: 10 * s, Align: true, RunOnStart: true}, h,
			[]time.Duration{0, 10 * s, h + 20*s, h + 30*s}, 360,
		},
		"a long interval": {
			config.Clock{Interval: h, Align: true, RunOnStart: true}, 3*h + 20*m,
			[]time.Duration{0, 3*h + 21*m + 20*s, 4 * h}, 3, // noticed within a minute
		},
		"a long interval without run_on_start": {
			config.Clock{Interval: h, Align: true}, 3*h + 20*m,
			[]time.Duration{0, 4 * h}, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				clock := func() time.Time {
					now := time.Now()
					if now.Sub(start) < 15*s {
						return now
					}
					return now.Add(c.sleep)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				schedule := newSchedule(c.clock, "x")
				if schedule.soon > 0 {
					schedule.soon = 20 * s // of the spread
				}
				var runs []time.Duration
				var late int
				newLoop(schedule, 0, clock).run(ctx, task{
					step: func(_ context.Context, tick time.Time) error {
						if runs = append(runs, tick.Sub(start)); len(runs) == len(c.runs) {
							cancel()
						}
						return nil
					},
					overrun: func(n int) { t.Errorf("%d overruns", n) },
					late:    func(n int) { late += n },
				})
				if diff := cmp.Diff(c.runs, runs); diff != "" {
					t.Error(diff)
				}
				if late != c.late {
					t.Errorf("%d ticks were late, want %d", late, c.late)
				}
			})
		})
	}
}
