package remotewrite

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// store is a receiver's memory with Prometheus's rules: a sample that is not
// after the newest of its series is refused, but for the newest itself sent
// again; and it takes none of the poison series at all.
type store struct {
	poison  func(series string) bool
	partial bool // it keeps what is good of a refused request, as Thanos and Mimir do
	newest  map[string]stamp
	stored  map[string]bool // lines
	at      map[string]bool // series and time of them
	twice   []string        // lines that have another value than the one stored
}

type stamp struct {
	t    int64
	line string
}

func newStore(poison func(series string) bool) *store {
	return &store{poison: poison, newest: map[string]stamp{}, stored: map[string]bool{}, at: map[string]bool{}}
}

func (st *store) take(lines []string) (ok bool) {
	newest := map[string]stamp{}
	good, ok := []string{}, true
	for _, l := range lines {
		series, _, _ := strings.Cut(l, "} ")
		_, at, _ := strings.Cut(l, "@")
		t, _ := strconv.ParseInt(at, 10, 64)
		last, known := newest[series]
		if !known {
			last, known = st.newest[series]
		}
		if st.poison(series) || known && t <= last.t && last.line != l {
			ok = false
			continue
		}
		newest[series] = stamp{t, l}
		good = append(good, l)
	}
	if !ok && !st.partial {
		return false
	}
	for s, n := range newest {
		st.newest[s] = n
	}
	for _, l := range good {
		if !st.stored[l] && st.at[instant(l)] {
			st.twice = append(st.twice, l)
		}
		st.stored[l], st.at[instant(l)] = true, true
	}
	return ok
}

// instant is a line without its value.
func instant(line string) string {
	series, sample, _ := strings.Cut(line, "} ")
	_, at, _ := strings.Cut(sample, "@")
	return series + "}@" + at
}

// serve answers with what take says, in the words of 1.0.
func (st *store) serve(f *fake) {
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !st.take(p.lines(f.tb)) {
			http.Error(w, "out of order sample", http.StatusBadRequest)
		}
	})
}

func harmless(string) bool { return false }

func poisonIs(i ...string) func(string) bool {
	return func(series string) bool {
		for _, i := range i {
			if strings.HasSuffix(series, `i="`+i+`"`) {
				return true
			}
		}
		return false
	}
}

