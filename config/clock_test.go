package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLevels: what a query and a metric leave open is the collector's, and what
// that leaves open global's.
func TestLevels(t *testing.T) {
	c, err := Load("testdata/good/clocks.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	schedule := func(spec string, zone *time.Location) *Schedule {
		ticks, err := parseCron(spec)
		if err != nil {
			t.Fatal(err)
		}
		return &Schedule{Spec: spec, Location: zone, ticks: ticks}
	}
	metric := func(name string, null OnNull, duplicate OnDuplicate, limits LabelLimits) []Metric {
		return []Metric{{Name: name, Type: Gauge, Values: []string{"v"}, OnNull: null, OnDuplicate: duplicate, LabelLimits: limits}}
	}
	want := []Query{
		{
			Name: "a", Collector: "plain", SQL: "SELECT 1 AS v", Timeout: 10 * time.Second,
			Clock:    Clock{Interval: 20 * time.Second, Align: true, ResendInterval: 2 * time.Minute, StaleAfter: 5 * time.Minute, OnError: OnErrorKeep},
			Policies: Policies{RowLimit: 1000, SampleLimit: 5000, OnLimit: OnLimitTruncate},
			Metrics:  metric("a", OnNullNaN, OnDuplicateLast, LabelLimits{30, 100, 200}),
		},
		{
			Name: "nightly", Collector: "own", SQL: "SELECT 2 AS v", Timeout: 5 * time.Minute,
			Clock: Clock{
				Interval: 24 * time.Hour, Schedule: schedule("@daily", time.UTC), RunOnStart: true,
				ResendInterval: 2 * time.Minute, StaleAfter: 30 * time.Hour, OnError: OnErrorStale,
			},
			Policies: Policies{SampleLimit: 5000, OnLimit: OnLimitDrop},
			Metrics:  metric("c", OnNullSkip, OnDuplicateSum, LabelLimits{0, 100, 200}),
		},
		{
			Name: "often", Collector: "own", SQL: "SELECT 3 AS v", Timeout: 30 * time.Second,
			Clock:    Clock{Interval: 5 * time.Minute, RunOnStart: true, StaleAfter: 2 * time.Hour, OnError: OnErrorKeepFor, KeepFor: 90 * time.Minute},
			Policies: Policies{SampleLimit: 7, OnLimit: OnLimitDrop},
			Metrics:  metric("d", OnNullZero, OnDuplicateDrop, LabelLimits{20, 9, 10}),
		},
		{
			Name: "b", Collector: "own", SQL: "SELECT 1 AS v", Timeout: 5 * time.Minute,
			Clock: Clock{
				Interval: time.Hour, Schedule: schedule("0 * * * *", berlin), RunOnStart: true,
				ResendInterval: 2 * time.Minute, StaleAfter: 2 * time.Hour, OnError: OnErrorKeepFor, KeepFor: 90 * time.Minute,
			},
			Policies: Policies{SampleLimit: 5000, OnLimit: OnLimitDrop},
			Metrics:  metric("b", OnNullZero, OnDuplicateLast, LabelLimits{20, 100, 200}),
		},
	}
	if diff := cmp.Diff(want, c.Sources[0].Queries, asConfigured); diff != "" {
		t.Errorf("queries differ (-want +got):\n%s", diff)
	}
	if c.Limits.MaxSeries != 5000 {
		t.Errorf("got %d series at most, want 5000", c.Limits.MaxSeries)
	}
}

// TestClockDefaults: what a query has when only its interval is given.
func TestClockDefaults(t *testing.T) {
	for interval, want := range map[time.Duration]Clock{
		time.Second:     {OnError: OnErrorStale, StaleAfter: 5 * time.Minute},
		time.Minute:     {OnError: OnErrorStale, StaleAfter: 5 * time.Minute},
		2 * time.Minute: {OnError: OnErrorKeep, StaleAfter: 6 * time.Minute},
		time.Hour:       {OnError: OnErrorKeep, StaleAfter: 3 * time.Hour},
	} {
		want.Interval, want.RunOnStart, want.ResendInterval = interval, true, time.Minute
		l := layer{interval: written[time.Duration]{interval, node{in: &file{}}}}
		got, timeout := l.clock("q", Default().Global)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("interval %s (-want +got):\n%s", interval, diff)
		}
		if want := min(interval, 10*time.Second); timeout != want {
			t.Errorf("interval %s: got the timeout %s, want %s", interval, timeout, want)
		}
	}
}

// TestKeepForHolds: stale_after does not cut short what was asked to be kept.
func TestKeepForHolds(t *testing.T) {
	l := layer{onError: written[failure]{failure{OnErrorKeepFor, time.Hour}, node{in: &file{}}}}
	if got, _ := l.clock("q", Default().Global); got.StaleAfter != time.Hour {
		t.Errorf("a result that is kept for an hour ends after %s", got.StaleAfter)
	}
}
