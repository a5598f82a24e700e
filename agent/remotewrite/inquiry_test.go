package remotewrite

import (
	"fmt"
	"net/http"
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