// isolating is a shipper of 1.0 with a dead letter.
func isolating(t *testing.T, o Options) (ship, string) {
	t.Helper()
	path := t.TempDir()
	var err error
	if o.DeadLetter, err = OpenDeadLetter(DeadLetterOptions{Path: path, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	return newShip(t, o), path
}

func lettersOf(t *testing.T, path string) []Letter {
	t.Helper()
	all, err := Letters(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestIsolation(t *testing.T) {
	type ledger struct{ sent, rejected, unconfirmed, limit uint64 }
	for name, c := range map[string]struct {
		poison   func(string) bool
		rounds   int // samples per series; 1
		status   int
		want     ledger
		requests int // at most
		letters  int
		again    int // requests of the next window, at most
	}{
		"one poison series of 1000": {poison: poisonIs("77"), want: ledger{sent: 999, rejected: 1}, requests: 1 + 1 + 20, letters: 1, again: 3},
		"the first":                 {poison: poisonIs("0"), want: ledger{sent: 999, rejected: 1}, requests: 1 + 2 + 20, letters: 1, again: 2},
		"the last":                  {poison: poisonIs("999"), want: ledger{sent: 999, rejected: 1}, requests: 1 + 1 + 20, letters: 1, again: 2},
		"three":                     {poison: poisonIs("3", "500", "998"), want: ledger{sent: 997, rejected: 3}, requests: 1 + 1 + 60, letters: 3, again: 7},
		"with several samples":      {poison: poisonIs("77"), rounds: 3, want: ledger{sent: 2997, unconfirmed: 3}, requests: 1 + 1 + 20, letters: 1, again: 3},
		"all":                       {poison: func(string) bool { return true }, want: ledger{rejected: 1000}, requests: 1 + 3, letters: 1, again: 4},
		"all, with several samples": {poison: func(string) bool { return true }, rounds: 2, want: ledger{unconfirmed: 2000}, requests: 1 + 3, letters: 1, again: 4},
		"every tenth": {poison: func(s string) bool { return strings.HasSuffix(s, `7"`) },
			want: ledger{sent: 54, rejected: 6, limit: 940}, requests: 1 + 64, letters: 16, again: 100},
	} {
		for _, partial := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", rolled back", true: ", stored in part"}[partial], func(t *testing.T) {
				j, f, o := backlog(t)
				o.Endpoint.Protocol = config.ProtocolV1
				s, path := isolating(t, o)
				st := newStore(c.poison)
				st.partial = partial
				st.serve(f)
				due := j.family("due", 1000)
				for i := range max(1, c.rounds) {
					now := epoch.Add(time.Duration(i-10) * time.Second)
					j.append(now, round(due, now, 1)...)
				}
				s.drain(epoch)
				if n := len(f.received()); n > c.requests {
					t.Errorf("%d requests, want at most %d", n, c.requests)
				}
				l := s.balance()
				got := ledger{l.Sent.Samples, l.Dropped[ReasonRejected].Samples, l.Unconfirmed.Samples, l.Dropped[ReasonIsolationLimit].Samples}
				switch {
				case c.want.limit > 0:
					if got.sent < c.want.sent || got.limit > c.want.limit {
						t.Errorf("ledger is %+v, want at least %+v", got, c.want)
					}
				case partial && c.rounds > 1:
					// What is stored cannot be told from what is refused.
					if got.rejected > 0 || got.sent+got.unconfirmed != l.Appended.Samples {
						t.Errorf("ledger is %+v, want all sent or unconfirmed", got)
					}
				default:
					if got != c.want {
						t.Errorf("ledger is %+v, want %+v", got, c.want)
					}
					letters := lettersOf(t, path)
					if len(letters) != c.letters {
						t.Errorf("%d dead letters, want %d", len(letters), c.letters)
					}
					for _, letter := range letters {
						if letter.Reason != ReasonRejected || letter.Status != 400 || letter.Words != "out of order sample" || letter.Endpoint != "test" {
							t.Errorf("dead letter is %+v", letter)
						}
					}
				}
				checkStored(t, st, l)

				now := epoch.Add(time.Minute)
				j.append(now, round(due, now, 2)...)
				s.drain(now.Add(5 * time.Second))
				if n := len(f.received()); n > c.again && (!partial || c.rounds <= 1) {
					t.Errorf("%d requests for the next window, want at most %d", n, c.again)
				}
				checkStored(t, st, s.balance())
			})
		}
	}
}

// checkStored compares a receiver with the ledger: it has all that is sent,
// and nothing that it cannot have.
func checkStored(t *testing.T, st *store, l Ledger) {
	t.Helper()
	stored := uint64(len(st.stored))
	if stored < l.Sent.Samples {
		t.Errorf("%d samples are counted as sent, and the receiver has %d", l.Sent.Samples, stored)
	}
	// What was evicted may have been in flight.
	most := l.Sent.Samples + l.Unconfirmed.Samples + l.Dropped[ReasonIsolationLimit].Samples + l.Dropped[ReasonMaxBlock].Samples + l.Dropped[ReasonEvicted].Samples + l.Pending.Samples
	if stored > most {
		t.Errorf("the receiver has %d samples, and the ledger allows %d: %+v", stored, most, l)
	}
	if len(st.twice) > 0 {
		t.Errorf("the receiver has seen second values: %q", st.twice)
	}
}

// TestIsolationEndsAfterTenMinutes has the poison series recover.
func TestIsolationEndsAfterTenMinutes(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	st := newStore(poisonIs("5"))
	st.serve(f)
	due := j.family("due", 10)
	now := epoch
	ship := func(after time.Duration) int {
		now = now.Add(after)
		j.append(now, round(due, now, 1)...)
		s.drain(now.Add(5 * time.Second))
		return len(f.received())
	}
	ship(time.Minute)
	if n := ship(9 * time.Minute); n != 3 {
		t.Errorf("%d requests 9 minutes later, want the poison series alone, and those before and after it", n)
	}
	st.poison = harmless
	if n := ship(9 * time.Minute); n != 3 {
		t.Errorf("%d requests 9 minutes after it was refused again, want 3", n)
	}
	if n := ship(2 * time.Minute); n != 1 {
		t.Errorf("%d requests when the time is over, want 1", n)
	}
}

// TestProbesWithCounts has something before a receiver of 2.0 refuse a request
// for its size, without counts, and the receiver answer the probes with them.
func TestProbesWithCounts(t *testing.T) {
	for name, c := range map[string]struct {
		status         int
		sent, rejected uint64
	}{"refused": {400, 0, 12}, "2xx, nothing written": {200, 0, 12}} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV2
			s, _ := isolating(t, o)
			j.appendDue(12)
			f.answers(func(w http.ResponseWriter, p post) {
				if len(p.lines(t)) > 5 {
					http.Error(w, "blocked", http.StatusPreconditionFailed)
					return
				}
				w.Header().Set(headerSamplesWritten, "0")
				w.WriteHeader(c.status)
			})
			s.drain(epoch)
			if l := s.balance(); l.Sent.Samples != c.sent || l.Dropped[ReasonRejected].Samples != c.rejected || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want %d sent and %d rejected", l, c.sent, c.rejected)
			}
		})
	}
}

