package collect

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

func TestSpreadTicks(t *testing.T) {
	a, b := newSchedule(config.Clock{Interval: time.Minute}, "a"), newSchedule(config.Clock{Interval: time.Minute}, "b")
	if a.offset == b.offset {
		t.Error("two names have one offset")
	}
	if again := newSchedule(config.Clock{Interval: time.Minute}, "a"); again != a {
		t.Error("the offset of a name changes")
	}
	for _, at := range []time.Time{t0, t0.Add(a.offset), t0.Add(59 * time.Second)} {
		last, next := a.last(at), a.next(at)
		if last.After(at) || !next.After(at) || next.Sub(last) != time.Minute {
			t.Errorf("at %s: last %s, next %s", at, last, next)
		}
	}
}

// crontab returns the clock of a query with that schedule.
func crontab(t *testing.T, schedule, timezone string) config.Clock {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sql2metrics.yml")
	text := fmt.Sprintf(`
sources: [{name: s, type: sqlite, path: s.db, collectors: [c]}]
collectors:
  - collector_name: c
    schedule: %q
    timezone: %s
    metrics: [{metric_name: m, type: gauge, help: M., values: [v], query: SELECT 1 AS v}]
`, schedule, timezone)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Sources[0].Queries[0].Clock
}

// The ticks of every kind of schedule, and between, which counts them, agree.
func TestTicks(t *testing.T) {
	const m, h, d = time.Minute, time.Hour, 24 * time.Hour
	for name, c := range map[string]struct {
		clock config.Clock
		from  time.Time
		want  []time.Duration // after from
	}{
		"aligned":                           {config.Clock{Interval: 7 * m, Align: true}, time.Unix(0, 0).Add(70 * m), []time.Duration{7 * m, 14 * m, 21 * m}},
		"aligned to hours":                  {config.Clock{Interval: h, Align: true}, t0.Add(59 * m), []time.Duration{m, h + m, 2*h + m}},
		"cron":                              {crontab(t, "*/20 * * * *", "UTC"), t0.Add(5 * m), []time.Duration{15 * m, 35 * m, 55 * m}},
		"cron at a tick":                    {crontab(t, "0 12 * * *", "UTC"), t0, []time.Duration{d, 2 * d, 3 * d}},
		"cron far off":                      {crontab(t, "0 0 29 2 *", "UTC"), time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), []time.Duration{1461 * d, 2922 * d}},
		"cron in a zone where a day is 23h": {crontab(t, "0 12 * * *", "Europe/Berlin"), time.Date(2026, 3, 28, 11, 0, 0, 0, time.UTC), []time.Duration{23 * h, 47 * h}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchedule(c.clock, "x")
			var got []time.Duration
			for tick := s.next(c.from); len(got) < len(c.want); tick = s.next(tick) {
				got = append(got, tick.Sub(c.from))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			for i, tick := range got {
				if n := s.between(c.from, c.from.Add(tick)); n != i+1 {
					t.Errorf("%d ticks up to the one after %s, want %d", n, tick, i+1)
				}
				if n := s.between(c.from, c.from.Add(tick-1)); n != i {
					t.Errorf("%d ticks before the one after %s, want %d", n, tick, i)
				}
			}
		})
	}
}

// The first run comes soon, whatever the schedule, if that is wanted.
func TestFirstRun(t *testing.T) {
	for name, c := range map[string]struct {
		clock config.Clock
		most  time.Duration
	}{
		"short":   {config.Clock{Interval: 20 * time.Second}, 20 * time.Second},
		"long":    {config.Clock{Interval: 24 * time.Hour}, startSpread},
		"aligned": {config.Clock{Interval: time.Hour, Align: true}, startSpread},
		"cron":    {crontab(t, "0 3 * * *", "UTC"), startSpread},
	} {
		t.Run(name, func(t *testing.T) {
			start := t0.Add(time.Second)
			for i := range 50 {
				c.clock.RunOnStart = true
				s := newSchedule(c.clock, fmt.Sprint("query", i))
				first := s.first(start)
				if wait := first.Sub(start); wait < 0 || wait > c.most {
					t.Errorf("the first run waits %s", wait)
				}
				c.clock.RunOnStart = false
				waiting := newSchedule(c.clock, fmt.Sprint("query", i))
				if tick := waiting.first(start); !tick.Equal(s.next(start)) {
					t.Errorf("without run_on_start the first run is at %s, and the first tick at %s", tick, s.next(start))
				}
			}
		})
	}
	if at := newSchedule(config.Clock{Interval: time.Hour, Align: true, RunOnStart: true}, "x").first(t0); !at.Equal(t0) {
		t.Errorf("a tick at the start is over: the first run is at %s", at)
	}
}
