package remotewrite

import (
	"encoding/json"
	"fmt"
	"hash/fnv"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// stateVersion is the version of the bytes saved with a cursor. What a version
// does not know in the bytes of the same version, it ignores.
const stateVersion = 1

// state is what is saved with the position of a cursor, as JSON.
type state struct {
	Version     int              `json:"version"`
	Base        tally            `json:"base"`
	Sent        tally            `json:"sent"`
	Unconfirmed tally            `json:"unconfirmed"`
	Dropped     map[Reason]tally `json:"dropped,omitempty"`
	Doubtful    uint64           `json:"doubtful,omitempty"` // last sequence number that a run whose cursor is lost may have sent
	Learned     learned          `json:"learned"`
	Window      *inFlight        `json:"window,omitempty"`
}

// fits tells whether f can be of a window of so many series.
func (f *inFlight) fits(series int) bool {
	for _, place := range f.Alone {
		if place < 0 || int(place) >= series {
			return false
		}
	}
	return true
}

func (s *savedOutcome) outcome() outcome {
	o := outcome{sent: s.Sent.totals(), unconfirmed: s.Unconfirmed.totals()}
	for r, n := range s.Dropped {
		o.drop(r, n.totals())
	}
	return o
}

// known is what became of the answered requests and pieces.
func (f *inFlight) known() outcome {
	o := f.outcome()
	if f.Divided != nil {
		o.add(f.Divided.outcome())
	}
	return o
}

func tallies(m map[Reason]wal.Totals) map[Reason]tally {
	out := make(map[Reason]tally, len(m))
	for r, n := range m {
		out[r] = tallyOf(n)
	}
	return out
}

// tally is totals in few bytes: samples, histograms, exemplars.
type tally [3]uint64

func tallyOf(t wal.Totals) tally { return tally{t.Samples, t.Histograms, t.Exemplars} }

func (t tally) totals() wal.Totals {
	return wal.Totals{Samples: t[0], Histograms: t[1], Exemplars: t[2]}
}

// learned is what the endpoint has shown of itself. It is valid for the
// address it was learned from.
type learned struct {
	URL       string          `json:"url"`                 // a hash of it
	Protocol  config.Protocol `json:"protocol,omitempty"`  // to speak; empty: what the configuration begins with
	Confirmed bool            `json:"confirmed,omitempty"` // it has answered 2.0 with Written headers
	At        int64           `json:"at,omitempty"`        // when Protocol was; Unix milliseconds
	Limit     int             `json:"limit,omitempty"`     // most samples in a request; 0: as configured
}

// inFlight describes the window whose requests may have been sent.
type inFlight struct {
	End    uint64 `json:"end"`    // sequence number of its last frame
	Shape  string `json:"shape"`  // of what formed its requests
	Counts tally  `json:"counts"` // in its frames
	cutting

	// Blocked is when the first attempt at the first unanswered request failed,
	// in Unix milliseconds; 0: none did, or max_block is off.
	Blocked int64 `json:"blocked,omitempty"`

	// Its answered requests: all before Done, and those whose bit is set in
	// Bits, where bit 0 stands for request Done.
	Done int    `json:"done"`
	Bits []byte `json:"bits,omitempty"`

	savedOutcome          // of them
	Divided      *divided `json:"divided,omitempty"`
}

// divided is how far the pieces of one request are answered and booked. The
// first unanswered one that is divided is saved, so that a process that died
// in the middle of an isolation is followed by one that goes on with it.
type divided struct {
	Request int   `json:"request"`
	Place   int   `json:"place"`          // of the first series with points that are not booked
	From    int64 `json:"from,omitempty"` // its points before this time are booked; Unix milliseconds
	savedOutcome
}

// savedOutcome is an outcome as it is saved.
type savedOutcome struct {
	Sent        tally            `json:"sent"`
	Unconfirmed tally            `json:"unconfirmed"`
	Dropped     map[Reason]tally `json:"dropped,omitempty"`
}

func savedOutcomeOf(o outcome) savedOutcome {
	return savedOutcome{Sent: tallyOf(o.sent), Unconfirmed: tallyOf(o.unconfirmed), Dropped: tallies(o.dropped)}
}

// maxAhead is how many requests a window may be ahead of its first unanswered
// one. It bounds Bits.
const maxAhead = 1024

// mark notes in f which of the requests are done.
func (f *inFlight) mark(requests []request) {
	for f.Done < len(requests) && requests[f.Done].done {
		f.Done++
	}
	for i := f.Done; i < len(requests); i++ {
		if !requests[i].done {
			continue
		}
		bit := i - f.Done
		for len(f.Bits) <= bit/8 {
			f.Bits = append(f.Bits, 0)
		}
		f.Bits[bit/8] |= 1 << (bit % 8)
	}
}

// apply is the reverse of mark.
func (f *inFlight) apply(requests []request) {
	for i := range requests {
		bit := i - f.Done
		requests[i].done = bit < 0 || bit/8 < len(f.Bits) && f.Bits[bit/8]&(1<<(bit%8)) != 0
	}
}

// encode returns the bytes to save.
func (st *state) encode() ([]byte, error) {
	b, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encode cursor state: %w", err)
	}
	if len(b) > wal.MaxCursorState {
		return nil, fmt.Errorf("encode cursor state: %d bytes are more than the %d a cursor holds", len(b), wal.MaxCursorState)
	}
	return b, nil
}

// decodeState reads what encode wrote.
func decodeState(b []byte) (*state, error) {
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("decode cursor state: %w", err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("decode cursor state: version %d is not %d, the only one known here", st.Version, stateVersion)
	}
	return &st, nil
}

// shape is a hash of everything besides the log that forms the requests of a
// window.
func shape(e config.RemoteWrite, external labels.Labels, p config.Protocol) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "encoder %d\nprotocol %s\nmax_samples_per_send %d\nexternal_labels %s\nexemplars %t\nhistograms %t\n",
		encoderVersion, p, e.Queue.MaxSamplesPerSend, external, e.SendExemplars, e.SendNativeHistograms)
	for _, c := range e.WriteRelabel {
		fmt.Fprintf(h, "relabel %q %q %q %d %q %q %q %d\n", c.SourceLabels, c.Separator,
			c.Regex.String(), c.Modulus, c.TargetLabel, c.Replacement, c.Action, c.NameValidationScheme)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// address is a hash of an endpoint's URL without its user.
func address(e config.RemoteWrite) string {
	u := *e.URL
	u.User = nil
	h := fnv.New64a()
	h.Write([]byte(u.String()))
	return fmt.Sprintf("%016x", h.Sum64())
}

// wireVersion is how a protocol's version is written.
func wireVersion(p config.Protocol) string {
	if p == config.ProtocolV1 {
		return "1.0"
	}
	return "2.0"
}
