package sources

import (
	"time"

	"sql2metrics/config"
)

// OpenHTTPJSON is [Open] with a clock of its own.
func OpenHTTPJSON(s config.Source, now func() time.Time) (Source, error) {
	return openHTTPJSON(s, Options{}, now)
}

// Patiently tries a timeout that is to fire, and a longer one as long as it
// fires too early: while a busy machine has not come to what is to be timed.
func Patiently(timeout time.Duration, tooEarly func(timeout time.Duration) bool) {
	for tooEarly(timeout) && timeout < time.Minute {
		timeout *= 4
	}
}
