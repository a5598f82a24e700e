package remotewrite

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// kill returns the folder of j as a process killed at this moment leaves it.
func (j journal) kill(path string) string {
	j.tb.Helper()
	to := j.tb.TempDir()
	if err := os.CopyFS(to, os.DirFS(path)); err != nil {
		j.tb.Fatal(err)
	}
	return to
}

// noise is one sample of each series, of values that do not compress.
func noise(series []*wal.Series, t time.Time) []wal.Sample {
	r := round(series, t, 0)
	for i := range r {
		r[i].V = float64(t.UnixNano()*int64(i+1)%1e9) / 7
	}
	return r
}

// bodies are the bytes of the requests since the last call.
func (f *fake) bodies() []string {
	var out []string
	for _, p := range f.received() {
		out = append(out, string(p.body))
	}
	return out
}

// takesBut takes the n first requests and says 503 to the others.
func (f *fake) takesBut(n int) {
	taken := 0
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		taken++
		ok := taken <= n
		f.mu.Unlock()
		if ok {
			p.written(f.tb, w)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// lostInFlight makes a log with a window of 10 requests of which the endpoint
// has taken 3, one has lost its answer, and the process is killed. It returns
// the folder and the bytes of the ten requests.
func lostInFlight(t *testing.T, f *fake, o Options) (path string, requests []string) {
	t.Helper()
	path = t.TempDir()
	j := openJournal(t, path, wal.Options{})
	o.Log = j.Log
	s := newShip(t, o)
	old := epoch.Add(-time.Minute)
	j.append(old, round(j.family("due", 50), old, 1)...)
	j.append(old.Add(time.Second), round(j.family("due", 50), old.Add(time.Second), 2)...)

	// What it will be, from a process that is never killed.
	whole := openJournal(t, j.kill(path), wal.Options{})
	undisturbed := o
	undisturbed.Log = whole.Log
	newShip(t, undisturbed).drain(epoch)
	requests = f.bodies()
	if len(requests) != 10 {
		t.Fatalf("the window has %d requests, want 10", len(requests))
	}

	s.pace.shards = 1 // so that what the receiver has seen is known
	f.takesBut(3)
	s.step(epoch)
	if d := cmp.Diff(requests[:4], f.bodies()); d != "" {
		t.Fatalf("before the kill (-want +got):\n%s", d)
	}
	// Appended after the window was formed.
	j.append(epoch, round(j.family("due", 50), epoch, 3)...)
	return j.kill(path), requests
}

func resumeOptions(t *testing.T, f *fake) Options {
	e := endpoint(t, f.URL)
	e.Queue.MaxSamplesPerSend = 10
	e.Queue.MaxShards = 1
	return Options{Endpoint: e, ExternalLabels: labels.FromStrings("cluster", "eu1")}
}

func TestResumeSendsTheSameRequests(t *testing.T) {
	for _, p := range []config.Protocol{config.ProtocolV1, config.ProtocolV2} {
		t.Run(wireVersion(p), func(t *testing.T) {
			f := newFake(t)
			o := resumeOptions(t, f)
			o.Endpoint.Protocol = p
			path, requests := lostInFlight(t, f, o)

			j := openJournal(t, path, wal.Options{})
			o.Log = j.Log
			s := newShip(t, o)
			if l := s.balance(); l.Appended.Samples != 150 || l.Pending.Samples != 150 {
				t.Errorf("ledger is %+v, want 150 samples pending: the books of the window are still open", l)
			}
			f.takes()
			// At once, though nothing has waited as long as the deadline: the
			// time of append of the window's first frame is a minute ago.
			s.step(epoch)
			if d := cmp.Diff(requests[3:], f.bodies()); d != "" {
				t.Errorf("after the restart (-want +got):\n%s", d)
			}
			s.drain(epoch.Add(time.Minute))
			if n := len(f.lines()); n != 50 {
				t.Errorf("then %d samples, want the 50 that came later", n)
			}
			if l := s.balance(); l.Sent.Samples != 150 || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want 150 samples sent", l)
			}
		})
	}
}

// TestResumeInDoubt has the receiver refuse what it may have stored before.
func TestResumeInDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(o *Options)
		unconfirmed uint64
		sent        uint64
	}{
		// Three requests of ten samples had their answer.
		"nothing changed":      {func(*Options) {}, 70, 30},
		"external labels":      {func(o *Options) { o.ExternalLabels = labels.FromStrings("cluster", "eu2") }, 100, 0},
		"max_samples_per_send": {func(o *Options) { o.Endpoint.Queue.MaxSamplesPerSend = 7 }, 100, 0},
		"protocol":             {func(o *Options) { o.Endpoint.Protocol = config.ProtocolV1 }, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			o := resumeOptions(t, f)
			path, _ := lostInFlight(t, f, o)
			j := openJournal(t, path, wal.Options{})
			o.Log = j.Log
			c.change(&o)
			s := newShip(t, o)
			f.says(http.StatusConflict, "out of order")
			s.drain(epoch)
			l := s.balance()
			if l.Unconfirmed.Samples != c.unconfirmed || l.Sent.Samples != c.sent || l.Pending.Samples != 50 {
				t.Errorf("ledger is %+v, want %d unconfirmed, %d sent and 50 pending", l, c.unconfirmed, c.sent)
			}
			f.says(http.StatusConflict, "out of order")
			s.drain(epoch.Add(time.Minute))
			if l := s.balance(); l.Dropped[ReasonRejected].Samples != 50 {
				t.Errorf("ledger is %+v, want the 50 samples that came later rejected: nothing has sent them before", l)
			}
		})
	}
}

