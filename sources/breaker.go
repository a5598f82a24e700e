package sources

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// The pause after a failed connect: it doubles from the first to the last
// value. The last bounds how long a server that is back stays unnoticed, and
// is not longer than the default interval of a query.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// backoff is for how long something that failed is not tried again.
type backoff struct {
	first, last time.Duration

	failures int
	until    time.Time
	err      error
}

// held returns the last error while the pause lasts.
func (b *backoff) held(now time.Time) error {
	if b.err != nil && now.Before(b.until) {
		return b.err
	}
	return nil
}

// fail begins a pause. Half of it is random, so that agents which lost the same
// server do not come back at the same moment.
func (b *backoff) fail(now time.Time, err error) {
	length := b.last
	if b.failures < 10 {
		length = min(b.first<<b.failures, b.last)
	}
	b.failures++
	b.err = err
	b.until = now.Add(length/2 + rand.N(length/2))
}

// end is for what has succeeded.
func (b *backoff) end() { b.failures, b.err = 0, nil }

// breaker keeps a source from dialing a dead server at each query, be it one
// that refuses the connection or one that takes it and never answers. Until its
// pause is over, every query gets the error of the last attempt. Queries that
// fail on a connection do not count: it is their own affair.
type breaker struct {
	now func() time.Time

	mu    sync.Mutex
	pause backoff
}

func newBreaker(now func() time.Time) *breaker {
	return &breaker{now: now, pause: backoff{first: firstPause, last: lastPause}}
}

// try runs dial unless the last attempt has just failed. A dial that ended
// because ctx was cancelled tells nothing of the server, and one that was
// refused the login tells that it is there.
func (b *breaker) try(ctx context.Context, dial func() error) error {
	if err := b.held(); err != nil {
		return err
	}
	err := dial()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil, errors.As(err, new(*loginError)):
		b.pause.end()
	case !errors.Is(ctx.Err(), context.Canceled):
		b.pause.fail(b.now(), err)
	}
	return err
}

func (b *breaker) held() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause.held(b.now())
}
