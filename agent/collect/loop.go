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

// loop is the clock and the backoff around a step.
type loop struct {
	schedule schedule
	longest  time.Duration // a step may take
	clock    func() time.Time
	turned   *atomic.Int64 // Unix nanoseconds; 0 before the first turn
}

func newLoop(interval time.Duration, name string, longest time.Duration, clock func() time.Time) loop {
	return loop{newSchedule(interval, name), longest, clock, &atomic.Int64{}}
}

// overdue returns for how long the loop should have turned and has not.
func (l loop) overdue(now time.Time) time.Duration {
	turned := l.turned.Load()
	if turned == 0 {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, turned))-l.longest-maxRest)
}

// run calls step at each tick until ctx ends; skipped is told how many ticks
// passed during a step. After a suspend, or a clock that was set forward, only
// the newest tick is run.
func (l loop) run(ctx context.Context, step func(context.Context, time.Time) error, skipped func(ticks int)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.turned.Store(l.clock().UnixNano())
	due := l.schedule.first(l.clock())
	tick := due // the stamp of the run that is due
	backoff := retryMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := l.clock()
		l.turned.Store(now.UnixNano())
		if rest := due.Sub(now); rest > 0 {
			timer.Reset(min(rest, maxRest))
			continue
		}
		if newest := l.schedule.last(now); newest.After(tick) {
			tick = newest
		}
		err := step(ctx, tick)

		now = l.clock()
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
