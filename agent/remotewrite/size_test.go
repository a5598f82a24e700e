package remotewrite

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// takesUpTo makes f find requests of more samples too large.
func (f *fake) takesUpTo(most int) {
	f.answers(func(w http.ResponseWriter, p post) {
		if len(p.lines(f.tb)) > most {
			http.Error(w, "entity too large", http.StatusRequestEntityTooLarge)
			return
		}
		p.written(f.tb, w)
	})
}

// sizes are the samples in each request since the last call.
func (f *fake) sizes() []int {
	var out []int
	for _, p := range f.received() {
		out = append(out, len(p.lines(f.tb)))
	}
	return out
}

func TestTooLarge(t *testing.T) {
	for name, c := range map[string]struct {
		series, rounds int
		most           int
		want           []int // sizes of requests
		next           []int // of the next window, with one round
	}{
		"between series":            {100, 1, 30, []int{100, 50, 25, 25, 25, 25}, []int{25, 25, 25, 25}},
		"inside a series":           {1, 10, 3, []int{10, 5, 2, 3, 2, 3}, []int{1}},
		"between series and inside": {2, 4, 2, []int{8, 4, 2, 2, 2, 2}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Queue.MaxShards = 1
			s := newShip(t, o)
			due := j.family("due", c.series)
			for i := range c.rounds {
				at := epoch.Add(time.Duration(i-100) * time.Second)
				j.append(at, round(due, at, float64(i))...)
			}
			f.takesUpTo(c.most)
			s.drain(epoch)
			posts := f.received()
			var got []int
			newest := map[string]string{}
			for _, p := range posts {
				lines := p.lines(t)
				got = append(got, len(lines))
				if len(lines) > c.most {
					continue
				}
				for _, l := range lines {
					series, rest, _ := strings.Cut(l, "} ")
					if rest <= newest[series] {
						t.Errorf("%s arrived after %s", l, newest[series])
					}
					newest[series] = rest
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("sizes of requests (-want +got):\n%s", d)
			}
			if l := s.balance(); l.Sent.Samples != uint64(c.series*c.rounds) {
				t.Errorf("ledger is %+v, want all sent", l)
			}
			// The next life knows.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = newShip(t, o)
			j.append(epoch, round(due, epoch, 1)...)
			s.drain(epoch.Add(time.Minute))
			if d := cmp.Diff(c.next, f.sizes()); d != "" {
				t.Errorf("sizes of the next window's requests (-want +got):\n%s", d)
			}
		})
	}
}

func TestSingleSampleTooLarge(t *testing.T) {
	j, f, o := backlog(t)
	s, path := isolating(t, o)
	huge := j.series("due", "text", strings.Repeat("x", 5000))
	j.append(epoch, wal.Sample{Series: huge, T: epoch.UnixMilli(), V: 1})
	j.append(epoch, round(j.family("due", 7), epoch, 1)...)
	f.answers(func(w http.ResponseWriter, p post) {
		if strings.Contains(strings.Join(p.lines(t), ""), "xxx") {
			http.Error(w, "entity too large", http.StatusRequestEntityTooLarge)
			return
		}
		p.written(t, w)
	})
	s.drain(epoch.Add(time.Minute))
	if l := s.balance(); l.Sent.Samples != 7 || l.Dropped[ReasonTooLarge].Samples != 1 {
		t.Errorf("ledger is %+v, want 7 sent and one too large", l)
	}
	letters := lettersOf(t, path)
	if len(letters) != 1 || letters[0].Reason != ReasonTooLarge || letters[0].Status != 413 {
		t.Errorf("dead letters are %+v, want the one sample", letters)
	}
}

