package wal_test

import (
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// installation is a log and a shipper to one endpoint, in one version of the
// program after the other.
type installation struct {
	t       *testing.T
	path    string
	remote  config.RemoteWrite
	log     *wal.Log
	shipper *remotewrite.Shipper
	now     time.Time
	written map[string][]receiver.Sample // by series
}

func install(t *testing.T, endpoint string, p config.Protocol) *installation {
	t.Helper()
	address, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	i := &installation{
		t: t, path: t.TempDir(), now: time.Now().Truncate(time.Second), written: map[string][]receiver.Sample{},
		remote: config.RemoteWrite{
			Name: "prometheus", URL: address, Protocol: p, RemoteTimeout: time.Minute,
			Queue: config.Queue{MaxShards: 2, MaxSamplesPerSecond: 1e9, MaxSamplesPerSend: 2000, MinBackoff: time.Second, MaxBackoff: time.Minute},
		},
	}
	t.Cleanup(i.stop)
	return i
}

// start replaces the version that runs.
func (i *installation) start(version uint32) {
	i.t.Helper()
	i.stop()
	var err error
	o := wal.Options{Path: i.path, SegmentAge: 2 * time.Second, MinFree: -1, Sync: wal.SyncNever}
	if i.log, err = wal.Open(i.t.Context(), o.WithVersion(version), i.now); err != nil {
		i.t.Fatal(err)
	}
	i.shipper, err = remotewrite.New(remotewrite.Options{
		Endpoint: i.remote, Log: i.log, Logger: slog.New(slog.DiscardHandler), UserAgent: "sql2metrics/test",
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i *installation) stop() {
	i.t.Helper()
	if i.log == nil {
		return
	}
	if err := errors.Join(i.shipper.Close(), i.log.Close()); err != nil {
		i.t.Fatal(err)
	}
	i.log = nil
}

// write appends a round of ten series, a second apart from the one before.
func (i *installation) write(rounds int) {
	i.t.Helper()
	for range rounds {
		i.now = i.now.Add(time.Second)
		var r wal.Round
		for n := range 10 {
			s := i.log.Series(labels.FromStrings("__name__", "due", "i", strconv.Itoa(n)), wal.Metadata{})
			defer i.log.Release(s)
			sample := receiver.Sample{T: i.now.UnixMilli(), V: float64(i.now.Unix())}
			r.Samples = append(r.Samples, wal.Sample{Series: s, T: sample.T, V: sample.V})
			name := s.Labels().String()
			i.written[name] = append(i.written[name], sample)
		}
		if out, err := i.log.Append(&r, i.now); err != nil || out.Appended.Samples != 10 {
			i.t.Fatalf("%+v, %v", out, err)
		}
	}
	i.sync()
}

func (i *installation) sync() {
	i.t.Helper()
	if err := i.log.Sync(i.now); err != nil {
		i.t.Fatal(err)
	}
}

// ship sends all there is, and returns the ledger, which adds up after every
// step.
func (i *installation) ship() remotewrite.Ledger {
	i.t.Helper()
	now := i.now
	for range 1000 {
		rest, err := i.shipper.Step(i.t.Context(), now)
		if err != nil {
			i.t.Fatal(err)
		}
		l := i.shipper.Ledger()
		sum := l.Sent.Add(l.Unconfirmed).Add(l.Pending)
		for _, n := range l.Dropped {
			sum = sum.Add(n)
		}
		if sum != l.Appended {
			i.t.Fatalf("the ledger does not add up: %+v in %+v", sum, l)
		}
		if l.Pending.IsZero() {
			return l
		}
		now = now.Add(rest)
	}
	i.t.Fatalf("it is never done: %+v", i.shipper.Ledger())
	return remotewrite.Ledger{}
}

// TestDowngradeAndUpgradeAtPrometheus sets segments of a newer version aside
// while the older one ships what comes after them. When the newer one is back,
// what was in them comes behind younger samples of the same series, and
// Prometheus has the word: what it refuses is counted as refused, and what its
// out-of-order window covers is stored. The ledger and what is stored agree.
func TestDowngradeAndUpgradeAtPrometheus(t *testing.T) {
	for name, c := range map[string]struct {
		protocol   config.Protocol
		outOfOrder time.Duration

		sent, rejected, unconfirmed uint64 // of the 60 samples that are taken up
	}{
		"refused, and 2.0 says how many":     {protocol: config.ProtocolV2, rejected: 60},
		"refused, and 1.0 does not say it":   {protocol: config.ProtocolV1, unconfirmed: 60},
		"in the out-of-order window, by 2.0": {protocol: config.ProtocolV2, outOfOrder: time.Hour, sent: 60},
		"in the out-of-order window, by 1.0": {protocol: config.ProtocolV1, outOfOrder: time.Hour, sent: 60},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver.Start(t, receiver.Options{OutOfOrder: c.outOfOrder})
			i := install(t, r.URL(), c.protocol)

			i.start(1)
			i.write(3)
			i.ship()
			i.start(2)
			i.write(1)
			i.ship() // into the newer segments
			i.write(5)
			i.start(1)
			if s := i.log.Stats(); s.NewerSegments != 3 {
				t.Errorf("%d segments are set aside", s.NewerSegments)
			}
			i.write(3)
			older := i.ship()
			if older.Sent.Samples != 70 || !older.Unconfirmed.IsZero() || !older.Dropped[remotewrite.ReasonRejected].IsZero() {
				t.Errorf("beside the segments that are set aside: %+v", older)
			}

			i.start(2)
			before := i.log.Stats().Appended
			for range 3 {
				i.sync() // each takes up one segment
			}
			if s := i.log.Stats(); s.NewerSegments != 0 || s.Appended.Sub(before).Samples != 60 {
				t.Errorf("of the segments that were set aside: %+v, appended before %+v", s, before)
			}
			i.ship()
			i.write(1)
			l := i.ship()
			rejected := l.Dropped[remotewrite.ReasonRejected].Samples
			if l.Sent.Samples != 80+c.sent || rejected != c.rejected || l.Unconfirmed.Samples != c.unconfirmed ||
				l.Dropped[remotewrite.ReasonDamaged] != older.Dropped[remotewrite.ReasonDamaged] {
				t.Errorf("after the samples that were taken up: %+v", l)
			}
			if c.sent == 0 {
				for name, samples := range i.written { // of the six rounds, one was sent before
					i.written[name] = slices.Delete(samples, 4, 9)
				}
			}
			if d := cmp.Diff(i.written, r.Samples(t, `{__name__="due"}`)); d != "" {
				t.Errorf("stored samples (-want +got):\n%s", d)
			}
		})
	}
}
