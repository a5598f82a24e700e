package remotewrite

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// These tests interrupt requests that are being answered piece by piece.

// halfway is a process that is killed between the pieces of a request.
func halfway(t *testing.T) (d *disturbed, booked savedOutcome) {
	t.Helper()
	d = &disturbed{path: t.TempDir(), fake: newFake(t), store: newStore(poisonIs("3"))}
	d.journal = openJournal(t, d.path, wal.Options{})
	d.options = Options{Endpoint: endpoint(t, d.fake.URL), Log: d.journal.Log}
	d.options.Endpoint.Protocol = config.ProtocolV1
	d.ship, d.letters = isolating(t, d.options)
	d.options.DeadLetter = d.deadLetter
	d.store.serve(d.fake)
	d.journal.append(epoch, round(d.journal.family("due", 40), epoch, 1)...)
	now := epoch.Add(time.Minute)
	for {
		now = now.Add(d.step(now))
		if div := d.window.divided(); div != nil && len(d.window.requests[0].open) > 2 {
			d.fake.received()
			return d, div.savedOutcome
		}
		if d.balance().Pending.IsZero() {
			t.Fatal("there is nothing between the first request and the last")
		}
	}
}

func (d *disturbed) resume(t *testing.T) {
	t.Helper()
	d.path = d.journal.kill(d.path)
	d.journal = openJournal(t, d.path, wal.Options{})
	d.options.Log = d.journal.Log
	d.ship = newShip(t, d.options)
}

// The pieces that are left may have been stored by an attempt that the process
// did not see the end of.
func TestPiecesLeftAreInDoubt(t *testing.T) {
	d, booked := halfway(t)
	d.resume(t)
	d.fake.says(http.StatusConflict, "had it")
	d.drain(epoch.Add(time.Hour))
	l := d.balance()
	sent, rejected := booked.Sent[0], booked.Dropped[ReasonRejected][0]
	if want := 40 - sent - rejected; l.Sent.Samples != sent || l.Dropped[ReasonRejected].Samples != rejected || l.Unconfirmed.Samples != want {
		t.Errorf("ledger is %+v, want %d sent and %d rejected as before the kill, and %d unconfirmed", l, sent, rejected, want)
	}
}

// What a divided request had got when the log lost it is not evicted.
func TestDividedRequestIsGone(t *testing.T) {
	d, booked := halfway(t)
	d.path = d.journal.kill(d.path)
	small := wal.Options{SegmentBytes: 1 << 12, MaxBytes: 64 << 10}
	d.journal = openJournal(t, d.path, small)
	due := d.journal.family("due", 100)
	for now := epoch; d.journal.Stats().Oldest.Totals.Samples < 500; {
		now = now.Add(time.Minute)
		r := round(due, now, 0)
		for i := range r {
			r[i].V = float64(now.UnixNano()*int64(i+1)%1e9) / 7
		}
		d.journal.append(now, r...)
	}
	d.options.Log = d.journal.Log
	d.ship = newShip(t, d.options)
	gone := d.journal.Stats().Oldest.Totals.Samples
	l := d.balance()
	sent, rejected := booked.Sent[0], booked.Dropped[ReasonRejected][0]
	if sent == 0 || l.Sent.Samples != sent || l.Dropped[ReasonRejected].Samples != rejected || l.Dropped[ReasonEvicted].Samples != gone-sent-rejected {
		t.Errorf("ledger is %+v, want %d sent, %d rejected and the rest of %d evicted", l, sent, rejected, gone)
	}
}

// A saved division that does not add up to its request is not believed.
func TestDivisionThatDoesNotAddUp(t *testing.T) {
	for name, spoil := range map[string]func(d *divided){
		"intact":           func(*divided) {},
		"more was sent":    func(d *divided) { d.Sent[0]++ },
		"another place":    func(d *divided) { d.Place++ },
		"another request":  func(d *divided) { d.Request = 7 },
		"a time within it": func(d *divided) { d.From = epoch.UnixMilli() + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			d, booked := halfway(t)
			d.resume(t)
			spoil(d.resumed.Divided)
			d.store.serve(d.fake)
			d.drain(epoch.Add(time.Hour))
			l := d.balance()
			if l.Sent.Samples != 39 || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want 39 sent", l)
			}
			first := len(d.fake.received()[0].lines(t))
			if want := map[bool]bool{true: first == 40, false: first < 40-int(booked.Sent[0])+1}[name != "intact"]; !want {
				t.Errorf("the first request has %d samples after %d were sent", first, booked.Sent[0])
			}
		})
	}
}

