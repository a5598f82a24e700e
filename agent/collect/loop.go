package collect

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sql2metrics/sources"
)

const (
	// reconnectMin and reconnectMax bound the backoff after a server could not
	// be reached: that costs it nothing.
	reconnectMin = 2 * time.Second
	reconnectMax = time.Minute
	// retryMin and retryMax bound the backoff after any other failure, which
	// the server has worked for.
	retryMin = 30 * time.Second
	retryMax = 15 * time.Minute
	// maxRest bounds how long a loop sleeps: a clock that was stepped is
	// noticed that soon, and a loop that turns is seen to be alive.
	maxRest = time.Minute
	// maxLate is how late a tick may be run. One that is later has not waited
	// for us: the machine slept, or its clock was set forward.
	maxLate = 10 * time.Second
)

// errClockBack is why a step collects nothing while the clock is behind the
// newest sample: it was set back, and samples would be refused anyway.
var errClockBack = errors.New("the clock is behind the newest sample: nothing is collected until it has passed it")

// task is what a loop runs. Only step is needed.
type task struct {
	// step runs at each tick, at which its samples are stamped.
	step func(ctx context.Context, tick time.Time) error
	// refresh runs whenever the loop has no step to run. It returns when it
	// wants to be run next, the zero time if it does not.
	refresh func(now time.Time) time.Time
	overrun func(ticks int) // told how many passed during a step
	late    func(ticks int) // told how many were too late to be run
}

// loop is the clock and the backoff around a task.
type loop struct {
	schedule schedule
	longest  time.Duration // a step may take
	entered  bool          // the task has just been done, by a reload
	clock    func() time.Time
	// begun and turned keep the loop's last turn in a time that no change of
	// the clock moves.
	begun  time.Time
	turned *atomic.Int64 // nanoseconds since begun; 0 before the first turn
}

func newLoop(s schedule, longest time.Duration, clock func() time.Time) loop {
	return loop{schedule: s, longest: longest, clock: clock, begun: clock(), turned: &atomic.Int64{}}
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

// run runs t until ctx ends. A step that failed is run again before the next
// tick, with backoff, if the ticks are so far apart that this makes sense.
func (l loop) run(ctx context.Context, t task) {
	timer := time.NewTimer(maxRest)
	defer timer.Stop()
	due := l.schedule.first(l.turn())
	if l.entered {
		due = l.schedule.next(l.clock())
	}
	var pause time.Duration // before the last retry; 0: the last step was good
	for ctx.Err() == nil {
		now := l.turn()
		due = l.correct(due, now, t)
		if due.After(now) {
			rest := min(due.Sub(now), maxRest)
			if t.refresh != nil {
				if next := t.refresh(now); !next.IsZero() {
					rest = min(rest, next.Sub(now))
				}
			}
			timer.Reset(rest)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			continue
		}

		err := t.step(ctx, due)
		took := max(0, l.clock().Sub(now))
		end := now.Add(took).Round(0)
		if n := l.schedule.between(due, end); n > 0 && t.overrun != nil {
			t.overrun(n)
		}
		due = l.schedule.next(end)
		if settled(err) {
			pause = 0
			continue
		}
		longer := backoff(err, pause, took)
		if retry := end.Add(longer); retry.Add(longer).Before(due) {
			due, pause = retry, longer
		}
	}
}

// correct returns due, or what it is after the clock has been set: back, and
// the next tick is the next one of that clock; forward, or the machine slept,
// and what was missed is not made up for but begun anew, as after a start.
func (l loop) correct(due, now time.Time, t task) time.Time {
	if next := l.schedule.next(now); next.Before(due) {
		return next
	}
	if now.Sub(due) <= maxLate {
		return due
	}
	if n := l.schedule.between(due.Add(-1), now.Add(-1)); n > 0 && t.late != nil {
		t.late(n)
	}
	return l.schedule.first(now)
}

// backoff returns how long to wait after a step that failed, given how long
// that took and the pause before it. It doubles, and leaves the server alone
// for at least half of the time.
func backoff(err error, pause, took time.Duration) time.Duration {
	first, longest := retryMin, retryMax
	var connect *sources.ConnectError
	if errors.As(err, &connect) {
		first, longest = reconnectMin, reconnectMax
	}
	return max(min(max(2*pause, first), longest), took)
}
