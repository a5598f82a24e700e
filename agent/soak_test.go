package agent

import (
	"bytes"
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sql2metrics/config"
)

// soakDay is the time after which the outages of a soak repeat themselves.
const soakDay = time.Hour

// TestSoak runs the whole agent for days, which are an hour long, on a clock
// that moves whenever nobody has anything left to do. Each day has outages of
// every kind, one of them long enough for eviction, a database that is never
// there, series that come and go, and reloads in the midst of it. All along every sample is accounted for,
// by the page and by what the receivers have, and the disk's bound is kept. At
// the end of each day the agent holds as many descriptors, goroutines, bytes of
// heap and of disk as on the days before.
//
// SOAK=1 makes the days many, SOAK_SEED repeats a run's choices.
func TestSoak(t *testing.T) {
	days := 4
	if os.Getenv("SOAK") != "" {
		days = 200
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOAK_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SOAK_SEED=%d", seed)
	for name, restarts := range map[string]bool{"one life": false, "a new life every day": true} {
		t.Run(name, func(t *testing.T) {
			steady, moody := startSoakReceiver(t), startSoakReceiver(t)
			began := time.Now()
			synctest.Test(t, func(t *testing.T) {
				s := newSoak(t, steady, moody, seed)
				var all []soakFigures
				for day := range days {
					s.day(restarts)
					all = append(all, s.figures())
					if (day+1)%(days/4) == 0 {
						t.Logf("day %d: %+v", day+1, all[day])
					}
					if t.Failed() {
						t.Fatalf("on day %d", day)
					}
				}
				s.stop()
				s.report(all)
			})
			t.Logf("%v in %v: %d samples to steady, %d to moody",
				time.Duration(days)*soakDay, time.Since(began).Round(time.Second), steady.stored, moody.stored)
		})
	}
}

// soak is an agent, its databases, and receivers in changing moods. Requests
// to steady are never stored without an answer; with moody anything happens.
type soak struct {
	*testing.T
	rng     *rand.Rand
	file    string // of the configuration
	config  *config.Config
	db      *sql.DB
	minutes int // of the databases' life
	steady  *soakReceiver
	moody   *soakReceiver

	page     *pageListener
	stop     func()                  // ends the agent
	accounts map[string]soakAccounts // by endpoint, as last checked
}

func newSoak(t *testing.T, steady, moody *soakReceiver, seed uint64) *soak {
	folder := t.TempDir()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "shop.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &soak{T: t, rng: rand.New(rand.NewPCG(seed, 1)), db: db, steady: steady, moody: moody, accounts: map[string]soakAccounts{}}
	s.exec("CREATE TABLE orders (id TEXT PRIMARY KEY, n INTEGER NOT NULL)")
	s.exec("INSERT INTO orders WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 60) SELECT 'o' || x, x * 7919 FROM i")
	s.file = filepath.Join(folder, "sql2metrics.yml")
	s.write(soakChoices{amount: true})
	if s.config, err = s.load(); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

func (s *soak) exec(statement string, args ...any) {
	s.Helper()
	if _, err := s.db.Exec(statement, args...); err != nil {
		s.Fatalf("%s: %v", statement, err)
	}
}

// start runs an agent until stop is called.
func (s *soak) start() {
	s.page = newPageListener()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: s.config, Load: s.load, Lifecycle: true, Listener: s.page, Logger: slog.New(slog.DiscardHandler)})
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.Errorf("the agent ended with %v", err)
		}
	})
	s.Cleanup(s.stop)
	time.Sleep(time.Second)
	s.get("/-/ready")
}

// day is a day of outages, with a reload every few minutes. In the middle of two
// of them the agent is restarted if that is wanted. In the last quarter
// everything is up and as it was at the beginning, so that all is shipped.
func (s *soak) day(restart bool) {
	const quarter = soakDay / 4
	for at := time.Duration(0); at < soakDay; at += time.Minute {
		switch at {
		case quarter: // and evict
			s.steady.enter([]mood{moodUnavailable, moodReset, moodBusy}[s.rng.IntN(3)])
		case 2 * quarter:
			if restart {
				s.stop()
				s.start()
			}
		case 3 * quarter:
			s.steady.enter(moodUp)
			s.reload(soakChoices{amount: true})
		}
		if at < 3*quarter && s.rng.IntN(4) == 0 {
			s.reload(anySoakChoices(s.rng))
		}
		switch {
		case at >= 3*quarter:
			s.moody.enter(moodUp)
		case at%(5*time.Minute) == 0:
			moods := []mood{moodUp, moodUp, moodUnavailable, moodBusy, moodReset, moodStoreReset, moodStoreFail}
			s.moody.enter(moods[s.rng.IntN(len(moods))])
		}
		if at%(quarter/2) == 0 {
			s.check()
		}
		s.trade()
		time.Sleep(time.Minute)
	}
}

