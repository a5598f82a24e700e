package sources

import (
	"log/slog"
	"time"

	"sql2metrics/config"
)

// OpenPostgres is [Open] with a clock of its own.
func OpenPostgres(s config.Source, now func() time.Time) (Source, error) {
	return openPostgres(s, Options{Logger: slog.New(slog.DiscardHandler)}, now)
}

// What every kind of source connects with.
var (
	Password  = password
	TLSConfig = tlsConfig
)
