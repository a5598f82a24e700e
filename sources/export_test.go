package sources

import (
	"fmt"
	"log/slog"
	"time"

	"sql2metrics/config"
)

// OpenAt is [Open] with a clock of its own, for what keeps connections.
func OpenAt(s config.Source, now func() time.Time) (Source, error) {
	o := Options{Logger: slog.New(slog.DiscardHandler)}
	switch s.Type {
	case config.TypePostgres:
		return openPostgres(s, o, now)
	case config.TypeClickHouse:
		return openClickHouse(s, o, now)
	case config.TypeMySQL:
		return openMySQL(s, o, now)
	case config.TypeRedis:
		return openRedis(s, o, now)
	}
	return nil, fmt.Errorf("type %q keeps no connections", s.Type)
}

// What every kind of source connects with.
var (
	Password  = password
	TLSConfig = tlsConfig
)
