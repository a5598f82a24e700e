package remotewrite

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// These tests disturb isolations of windows with several samples per series,
// where a receiver refuses what it has already when it is sent again.

const seriesInDoubt, roundsInDoubt = 400, 3

// disturbed is an isolation of two poison series among many.
type disturbed struct {
	ship
	journal
	fake    *fake
	store   *store
	options Options
	path    string // of the log
	letters string
	due     []*wal.Series
}

func disturb(t *testing.T, partial bool) *disturbed {
	t.Helper()
	d := &disturbed{path: t.TempDir(), fake: newFake(t), store: newStore(poisonIs("3", "310"))}
	d.journal = openJournal(t, d.path, wal.Options{})
	d.options = Options{Endpoint: endpoint(t, d.fake.URL), Log: d.journal.Log}
	d.options.Endpoint.Protocol = config.ProtocolV1
	d.ship, d.letters = isolating(t, d.options)
	d.options.DeadLetter = d.deadLetter
	d.store.partial = partial
	d.store.serve(d.fake)
	d.due = d.family("due", seriesInDoubt)
	for i := range roundsInDoubt {
		now := epoch.Add(time.Duration(i) * time.Second)
		d.journal.append(now, round(d.due, now, 1)...)
	}
	return d
}

// restart continues as a process does that follows one killed now.
func (d *disturbed) restart(t *testing.T) {
	t.Helper()
	d.path = d.journal.kill(d.path)
	d.journal = openJournal(t, d.path, wal.Options{})
	d.options.Log = d.journal.Log
	d.ship = newShip(t, d.options)
	d.due = d.family("due", seriesInDoubt)
}

// check wants everything that is good stored, and nothing given up unseen. The
// next window takes so many requests at most.
func (d *disturbed) check(t *testing.T, what string, requests int) {
	t.Helper()
	l := d.balance()
	all, good := uint64(seriesInDoubt*roundsInDoubt), uint64((seriesInDoubt-2)*roundsInDoubt)
	if l.Sent.Samples+l.Unconfirmed.Samples != all {
		t.Errorf("%s: ledger is %+v, want all of %d samples sent or unconfirmed", what, l, all)
	}
	if n := uint64(len(d.store.stored)); n != good {
		t.Errorf("%s: the receiver has %d samples, want the %d that are good", what, n, good)
	}
	checkStored(t, d.store, l)

	now := epoch.Add(5 * time.Minute)
	d.fake.received()
	d.store.serve(d.fake)
	d.journal.append(now, round(d.due, now, 2)...)
	d.drain(now.Add(time.Minute))
	if l := d.balance(); l.Sent.Samples+l.Dropped[ReasonRejected].Samples+l.Unconfirmed.Samples != all+seriesInDoubt || l.Dropped[ReasonRejected].Samples > 2 {
		t.Errorf("%s: ledger is %+v after the next window, want no more than the 2 poison samples of it rejected", what, l)
	}
	if n := len(d.fake.received()); n > requests {
		t.Errorf("%s: %d requests for the next window, want at most %d", what, n, requests)
	}
}

// TestLostAnswerInAnIsolation loses the answer to each of its requests in turn,
// after the receiver has dealt with it.
func TestLostAnswerInAnIsolation(t *testing.T) {
	for _, partial := range []bool{false, true} {
		for at := 1; at <= 24; at++ {
			d := disturb(t, partial)
			n := 0
			d.fake.answers(func(w http.ResponseWriter, p post) {
				d.fake.mu.Lock()
				defer d.fake.mu.Unlock()
				ok := d.store.take(p.lines(d.fake.tb))
				switch n++; {
				case n == at:
					hangUp(w)
				case !ok:
					http.Error(w, "out of order sample", http.StatusBadRequest)
				}
			})
			now := epoch.Add(time.Minute)
			for range 100 {
				now = now.Add(max(d.step(now), time.Millisecond))
			}
			next := 10
			if partial {
				next = 40 // nobody was found guilty yet
			}
			d.check(t, fmt.Sprintf("answer %d lost, partial %t", at, partial), next)
		}
	}
}

// TestKillInAnIsolation kills after each of its requests in turn: what was
// answered stays answered.
func TestKillInAnIsolation(t *testing.T) {
	for at := 1; at <= 24; at++ {
		what := fmt.Sprintf("killed after %d steps", at)
		d := disturb(t, false)
		now := epoch.Add(time.Minute)
		for range at {
			now = now.Add(d.step(now))
		}
		d.restart(t)
		for range 100 {
			now = now.Add(max(d.step(now), time.Millisecond))
		}
		if l := d.balance(); l.Unconfirmed.Samples != 2*roundsInDoubt {
			t.Errorf("%s: ledger is %+v, want only the poison series unconfirmed", what, l)
		}
		if n := len(lettersOf(t, d.letters)); n != 2 {
			t.Errorf("%s: %d dead letters, want 2", what, n)
		}
		d.check(t, what, 40) // who was guilty is forgotten and found out again
	}
}