// TestResumeWithoutTheWindow restarts after the log has lost what was in
// flight.
func TestResumeWithoutTheWindow(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	path := t.TempDir()
	small := wal.Options{SegmentBytes: 1 << 12, MaxBytes: 64 << 10}
	j := openJournal(t, path, small)
	o.Log = j.Log
	s := newShip(t, o)
	f.says(http.StatusServiceUnavailable, "")
	now := epoch
	due := j.family("due", 100)
	next := func() {
		now = now.Add(time.Minute)
		j.append(now, noise(due, now)...)
	}
	next()
	s.step(now.Add(time.Minute))
	for j.Stats().Oldest.Totals.Samples < 500 {
		next()
		s.balance()
	}
	path = j.kill(path)
	j = openJournal(t, path, small)
	o.Log = j.Log
	s = newShip(t, o)
	evicted := s.balance().Dropped[ReasonEvicted]
	if evicted.Samples < 500 {
		t.Errorf("%d samples evicted before the first step, want all that the log no longer has", evicted.Samples)
	}
	f.takes()
	s.drain(now.Add(time.Hour))
	l := s.balance()
	if l.Dropped[ReasonEvicted] != evicted || !l.Pending.IsZero() || l.Sent.Samples+evicted.Samples != l.Appended.Samples {
		t.Errorf("ledger is %+v, want %d evicted and the rest sent", l, evicted.Samples)
	}
	if strings.Contains(s.log.String(), "in flight") {
		t.Errorf("the log speaks of requests that are gone:\n%s", s.log)
	}
}

