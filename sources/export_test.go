package sources

import (
	"log/slog"
	"time"

	"sql2metrics/config"
)

// OpenPostgres is [Open] with a clock of its own, and another limit on one
// message unless that is 0.
func OpenPostgres(s config.Source, now func() time.Time, maxMessage int) (Source, error) {
	source, err := openPostgres(s, Options{Logger: slog.New(slog.DiscardHandler)}, now)
	if err == nil && maxMessage > 0 {
		source.(*postgres).pool.longest = maxMessage
	}
	return source, err
}
