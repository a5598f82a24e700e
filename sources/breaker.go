package sources

import (
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

// breaker keeps a source from dialing a dead server at each query. Until its
// pause is over, every query gets the error of the last attempt.
type breaker struct {
	now func() time.Time

	mu       sync.Mutex
	failures int
	until    time.Time
	err      error
}

// allow returns the last error while the pause lasts. Otherwise the caller
// may connect, and hands attempt and outcome to done.
func (b *breaker) allow() (attempt int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil && b.now().Before(b.until) {
		return 0, b.err
	}
	return b.failures, nil
}

// done records how a connect ended. Attempts that ran side by side count as
// one failure.
func (b *breaker) done(attempt int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	if err == nil {
		b.failures = 0
		return
	}
	if attempt == b.failures {
		pause := min(firstPause<<min(b.failures, 10), lastPause)
		b.failures++
		// Half of the pause is random, so that agents which lost the same
		// server do not come back at the same moment.
		b.until = b.now().Add(pause/2 + rand.N(pause/2))
	}
}