// While a sample of a piece is tried, it is the piece that is saved.
func TestDividedBesideAProbe(t *testing.T) {
	w := &window{requests: make([]request, 1)}
	r := &w.requests[0]
	r.open = []piece{{series: span{6, 9}}, {series: span{3, 6}}, {series: span{5, 6}}}
	r.outcome.sent = wal.Totals{Samples: 3}
	for trying, want := range map[bool]int{true: 3, false: 5} {
		r.inquiry = &inquiry{trying: trying}
		if got := w.divided(); got.Place != want {
			t.Errorf("trying %t: the place is %d, want %d", trying, got.Place, want)
		}
	}
}

// A request that was halved in time goes on where it was, to the sample.
func TestKilledBetweenTimes(t *testing.T) {
	for at := 1; at <= 7; at++ {
		f := newFake(t)
		o := Options{Endpoint: endpoint(t, f.URL)}
		o.Endpoint.Protocol = config.ProtocolV1
		path := t.TempDir()
		j := openJournal(t, path, wal.Options{})
		o.Log = j.Log
		s := newShip(t, o)
		one := j.family("due", 1)
		for i := range 8 {
			now := epoch.Add(time.Duration(i) * time.Second)
			j.append(now, round(one, now, 1)...)
		}
		n, sent := 0, 0
		f.answers(func(w http.ResponseWriter, p post) {
			f.mu.Lock()
			defer f.mu.Unlock()
			lines := len(p.lines(t))
			switch n++; {
			case n >= at:
				w.WriteHeader(http.StatusServiceUnavailable)
			case lines > 2:
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			default:
				sent += lines
			}
		})
		now := epoch.Add(time.Minute)
		for range 6 {
			now = now.Add(s.step(now))
		}
		j = openJournal(t, j.kill(path), wal.Options{})
		o.Log = j.Log
		f.received()
		f.takesUpTo(2)
		s = newShip(t, o)
		s.drain(now.Add(time.Minute))
		again := 0
		for _, p := range f.received() {
			if n := len(p.lines(t)); n <= 2 {
				again += n
			}
		}
		if l := s.balance(); l.Sent.Samples != 8 || again != 8-sent {
			t.Errorf("killed at request %d: %d samples taken again after %d, ledger is %+v", at, again, sent, l)
		}
	}
}

// The log cannot read all of a window any more, or reads more: what was
// answered says nothing of its requests, and everything in them is in doubt.
func TestWindowThatHasChanged(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	path, requests := lostInFlight(t, f, o)
	j := openJournal(t, path, wal.Options{})
	o.Log = j.Log
	s := newShip(t, o)
	s.resumed.Counts[0]--
	f.takes()
	s.step(epoch)
	if d := cmp.Diff(requests, f.bodies()); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
}

// A window in flight goes in the protocol it went in, however long ago that
// was found.
func TestProtocolIsKeptForAWindowInFlight(t *testing.T) {
	f := newFake(t)
	o := resumeOptions(t, f)
	path := t.TempDir()
	j := openJournal(t, path, wal.Options{})
	o.Log = j.Log
	s := newShip(t, o)
	s.learned.Protocol, s.learned.At = config.ProtocolV1, epoch.UnixMilli()
	j.append(epoch, round(j.family("due", 20), epoch, 1)...)
	f.says(http.StatusServiceUnavailable, "")
	s.step(epoch.Add(time.Minute))
	before := f.bodies()
	j = openJournal(t, j.kill(path), wal.Options{})
	o.Log = j.Log
	s = newShip(t, o)
	f.takes()
	s.drain(epoch.Add(protocolLasts + time.Hour))
	if after := f.bodies(); len(after) != 2 || after[0] != before[0] {
		t.Errorf("%d requests, want the two of the window as they were", len(after))
	}
	if l := s.balance(); l.Sent.Samples != 20 {
		t.Errorf("ledger is %+v, want 20 sent", l)
	}
}

// A series that travelled alone before a kill does so after it, though it is
// taken once.
func TestAloneAcrossAKill(t *testing.T) {
	d, _ := halfway(t)
	d.drain(epoch.Add(2 * time.Minute))
	now := epoch.Add(3 * time.Minute)
	window := func() int {
		d.fake.received()
		now = now.Add(time.Minute)
		d.journal.append(now, round(d.journal.family("due", 40), now, 1)...)
		d.drain(now.Add(30 * time.Second))
		return len(d.fake.received())
	}
	if n := window(); n != 3 {
		t.Fatalf("%d requests, want those before the guilty series, it, and those behind it", n)
	}
	d.fake.says(http.StatusServiceUnavailable, "")
	window()
	d.resume(t)
	guilty := d.store.poison
	d.store.poison = harmless
	d.store.serve(d.fake)
	d.drain(now.Add(time.Minute))
	d.store.poison = guilty
	now = now.Add(time.Minute)
	if n := window(); n != 3 {
		t.Errorf("%d requests after the kill, want 3", n)
	}
}
