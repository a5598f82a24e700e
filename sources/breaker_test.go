package sources

import (
	"errors"
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &breaker{now: func() time.Time { return now }}
	refused := errors.New("refused")

	pause := time.Duration(0) // the longest the next pause may be
	for _, next := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		now = now.Add(pause)
		attempt, err := b.allow()
		if err != nil {
			t.Fatalf("no attempt %v after the failure: %v", pause, err)
		}
		b.done(attempt, refused)
		pause = next * time.Second
		if _, err := b.allow(); err != refused {
			t.Errorf("an attempt right after a failure: %v", err)
		}
		now = now.Add(pause/2 - 1)
		if _, err := b.allow(); err != refused {
			t.Errorf("an attempt after %v of %v: %v", pause/2-1, pause, err)
		}
		now = now.Add(-pause/2 + 1)
	}

	now = now.Add(pause)
	attempt, _ := b.allow()
	b.done(attempt, nil)
	if _, err := b.allow(); err != nil {
		t.Errorf("no attempt after a success: %v", err)
	}
}

// Connections of one pool that fail together are one failure.
func TestBreakerCountsFailuresSideBySideOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &breaker{now: func() time.Time { return now }}
	for range 5 {
		b.done(0, errors.New("refused"))
	}
	now = now.Add(firstPause)
	if _, err := b.allow(); err != nil {
		t.Errorf("five failures at once made the pause longer: %v", err)
	}
}