// One sample that is too large says nothing about the others: they go as they
// went before, and its series alone.
func TestSampleTooLargeIsNoMeasure(t *testing.T) {
	for name, c := range map[string]struct {
		samples int   // of the series, in a window
		takes   int   // samples in a request; 0: as many as there are
		first   int   // requests of the first window, at most
		want    []int // sizes of the requests of the next windows
	}{
		"one sample":                     {samples: 1, first: 24, want: []int{1, 2000, 1000}},
		"several":                        {samples: 3, first: 30, want: []int{3, 1, 2, 1, 1, 2000, 1000}},
		"and the receiver takes no more": {samples: 1, takes: 1200, first: 40, want: []int{1, 1000, 1000, 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Queue.MaxShards = 1
			s, path := isolating(t, o)
			huge := j.series("due", "text", strings.Repeat("x", 5000))
			due := j.family("due", 3000)
			f.answers(func(w http.ResponseWriter, p post) {
				lines := p.lines(t)
				if strings.Contains(strings.Join(lines, ""), "xxx") || c.takes > 0 && len(lines) > c.takes {
					http.Error(w, "entity too large", http.StatusRequestEntityTooLarge)
					return
				}
				p.written(t, w)
			})
			now := epoch
			window := func() []int {
				now = now.Add(time.Minute)
				for i := range c.samples {
					at := now.Add(time.Duration(i) * time.Second)
					j.append(at, wal.Sample{Series: huge, T: at.UnixMilli(), V: 1})
				}
				j.append(now, round(due, now, 1)...)
				s.drain(now.Add(30 * time.Second))
				return f.sizes()
			}
			if n := len(window()); n > c.first {
				t.Errorf("%d requests for the first window, want at most %d", n, c.first)
			}
			for i := range 15 {
				got := window()
				if c.takes > 0 && i == 0 {
					continue // it learns
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("sizes of the requests of window %d (-want +got):\n%s", i+2, d)
				}
			}
			l := s.balance()
			if l.Sent.Samples != 16*3000 || l.Dropped[ReasonTooLarge].Samples != uint64(16*c.samples) {
				t.Errorf("ledger is %+v, want all but the large samples sent", l)
			}
			if n := len(lettersOf(t, path)); n != 16*c.samples {
				t.Errorf("%d dead letters, want each of the large samples", n)
			}
		})
	}
}

// TestSizeGrowsBack has the receiver's limit lifted.
func TestSizeGrowsBack(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend = 8
	s := newShip(t, o)
	due := j.family("due", 800)
	f.takesUpTo(2)
	now := epoch
	largest := func() (n int) {
		now = now.Add(time.Minute)
		j.append(now, round(due, now, 1)...)
		s.drain(now.Add(time.Minute))
		for _, size := range f.sizes() {
			n = max(n, size)
		}
		return n
	}
	largest()
	if s.learned.Limit != 4 && s.learned.Limit != 2 {
		t.Errorf("the learned limit is %d after 400 requests of 2", s.learned.Limit)
	}
	f.takes()
	for range 6 {
		largest()
	}
	if n := largest(); n != 8 || s.learned.Limit != 0 {
		t.Errorf("requests of %d samples in the end, limit %d; want 8 as configured", n, s.learned.Limit)
	}
}

// TestKilledWhileShrinking restarts between the pieces of a request.
func TestKilledWhileShrinking(t *testing.T) {
	for at := 1; at < 8; at++ {
		f := newFake(t)
		o := Options{Endpoint: endpoint(t, f.URL)}
		o.Endpoint.Protocol = config.ProtocolV1
		o.Endpoint.Queue.MaxShards = 1
		path := t.TempDir()
		j := openJournal(t, path, wal.Options{})
		o.Log = j.Log
		s := newShip(t, o)
		due := j.family("due", 10)
		for i := range 4 {
			now := epoch.Add(time.Duration(i) * time.Second)
			j.append(now, round(due, now, 1)...)
		}
		st, n := newStore(harmless), 0
		f.answers(func(w http.ResponseWriter, p post) {
			f.mu.Lock()
			defer f.mu.Unlock()
			lines := p.lines(t)
			switch n++; {
			case n == at:
				w.WriteHeader(http.StatusServiceUnavailable)
			case len(lines) > 7:
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			case !st.take(lines):
				w.WriteHeader(http.StatusBadRequest)
			}
		})
		now := epoch.Add(time.Minute)
		now = now.Add(s.step(now))
		j = openJournal(t, j.kill(path), wal.Options{})
		o.Log = j.Log
		s = newShip(t, o)
		for range 20 {
			s.drain(now)
			now = now.Add(2 * time.Second)
		}
		l := s.balance()
		if !l.Pending.IsZero() || len(st.stored) != 40 || l.Sent.Add(l.Unconfirmed).Samples != 40 {
			t.Errorf("killed at request %d: the receiver has %d samples, ledger is %+v", at, len(st.stored), l)
		}
		checkStored(t, st, l)
	}
}

