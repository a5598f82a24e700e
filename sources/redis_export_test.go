package sources

import (
	"log/slog"
	"time"

	"sql2metrics/config"
)

// OpenRedis is [Open] with a clock of its own.
func OpenRedis(s config.Source, now func() time.Time) (Source, error) {
	return openRedis(s, Options{Logger: slog.New(slog.DiscardHandler)}, now)
}
