package config

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scheduled returns what a query with that schedule has for a clock.
func scheduled(t *testing.T, spec, zone string) Clock {
	t.Helper()
	const text = `
sources: [{name: s, type: sqlite, path: a.db, collectors: [c]}]
collectors: [{collector_name: c, schedule: '%s', timezone: %s, metrics: [{metric_name: m, type: gauge, values: [v], query: SELECT 1 AS v}]}]`
	c, err := load("schedule.yml", fmt.Appendf(nil, text, spec, zone), Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	return c.Sources[0].Queries[0].Clock
}

// TestScheduleTicks holds what cron means where the calendar is uneven.
func TestScheduleTicks(t *testing.T) {
	for name, c := range map[string]struct {
		spec, zone, after string
		want              []string
	}{
		"every five minutes": {"*/5 * * * *", "UTC", "2026-11-22T00:04:00Z", []string{"2026-11-22T00:05:00Z", "2026-11-22T00:10:00Z"}},
		"strictly after":     {"@hourly", "UTC", "2026-11-22T01:00:00Z", []string{"2026-11-22T02:00:00Z"}},
		"in its zone":        {"30 2 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", []string{"2026-07-01T00:30:00Z", "2026-07-02T00:30:00Z"}},
		"a time that is skipped": {
			"30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z",
			[]string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"},
		},
		"a time that is repeated": {
			"30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
		},
		"a midnight that is skipped": {
			"@daily", "America/Sao_Paulo", "2018-11-03T12:00:00Z",
			[]string{"2018-11-05T02:00:00Z"},
		},
		"days of month or week": {"0 0 13 * fri", "UTC", "2026-11-12T12:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"}},
		"a day of leap years":   {"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := scheduled(t, c.spec, c.zone).Schedule
			at, err := time.Parse(time.RFC3339, c.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range c.want {
				at = s.Next(at)
				got = append(got, at.UTC().Format(time.RFC3339))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSchedulePause: the interval of a schedule is the longest pause of a year.
func TestSchedulePause(t *testing.T) {
	const day = 24 * time.Hour
	for spec, want := range map[string]time.Duration{
		"* * * * *":        time.Minute,
		"*/5 * * * *":      5 * time.Minute,
		"*/25 * * * *":     25 * time.Minute,
		"@hourly":          time.Hour,
		"0 8-18 * * *":     14 * time.Hour,
		"@daily":           day,
		"0 12 * * mon-fri": 3 * day,
		"@weekly":          7 * day,
		"@monthly":         31 * day,
		"0 0 31 * *":       61 * day,
		"0 0 1 1 *":        366 * day,
		"0 0 29 2 *":       (3*365 + 366) * day,
	} {
		if got := scheduled(t, spec, "Europe/Berlin").Interval; got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
}

// TestScheduleAgain: a schedule that is loaded again is the same one.
func TestScheduleAgain(t *testing.T) {
	a, b := scheduled(t, "@daily", "Europe/Berlin"), scheduled(t, "@daily", "Europe/Berlin")
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v differs from %+v", a, b)
	}
}

// TestScheduleGoesOn: whatever is taken has a tick after every time, in zones
// with the oddest clocks.
func TestScheduleGoesOn(t *testing.T) {
	zones := []string{"UTC", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns"}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(fields ...string) string { return fields[random.IntN(len(fields))] }
	for range 150 {
		spec := pick("*", "0", "*/7", "30", "59") + " " + pick("*", "0", "2", "23", "*/5") + " " +
			pick("*", "1", "29", "30", "31") + " " + pick("*", "2", "3", "10-11", "12") + " " + pick("*", "0", "mon-fri", "sat")
		ticks, err := parseCron(spec)
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if _, ever := longestPause(ticks); !ever {
			continue
		}
		zone, err := time.LoadLocation(pick(zones...))
		if err != nil {
			t.Fatal(err)
		}
		s := &Schedule{Spec: spec, Location: zone, ticks: ticks}
		at := time.Date(2009+random.IntN(20), time.Month(1+random.IntN(12)), 1+random.IntN(28), 0, 0, 0, random.IntN(1e9), time.UTC)
		for range 20 {
			next := s.Next(at)
			if !next.After(at) {
				t.Fatalf("%s in %s: %s comes after %s", spec, zone, next, at)
			}
			at = next
		}
	}
}