// TestResumeKeepsTheOutcome restarts after the log has lost a window of which a
// part had its answer: what the receiver has taken or refused is not evicted.
func TestResumeKeepsTheOutcome(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	path := t.TempDir()
	small := wal.Options{SegmentBytes: 1 << 12, MaxBytes: 64 << 10}
	j := openJournal(t, path, small)
	o.Log = j.Log
	s := newShip(t, o)
	s.learned.Confirmed = true
	n := 0
	f.answers(func(w http.ResponseWriter, p post) {
		switch n++; n {
		case 1, 2, 3:
			p.written(t, w)
		case 4:
			w.Header().Set(headerSamplesWritten, "4")
		case 5:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 6:
			w.Header().Set(headerSamplesWritten, "9")
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	now := epoch
	due := j.family("due", 100)
	next := func() {
		now = now.Add(time.Minute)
		j.append(now, noise(due, now)...)
	}
	next()
	for i := range 2 {
		s.step(now.Add(time.Duration(i+1) * time.Minute))
	}
	for j.Stats().Oldest.Totals.Samples < 500 {
		next()
	}
	path = j.kill(path)
	for range 2 { // two lives: the first does nothing but begin
		path = j.kill(path)
		j = openJournal(t, path, small)
		o.Log = j.Log
		s = newShip(t, o)
		gone := j.Stats().Oldest.Totals.Samples
		l := s.balance()
		if l.Sent.Samples != 43 || l.Dropped[ReasonRejected].Samples != 6 || l.Unconfirmed.Samples != 1 || l.Dropped[ReasonEvicted].Samples != gone-50 {
			t.Fatalf("ledger is %+v, want 43 sent, 6 rejected, one unconfirmed and the rest of %d evicted", l, gone)
		}
	}
	before := s.balance()
	f.takes()
	s.drain(now.Add(time.Hour))
	l := s.balance()
	if l.Sent.Samples != 43+before.Pending.Samples || l.Dropped[ReasonEvicted] != before.Dropped[ReasonEvicted] || !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want what was pending sent", l)
	}
}

// TestEvictedBeforeItIsTakenUp has the log remove a window that was in flight
// when the last run ended, after the start and before the first step. What the
// receiver took of it is never shown as evicted.
func TestEvictedBeforeItIsTakenUp(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	path := t.TempDir()
	small := wal.Options{SegmentBytes: 1 << 12, MaxBytes: 64 << 10}
	j := openJournal(t, path, small)
	o.Log = j.Log
	s := newShip(t, o)
	f.takesBut(7)
	now := epoch
	next := func() {
		now = now.Add(time.Minute)
		j.append(now, noise(j.family("due", 100), now)...)
	}
	next()
	s.step(now.Add(time.Minute))
	j = openJournal(t, j.kill(path), small)
	o.Log = j.Log
	s = newShip(t, o)
	for j.Stats().Oldest.Totals.Samples < 500 {
		next()
	}
	before := s.balance()
	if gone := j.Stats().Oldest.Totals.Samples; before.Dropped[ReasonEvicted].Samples > gone-70 {
		t.Errorf("ledger is %+v, want the 70 that were answered not among the evicted of %d", before, gone)
	}
	f.takes()
	s.drain(now.Add(time.Hour))
	l := s.balance()
	if l.Dropped[ReasonEvicted].Samples < before.Dropped[ReasonEvicted].Samples || !l.Pending.IsZero() || l.Sent.Samples != l.Appended.Samples-l.Dropped[ReasonEvicted].Samples {
		t.Errorf("ledger is %+v after %+v", l, before)
	}
	if want := j.Stats().Oldest.Totals.Samples - 70; l.Dropped[ReasonEvicted].Samples != want {
		t.Errorf("%d evicted, want %d: 70 were sent before", l.Dropped[ReasonEvicted].Samples, want)
	}
}

// TestEvictedWhileDown has the log remove what a dead endpoint has not read.
func TestEvictedWhileDown(t *testing.T) {
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{SegmentBytes: 1 << 12, MaxBytes: 64 << 10})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})
	f.says(http.StatusServiceUnavailable, "")
	due := j.family("due", 100)
	now := epoch
	var last uint64
	for j.Stats().Oldest.Totals.Samples < 2000 {
		now = now.Add(time.Minute)
		j.append(now, noise(due, now)...)
		s.step(now)
		l := s.balance()
		if l.Dropped[ReasonEvicted].Samples < last {
			t.Fatalf("evicted went from %d to %d", last, l.Dropped[ReasonEvicted].Samples)
		}
		last = l.Dropped[ReasonEvicted].Samples
	}
	if last < 1000 {
		t.Errorf("%d samples evicted in the ledger while the log has removed 2000", last)
	}
	f.takes()
	s.drain(now.Add(time.Hour))
	l := s.balance()
	if !l.Pending.IsZero() || l.Dropped[ReasonEvicted].Samples != last {
		t.Errorf("ledger is %+v in the end, want %d evicted and none pending", l, last)
	}
	if n := uint64(len(f.lines())); n < l.Sent.Samples {
		t.Errorf("%d samples arrived, but %d are counted as sent", n, l.Sent.Samples)
	}
}

