package collect

import (
	"hash/fnv"
	"time"

	"sql2metrics/config"
)

// startSpread is the time over which the first runs after a start are spread.
const startSpread = 30 * time.Second

// schedule is the clock of a worker: ticks at k*interval + offset since the
// Unix epoch, or those of a cron expression. Where nobody asked for aligned
// ticks, the offset is a hash of the worker's name, so ticks of many workers,
// and of many agents, are spread, and stay where they are over restarts.
type schedule struct {
	interval time.Duration
	offset   time.Duration
	cron     *config.Schedule // instead of both; nil: none
	soon     time.Duration    // after a start, for whom the first tick is too far; -1: for nobody
}

// newSchedule returns the schedule of the worker with that name.
func newSchedule(c config.Clock, name string) schedule {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	within := func(d time.Duration) time.Duration {
		return time.Duration(h.Sum64() % uint64(d)).Truncate(time.Millisecond)
	}
	s := schedule{interval: c.Interval, cron: c.Schedule, soon: -1}
	if s.cron == nil && !c.Align {
		s.offset = within(s.interval)
	}
	if c.RunOnStart && (s.cron != nil || s.interval > startSpread) {
		s.soon = within(startSpread)
	}
	return s
}

// next returns the first tick after t.
func (s schedule) next(t time.Time) time.Time {
	if s.cron != nil {
		return s.cron.Next(t.Round(0))
	}
	return s.last(t).Add(s.interval)
}

// last returns the newest tick that is not after t, of a schedule without
// cron.
func (s schedule) last(t time.Time) time.Time {
	since := time.Duration(t.UnixNano()) - s.offset
	return time.Unix(0, int64(since-since%s.interval+s.offset))
}

// first returns when to run for the first time after a start at t: at the
// next tick, or soon if that is so far that nobody would wait for it.
func (s schedule) first(t time.Time) time.Time {
	next := s.next(t.Add(-1)) // a tick at t is not over
	if s.soon < 0 {
		return next
	}
	if soon := t.Add(s.soon).Round(0); soon.Before(next) {
		return soon
	}
	return next
}

// mostCounted bounds how many ticks of a cron expression are looked at only to
// count them: those of a month without sleep.
const mostCounted = 31 * 24 * 60

// between returns how many ticks there are after from and not after to.
func (s schedule) between(from, to time.Time) (n int) {
	tick := s.next(from)
	if s.cron == nil {
		if tick.After(to) {
			return 0
		}
		return int(to.Sub(tick)/s.interval) + 1
	}
	for ; !tick.After(to) && n < mostCounted; tick = s.next(tick) {
		n++
	}
	return n
}
