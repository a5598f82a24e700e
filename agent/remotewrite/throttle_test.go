package remotewrite

import (
	"net/http"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

func TestThrottle(t *testing.T) {
	for name, c := range map[string]struct {
		configured int
		live       int // samples appended per second
		want       float64
	}{
		"as configured":     {50_000, 0, 50_000},
		"the least":         {0, 10, 20_000},
		"20 times the rate": {0, 5000, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			th := throttle{configured: float64(c.configured), behind: true}
			now := epoch
			var appended uint64
			for range 1200 {
				th.observe(now, appended)
				now = now.Add(time.Second)
				appended += uint64(c.live)
			}
			if got := th.rate(); got < 0.99*c.want || got > 1.01*c.want {
				t.Errorf("rate is %.0f, want %.0f", got, c.want)
			}
			gone, begin := 0, now
			for now.Sub(begin) < time.Minute {
				if th.admit(now, 2000) {
					gone += 2000
				} else {
					now = th.until
				}
			}
			if got := float64(gone) / 60; got < 0.95*c.want || got > 1.05*c.want {
				t.Errorf("%.0f samples per second go, want %.0f", got, c.want)
			}
		})
	}
}

// TestCatchUpIsPaced has an endpoint come back after an outage.
func TestCatchUpIsPaced(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSecond = 10_000
	s := newShip(t, o)
	due := j.family("due", 5000)
	for i := range 20 {
		at := epoch.Add(time.Duration(i) * time.Second)
		j.append(at, round(due, at, 1)...)
	}
	now := epoch.Add(time.Hour)
	begin := now
	for {
		rest := s.step(now)
		if s.balance().Pending.IsZero() {
			break
		}
		now = now.Add(rest)
	}
	if took := now.Sub(begin).Seconds(); took < 9 || took > 11 {
		t.Errorf("100000 samples took %.1f s at 10000 per second", took)
	}
	f.received()
	// Live, the pace is what is appended.
	j.append(now, round(due, now, 1)...)
	s.drain(now.Add(5 * time.Second))
	if l := s.balance(); !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want nothing pending at once", l)
	}
}

func TestSampleAgeLimit(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	o.Endpoint.Queue.SampleAgeLimit = time.Hour
	path := t.TempDir()
	j := openJournal(t, path, wal.Options{})
	o.Log = j.Log
	s := newShip(t, o)
	due := j.family("due", 10)
	for _, age := range []time.Duration{2 * time.Hour, 61 * time.Minute, 59 * time.Minute, time.Minute} {
		at := epoch.Add(-age)
		j.append(at, round(due, at, 1)...)
	}
	f.says(http.StatusServiceUnavailable, "")
	s.step(epoch)
	sent := f.bodies()
	// What is formed is sent the same after a restart much later.
	j = openJournal(t, j.kill(path), wal.Options{})
	o.Log = j.Log
	s = newShip(t, o)
	f.takes()
	s.drain(epoch.Add(50 * time.Minute))
	if l := s.balance(); l.Dropped[ReasonTooOld].Samples != 20 || l.Sent.Samples != 20 {
		t.Errorf("ledger is %+v, want 20 samples too old and 20 sent", l)
	}
	if got := f.bodies(); len(sent) != 1 || len(got) == 0 || got[0] != sent[0] {
		t.Errorf("%d requests before the restart, and not the same after it", len(sent))
	}
}

func TestStartAt(t *testing.T) {
	for start, want := range map[string]uint64{config.StartAtOldest: 10, config.StartAtEnd: 0} {
		t.Run(start, func(t *testing.T) {
			j, _, o := backlog(t)
			j.appendDue(10)
			o.Endpoint.StartAt = start
			s := newShip(t, o)
			l := s.balance()
			if l.Pending.Samples != want || l.Oldest.IsZero() != (want == 0) {
				t.Errorf("before the first step ledger is %+v, want %d samples pending", l, want)
			}
			s.drain(epoch)
			if l := s.balance(); l.Sent.Samples != want {
				t.Errorf("ledger is %+v, want %d samples sent", l, want)
			}
		})
	}
}

// TestBacklogBeforeTheFirstStep restarts with a backlog.
func TestBacklogBeforeTheFirstStep(t *testing.T) {
	path := t.TempDir()
	j := openJournal(t, path, wal.Options{})
	f := newFake(t)
	o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
	s := newShip(t, o)
	due := j.family("due", 10)
	j.append(epoch, round(due, epoch, 1)...)
	s.drain(epoch.Add(5 * time.Second))
	for i := range 3 {
		at := epoch.Add(time.Duration(i+1) * time.Hour)
		j.append(at, round(due, at, 1)...)
	}
	j = openJournal(t, j.kill(path), wal.Options{})
	o.Log = j.Log
	s = newShip(t, o)
	if l := s.balance(); l.Pending.Samples != 30 || !l.Oldest.Equal(epoch.Add(time.Hour)) {
		t.Errorf("ledger is %+v, want 30 samples pending since %v", l, epoch.Add(time.Hour))
	}
}

// TestCatchUpOutrunsASlowReceiver has answers take so long that what may go at
// once is little beside what is appended meanwhile.
func TestCatchUpOutrunsASlowReceiver(t *testing.T) {
	const live, shards, request = 1000, 8, 2000
	for _, latency := range []time.Duration{10 * time.Millisecond, time.Second, 8 * time.Second, 30 * time.Second} {
		t.Run(latency.String(), func(t *testing.T) {
			th := throttle{behind: true}
			now, appended := epoch, uint64(0)
			for range 60 {
				th.observe(now, appended)
				now = now.Add(5 * time.Second)
				appended += 5 * live
			}
			sent, begin := 0, now
			for now.Sub(begin) < 10*time.Minute {
				n := 0
				for n < shards && th.admit(now, request) { // a step has one time
					n++
				}
				sent += n * request
				rest := max(0, th.until.Sub(now))
				if n > 0 {
					now = now.Add(latency)
					th.took(latency)
				}
				now = now.Add(rest)
			}
			got := float64(sent) / now.Sub(begin).Seconds()
			if most := min(slowestCatchUp, shards*request/latency.Seconds()); got < 0.9*most || got > 1.1*slowestCatchUp {
				t.Errorf("%.0f samples per second go, want %.0f, and no more than %d", got, most, slowestCatchUp)
			}
		})
	}
}
