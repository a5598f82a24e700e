package remotewrite

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"sql2metrics/wal"
)

func TestWindowWaitsForTheDeadline(t *testing.T) {
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})

	if rest := s.step(epoch); rest != idle {
		t.Errorf("with nothing to send, rest is %v, want %v", rest, idle)
	}
	up := j.family("up", 3)
	j.append(epoch, round(up, epoch, 1)...)
	if rest := s.step(epoch.Add(2 * time.Second)); rest != 3*time.Second {
		t.Errorf("2 s after the append, rest is %v, want 3s", rest)
	}
	j.append(epoch.Add(4*time.Second), round(up, epoch.Add(4*time.Second), 2)...)
	if n := len(f.received()); n != 0 {
		t.Fatalf("%d requests before the deadline", n)
	}
	s.drain(epoch.Add(5 * time.Second))
	if got := len(f.received()); got != 1 {
		t.Errorf("%d requests after the deadline, want both rounds in one", got)
	}
	l := s.balance()
	if l.Sent.Samples != 6 || !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want 6 samples sent and none pending", l)
	}
}

// TestNothingIsSentBeforeItIsSaved takes the cursor's file away.
func TestNothingIsSentBeforeItIsSaved(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		rest, err := s.Step(context.Background(), epoch)
		if err == nil || rest != time.Second {
			t.Errorf("a step that cannot save its cursor rests %v and says %v, want 1s and an error", rest, err)
		}
		s.balance()
	}
	if n := len(f.received()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestWindowIsBounded drains a backlog of more than one window.
func TestWindowIsBounded(t *testing.T) {
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})
	due := j.family("due", 5000)
	for i := range 30 {
		now := epoch.Add(time.Duration(i) * time.Second)
		j.append(now, round(due, now, float64(i))...)
	}
	now := epoch.Add(29 * time.Second) // all but the first rounds are young
	for windows := uint64(0); s.step(now) == 0; windows++ {
		if l := s.balance(); l.Sent.Samples > (windows+1)*maxWindow {
			t.Fatalf("%d samples sent after %d windows", l.Sent.Samples, windows+1)
		}
	}
	if l := s.balance(); l.Sent.Samples <= maxWindow/2 || l.Sent.Samples == 150_000 {
		t.Errorf("%d samples sent, want one full window, and the rest to wait for its deadline", l.Sent.Samples)
	}
	s.drain(now.Add(5 * time.Second))
	if l := s.balance(); l.Sent.Samples != 150_000 {
		t.Errorf("ledger is %+v, want all sent", l)
	}
	for _, p := range f.received() {
		if n := len(p.lines(t)); n > 2000 {
			t.Errorf("a request of %d samples", n)
		}
	}
}

// TestWindowOfHistogramsIsBounded has a backlog of histograms with 160
// buckets, each of which takes the memory of many samples.
func TestWindowOfHistogramsIsBounded(t *testing.T) {
	const series, rounds = 500, 30
	wide := &histogram.FloatHistogram{
		PositiveSpans: []histogram.Span{{Length: 160}}, PositiveBuckets: make([]float64, 160),
	}
	for name, c := range map[string]struct {
		sent    bool
		windows int // at least
	}{
		"sent":     {sent: true, windows: series * rounds * 24 / maxWindow},
		"disabled": {sent: false, windows: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			j := openJournal(t, t.TempDir(), wal.Options{})
			e := endpoint(t, f.URL)
			e.SendNativeHistograms = c.sent
			s := newShip(t, Options{Endpoint: e, Log: j.Log})
			f.answers(func(w http.ResponseWriter, p post) {
				w.Header().Set(headerHistogramsWritten, strconv.Itoa(series*rounds))
			})
			due := j.family("due", series)
			now := epoch
			for range rounds {
				now = now.Add(time.Second)
				var r wal.Round
				for _, s := range due {
					r.Histograms = append(r.Histograms, wal.Histogram{Series: s, T: now.UnixMilli(), FH: wide})
				}
				j.appendRound(now, r)
			}
			now = now.Add(time.Minute)
			windows := 0
			for before := uint64(series * rounds); before > 0; windows++ {
				s.step(now)
				left := s.balance().Pending.Histograms
				if n := before - left; c.sent && n*24 > maxWindow {
					t.Fatalf("a window of %d histograms", n)
				}
				before = left
			}
			if windows < c.windows || !c.sent && windows > 1 {
				t.Errorf("%d windows, want %d", windows, c.windows)
			}
		})
	}
}

// TestBacklogWhileLeftAlone appends while nothing may be sent for an hour and
// nothing is at hand: how old the backlog is becomes known all the same.
func TestBacklogWhileLeftAlone(t *testing.T) {
	j, _, o := backlog(t)
	s := newShip(t, o)
	s.pace.unavailable(time.Now(), time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx, nil) }()
	defer func() { cancel(); <-done }()
	for deadline := time.Now().Add(time.Minute); s.Overdue(time.Now().Add(time.Hour)) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the loop does not begin")
		}
	}
	j.appendDue(3)
	for deadline := time.Now().Add(time.Minute); ; {
		if l := s.balance(); l.Pending.Samples == 3 && l.Oldest.Equal(epoch.Add(-time.Minute)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ledger is %+v, want 3 samples pending since a minute before", s.Ledger())
		}
	}
}

// TestFlushOfNothing ends at once, though the endpoint has asked for an hour.
func TestFlushOfNothing(t *testing.T) {
	_, _, o := backlog(t)
	s := newShip(t, o)
	s.pace.unavailable(time.Now(), time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Errorf("with nothing to send, a flush says %v", err)
	}
}

// TestOverdue asks while a request hangs, as if time had passed.
func TestOverdue(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	in := func(d time.Duration) time.Duration { return s.Overdue(time.Now().Add(d)) }
	if late := in(time.Hour); late != 0 {
		t.Errorf("a loop that was never started is late by %v", late)
	}
	j.appendDue(1)
	f.answers(func(w http.ResponseWriter, p post) {
		if late := in(s.endpoint.RemoteTimeout + maxRest - 30*time.Second); late != 0 {
			t.Errorf("a loop that may wait and sleep is late by %v", late)
		}
		if in(time.Hour) == 0 {
			t.Error("a loop that has not turned for an hour is not late")
		}
		s.turns.begun = s.turns.begun.Add(-time.Hour) // the request takes that long
		p.written(t, w)
	})
	s.step(epoch)
	if late := in(0); late != 0 {
		t.Errorf("a loop that has just turned is late by %v", late)
	}
}
