package collect

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSlew is by how much the clock may differ from the monotonic one between
// two looks at it, a minute apart at most. What a time server mends bit by bit
// stays far below.
const maxSlew = time.Second

// Clock is the clock of all workers of an agent. It logs and counts when the
// time jumps, before whoever asked for it can stamp a sample with it. Any
// goroutine may use it.
type Clock struct {
	now    func() (wall time.Time, steady time.Duration) // steady is moved by time alone
	jumps  *prometheus.CounterVec
	logger *slog.Logger

	mu     sync.Mutex
	wall   time.Time // as last looked at; zero: never
	steady time.Duration
}

// NewClock returns the machine's clock. Its metric is registered with reg.
func NewClock(reg prometheus.Registerer, logger *slog.Logger) *Clock {
	began := time.Now()
	c := &Clock{
		now: func() (time.Time, time.Duration) {
			now := time.Now()
			return now, now.Sub(began)
		},
		jumps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sql2metrics_clock_jumps_total",
			Help: "Times the clock was set, or the machine was suspended, by direction: ahead, back.",
		}, []string{"direction"}),
		logger: logger,
	}
	for _, direction := range []string{"ahead", "back"} {
		c.jumps.WithLabelValues(direction)
	}
	reg.MustRegister(c.jumps)
	return c
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	now, steady := c.now()
	var jump time.Duration
	if !c.wall.IsZero() {
		jump = now.Round(0).Sub(c.wall) - (steady - c.steady)
	}
	c.wall, c.steady = now.Round(0), steady
	c.mu.Unlock()
	switch {
	case jump > maxSlew:
		c.jumps.WithLabelValues("ahead").Inc()
		c.logger.Warn("the clock jumped ahead: it was set, or the machine was suspended; samples have the new time", "by", jump.Round(time.Millisecond))
	case jump < -maxSlew:
		c.jumps.WithLabelValues("back").Inc()
		c.logger.Warn("the clock jumped back: nothing is collected until it has passed the newest sample", "by", (-jump).Round(time.Millisecond))
	}
	return now
}
