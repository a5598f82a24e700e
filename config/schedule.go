package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a container rarely has the time zones that timezone names

	"github.com/robfig/cron/v3"
)

// Schedule is a cron expression in a time zone. Two that are written alike are
// reflect.DeepEqual.
type Schedule struct {
	Spec     string         // five fields, or @hourly and the like, as written
	Location *time.Location // timezone; the agent's own zone if not given
	ticks    *cron.SpecSchedule
}

// Next returns the first tick after t. There always is one: a specification
// without is refused when it is loaded. A time that a change of clocks skips
// has no tick, one that it repeats has two.
//
// The library is asked within one offset from UTC at a time: it never returns
// in zones that skip a midnight.
func (s *Schedule) Next(t time.Time) time.Time {
	for period := t; ; {
		local := period.In(s.Location)
		_, offset := local.Zone()
		next := s.ticks.Next(t.In(time.FixedZone("", offset)))
		_, end := local.ZoneBounds()
		// The bounds of a few zones stand still after the last change that their
		// file lists, in 2037.
		if next.Before(end) || !end.After(period) {
			return next.In(s.Location)
		}
		t, period = end.Add(-1), end
	}
}

// cronSpec is a cron expression that has ticks.
type cronSpec struct {
	text  string
	ticks *cron.SpecSchedule
	pause time.Duration // the longest between two ticks of a year
}

// schedule sets *into to a cron expression.
func (n node) schedule(into *cronSpec) {
	var s string
	if n.string(&s); s == "" {
		return
	}
	switch {
	case strings.Contains(s, "TZ="):
		n.fail("holds a time zone", "write it as timezone, beside schedule")
		return
	case strings.HasPrefix(s, "@every"):
		n.fail("@every is an interval", "write it as interval, such as interval: 90s")
		return
	}
	ticks, err := parseCron(s)
	if err != nil {
		n.fail(fmt.Sprintf("%q is not a cron expression: %s", s, err),
			"write minute, hour, day of month, month and day of week, such as */5 * * * *, or @hourly, @daily, @weekly, @monthly or @yearly")
		return
	}
	pause, ever := longestPause(ticks)
	if !ever {
		n.fail(fmt.Sprintf("%q means a date that no year has", s), "correct the day of the month or the month")
		return
	}
	*into = cronSpec{s, ticks, pause}
}

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// parseCron guards the parser, which panics on some texts and takes fields that
// no time matches.
func parseCron(text string) (ticks *cron.SpecSchedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			ticks, err = nil, fmt.Errorf("the parser fails on it: %v", p)
		}
	}()
	parsed, err := cronParser.Parse(text)
	if err != nil {
		return nil, err
	}
	ticks, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("it names no times of a calendar")
	}
	if err := checkSteps(text); err != nil {
		return nil, err
	}
	for _, field := range []uint64{ticks.Minute, ticks.Hour, ticks.Dom, ticks.Month, ticks.Dow} {
		if field == 0 {
			return nil, errors.New("one of its fields is empty")
		}
	}
	return ticks, nil
}

// checkSteps refuses what the parser takes for the first value of a field
// alone: a step that is longer than the field.
func checkSteps(text string) error {
	longest := []int{60, 24, 31, 12, 7}
	for i, field := range strings.Fields(text) {
		for part := range strings.SplitSeq(field, ",") {
			_, step, found := strings.Cut(part, "/")
			if !found || i >= len(longest) {
				continue
			}
			if n, err := strconv.Atoi(step); err != nil || n > longest[i] {
				return fmt.Errorf("a step of %s is longer than its field, which has %d values", step, longest[i])
			}
		}
	}
	return nil
}

// longestPause returns the longest time between two ticks of a year without
// changes of clocks, and whether there are any. It takes the days from the
// library and the times within a day, which are the same on each, from the
// fields: half a million ticks of a year take too long to look at.
func longestPause(ticks *cron.SpecSchedule) (pause time.Duration, ever bool) {
	first, last := time.Duration(-1), time.Duration(0)
	for minute := range 24 * 60 {
		if ticks.Hour>>(minute/60)&1 == 0 || ticks.Minute>>(minute%60)&1 == 0 {
			continue
		}
		at := time.Duration(minute) * time.Minute
		if first < 0 {
			first = at
		} else {
			pause = max(pause, at-last)
		}
		last = at
	}
	days := *ticks
	days.Hour, days.Minute = 1, 1 // midnight
	day := days.Next(time.Date(1999, time.December, 31, 23, 59, 59, 0, time.UTC))
	if day.IsZero() {
		return 0, false
	}
	for end := day.AddDate(1, 0, 0); day.Before(end); {
		next := days.Next(day)
		pause = max(pause, next.Sub(day)-last+first)
		day = next
	}
	return pause, true
}

// location sets *into to a time zone by its name in the IANA database.
func (n node) location(into **time.Location) {
	var s string
	if n.string(&s); s == "" {
		return
	}
	zone, err := time.LoadLocation(s)
	if err != nil {
		n.fail(fmt.Sprintf("%q is not a time zone", s), "write a name as Europe/Berlin, UTC, or Local for the agent's own")
		return
	}
	*into = zone
}