// TestFlushEndsAfterARefusal and does not wait for what has nothing to wait
// for; so does Run, which a new frame wakes.
func TestFlushEndsAfterARefusal(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MinBackoff = 20 * time.Millisecond
	s, _ := isolating(t, o)
	f.says(http.StatusConflict, "no")
	j.appendDue(5)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l := s.balance(); l.Dropped[ReasonRejected].Samples != 5 || s.pace.waiting() {
		t.Errorf("ledger is %+v, want 5 samples rejected, and nothing that waits: %+v", l, s.pace)
	}
}

// TestIsolationSurvivesKills kills at every request of an isolation.
func TestIsolationSurvivesKills(t *testing.T) {
	for _, partial := range []bool{false, true} {
		for at := 1; at <= 16; at++ {
			path := t.TempDir()
			j := openJournal(t, path, wal.Options{})
			f := newFake(t)
			o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
			o.Endpoint.Protocol = config.ProtocolV1
			s, letters := isolating(t, o)
			st := newStore(poisonIs("3", "31"))
			st.partial = partial
			st.serve(f)
			due := j.family("due", 40)
			j.append(epoch, round(due, epoch, 1)...)
			now := epoch.Add(time.Minute)
			for range at {
				now = now.Add(s.step(now))
			}
			j = openJournal(t, j.kill(path), wal.Options{})
			o.Log = j.Log
			if o.DeadLetter == nil {
				o.DeadLetter = s.deadLetter
			}
			s = newShip(t, o)
			s.drain(now)
			l := s.balance()
			if !l.Pending.IsZero() || l.Appended.Samples != 40 || l.Sent.Samples != 38 {
				t.Errorf("killed after %d steps: ledger is %+v, want 38 samples sent", at, l)
			}
			if n := len(lettersOf(t, letters)); n != 2 {
				t.Errorf("killed after %d steps: %d dead letters, want 2", at, n)
			}
			checkStored(t, st, l)
		}
	}
}

