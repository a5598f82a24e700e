package sources

import (
	"context"
	"errors"
	"testing"
	"time"
)

var errRefused = errors.New("refused")

func TestBreaker(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBreaker(func() time.Time { return now })
	dials := 0
	fail := func() error { dials++; return errRefused }
	try := func(dial func() error) bool {
		before := dials
		_ = b.try(t.Context(), dial)
		return dials > before
	}

	for _, next := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		if !try(fail) {
			t.Fatalf("no attempt when the pause before one of %d s was over", next)
		}
		pause := next * time.Second
		if err := b.try(t.Context(), fail); err != errRefused || dials == 0 {
			t.Errorf("error while the pause lasts: %v", err)
		}
		now = now.Add(pause/2 - 1)
		if try(fail) {
			t.Errorf("an attempt after %v of %v", pause/2-1, pause)
		}
		now = now.Add(pause/2 + 1)
	}

	good := func() error { dials++; return nil }
	for range 2 {
		if !try(good) {
			t.Error("a success does not end the pause")
		}
	}
	if !try(fail) || try(good) {
		t.Error("a failure after a success begins no pause")
	}
	now = now.Add(firstPause)
	if !try(good) {
		t.Error("the pause after a success and a failure is not the first one")
	}
}

// What did not fail because of the server begins no pause.
func TestBreakerCountsOnlyDeadServers(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		err    error
		pauses bool
	}{
		"refused":       {t.Context(), errRefused, true},
		"no answer":     {late, context.DeadlineExceeded, true},
		"cancelled":     {cancelled, context.Canceled, false},
		"login refused": {t.Context(), &ConnectError{"s", &loginError{errRefused}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			b := newBreaker(func() time.Time { return now })
			_ = b.try(test.ctx, func() error { return test.err })
			again := false
			_ = b.try(t.Context(), func() error { again = true; return nil })
			if again == test.pauses {
				t.Errorf("another attempt at once: %v", again)
			}
		})
	}
}