// trade changes the database: some values, and rows that come for three minutes.
func (s *soak) trade() {
	s.minutes++
	s.exec("UPDATE orders SET n = n + 1 WHERE rowid % 10 = ?", s.minutes%10)
	s.exec("INSERT INTO orders SELECT 'passing' || ? || id, 1 FROM orders WHERE rowid <= 10", s.minutes)
	s.exec("DELETE FROM orders WHERE id LIKE 'passing' || ? || 'o%'", s.minutes-3)
}

// check asks the agent's page for its accounts, and the receivers for theirs.
func (s *soak) check() {
	s.Helper()
	synctest.Wait() // for what goes on at this very moment
	s.get("/-/healthy")
	page := s.metrics()
	for name, r := range map[string]*soakReceiver{"steady": s.steady, "moody": s.moody} {
		stored, repeated, problems := r.counts(soakDay.Milliseconds())
		for _, p := range problems {
			s.Errorf("%s: %s", name, p)
		}
		a := accountsOf(page, name)
		s.accounts[name] = a
		if sum := a.sent + a.dropped + a.unconfirmed + a.pending; a.appended != sum {
			s.Errorf("%s: %v samples appended, accounted for are %v: %+v", name, a.appended, sum, a)
		}
		if a.dropped != a.evicted || a.unconfirmed != 0 {
			s.Errorf("%s: samples are dropped that were not evicted: %+v", name, a)
		}
		// A window counts as pending until all of it is answered.
		most := a.sent + a.pending
		if name == "moody" {
			most += a.evicted // some of what was stored and never answered
		} else if repeated > 0 {
			s.Errorf("%s got %d samples again", name, repeated)
		}
		if n := float64(stored); n < a.sent || n > most {
			s.Errorf("%s: %v samples stored: %+v", name, n, a)
		}
	}
	if n := s.diskBytes(); n > s.config.Storage.MaxBytes {
		s.Errorf("%d bytes under storage.path, allowed are %d", n, s.config.Storage.MaxBytes)
	}
}

// soakFigures is what an agent holds.
type soakFigures struct{ descriptors, goroutines, heap, disk int64 }

// figures looks at this process, in which there is but one agent, when it has
// shipped what there was.
func (s *soak) figures() soakFigures {
	s.Helper()
	s.check()
	for name, a := range s.accounts {
		if a.pending > 1000 { // two rounds of everything
			s.Errorf("%s is behind after all outages: %+v", name, a)
		}
	}
	synctest.Wait()
	s.steady.settle()
	s.moody.settle()
	for range 2 { // a sync.Pool keeps what it has over one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.Fatal(err)
	}
	return soakFigures{int64(len(descriptors)), s.goroutines(), int64(m.HeapAlloc), s.diskBytes()}
}

// goroutines counts those of the bubble: the receivers' end in their own time.
func (s *soak) goroutines() int64 {
	s.Helper()
	stacks := make([]byte, 1<<20)
	n := bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(", synctest bubble "))
	if n == 0 {
		s.Fatal("no goroutine is said to be in a bubble")
	}
	return int64(n)
}

func (s *soak) diskBytes() (bytes int64) {
	s.Helper()
	err := filepath.WalkDir(s.config.Storage.Path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return bytes
}

// report compares the largest figures of the last quarter of days with those of
// the second: the first is for buffers to grow.
func (s *soak) report(all []soakFigures) {
	n := len(all)
	most := func(days []soakFigures, of func(soakFigures) int64) (largest int64) {
		for _, f := range days {
			largest = max(largest, of(f))
		}
		return largest
	}
	for _, figure := range []struct {
		name  string
		of    func(soakFigures) int64
		bound func(before int64) int64
	}{
		// The log and two readers are in a segment, or between two.
		{"descriptors", func(f soakFigures) int64 { return f.descriptors }, func(n int64) int64 { return n + 3 }},
		{"goroutines", func(f soakFigures) int64 { return f.goroutines }, func(n int64) int64 { return n }},
		{"bytes of heap", func(f soakFigures) int64 { return f.heap }, func(n int64) int64 { return n + n/6 }},
		// Two segments of an eighth of the bound each are being written or read.
		{"bytes of disk", func(f soakFigures) int64 { return f.disk }, func(n int64) int64 { return n + s.config.Storage.MaxBytes/4 }},
	} {
		before, after := most(all[n/4:n/2], figure.of), most(all[3*n/4:], figure.of)
		s.Logf("%s: %d in the second quarter, %d in the last", figure.name, before, after)
		if limit := figure.bound(before); after > limit {
			s.Errorf("%s have grown from %d to %d, allowed are %d; by day: %+v", figure.name, before, after, limit, all)
		}
	}
	s.Logf("of steady's samples %v were evicted; moody got %d again", s.accounts["steady"].evicted, s.moody.repeated)
	if s.accounts["steady"].evicted == 0 || s.moody.repeated == 0 {
		s.Error("the outages were too short")
	}
}
