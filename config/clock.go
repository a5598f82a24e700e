package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Defaults of a clock, and the bounds they depend on.
const (
	defaultResendInterval = time.Minute
	// staleUpTo is the longest interval at which a failed query's result goes
	// stale by default. A run that fails above it would blank its metrics for
	// longer than an alert waits.
	staleUpTo = time.Minute
	// lookback is how far back an instant query of PromQL looks for a sample,
	// unless its server is set up otherwise.
	lookback = 5 * time.Minute
)

// clock returns when the query of that name runs and for how long it may, as
// its layer and those around it say, and reports what contradicts itself. Of
// the timeouts only scrape_timeout bends to the query's interval.
func (l layer) clock(query string, g Global) (c Clock, timeout time.Duration) {
	c = Clock{
		Interval:       l.interval.get(g.ScrapeInterval),
		RunOnStart:     l.runOnStart.get(true),
		ResendInterval: l.resendInterval.get(defaultResendInterval),
	}
	if l.schedule.is() {
		spec := l.schedule.value
		c.Interval = spec.pause
		c.Schedule = &Schedule{Spec: spec.text, Location: l.timezone.get(time.Local), ticks: spec.ticks}
	} else {
		c.Align = l.align.value
	}
	interval := prometheusDuration(c.Interval)

	if l.resendInterval.value >= lookback {
		l.resendInterval.at.warn("is not below the five minutes that PromQL looks back: the series have gaps in between",
			"write 1m, unless the lookback delta of whoever queries is longer")
	}

	timeout = l.timeout.get(min(g.ScrapeTimeout, c.Interval))
	if timeout > c.Interval {
		l.timeout.at.fail(fmt.Sprintf("is longer than the interval of %s of the query %s", interval, query),
			"make it at most as long as the interval, or the interval longer")
	}

	c.OnError = OnErrorKeep
	if c.Interval <= staleUpTo {
		c.OnError = OnErrorStale
	}
	if l.onError.is() {
		c.OnError, c.KeepFor = l.onError.value.policy, l.onError.value.keepFor
	}
	c.StaleAfter = l.staleAfter.get(max(3*c.Interval, lookback, c.KeepFor))
	switch {
	case c.StaleAfter < c.Interval:
		l.staleAfter.at.fail(fmt.Sprintf("is shorter than the interval of %s of the query %s: each result would end before the next one comes", interval, query),
			"make it longer than the interval, better three times as long")
	case c.KeepFor > c.StaleAfter:
		l.onError.at.fail(fmt.Sprintf("keep_for is longer than stale_after of %s of the query %s, which ends the result first", prometheusDuration(c.StaleAfter), query),
			"make stale_after the longer")
	}
	return c, timeout
}

// failure sets *into to on_error: a word, or a mapping with keep_for.
func (n node) failure(into *failure) {
	if n.yaml.Kind == yaml.MappingNode {
		into.policy = OnErrorKeepFor
		o := decode(n, failureTable, into)
		o.require("keep_for", "write for how long, such as keep_for: 10m")
		return
	}
	const remedy = "write stale, keep or {keep_for: 10m}"
	s, ok := n.text()
	switch policy := OnError(strings.ToLower(s)); {
	case !ok:
	case policy == OnErrorStale || policy == OnErrorKeep:
		into.policy = policy
	case policy == OnErrorKeepFor:
		n.fail("does not say for how long", remedy)
	default:
		n.fail(fmt.Sprintf("%q is not known here", s), remedy)
	}
}

var failureTable = table[failure]{
	fields: map[string]func(node, *failure){
		"keep_for": func(n node, f *failure) { n.duration(&f.keepFor) },
	},
}
