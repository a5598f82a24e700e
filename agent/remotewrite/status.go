package remotewrite

import (
	"time"

	"sql2metrics/wal"
)

// EndpointState is how an endpoint is, by its last answer.
type EndpointState string

// The states. The list is closed.
const (
	// EndpointUnknown: it has not been asked since the start.
	EndpointUnknown EndpointState = "unknown"
	// EndpointUp: it takes what it is sent, or says what it does not take.
	EndpointUp EndpointState = "up"
	// EndpointThrottled: it asks for time, with a 429. It is tried again.
	EndpointThrottled EndpointState = "throttled"
	// EndpointDown: it does not answer, or with a status such as 503 that says
	// nothing about the samples. It is tried again.
	EndpointDown EndpointState = "down"
	// EndpointMisconfigured: it answers, and will take nothing until somebody
	// changes something, there or here. It is tried again, slowly.
	EndpointMisconfigured EndpointState = "misconfigured"
	// EndpointStalled: it is sent nothing, because the log cannot be read or
	// its cursor not be saved. That is tried again.
	EndpointStalled EndpointState = "stalled"
)

// endpointStates are all of them, for a metric that has each.
var endpointStates = []EndpointState{
	EndpointUnknown, EndpointUp, EndpointThrottled, EndpointDown, EndpointMisconfigured, EndpointStalled,
}

// troubled tells whether s is one that the endpoint recovers from.
func (s EndpointState) troubled() bool { return s != EndpointUnknown && s != EndpointUp }

// Status is what an operator wants to know of an endpoint, in one consistent
// snapshot. There is no secret in it, as far as the receiver keeps ours.
type Status struct {
	Name    string
	Address string // scheme and host of its URL; the rest may be secret
	State   EndpointState
	Since   time.Time // of State
	Words   string    // the answer or error that State is for; empty where none is
	Do      string    // what to do about it; empty where there is nothing but to wait
	Ledger  Ledger
	Refusal Refusal
}

// Refusal is the last answer since the start that had samples given up or
// unconfirmed. It is zero where there was none.
type Refusal struct {
	Time        time.Time
	Reason      Reason     // of what was given up
	Unconfirmed bool       // it is counted as unconfirmed and not under Reason
	Lost        wal.Totals // by that answer
	Words       string     // the answer
	Do          string     // what would have the receiver take such samples
}

// health is what a Status says beside the ledger. The loop writes it with the
// shipper's lock, others read it so.
type health struct {
	state     EndpointState
	since     time.Time
	words, do string
	refusal   Refusal

	stalled error // why the loop can do nothing; nil: it can
	stands  time.Time
}

// Status may be called from any goroutine and does no I/O.
func (s *Shipper) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	st := Status{
		Name: s.endpoint.Name, Address: s.endpoint.URL.Scheme + "://" + s.endpoint.URL.Host,
		State: h.state, Since: h.since, Words: h.words, Do: h.do,
		Ledger: s.ledger(), Refusal: h.refusal,
	}
	if h.stalled != nil {
		st.State, st.Since, st.Words = EndpointStalled, h.stands, printable(h.stalled.Error())
		st.Do = "see to the disk and the folder of the log; what is appended is kept as far as it can be written"
	}
	return st
}

// become notes what an answer says of the endpoint, and logs it when that
// changes: when the fault of a configuration is another one, too.
func (s *Shipper) become(state EndpointState, a *answer) {
	do := ""
	if state == EndpointMisconfigured {
		do = a.advice()
	}
	changed := s.noteState(state, a.String(), do, a.at)
	if !changed && (state != EndpointMisconfigured || s.said == a.fault()) {
		return
	}
	s.said = a.fault()
	s.uncounted = false // it may be another receiver that comes up
	switch state {
	case EndpointThrottled:
		s.logger.Warn("endpoint throttled; it asks for time, and samples wait in the log until it takes them", "answer", a.String())
	case EndpointMisconfigured:
		s.logger.Error("the endpoint takes nothing as it is configured; samples wait in the log", "answer", a.String(), "do", do)
	default:
		s.logger.Warn("endpoint down; samples wait in the log until it answers", "answer", a.String())
	}
}

// recovered notes that the endpoint is at work.
func (s *Shipper) recovered(a *answer) {
	clear(s.declined)
	s.pace.accepted()
	was := s.health.state
	if s.noteState(EndpointUp, "", "", a.at) && was.troubled() {
		s.logger.Info("endpoint recovered")
	}
}

func (s *Shipper) noteState(state EndpointState, words, do string, at time.Time) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	if changed = h.state != state; changed {
		h.state, h.since = state, at
	}
	h.words, h.do = words, do
	return changed
}

// reportLost notes that samples were given up, and logs it when that begins.
// What is refused when it is sent again may be there from before, and says
// nothing of what the receiver takes; nor do exemplars, which are not worth what
// is there already. Both are said apart.
func (s *Shipper) reportLost(a *answer, r Refusal, again bool) {
	lost := r.Lost
	if lost.Samples == 0 && lost.Histograms == 0 {
		if !s.bare {
			s.bare = true
			s.logger.Warn("the receiver stores no exemplars, or not all of them; they are counted, their samples are there, and this is not said again",
				"answer", a.String(), "do", "switch its exemplar storage on, or send_exemplars of this remote_write off")
		}
		return
	}
	r.Time, r.Words, r.Do = a.at, a.String(), a.remedy()
	said, what := &s.rejecting, "the receiver refused samples for good; they are counted, and this is not said again until it has taken everything for ten minutes"
	if again {
		r.Do = "look at the receiver: it refuses what it has already, so they may be there, from an attempt whose answer was lost; sql2metrics deadletter list shows which they are"
		said, what = &s.repeating, "the receiver refused samples that it may have from an earlier attempt; they are counted as unconfirmed, and this is not said again until it has taken everything for ten minutes"
	}
	s.mu.Lock()
	s.health.refusal = r
	s.mu.Unlock()
	if *said {
		return
	}
	*said = true
	s.logger.Warn(what, "answer", a.String(), "reason", r.Reason, "samples", lost.Samples, "histograms", lost.Histograms, "exemplars", lost.Exemplars, "do", r.Do)
}

// report notes trouble with the log, and logs when it begins and when it ends.
func (s *Shipper) report(err error, now time.Time) {
	s.mu.Lock()
	before := s.health.stalled
	if err != nil && before == nil {
		s.health.stands = now
	}
	s.health.stalled = err
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.logger.Error("shipping has stopped; it is tried again until it goes on", "err", err)
	case err == nil && before != nil:
		s.logger.Info("shipping goes on")
	}
}
