package collect

import (
	"math"
	"testing"
	"time"

	"sql2metrics/sources"
)

// TestPlace puts places into SQL, and those that lie before them.
func TestPlace(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 1, 500e6, time.UTC)
	for name, c := range map[string]struct {
		cell    sources.Value
		start   string
		literal string // empty: no place
		overlap float64
		before  string
	}{
		"integer":                    {sources.IntValue(1000), "0", "1000", 10, "990"},
		"integer, part of one":       {sources.IntValue(1000), "0", "1000", 0.5, "999"},
		"smallest":                   {sources.IntValue(math.MinInt64), "0", "-9223372036854775808", 10, "-9223372036854775808"},
		"larger than an int64":       {sources.UintValue(math.MaxUint64), "0", "", 0, ""},
		"float":                      {sources.FloatValue(1e6), "0", "1000000", 0.5, "999999.5"},
		"NaN":                        {sources.FloatValue(math.NaN()), "0", "", 0, ""},
		"decimal as a text":          {text("12"), "0", "12", 2, "10"},
		"text of digits":             {text("12"), "a", "'12'", 2, "'12'"},
		"time":                       {sources.TimeValue(at), "0", "'2026-03-01 12:00:01.5+00:00'", 1, "'2026-03-01 12:00:00.5+00:00'"},
		"time as a text":             {text("2026-03-01 12:00:01.5"), "0", "'2026-03-01 12:00:01.5'", 1, "'2026-03-01 12:00:00'"},
		"time as a text with a zone": {text("2026-03-01T12:00:01+02:00"), "0", "'2026-03-01T12:00:01+02:00'", 61, "'2026-03-01T11:59:00+02:00'"},
		"time as a text, minutes":    {text("2026-03-01T12:00"), "0", "'2026-03-01T12:00'", 1, "'2026-03-01T11:59'"},
		"time long ago":              {sources.TimeValue(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)), "0", "'1677-09-21 00:12:43.145224192+00:00'", 1, "'1677-09-21 00:12:43.145224192+00:00'"},
		"time long ago as a text":    {text("0001-01-01 00:00:00"), "0", "'0001-01-01 00:00:00'", 1, "'0000-12-31 23:59:59'"},
		"no time before it":          {text("0000-01-01"), "0", "'0000-01-01'", 1, "'0000-01-01'"},
		"text":                       {text("it's"), "a", "'it''s'", 5, "'it''s'"},
		"backslash":                  {text(`\'; DROP`), "a", "", 0, ""},
		"not UTF-8":                  {text("\xff"), "a", "", 0, ""},
		"bool":                       {sources.BoolValue(true), "0", "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, ok := placeOf(c.cell, startPlace(c.start))
			if ok != (c.literal != "") {
				t.Fatalf("place %+v, %v", p, ok)
			}
			if !ok {
				return
			}
			if got := p.literal(); got != c.literal {
				t.Errorf("literal %s, want %s", got, c.literal)
			}
			before := p.before(c.overlap)
			if got := before.literal(); got != c.before {
				t.Errorf("before it %s, want %s", got, c.before)
			}
			if before.compare(p) > 0 {
				t.Errorf("%s is after %s", c.before, c.literal)
			}
			for _, base := range []place{{}, p, before, {kind: placeInteger, n: math.MinInt64}, {kind: placeTime, n: math.MaxInt64}} {
				r := stateReader{b: p.appendTo(nil, base)}
				if got := r.place(base); got != p || r.bad || len(r.b) > 0 {
					t.Errorf("from %+v it comes back as %+v", base, got)
				}
			}
		})
	}
}
