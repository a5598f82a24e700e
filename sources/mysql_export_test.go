package sources

import "time"

// What reads the words of a MySQL server.
var (
	SessionZone   = sessionZone
	ParseDuration = parseDuration
)

// ParseMoment reads a DATETIME in UTC.
func ParseMoment(b []byte) Value { return parseMoment(b, time.UTC) }
