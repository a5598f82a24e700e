package remotewrite

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// These tests ship to Prometheus's own write handler on its own TSDB.

func forBothProtocols(t *testing.T, test func(t *testing.T, p config.Protocol)) {
	for _, p := range []config.Protocol{config.ProtocolV1, config.ProtocolV2} {
		t.Run(wireVersion(p), func(t *testing.T) { test(t, p) })
	}
}

// shipTo returns a log with rounds of samples and a shipper to r. What has to
// be stored is in want.
func shipTo(t *testing.T, r *receiver.Receiver, p config.Protocol, rounds int) (s ship, now time.Time, want map[string][]receiver.Sample) {
	t.Helper()
	j := openJournal(t, t.TempDir(), wal.Options{})
	e := endpoint(t, r.URL())
	e.Protocol = p
	e.Queue.MaxSamplesPerSend = 100
	external := labels.FromStrings("cluster", "eu1")
	s = newShip(t, Options{Endpoint: e, Log: j.Log, ExternalLabels: external})
	due := j.family("due", 70)
	want = map[string][]receiver.Sample{}
	now = time.Now().Truncate(time.Millisecond)
	for i := range rounds {
		now = now.Add(time.Second)
		samples := round(due, now, float64(i))
		samples[1].V = math.Float64frombits(value.StaleNaN)
		samples[2].V = math.Inf(-1)
		j.append(now, samples...)
		for k, p := range samples {
			lset := labels.NewBuilder(due[k].Labels()).Set("cluster", "eu1").Labels().String()
			want[lset] = append(want[lset], receiver.Sample{T: p.T, V: p.V})
		}
	}
	return s, now.Add(time.Minute), want
}

func TestPrometheusStoresWhatWasAppended(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, p config.Protocol) {
		r := receiver.Start(t, receiver.Options{})
		s, now, want := shipTo(t, r, p, 5)
		s.drain(now)
		if d := cmp.Diff(want, r.Samples(t, `{__name__="due"}`)); d != "" {
			t.Errorf("stored samples (-want +got):\n%s", d)
		}
		if l := s.balance(); l.Sent.Samples != 5*70 || !l.Pending.IsZero() {
			t.Errorf("ledger is %+v, want %d samples sent", l, 5*70)
		}
	})
}

func TestPrometheusFallback(t *testing.T) {
	for name, accept := range map[string][]receiver.Message{"1.0": {receiver.V1}, "2.0": {receiver.V2}} {
		t.Run(name, func(t *testing.T) {
			r := receiver.Start(t, receiver.Options{Accept: accept})
			s, now, want := shipTo(t, r, config.ProtocolAuto, 2)
			s.drain(now)
			if d := cmp.Diff(want, r.Samples(t, `{__name__="due"}`)); d != "" {
				t.Errorf("stored samples (-want +got):\n%s", d)
			}
			if l := s.balance(); l.Sent.Samples != 2*70 || l.Protocol != name {
				t.Errorf("ledger is %+v, want %d samples sent by %s", l, 2*70, name)
			}
		})
	}
}

// TestPrometheusStoresAndHangsUp loses answers to requests that were stored.
// Sent again they are taken where each series has one sample, and refused
// where it has several; nothing that comes later suffers from it.
func TestPrometheusStoresAndHangsUp(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, p config.Protocol) {
		for name, rounds := range map[string]int{"one sample per series": 1, "several": 3} {
			t.Run(name, func(t *testing.T) {
				r := receiver.Start(t, receiver.Options{})
				s, now, want := shipTo(t, r, p, rounds)
				r.Behave(receiver.StoreThenReset)
				now = now.Add(s.step(now))
				r.Behave(receiver.Up)
				s.drain(now)
				if d := cmp.Diff(want, r.Samples(t, `{__name__="due"}`)); d != "" {
					t.Errorf("stored samples (-want +got):\n%s", d)
				}
				l := s.balance()
				if rounds == 1 && l.Sent.Samples != 70 {
					t.Errorf("ledger is %+v, want 70 samples sent", l)
				}
				if got := l.Sent.Add(l.Unconfirmed); got.Samples != uint64(70*rounds) {
					t.Errorf("ledger is %+v, want all of %d samples sent or unconfirmed", l, 70*rounds)
				}
			})
		}
	})
}

// TestPrometheusAfterAKill has Prometheus store a window whose answers a killed
// process did not see. The next life sends it again, as it was or cut and
// labelled otherwise, and nothing that is new suffers from it.
func TestPrometheusAfterAKill(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"nothing changed":      func(*Options) {},
		"max_samples_per_send": func(o *Options) { o.Endpoint.Queue.MaxSamplesPerSend = 33 },
		"a series dropped": func(o *Options) {
			o.Endpoint.WriteRelabel = []*relabel.Config{rule(t, relabel.Config{
				Action: relabel.Drop, SourceLabels: model.LabelNames{"i"}, Regex: relabel.MustNewRegexp("0|30"),
			})}
		},
	} {
		for _, rounds := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, samples per series %d", name, rounds), func(t *testing.T) {
				forBothProtocols(t, func(t *testing.T, p config.Protocol) {
					r := receiver.Start(t, receiver.Options{})
					path := t.TempDir()
					j := openJournal(t, path, wal.Options{})
					o := Options{Endpoint: endpoint(t, r.URL()), Log: j.Log}
					o.Endpoint.Protocol = p
					o.Endpoint.Queue.MaxSamplesPerSend = 20 * rounds
					o.Endpoint.Queue.MaxShards = 1
					s := newShip(t, o)
					due := j.family("due", 70)
					now := time.Now().Truncate(time.Millisecond)
					next := func() {
						now = now.Add(time.Second)
						j.append(now, round(due, now, 1)...)
					}
					for range rounds {
						next()
					}
					// The first request is stored, and its answer is lost.
					r.Behave(receiver.StoreThenReset)
					s.step(now.Add(time.Minute))
					next() // not in the window
					j = openJournal(t, j.kill(path), wal.Options{})
					o.Log = j.Log
					change(&o)
					s = newShip(t, o)
					due = j.family("due", 70)
					next()
					r.Behave(receiver.Up)
					s.drain(now.Add(time.Minute))

					l := s.balance()
					gone := l.Dropped[ReasonRelabel].Samples
					if want := uint64(70*(rounds+2)) - gone; l.Sent.Add(l.Unconfirmed).Samples != want || rounds == 1 && !l.Unconfirmed.IsZero() {
						t.Errorf("ledger is %+v, want %d samples sent, or unconfirmed where they were in doubt", l, want)
					}
					stored := 0
					for _, samples := range r.Samples(t, `{__name__="due"}`) {
						stored += len(samples)
					}
					if want := 70 * (rounds + 2); stored < want-int(gone) {
						t.Errorf("%d samples are stored, want %d", stored, want)
					}
				})
			})
		}
	}
}
