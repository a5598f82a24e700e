package remotewrite

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/wal"
)

// moody is a receiver that answers at random, sometimes after it has stored.
type moody struct {
	random *rand.Rand
	fine   bool
	stored map[string]bool  // lines
	newest map[string]int64 // by series: order of first arrival
	wrong  []string
}

func (m *moody) serve(f *fake) func(w http.ResponseWriter, p post) {
	return func(w http.ResponseWriter, p post) {
		f.mu.Lock()
		mood := m.random.IntN(9)
		if m.fine {
			mood = 0
		}
		lines := p.lines(f.tb)
		if mood <= 4 {
			m.store(lines)
		}
		f.mu.Unlock()
		switch mood {
		case 0, 1, 2:
			p.written(f.tb, w)
		case 3: // stored, and the answer is lost
			hangUp(w)
		case 4: // stored, and sorry
			w.WriteHeader(http.StatusBadGateway)
		case 5:
			hangUp(w)
		case 6:
			w.WriteHeader(http.StatusTooManyRequests)
		case 7:
			w.Header().Set(headerSamplesWritten, "0")
			http.Error(w, "no", http.StatusBadRequest)
		case 8:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

func hangUp(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}

// store checks that the samples of a series arrive in order of time, but for
// those that were there already.
func (m *moody) store(lines []string) {
	for _, l := range lines {
		if m.stored[l] {
			continue
		}
		m.stored[l] = true
		name, _, _ := strings.Cut(l, "} ")
		_, at, _ := strings.Cut(l, "@")
		t, _ := time.ParseDuration(at + "ms")
		if int64(t) < m.newest[name] {
			m.wrong = append(m.wrong, l)
		}
		m.newest[name] = int64(t)
	}
}

// TestLedgerUnderRandomTrouble appends and ships against a moody receiver,
// with kills in between, and checks the equation after every step; in the end
// nothing is missing that is not counted.
func TestLedgerUnderRandomTrouble(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) { randomTrouble(t, seed) })
	}
}

func randomTrouble(t *testing.T, seed uint64) {
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	f := newFake(t)
	m := &moody{random: rand.New(rand.NewPCG(seed, 3)), stored: map[string]bool{}, newest: map[string]int64{}}
	f.answers(m.serve(f))

	e := endpoint(t, f.URL)
	e.Queue.MaxSamplesPerSend = 7
	e.Queue.MaxBackoff = 2 * time.Second
	e.WriteRelabel = []*relabel.Config{rule(t, relabel.Config{
		Action: relabel.Drop, SourceLabels: model.LabelNames{"i"}, Regex: relabel.MustNewRegexp("3"),
	})}
	o := Options{Endpoint: e, ExternalLabels: labels.FromStrings("cluster", "eu1")}

	path := t.TempDir()
	j := openJournal(t, path, wal.Options{SegmentBytes: 2048})
	o.Log = j.Log
	s := newShip(t, o)
	now := epoch
	var appended uint64
	var before Ledger
	check := func() Ledger {
		l := s.balance()
		if l.Appended.Samples != appended {
			t.Fatalf("ledger says %d samples were appended, and %d were", l.Appended.Samples, appended)
		}
		stats := j.Stats()
		if got, want := l.PendingBytes, stats.BytesAfter(s.cursor.Position()); got != want || (got == 0) != l.Pending.IsZero() {
			t.Fatalf("ledger says %d bytes and %+v are pending; behind the cursor are %d", got, l.Pending, want)
		}
		if l.Sent.Samples < before.Sent.Samples || l.Unconfirmed.Samples < before.Unconfirmed.Samples ||
			l.Dropped[ReasonRejected].Samples < before.Dropped[ReasonRejected].Samples {
			t.Fatalf("a counter went back: %+v after %+v", l, before)
		}
		before = l
		return l
	}
	for range 300 {
		now = now.Add(time.Duration(random.IntN(4000)) * time.Millisecond)
		switch random.IntN(10) {
		case 0, 1, 2:
			now = now.Add(time.Millisecond)
			due := j.family("due", 1+random.IntN(30))
			j.append(now, round(due, now, 1)...)
			appended += uint64(len(due))
		case 3:
			path = j.kill(path)
			j = openJournal(t, path, wal.Options{SegmentBytes: 2048})
			o.Log = j.Log
			s = newShip(t, o)
		default:
			now = now.Add(s.rest(now))
		}
		check()
	}
	f.mu.Lock()
	m.fine = true
	f.mu.Unlock()
	for before.Pending.Samples > 0 {
		now = now.Add(max(s.rest(now), time.Millisecond))
		check()
	}

	l := before
	if l.Dropped[ReasonRelabel].Samples == 0 || l.Sent.Samples == 0 {
		t.Errorf("the test is too tame: %+v", l)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	stored := uint64(len(m.stored))
	if stored < l.Sent.Samples {
		t.Errorf("%d samples are counted as sent, and the receiver has %d", l.Sent.Samples, stored)
	}
	if most := l.Sent.Samples + l.Unconfirmed.Samples; stored > most {
		t.Errorf("the receiver has %d samples, which is more than the %d sent and unconfirmed", stored, most)
	}
	if len(m.wrong) > 0 {
		t.Errorf("%d samples arrived after a later one of their series, such as %s", len(m.wrong), m.wrong[0])
	}
}

// rest makes a step and returns its rest; the equation is the caller's.
func (s ship) rest(now time.Time) time.Duration {
	s.tb.Helper()
	d := s.step(now)
	return min(d, 10*time.Second)
}
