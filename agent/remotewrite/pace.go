package remotewrite

import "time"

// pace decides how many requests may be in flight and when the next may go.
// After trouble it lets one go, and doubles with each that is accepted.
type pace struct {
	shards   int // most requests in flight
	min, max time.Duration
	random   func() float64

	limit    int // requests that may be in flight now
	failures int // in a row
	jitter   float64
	retryAt  time.Time // zero: at once

	throttle throttle
}

func newPace(shards int, lowest, highest time.Duration, random func() float64) pace {
	return pace{shards: shards, min: lowest, max: highest, random: random, limit: 1}
}

// rest is how long nothing may be sent.
func (p *pace) rest(now time.Time) time.Duration {
	if !now.Before(p.retryAt) {
		p.retryAt = time.Time{}
	}
	return max(0, p.retryAt.Sub(now), p.throttle.until.Sub(now))
}

// waiting tells whether p waits, for a retry or because it is fast enough.
func (p *pace) waiting() bool { return !p.retryAt.IsZero() || !p.throttle.until.IsZero() }

// admit tells whether a request of so many points may go now.
func (p *pace) admit(now time.Time, points int) bool { return p.throttle.admit(now, points) }

// breathe leaves the endpoint alone for a moment after it has refused
// something, so that finding out why is no burden to it.
func (p *pace) breathe(now time.Time) {
	if at := now.Add(p.min / 20); at.After(p.retryAt) {
		p.retryAt = at
	}
}

// settled ends the waits that were for the window: nothing of it is left. What
// the endpoint has been given after a failure, or has asked for, it gets.
func (p *pace) settled() {
	p.throttle.until = time.Time{}
	if p.failures == 0 {
		p.retryAt = time.Time{}
	}
}

func (p *pace) accepted() {
	p.limit = min(2*p.limit, p.shards)
	p.failures = 0
	p.retryAt = time.Time{}
}

// unavailable backs off, for at least as long as the receiver asks. The jitter
// is drawn once per outage, so that intervals never shrink.
func (p *pace) unavailable(now time.Time, asked time.Duration) {
	if p.failures == 0 {
		p.jitter = 1 - 0.1*p.random()
	}
	d := p.max
	if p.failures < 30 {
		d = min(p.min<<p.failures, p.max)
	}
	p.failures++
	p.hold(now, max(time.Duration(float64(d)*p.jitter), asked))
}

// misconfigured waits as long as it may.
func (p *pace) misconfigured(now time.Time, asked time.Duration) {
	p.hold(now, max(p.max, asked))
}

func (p *pace) hold(now time.Time, d time.Duration) {
	p.limit = 1
	p.retryAt = now.Add(d)
}
