package collect

import (
	"hash/fnv"
	"time"
)

// startSpread is the time over which the first runs after a start are spread.
const startSpread = 30 * time.Second

// schedule is the clock of a worker: ticks at k*interval + offset since the
// Unix epoch. The offset is a hash of the worker's name, so ticks of many
// workers, and of many agents, are spread, and stay where they are over
// restarts.
type schedule struct {
	interval time.Duration
	offset   time.Duration
}

// newSchedule returns the schedule of the worker with that name.
func newSchedule(interval time.Duration, name string) schedule {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	offset := time.Duration(h.Sum64() % uint64(interval))
	return schedule{interval, offset.Truncate(time.Millisecond)}
}

// last returns the newest tick that is not after t.
func (s schedule) last(t time.Time) time.Time {
	since := time.Duration(t.UnixNano()) - s.offset
	return time.Unix(0, int64(since-since%s.interval+s.offset))
}

// next returns the first tick after t.
func (s schedule) next(t time.Time) time.Time { return s.last(t).Add(s.interval) }

// first returns when to run for the first time after a start at t: at the
// next tick, or sooner for an interval so long that nobody would wait for it.
func (s schedule) first(t time.Time) time.Time {
	next := s.next(t.Add(-1)) // a tick at t is not over
	if s.interval <= startSpread {
		return next
	}
	if soon := t.Add(s.offset % startSpread); soon.Before(next) {
		return soon
	}
	return next
}
