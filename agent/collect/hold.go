package collect

import (
	"sync"
	"time"

	"sql2metrics/config"
)

// hold is for how long the last good result of a query holds, and when it is
// emitted again so that it does not vanish meanwhile. All times are those of
// the clock on the wall. Any goroutine may use it.
type hold struct {
	clock config.Clock

	mu sync.Mutex
	result
}

// result is what a hold knows of the last good result.
type result struct {
	arrived time.Time // zero: there is none that holds
	emitted time.Time // its newest timestamp
	failing bool      // a run has failed since
}

// begin notes that a good result has arrived and is stamped stamp.
func (h *hold) begin(stamp, now time.Time) {
	h.set(result{arrived: now.Round(0), emitted: stamp.Round(0)})
}

// end notes that the result has ended.
func (h *hold) end() { h.set(result{}) }

// inherit takes over what another hold knows: of several, what ends first.
func (h *hold) inherit(old *hold) {
	known, r := h.get(), old.get()
	if known.arrived.IsZero() || !r.arrived.IsZero() && r.arrived.Before(known.arrived) {
		h.set(r)
	}
}

func (h *hold) set(r result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.result = r
}

func (h *hold) get() result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.result
}

// again notes that the result was emitted again.
func (h *hold) again(stamp time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emitted = stamp.Round(0)
}

// fail notes that a run has failed, and tells whether the result is kept.
func (h *hold) fail(now time.Time) (kept bool) {
	h.mu.Lock()
	h.failing = true
	h.mu.Unlock()
	switch h.clock.OnError {
	case config.OnErrorKeep, config.OnErrorKeepFor:
		return !h.get().arrived.IsZero() && !h.over(now)
	}
	return false
}

// deadline returns when the result ends, zero if it does not.
func (h *hold) deadline() time.Time {
	r, limit := h.get(), h.clock.StaleAfter
	if r.failing && h.clock.OnError == config.OnErrorKeepFor {
		limit = h.clock.KeepFor
	}
	if r.arrived.IsZero() || limit == 0 {
		return time.Time{}
	}
	return r.arrived.Add(limit)
}

// over tells whether the result has ended by now.
func (h *hold) over(now time.Time) bool {
	deadline := h.deadline()
	return !deadline.IsZero() && !now.Before(deadline)
}

// resend returns when the result is emitted again, zero if it is not. Where
// runs are frequent that is only while they fail.
func (h *hold) resend() time.Time {
	r, each := h.get(), h.clock.ResendInterval
	if r.arrived.IsZero() || each == 0 || h.clock.Interval <= each && !r.failing {
		return time.Time{}
	}
	return r.emitted.Add(each)
}

// next returns the earlier of the two, zero if there is neither.
func (h *hold) next() time.Time {
	deadline, resend := h.deadline(), h.resend()
	if resend.IsZero() || !deadline.IsZero() && deadline.Before(resend) {
		return deadline
	}
	return resend
}
