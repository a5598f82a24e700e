package collect

import (
	"context"
	"errors"
	"time"
)

// runGrace is how long a run is waited for before the last result is emitted
// again in its place: a result that comes sooner is stamped with its tick.
const runGrace = 10 * time.Second

// stepAside is Step with the query in a goroutine of its own, so that the last
// result is emitted again, or ends, while it runs.
func (w *Worker) stepAside(ctx context.Context, tick time.Time) error {
	if err := w.admit(tick); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- w.collect(ctx, tick) }()
	timer := time.NewTimer(max(runGrace, w.hold.next().Sub(w.clock())))
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return w.commit(ctx, tick, err)
		case <-timer.C:
			now := w.clock()
			rest := maxRest
			if next := w.refresh(now); !next.IsZero() {
				rest = min(rest, next.Sub(now))
			}
			timer.Reset(rest)
		}
	}
}

// refresh emits the last result again, or ends it, if it is time, and returns
// when it will be next: the zero time for never. A query may run meanwhile.
func (w *Worker) refresh(now time.Time) time.Time {
	var err error
	switch resend := w.hold.resend(); {
	case w.hold.over(now):
		stale, appended, unwritten := w.values.expire(now)
		err = w.ends(now, stale, appended, unwritten)
	case !resend.IsZero() && !now.Before(resend):
		err = w.resend(now)
	}
	if err != nil {
		w.ended(err, 0, 0)
	}
	return w.hold.next()
}

func (w *Worker) resend(now time.Time) error {
	appended, err := w.values.resend(now)
	if errors.Is(err, errRetired) {
		return nil
	}
	w.hold.again(now)
	w.lastStamp = now.UnixMilli()
	w.appended(appended)
	if err != nil {
		return w.failed(&appendError{err})
	}
	return nil
}
