package remotewrite

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// A probe that the protocol cannot carry is no answer: another one is tried.
func TestProbeThatCannotBeCarried(t *testing.T) {
	for _, place := range []string{"first", "last"} {
		t.Run(place, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV1
			s, _ := isolating(t, o)
			st := newStore(poisonIs("77"))
			st.serve(f)
			due, custom := j.family("due", 100), j.series("custom")
			now := epoch.Add(-10 * time.Second)
			lone := wal.Round{Histograms: []wal.Histogram{{Series: custom, T: now.UnixMilli(), H: customBuckets()}}}
			if place == "first" {
				j.appendRound(now, lone)
			}
			j.append(now, round(due, now, 1)...)
			if place == "last" {
				j.appendRound(now, lone)
			}
			s.drain(epoch)
			l := s.balance()
			if l.Sent.Samples != 99 || l.Dropped[ReasonUnsupported].Histograms != 1 || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want 99 sent, 1 unsupported and nothing pending", l)
			}
			checkStored(t, st, l)
		})
	}
}

// customBuckets is a native histogram that 1.0 cannot carry.
func customBuckets() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 4,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}, CustomValues: []float64{1, 2},
	}
}

// An outage says nothing about the samples: it uses up no attempt of an
// isolation.
func TestOutageDuringAnIsolation(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	st := newStore(poisonIs("77"))
	posts := 0
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if posts++; posts > 3 && posts <= 3+2*maxInquiry {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if !st.take(p.lines(t)) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	due := j.family("due", 1000)
	now := epoch.Add(-10 * time.Second)
	j.append(now, round(due, now, 1)...)
	for now = epoch; posts < 3+2*maxInquiry; {
		now = now.Add(s.step(now))
	}
	s.drain(now.Add(time.Hour))
	if l := s.balance(); l.Sent.Samples != 999 || !l.Dropped[ReasonIsolationLimit].IsZero() {
		t.Errorf("ledger is %+v, want 999 sent", l)
	}
}

// Only probes carry a part of a series: the rest of it would be refused because
// of the part that comes later.
func TestIsolationNeverCutsASeries(t *testing.T) {
	const series, rounds = 100, 3
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	newStore(poisonIs("76", "78")).serve(f)
	due := j.family("due", series)
	for i := range rounds {
		now := epoch.Add(time.Duration(i-10) * time.Second)
		j.append(now, round(due, now, 1)...)
	}
	s.drain(epoch)
	for _, p := range f.received() {
		lines := p.lines(t)
		points := map[string]int{}
		for _, l := range lines {
			name, _, _ := strings.Cut(l, "} ")
			points[name]++
		}
		for name, n := range points {
			if n != rounds && len(lines) > 1 {
				t.Errorf("a request of %d samples has %d of %d of %s", len(lines), n, rounds, name)
			}
		}
	}
	if l := s.balance(); l.Sent.Samples != (series-2)*rounds {
		t.Errorf("ledger is %+v, want %d sent", l, (series-2)*rounds)
	}
}

// A receiver that refuses even the same sample once more has what a probe
// brought it.
func TestProbeThatWasTakenIsNotRejected(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	poison, stored := poisonIs("1"), map[string]bool{}
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		lines := p.lines(t)
		for _, l := range lines {
			if name, _, _ := strings.Cut(l, "} "); stored[l] || poison(name) {
				http.Error(w, "no", http.StatusConflict)
				return
			}
		}
		for _, l := range lines {
			stored[l] = true
		}
	})
	j.appendDue(3)
	s.drain(epoch)
	if l := s.balance(); l.Sent.Samples != 1 || l.Unconfirmed.Samples != 1 || l.Dropped[ReasonRejected].Samples != 1 {
		t.Errorf("ledger is %+v, want one sent, one rejected and the one that a probe brought unconfirmed", l)
	}
}

// A request that was answered without counts may have been stored before it
// was sent in the other protocol.
func TestRewordedRequestIsInDoubt(t *testing.T) {
	j, f, o := backlog(t)
	s, _ := isolating(t, o)
	f.answers(func(w http.ResponseWriter, p post) {
		if p.header.Get("Content-Type") == "application/x-protobuf" {
			http.Error(w, "had it", http.StatusConflict)
		}
	})
	j.appendDue(3)
	s.drain(epoch)
	if l := s.balance(); l.Unconfirmed.Samples != 3 {
		t.Errorf("ledger is %+v, want 3 unconfirmed", l)
	}
}

// Guilty series at the places that are tried do not stand for all of them for
// ever.
func TestProbesMove(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	st := newStore(poisonIs("0", "50", "99"))
	st.serve(f)
	due := j.family("due", 100)
	const windows = 5
	for i := range windows {
		now := epoch.Add(time.Duration(i) * time.Minute)
		j.append(now, round(due, now, 1)...)
		s.drain(now.Add(30 * time.Second))
	}
	if l := s.balance(); l.Sent.Samples < (windows-1)*97 {
		t.Errorf("ledger is %+v after %d windows, want all that is good sent in all but one", l, windows)
	}
}

// Only a few statuses are about the samples; the others hold the data, or are
// tried again.
func TestStatusesThatAreNotAboutSamples(t *testing.T) {
	for _, status := range []int{401, 402, 403, 404, 405, 406, 407, 408, 411, 416, 418, 421, 424, 425, 426, 428, 431, 451} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			j, f, o := backlog(t)
			s, _ := isolating(t, o)
			due := j.family("due", 10)
			now := epoch.Add(-10 * time.Second)
			j.append(now, round(due, now, 1)...)
			f.says(status, "")
			for now = epoch; now.Before(epoch.Add(time.Hour)); {
				now = now.Add(max(s.step(now), time.Second))
			}
			if l := s.balance(); l.Pending.Samples != 10 {
				t.Errorf("ledger is %+v, want all 10 pending", l)
			}
			f.takes()
			s.drain(now.Add(time.Hour))
			if l := s.balance(); l.Sent.Samples != 10 {
				t.Errorf("ledger is %+v, want all 10 sent", l)
			}
		})
	}
}
