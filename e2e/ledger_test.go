package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// ledger follows a log's folder from outside while agents write it, come and
// go, and keeps every sample: what is acknowledged everywhere may be removed
// before the test ends.
type ledger struct {
	samples map[string][]receiver.Sample // by label set, in order of append
	totals  wal.Totals                   // the log's own, after the last frame
	count   uint64
	err     error
	stop    chan struct{}
	stopped chan struct{}
}

// follow starts to read the log in a folder, which must be there.
func follow(t testing.TB, path string) *ledger {
	t.Helper()
	r, err := wal.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{
		samples: map[string][]receiver.Sample{},
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go func() {
		defer close(l.stopped)
		defer r.Close()
		l.err = l.read(r)
	}()
	t.Cleanup(func() { l.close(t) })
	return l
}

// close reads what is there now, and stops. Only then may the ledger be read.
func (l *ledger) close(t testing.TB) {
	t.Helper()
	select {
	case <-l.stopped:
		return
	default:
		close(l.stop)
	}
	<-l.stopped
	if l.err != nil {
		t.Fatalf("follow the log: %v", l.err)
	}
	if l.count != l.totals.Samples {
		t.Fatalf("the log counts %d samples, its frames hold %d", l.totals.Samples, l.count)
	}
}

// mustHave ends a test of a series that there is not. The mark is in its
// labels.
func (l *ledger) mustHave(t testing.TB, mark string) {
	t.Helper()
	for series := range l.samples {
		if strings.Contains(series, mark) {
			return
		}
	}
	t.Fatalf("no series of the log has %s", mark)
}

func (l *ledger) read(r *wal.Reader) error {
	var f wal.Frame
	last := false
	for {
		err := r.Next(&f)
		switch {
		case err == nil:
			if err := l.add(&f); err != nil {
				return err
			}
			continue
		case !errors.Is(err, io.EOF):
			return err
		case last:
			return nil
		}
		select {
		case <-l.stop:
			last = true // what was written until then is read
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (l *ledger) add(f *wal.Frame) error {
	if !f.Evicted.IsZero() || !f.Damaged.IsZero() {
		return fmt.Errorf("before frame %d: evicted %v, damaged %v", f.Position.Seq, f.Evicted, f.Damaged)
	}
	l.totals = f.Position.Totals
	for _, s := range f.Samples {
		key := f.Series[s.Ref].Labels.String()
		l.samples[key] = append(l.samples[key], receiver.Sample{T: s.T, V: s.V})
		l.count++
	}
	return nil
}

// compare reports what the receiver has and the log has not, and the other way
// round, bit for bit.
func (l *ledger) compare(t *testing.T, received map[string][]receiver.Sample) {
	t.Helper()
	different := 0
	for _, series := range slices.Sorted(maps.Keys(l.samples)) {
		want, got := l.samples[series], received[series]
		if slices.EqualFunc(want, got, receiver.Sample.Equal) {
			continue
		}
		if different++; different <= 3 {
			i := 0
			for i < min(len(want), len(got)) && want[i].Equal(got[i]) {
				i++
			}
			t.Errorf("series %s: %d samples appended, %d received; from sample %d on\n%v are\n%v",
				series, len(want), len(got), i, want[i:], got[i:])
		}
	}
	for series, samples := range received {
		if l.samples[series] == nil {
			t.Errorf("series %s was received and never appended: %v", series, samples)
		}
	}
	if different > 0 {
		t.Errorf("%d of %d series are not what was appended", different, len(l.samples))
	}
}

// checkDeliveries checks every request that a receiver stored or refused
// against the promise: nothing that is not in the ledger, each series in order
// of time when it comes first, and one value per series and time. It returns
// how many samples came more than once.
func (l *ledger) checkDeliveries(t *testing.T, requests []receiver.Request) (repeated int) {
	t.Helper()
	type place struct {
		series string
		at     int64
	}
	appended := map[place]uint64{}
	for series, samples := range l.samples {
		for i, s := range samples {
			if i > 0 && s.T <= samples[i-1].T {
				t.Errorf("the log has %s at %d after %d", series, s.T, samples[i-1].T)
			}
			appended[place{series, s.T}] = math.Float64bits(s.V)
		}
	}
	newest, seen := map[string]int64{}, map[place]bool{}
	for n, req := range requests {
		for _, series := range req.Series {
			for _, s := range series.Samples {
				p := place{series.Labels, s.T}
				bits, ok := appended[p]
				switch {
				case !ok:
					t.Errorf("request %d: %s at %d was never appended", n, p.series, p.at)
				case bits != math.Float64bits(s.V):
					t.Errorf("request %d: %s at %d is %v, appended was %v", n, p.series, p.at, s.V, math.Float64frombits(bits))
				case seen[p]:
					repeated++
				case s.T <= newest[p.series]:
					t.Errorf("request %d: %s at %d came first after %d", n, p.series, p.at, newest[p.series])
				}
				seen[p] = true
				newest[p.series] = max(newest[p.series], s.T)
			}
		}
	}
	return repeated
}
