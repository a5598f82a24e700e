package remotewrite

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"sql2metrics/config"
)

// Requests that lose their answers keep their flights. One that is inquired
// into has given its own away, and is not waited for.
func TestOutageTakesAllFlights(t *testing.T) {
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusUnauthorized} {
		for _, shards := range []int{1, 2, 8} {
			t.Run(fmt.Sprintf("%d, shards %d", status, shards), func(t *testing.T) {
				j, f, o := backlog(t)
				o.Endpoint.Protocol = config.ProtocolV1
				o.Endpoint.Queue.MaxShards = shards
				o.Endpoint.Queue.MaxSamplesPerSend = 10
				s, _ := isolating(t, o)
				st := newStore(poisonIs("3"))
				posts, lost := 0, 0
				together := make(chan struct{})
				f.answers(func(w http.ResponseWriter, p post) {
					f.mu.Lock()
					defer f.mu.Unlock()
					posts++
					// The first is refused, and so many are taken that all flights
					// go at once.
					if posts <= 1+2*shards || lost == shards {
						if !st.take(p.lines(t)) {
							w.WriteHeader(http.StatusBadRequest)
						}
						return
					}
					if lost++; lost == shards {
						close(together)
					}
					f.mu.Unlock()
					<-together
					f.mu.Lock()
					w.WriteHeader(status)
				})
				due := j.family("due", 400)
				now := epoch.Add(-10 * time.Second)
				j.append(now, round(due, now, 1)...)
				now = epoch
				for range 400 {
					now = now.Add(s.step(now))
				}
				if l := s.balance(); l.Sent.Samples != 399 || l.Dropped[ReasonRejected].Samples != 1 {
					t.Errorf("ledger is %+v, want 399 sent and one rejected", l)
				}
				checkStored(t, st, s.balance())
			})
		}
	}
}

// A step that sends nothing, and cannot say what it waits for, is loud and slow.
func TestStepThatSendsNothing(t *testing.T) {
	j, _, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	for _, f := range s.flights {
		f.request = maxAhead // of no such window
	}
	rest, err := s.Step(t.Context(), epoch)
	if !errors.Is(err, errNothingGoes) || rest != o.Endpoint.Queue.MinBackoff {
		t.Errorf("rest is %v after %v, want min_backoff after an error", rest, err)
	}
}
