package remotewrite

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"sql2metrics/config"
)

// TestBothSides has a receiver give each answer to the first requests it gets
// and then be well, and compares what it has with the ledger, by series and
// time: it has what is sent, no second value, and nothing that nobody appended.
func TestBothSides(t *testing.T) {
	nothing := func(status int) func(st *store, lines []string, w http.ResponseWriter) {
		return func(_ *store, _ []string, w http.ResponseWriter) { w.WriteHeader(status) }
	}
	stored := func(status int) func(st *store, lines []string, w http.ResponseWriter) {
		return func(st *store, lines []string, w http.ResponseWriter) {
			st.take(lines)
			w.WriteHeader(status)
		}
	}
	for name, c := range map[string]struct {
		answer func(st *store, lines []string, w http.ResponseWriter)
		keeps  bool // nothing is given up for it
	}{
		"2xx, all stored": {func(st *store, lines []string, w http.ResponseWriter) {
			st.take(lines)
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)))
		}, true},
		"2xx, a part stored": {func(st *store, lines []string, w http.ResponseWriter) {
			st.take(lines[:len(lines)/2])
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)/2))
		}, false}, // 2.0 only: a 2xx of 1.0 cannot say so
		"2xx, stored and not counted": {stored(204), true},
		"a web page": {func(_ *store, _ []string, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
		}, true},
		"400, nothing stored": {nothing(400), false},
		"400, a part stored": {func(st *store, lines []string, w http.ResponseWriter) {
			st.take(lines[:len(lines)/2])
			w.WriteHeader(400)
		}, false},
		"400, a part stored and counted": {func(st *store, lines []string, w http.ResponseWriter) {
			st.take(lines[:len(lines)/2])
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)/2))
			w.WriteHeader(400)
		}, false},
		"409":               {nothing(409), false},
		"422":               {nothing(422), false},
		"415":               {nothing(415), true},
		"429":               {nothing(429), true},
		"429, stored":       {stored(429), true},
		"503":               {nothing(503), true},
		"502, stored":       {stored(502), true},
		"401":               {nothing(401), true},
		"302":               {nothing(302), true},
		"404":               {nothing(404), true},
		"reset":             {func(_ *store, _ []string, w http.ResponseWriter) { hangUp(w) }, true},
		"reset once stored": {func(st *store, lines []string, w http.ResponseWriter) { st.take(lines); hangUp(w) }, true},
	} {
		for _, p := range []config.Protocol{config.ProtocolV1, config.ProtocolV2, config.ProtocolAuto} {
			if name == "2xx, a part stored" && p == config.ProtocolV1 {
				continue
			}
			for _, rounds := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s, %q, samples per series %d", name, p, rounds), func(t *testing.T) {
					bothSides(t, p, rounds, c.answer, c.keeps)
				})
			}
		}
	}
}

func bothSides(t *testing.T, p config.Protocol, rounds int, answer func(st *store, lines []string, w http.ResponseWriter), keeps bool) {
	const series, troubled = 30, 6
	j, f, o := backlog(t)
	o.Endpoint.Protocol = p
	o.Endpoint.Queue.MaxSamplesPerSend = 4 * rounds
	s, _ := isolating(t, o)
	s.pace.limit = o.Endpoint.Queue.MaxShards // several at once from the first
	st, n := newStore(harmless), 0
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		lines := p.lines(t)
		if n++; n <= troubled {
			answer(st, lines, w)
		} else if st.take(lines) {
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)))
		} else {
			http.Error(w, "out of order sample", http.StatusBadRequest)
		}
	})
	due, appended := j.family("due", series), map[string]bool{}
	for i := range rounds {
		at := epoch.Add(time.Duration(i-60) * time.Second)
		j.append(at, round(due, at, float64(i))...)
		for _, d := range due {
			appended[fmt.Sprintf("%s@%d", d.Labels(), at.UnixMilli())] = true
		}
	}
	now := epoch
	for range 200 {
		now = now.Add(s.step(now))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := s.balance()
	checkStored(t, st, l)
	if !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want nothing pending", l)
	}
	for at := range st.at {
		if !appended[at] {
			t.Errorf("the receiver has %s, which nobody has appended", at)
		}
	}
	if keeps && (len(st.at) != len(appended) || l.Sent.Add(l.Unconfirmed).Samples != uint64(len(appended))) {
		t.Errorf("the receiver has %d of %d samples, ledger is %+v", len(st.at), len(appended), l)
	}
}