func TestMaxBlock(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.MaxBlock = 10 * time.Minute
	o.Endpoint.Queue.MaxSamplesPerSend = 3
	s, path := isolating(t, o)
	j.appendDue(6)
	blocked := true
	f.answers(func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if strings.Contains(p.lines(t)[0], `i="0"`) && blocked {
			http.Error(w, "series limit", http.StatusTooManyRequests)
			return
		}
		p.written(t, w)
	})
	now := epoch
	for now.Before(epoch.Add(10 * time.Minute)) {
		if l := s.balance(); !l.Dropped[ReasonMaxBlock].IsZero() {
			t.Fatalf("given up after %v", now.Sub(epoch))
		}
		now = now.Add(max(s.step(now), time.Second))
	}
	for range 5 {
		now = now.Add(max(s.step(now), time.Second))
	}
	if l := s.balance(); l.Dropped[ReasonMaxBlock].Samples != 3 || l.Sent.Samples != 3 || !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want 3 samples given up, and those behind them sent", l)
	}
	if letters := lettersOf(t, path); len(letters) != 1 || letters[0].Words != "series limit" {
		t.Errorf("dead letters are %+v", letters)
	}
}

// Requests that failed together are not parked together: each that comes first
// has max_block for itself.
func TestMaxBlockIsForEach(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.MaxBlock = 10 * time.Minute
	o.Endpoint.Queue.MaxSamplesPerSend = 3
	s, _ := isolating(t, o)
	s.pace.limit = 4
	j.appendDue(24)
	f.says(http.StatusServiceUnavailable, "down")
	now := epoch
	for now.Before(epoch.Add(25 * time.Minute)) {
		now = now.Add(max(s.step(now), time.Second))
	}
	f.takes()
	s.drain(now)
	if l := s.balance(); l.Dropped[ReasonMaxBlock].Samples != 2*3 || l.Sent.Samples != 6*3 {
		t.Errorf("ledger is %+v after 25 minutes, want two requests of 3 samples parked", l)
	}
}

// TestParkingLeavesTheEndpointAlone has a receiver ask for time with the answer
// that has a request parked: the next one waits as long, and is then sent as
// soon as there is one.
func TestParkingLeavesTheEndpointAlone(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		asked  string
		rest   time.Duration
	}{
		"429":               {http.StatusTooManyRequests, "240", 4 * time.Minute},
		"503, by itself":    {http.StatusServiceUnavailable, "", time.Minute},
		"503, asks to wait": {http.StatusServiceUnavailable, "180", 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.MaxBlock = 10 * time.Minute
			s, _ := isolating(t, o)
			j.appendDue(3)
			f.answers(func(w http.ResponseWriter, _ post) {
				if c.asked != "" {
					w.Header().Set("Retry-After", c.asked)
				}
				w.WriteHeader(c.status)
			})
			now := epoch
			var parked time.Time
			for rest := time.Duration(0); s.balance().Dropped[ReasonMaxBlock].IsZero(); {
				now = now.Add(rest)
				parked, rest = now, s.step(now)
			}
			j.append(parked, round(j.family("due", 3), parked, 2)...)
			s.step(parked.Add(time.Second))
			if l := s.balance(); l.Pending.Samples != 3 || !l.Oldest.Equal(parked) {
				t.Errorf("ledger is %+v, want 3 samples pending since %v", l, parked)
			}
			f.takes()
			f.received()
			for {
				rest := s.step(now)
				if len(f.received()) > 0 {
					break
				}
				if now = now.Add(rest); now.Sub(parked) > time.Hour {
					t.Fatal("nothing is sent any more")
				}
			}
			if got := now.Sub(parked); got != c.rest {
				t.Errorf("the next request goes %v after the answer that asked for %v", got, c.rest)
			}
			s.drain(now)
			if s.pace.waiting() {
				t.Error("an endpoint that has recovered is still left alone")
			}
		})
	}
}

// TestMaxBlockCountsAcrossRestarts has the agent restarted every 3 minutes.
func TestMaxBlockCountsAcrossRestarts(t *testing.T) {
	path := t.TempDir()
	j := openJournal(t, path, wal.Options{})
	f := newFake(t)
	o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
	o.Endpoint.MaxBlock = 10 * time.Minute
	s := newShip(t, o)
	j.appendDue(6)
	f.says(http.StatusServiceUnavailable, "never")
	now := epoch
	for range 4 {
		for end := now.Add(3 * time.Minute); now.Before(end); {
			now = now.Add(max(s.step(now), time.Second))
		}
		path = j.kill(path)
		j = openJournal(t, path, wal.Options{})
		o.Log = j.Log
		s = newShip(t, o)
	}
	if l := s.balance(); l.Dropped[ReasonMaxBlock].Samples != 6 {
		t.Errorf("ledger is %+v after 12 minutes, want 6 samples given up", l)
	}
}
