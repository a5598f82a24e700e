package remotewrite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// TestReceiverUnderRandomTrouble checks both sides of the ledger at every step, against a
// receiver with poison series that is down, slow to say yes, picky about sizes
// and protocols, and loses answers, with kills in between.
func TestReceiverUnderRandomTrouble(t *testing.T) {
	for range 24 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { sufferTrouble(t, seed) })
	}
}

// fickle answers as its dice fall, until it is well.
type fickle struct {
	*store
	dice *rand.Rand
	most int  // samples in a request
	says bool // how many it has taken
	well bool
}

func (r *fickle) answer(w http.ResponseWriter, lines []string) {
	mood := r.dice.IntN(14)
	switch {
	case r.well || mood < 8:
		if len(lines) > r.most {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		} else if !r.take(lines) {
			http.Error(w, "no", http.StatusBadRequest)
		} else if r.says {
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)))
		}
	case mood == 8:
		r.take(lines)
		hangUp(w)
	case mood == 9:
		r.take(lines)
		w.WriteHeader(http.StatusBadGateway)
	case mood == 10:
		w.WriteHeader(http.StatusUnsupportedMediaType)
	case mood == 11:
		w.WriteHeader(http.StatusUnauthorized)
	case mood == 12:
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// ordeal is one run of random trouble.
type ordeal struct {
	ship
	t        *testing.T
	random   *rand.Rand
	journal  journal
	disk     wal.Options
	path     string
	options  Options
	fake     *fake
	receiver *fickle
	now      time.Time
	appended map[string]bool // series and time
	last     Ledger
}

func sufferTrouble(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	pick := func(of ...int) int { return of[random.IntN(len(of))] }
	d := &ordeal{t: t, random: random, fake: newFake(t), now: epoch, path: t.TempDir(), appended: map[string]bool{}}
	d.receiver = &fickle{store: newStore(poisonIs("2", "11", "19")), dice: rand.New(rand.NewPCG(seed, 3)), most: pick(17, 4, 1000)}
	d.receiver.partial, d.receiver.says = pick(0, 1) == 1, pick(0, 1) == 1
	d.fake.answers(func(w http.ResponseWriter, p post) {
		d.fake.mu.Lock()
		defer d.fake.mu.Unlock()
		d.receiver.answer(w, p.lines(t))
	})
	e := endpoint(t, d.fake.URL)
	e.Protocol = []config.Protocol{config.ProtocolV1, config.ProtocolV2, config.ProtocolAuto}[random.IntN(3)]
	e.Queue.MaxSamplesPerSend = 1 + random.IntN(8)
	e.Queue.MaxShards = 1 + random.IntN(4)
	e.Queue.MaxBackoff = 2 * time.Second
	e.MaxBlock = time.Duration(pick(0, 0, 20)) * time.Second
	d.disk = wal.Options{SegmentBytes: 4096}
	if pick(0, 1) == 1 { // what waits for long is evicted
		d.disk = wal.Options{SegmentBytes: 1024, MaxBytes: 10_800}
	}
	d.options = Options{Endpoint: e}
	d.journal = openJournal(t, d.path, d.disk)
	d.options.Log = d.journal.Log
	d.ship, _ = isolating(t, d.options)
	d.options.DeadLetter = d.deadLetter

	for range 200 {
		d.now = d.now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
		switch random.IntN(12) {
		case 0, 1:
			d.collect()
		case 2:
			d.restart()
		default:
			d.advance()
		}
		d.check()
	}
	d.fake.mu.Lock()
	d.receiver.well = true
	d.fake.mu.Unlock()
	for range 3000 {
		if d.check(); d.last.Pending.IsZero() {
			return
		}
		d.advance()
	}
	t.Errorf("with %+v it does not end: %+v", e.Queue, d.last)
}

// collect appends a sample of some series.
func (d *ordeal) collect() {
	d.now = d.now.Add(time.Millisecond)
	due := d.journal.family("due", 1+d.random.IntN(30))
	d.journal.append(d.now, round(due, d.now, d.random.Float64())...)
	for _, s := range due {
		d.appended[fmt.Sprintf("%s@%d", s.Labels(), d.now.UnixMilli())] = true
	}
}

// advance makes a step, in which the process may be killed.
func (d *ordeal) advance() {
	ctx, cancel := context.WithCancel(d.t.Context())
	defer cancel()
	if d.random.IntN(8) == 0 {
		time.AfterFunc(time.Duration(d.random.IntN(1500))*time.Microsecond, cancel)
	}
	rest, err := d.Step(ctx, d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	d.now = d.now.Add(max(min(rest, 10*time.Second), time.Millisecond))
	if ctx.Err() != nil {
		d.restart()
	}
}

// restart goes on as a process does that follows one killed just now.
func (d *ordeal) restart() {
	d.path = d.journal.kill(d.path)
	d.journal = openJournal(d.t, d.path, d.disk)
	d.options.Log = d.journal.Log
	d.ship = newShip(d.t, d.options)
}

func (d *ordeal) check() {
	l := d.balance()
	if l.Appended.Samples != uint64(len(d.appended)) {
		d.t.Fatalf("ledger says %d samples were appended, and %d were", l.Appended.Samples, len(d.appended))
	}
	if l.Sent.Samples < d.last.Sent.Samples || l.Unconfirmed.Samples < d.last.Unconfirmed.Samples {
		d.t.Errorf("the ledger went back: %+v after %+v", l, d.last)
	}
	for r, n := range d.last.Dropped {
		if l.Dropped[r].Samples < n.Samples {
			d.t.Errorf("%s went back from %d to %d", r, n.Samples, l.Dropped[r].Samples)
		}
	}
	d.last = l
	d.fake.mu.Lock()
	defer d.fake.mu.Unlock()
	checkStored(d.t, d.receiver.store, l)
	for at := range d.receiver.at {
		if !d.appended[at] {
			d.t.Errorf("the receiver has %s, which nobody has appended", at)
		}
	}
}
