package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sql2metrics/agent/collect"
)

// stubborn is a worker that does not end when it is told to, but when released.
type stubborn struct {
	collect.Runner
	release   chan struct{}
	appending bool
	retired   bool
}

// Run implements [collect.Runner].
func (s *stubborn) Run(context.Context) { <-s.release }

// Retire implements [collect.Runner].
func (s *stubborn) Retire() bool {
	s.retired = !s.appending
	return s.retired
}

// A worker whose query hangs holds a reload up for a moment, and ends by itself
// later. One that is appending is waited for.
func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := &stubborn{release: make(chan struct{})}
		appends := &stubborn{release: make(chan struct{}), appending: true}
		time.AfterFunc(time.Minute, func() { close(appends.release) })
		tasks := []*task{{Runner: hangs}, {Runner: appends}}
		for _, task := range tasks {
			task.start(t.Context())
		}
		began := time.Now()
		retire(tasks[:1])
		if took := time.Since(began); took != retireTime || !hangs.retired {
			t.Errorf("a worker that hangs is retired: %v, after %v", hangs.retired, took)
		}
		retire(tasks)
		if took := time.Since(began); took != time.Minute || appends.retired {
			t.Errorf("a worker that appends is retired: %v, after %v", appends.retired, took)
		}
		close(hangs.release)
		<-tasks[0].done
	})
}