// TestPoisonAtPrometheus ships 10,000 series by 1.0, which Prometheus rolls
// back whole requests of.
func TestPoisonAtPrometheus(t *testing.T) {
	r := receiver.Start(t, receiver.Options{})
	now := time.Now().Truncate(time.Millisecond)
	e := endpoint(t, r.URL())
	e.Protocol = config.ProtocolV1

	// The receiver has a later sample of one series.
	other := openJournal(t, t.TempDir(), wal.Options{})
	before := newShip(t, Options{Endpoint: e, Log: other.Log})
	later := now.Add(5 * time.Minute)
	other.append(later, round([]*wal.Series{other.series("due", "i", "4321")}, later, 1)...)
	before.drain(later.Add(time.Minute))

	j := openJournal(t, t.TempDir(), wal.Options{})
	s, path := isolating(t, Options{Endpoint: e, Log: j.Log})
	due := j.family("due", 10_000)
	j.append(now, round(due, now, 1)...)
	attempts := r.Attempts()
	s.drain(now.Add(time.Minute))
	// Five requests, of which one is refused, a probe, and up to two halves
	// at each of the eleven cuts.
	if n := r.Attempts() - attempts; n > 5+maxProbes+22 {
		t.Errorf("%d requests, want at most %d", n, 5+maxProbes+22)
	}
	if l := s.balance(); l.Sent.Samples != 9999 || l.Dropped[ReasonRejected].Samples != 1 {
		t.Errorf("ledger is %+v, want 9999 samples sent and one rejected", l)
	}
	if n := len(r.Samples(t, `{__name__="due"}`)); n != 10_000 {
		t.Errorf("%d series are stored, want all", n)
	}
	letters := lettersOf(t, path)
	if len(letters) != 1 || letters[0].Samples != 1 || letters[0].Series[0] != `{__name__="due", i="4321"}` || !strings.Contains(letters[0].Words, "out of order") {
		t.Errorf("dead letters are %+v, want the poison series with the receiver's words", letters)
	}

	attempts = r.Attempts()
	next := now.Add(time.Minute)
	j.append(next, round(due, next, 2)...)
	s.drain(next.Add(time.Minute))
	if n := r.Attempts() - attempts; n > 5+3 {
		t.Errorf("%d requests for the next window, want at most 8", n)
	}
	if l := s.balance(); l.Sent.Samples != 19_998 || l.Dropped[ReasonRejected].Samples != 2 {
		t.Errorf("ledger is %+v, want 19998 samples sent and two rejected", l)
	}
}

// TestOutageLongerThanTheWindow has Prometheus refuse a backlog for its age.
func TestOutageLongerThanTheWindow(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, p config.Protocol) {
		r := receiver.Start(t, receiver.Options{OutOfOrder: time.Minute})
		e := endpoint(t, r.URL())
		e.Protocol = p
		now := time.Now().Truncate(time.Millisecond)
		// Another sender has gone on meanwhile: the TSDB's newest sample is now.
		other := openJournal(t, t.TempDir(), wal.Options{})
		fresh := newShip(t, Options{Endpoint: e, Log: other.Log})
		other.append(now, round(other.family("other", 1), now, 1)...)
		fresh.drain(now.Add(time.Minute))

		j := openJournal(t, t.TempDir(), wal.Options{})
		s, path := isolating(t, Options{Endpoint: e, Log: j.Log})
		due := j.family("due", 3000)
		for i := range 20 {
			at := now.Add(time.Duration(i-300) * time.Minute)
			j.append(at, round(due, at, float64(i))...)
		}
		attempts := r.Attempts()
		s.drain(now)
		if n := r.Attempts() - attempts; n > 60_000/2000*4+8 {
			t.Errorf("%d requests for 60000 samples that are too old", n)
		}
		l := s.balance()
		if got := l.Dropped[ReasonRejected].Samples + l.Unconfirmed.Samples; got != 60_000 {
			t.Errorf("ledger is %+v, want 60000 samples refused", l)
		}
		if len(lettersOf(t, path)) == 0 {
			t.Error("nothing is in the dead letter")
		}
		if !strings.Contains(s.log.String(), "out_of_order_time_window") {
			t.Errorf("the log does not say which setting would have kept them:\n%s", s.log)
		}
		j.append(now, round(due, now, 99)...)
		s.drain(now.Add(time.Minute))
		if l := s.balance(); l.Sent.Samples != 3000 || len(r.Samples(t, `{__name__="due"}`)) != 3000 {
			t.Errorf("ledger is %+v, want the 3000 fresh samples sent", l)
		}
	})
}
