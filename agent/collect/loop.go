package collect

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sql2metrics/sources"
)

const (
	// retryMin and retryMax bound the backoff after a server could not be
	// reached.
	retryMin = 2 * time.Second
	retryMax = time.Minute
	// maxRest bounds how long a loop sleeps: a clock that was stepped is
	// noticed that soon, and a loop that turns is seen to be alive.
	maxRest = time.Minute
)

// errClockBack is why a step collects nothing while the clock is behind the
// newest sample: it was set back, and samples would be refused anyway.
var errClockBack = errors.New("the clock is behind the newest sample: nothing is collected until it has passed it")

// loop is the clock and the backoff around a step.
type loop struct {
	schedule schedule
	longest  time.Duration // a step may take
	clock    func() time.Time
	// begun and turned keep the loop's last turn in a time that no change of
	// the clock moves.
	begun  time.Time
	turned *atomic.Int64 // nanoseconds since begun; 0 before the first turn
}

func newLoop(interval time.Duration, name string, longest time.Duration, clock func() time.Time) loop {
	return loop{newSchedule(interval, name), longest, clock, clock(), &atomic.Int64{}}
}

// turn notes that the loop turns, and returns the time.
func (l loop) turn() time.Time {
	now := l.clock()
	l.turned.Store(max(1, int64(now.Sub(l.begun))))
	return now
}

// overdue returns for how long the loop should have turned and has not.
func (l loop) overdue(now time.Time) time.Duration {
	turned := time.Duration(l.turned.Load())
	if turned == 0 {
		return 0
	}
	return max(0, now.Sub(l.begun)-turned-l.longest-maxRest)
}

// run calls step at each tick until ctx ends; skipped is told how many ticks
// passed during a step. After a suspend, or a clock that was set forward, only
// the newest tick is run; after a clock that was set back, the next tick is the
// next one of that clock.
func (l loop) run(ctx context.Context, step func(context.Context, time.Time) error, skipped func(ticks int)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := l.schedule.first(l.turn())
	tick := due // the stamp of the run that is due
	backoff := retryMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := l.turn()
		if due.Sub(now) > l.schedule.interval {
			due = l.schedule.next(now)
			tick = due
		}
		if rest := due.Sub(now); rest > 0 {
			timer.Reset(min(rest, maxRest))
			continue
		}
		if newest := l.schedule.last(now); newest.After(tick) {
			tick = newest
		}
		err := step(ctx, tick)

		now = l.turn()
		due = l.schedule.next(tick)
		if newest := l.schedule.last(now); !newest.Before(due) {
			skipped(int(newest.Sub(due)/l.schedule.interval) + 1)
			due = l.schedule.next(now)
		}
		tick = due
		var connect *sources.ConnectError
		if !errors.As(err, &connect) {
			backoff = retryMin
		} else if retry := now.Add(backoff); retry.Add(backoff).Before(due) {
			due, tick = retry, retry
			backoff = min(2*backoff, retryMax)
		}
		timer.Reset(max(0, min(due.Sub(now), maxRest)))
	}
}
