package collect

import (
	"bytes"
	"errors"
	"math"
	"time"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// timeLayouts are how databases write times as texts. Each may have a fraction
// of a second.
var timeLayouts = [...]string{
	time.RFC3339,
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05Z07",
	"2006-01-02 15:04:05 Z07:00",
	"2006-01-02 15:04:05",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	time.DateOnly,
}

// parseTime reads a text as a time, in location where it names no zone, and
// returns the layout it is written in; false: it is none.
func parseTime(text string, location *time.Location) (t time.Time, layout string, ok bool) {
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, location); err == nil {
			return t, layout, true
		}
	}
	return time.Time{}, "", false
}

var errNotTime = errors.New("not a time")

// unitMillis are milliseconds in a unit of numbers.
var unitMillis = map[config.TimestampUnit]float64{
	config.TimestampAuto:         1e3,
	config.TimestampSeconds:      1e3,
	config.TimestampMilliseconds: 1,
	config.TimestampMicroseconds: 1e-3,
	config.TimestampNanoseconds:  1e-6,
}

// maxMillis is the year 10000: what lies beyond was meant in another unit.
const maxMillis = 253402300800000

// ownTime reads a cell that is not NULL as a time, in Unix milliseconds.
func ownTime(v sources.Value, o config.Timestamp) (int64, error) {
	switch v.Kind() {
	case sources.Bool:
		return 0, errNotTime
	case sources.Time:
		seconds, _ := v.Float() // a millisecond has room in a float64 until the year 287396
		return inMillis(seconds * 1e3)
	case sources.Text:
		location := o.Location
		if location == nil {
			location = time.UTC
		}
		var room [len(time.RFC3339Nano) + 8]byte
		if t, _, ok := parseTime(string(bytes.TrimSpace(v.AppendText(room[:0]))), location); ok {
			return t.UnixMilli(), nil
		}
	}
	x, err := v.Float()
	if err != nil {
		return 0, errNotTime
	}
	return inMillis(x * unitMillis[o.Unit])
}

func inMillis(x float64) (int64, error) {
	if !(math.Abs(x) < maxMillis) {
		return 0, errNotTime
	}
	return int64(math.Round(x)), nil
}