// TestDoubtWithoutState begins again with the cursor destroyed, or with a state
// on it that cannot be read. What may have been sent is in doubt, through the
// lives that follow too, and what is new is not.
func TestDoubtWithoutState(t *testing.T) {
	destroyed := func(t *testing.T, path string, _ ship) {
		files, err := os.ReadDir(path + "/cursors")
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.WriteFile(path+"/cursors/"+files[0].Name(), make([]byte, 8192), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		before func(s ship) // the damage, with the log open
		after  func(t *testing.T, path string, s ship)
		answer int // to what is sent before
		lives  int // that end before their first step
		steps  int // of a life that ends after some
	}{
		"cursor destroyed":                     {after: destroyed, answer: 200},
		"and killed before the first step":     {after: destroyed, answer: 200, lives: 3},
		"and killed in the first window":       {after: destroyed, answer: 200, steps: 1},
		"and killed in the second window":      {after: destroyed, answer: 200, steps: 2},
		"state of another version":             {before: foreignState, answer: 500},
		"and killed before the first step too": {before: foreignState, answer: 500, lives: 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			path := t.TempDir()
			j := openJournal(t, path, wal.Options{})
			o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
			s := newShip(t, o)
			// One sample per series: what is refused is rejected, but for a doubt.
			due := j.family("due", 30)
			for i := range 3 {
				at := epoch.Add(time.Duration(i) * time.Second)
				j.append(at, round(due[10*i:10*i+10], at, 1)...)
			}
			f.says(c.answer, "")
			s.step(epoch.Add(time.Minute))
			if c.before != nil {
				c.before(s)
			}
			restart := func() {
				path = j.kill(path)
				if c.after != nil {
					c.after(t, path, s)
					c.after = nil
				}
				j = openJournal(t, path, wal.Options{})
				o.Log = j.Log
				s = newShip(t, o)
			}
			for range 1 + c.lives {
				restart()
			}
			f.says(http.StatusServiceUnavailable, "")
			if c.steps > 0 {
				for i := range c.steps {
					if i > 0 { // the window before is refused
						f.says(http.StatusConflict, "had it")
					}
					s.step(epoch.Add(time.Duration(2+2*i) * time.Minute))
				}
				restart()
			}
			f.says(http.StatusConflict, "had it")
			s.drain(epoch.Add(time.Hour))
			if l := s.balance(); l.Unconfirmed.Samples != 30 {
				t.Errorf("ledger is %+v, want 30 samples unconfirmed: they may have been sent", l)
			}
			now := epoch.Add(2 * time.Hour)
			j.append(now, round(j.family("due", 10), now, 1)...)
			s.drain(now.Add(time.Minute))
			if l := s.balance(); l.Dropped[ReasonRejected].Samples != 10 {
				t.Errorf("ledger is %+v, want the 10 new ones rejected", l)
			}
		})
	}
}

// foreignState saves a state that a later version has made.
func foreignState(s ship) {
	if err := s.cursor.Save(s.position, []byte(`{"version":2}`)); err != nil {
		s.tb.Fatal(err)
	}
}

// TestCloseKeepsTheLog closes in the order of a shutdown.
func TestCloseKeepsTheLog(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	f.says(http.StatusServiceUnavailable, "")
	j.appendDue(3)
	s.step(epoch)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close after the log: %v", err)
	}
}
