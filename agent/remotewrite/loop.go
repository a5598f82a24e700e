package remotewrite

import (
	"context"
	"sync/atomic"
	"time"
)

// maxRest bounds how long the loop sleeps, so that one that turns is seen to be
// alive.
const maxRest = time.Minute

// turns keeps when the loop last turned, in a time that no change of the clock
// moves.
type turns struct {
	begun time.Time
	last  atomic.Int64 // nanoseconds since begun; 0 before the first
}

func (t *turns) turn() { t.last.Store(max(1, int64(time.Since(t.begun)))) }

// Overdue returns for how long the loop should have turned and has not. Each
// step is a turn, and each answer; between two of them it may wait for
// remote_timeout and sleep for a minute. It may be called from any goroutine.
func (s *Shipper) Overdue(now time.Time) time.Duration {
	last := time.Duration(s.turns.last.Load())
	if last == 0 {
		return 0
	}
	return max(0, now.Sub(s.turns.begun)-last-s.endpoint.RemoteTimeout-maxRest)
}

// Run ships until stop is closed or ctx ends. It is a clock around Step and
// nothing else. When stop is closed, a step under way ends first, so that its
// requests are not in doubt; when ctx ends, requests in flight are aborted.
func (s *Shipper) Run(ctx context.Context, stop <-chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-stop:
			return
		default:
		}
		changed := s.log.Changed()
		now := time.Now()
		rest, err := s.Step(ctx, now)
		if ctx.Err() != nil {
			return
		}
		s.report(err, now)
		if rest == 0 {
			continue
		}
		if s.pace.waiting() && !s.empty() {
			changed = nil
		}
		sleep(ctx, rest, changed, stop)
	}
}

// Flush sends what the log has, without waiting for batch_send_deadline but
// keeping to the backoff, until nothing is left or ctx ends; then it returns
// the error of ctx. It is for the time between the end of Run and Close. What
// is to be flushed must have been synced.
func (s *Shipper) Flush(ctx context.Context) error {
	for {
		now := time.Now()
		rest, err := s.step(ctx, now, 0)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.report(err, now)
		if rest > 0 {
			if err == nil && (!s.pace.waiting() || s.empty()) {
				return nil
			}
			sleep(ctx, rest, nil, nil)
		}
	}
}

func sleep(ctx context.Context, d time.Duration, changed, stop <-chan struct{}) {
	timer := time.NewTimer(min(d, maxRest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
	case <-stop:
	}
}
