package remotewrite

import "time"

const (
	// slowestCatchUp is the least number of samples per second that catching
	// up is held to, and timesLive how often the live rate.
	slowestCatchUp = 20_000
	timesLive      = 20
	// burst is for how long a throttle that was not used may be made up for, at
	// least: an answer that takes longer is made up for as a whole.
	burst = 250 * time.Millisecond
	// measure is how often the live rate is looked at, and memory for how long
	// a look counts.
	measure = 5 * time.Second
	memory  = 2 * time.Minute
)

// throttle bounds the samples per second of an endpoint that catches up, so
// that a receiver that has just recovered is not run over. An endpoint that is
// not behind is as fast as what is appended.
type throttle struct {
	configured float64 // samples per second; 0: timesLive
	behind     bool

	live     float64       // samples appended per second, over the last minutes
	seen     time.Duration // how long it has been looked at, up to memory
	appended uint64        // when it was looked at
	looked   time.Time

	answer time.Duration // how long the last one took
	tokens float64       // samples that may go at once; below zero: of time to come
	filled time.Time
	until  time.Time // nothing may go before; zero: it may
}

// observe looks at how many samples there are in the log by now.
func (t *throttle) observe(now time.Time, appended uint64) {
	if t.looked.IsZero() || now.Before(t.looked) || appended < t.appended {
		t.looked, t.appended = now, appended
		return
	}
	passed := now.Sub(t.looked)
	if passed < measure {
		return
	}
	t.seen = min(t.seen+passed, memory)
	weight := min(1, passed.Seconds()/t.seen.Seconds()) // the mean at first, and then the recent ones
	t.live += weight * (float64(appended-t.appended)/passed.Seconds() - t.live)
	t.looked, t.appended = now, appended
}

// took notes how long an answer took. A step has one time from its beginning to
// its end, so that what could have gone while it waited for answers goes with
// the next one.
func (t *throttle) took(answer time.Duration) { t.answer = answer }

// rate is how many samples per second may go.
func (t *throttle) rate() float64 {
	if t.configured > 0 {
		return t.configured
	}
	return max(slowestCatchUp, timesLive*t.live)
}

// admit tells whether so many samples may go now; if so, they are taken as
// gone.
func (t *throttle) admit(now time.Time, samples int) bool {
	t.until = time.Time{}
	if !t.behind {
		return true
	}
	rate := t.rate()
	if passed := now.Sub(t.filled); passed > 0 {
		t.tokens = min(t.tokens+rate*passed.Seconds(), rate*max(burst, t.answer).Seconds())
		t.filled = now
	}
	if t.tokens <= 0 {
		wait := time.Duration(-t.tokens/rate*float64(time.Second)) + time.Millisecond
		t.until = now.Add(wait)
		return false
	}
	t.tokens -= float64(samples)
	return true
}
