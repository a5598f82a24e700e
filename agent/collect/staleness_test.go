package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// server is a database whose answers depend on the time since t0. It is asked
// at the beginning of each query.
type server func(at time.Duration) reply

// reply is what a server says to a query, and when.
type reply struct {
	statuses string // of the rows, one letter each
	err      error
	takes    time.Duration
}

// Query implements [sources.Source].
func (s server) Query(ctx context.Context, _ config.Query, each func(*sources.Row) error) error {
	r := s(time.Since(t0))
	select {
	case <-time.After(r.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, status := range r.statuses {
		row := sources.Row{Columns: []string{"status", "n"}, Values: []sources.Value{text(string(status)), sources.IntValue(int64(time.Since(t0) / time.Minute))}}
		if err := each(&row); err != nil {
			return err
		}
	}
	return r.err
}

// Ping implements [sources.Source].
func (s server) Ping(context.Context) error { return s(time.Since(t0)).err }

// Close implements [sources.Source].
func (s server) Close() error { return nil }

// live has a query live on a log for a while, in a time that begins at t0 and
// costs nothing.
func live(t *testing.T, log *wal.Log, clock config.Clock, timeout, until time.Duration, db server) {
	t.Helper()
	liveBy(t, time.Now, log, clock, timeout, until, db)
}

// liveBy is live by a clock that need not be right. It returns how many ticks
// that was the reason to skip.
func liveBy(t *testing.T, now func() time.Time, log *wal.Log, clock config.Clock, timeout, until time.Duration, db server) (clockBack float64) {
	t.Helper()
	q := query(orders())
	q.Clock, q.Timeout = clock, timeout
	w := NewWorker(WorkerOptions{
		Source: dbSource(), Query: q, Client: db, Health: NewHealth("db", discard), Log: log,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: discard, Clock: now,
	})
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), until)
	defer cancel()
	w.Run(ctx)
	if refused := log.Stats().Refused; !refused.IsZero() {
		t.Errorf("the log refused %+v", refused)
	}
	return testutil.ToFloat64(w.metrics.clockBack)
}

// histories returns the samples that a reader has not seen, by status: values,
// which are the minute they were read from the database at, with their times.
func histories(t *testing.T, reader *wal.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Samples {
			v := fmt.Sprint(s.V)
			if value.IsStaleNaN(s.V) {
				v = "stale"
			}
			at := model.Duration(time.UnixMilli(s.T).Sub(t0)) // 1m30s, and not 1m30.0s
			status := f.Series[s.Ref].Labels.Get("status")
			all[status] = strings.TrimSpace(fmt.Sprintf("%s %s@%s", all[status], v, at))
		}
	}
}

// Each way for a series to end or to go on, as it is in the log: the value is
// the minute at which it was read from the database, the time that of the
// sample.
func TestStalenessOverTime(t *testing.T) {
	const m, s = time.Minute, time.Second
	var (
		refused = errors.New("permission denied for table orders")
		// short is as frequent as queries are by default, long is not.
		short = config.Clock{Interval: m, Align: true, RunOnStart: true, ResendInterval: 4 * m, StaleAfter: 10 * m, OnError: config.OnErrorStale}
		long  = config.Clock{Interval: 10 * m, Align: true, RunOnStart: true, ResendInterval: 4 * m, StaleAfter: 30 * m, OnError: config.OnErrorKeep}
	)
	but := func(c config.Clock, change func(*config.Clock)) config.Clock {
		change(&c)
		return c
	}
	good := func(statuses string) reply { return reply{statuses: statuses} }
	during := func(from, to time.Duration, r reply) server {
		return func(at time.Duration) reply {
			if from <= at && at < to {
				return r
			}
			return good("a")
		}
	}
	for name, c := range map[string]struct {
		clock config.Clock
		db    server
		until time.Duration
		want  map[string]string
	}{
		"a row is gone, and back": {
			short,
			func(at time.Duration) reply {
				if at < m || at >= 3*m {
					return good("ab")
				}
				return good("a")
			}, 3*m + s,
			map[string]string{"a": "0@0s 1@1m 2@2m 3@3m", "b": "0@0s stale@1m 3@3m"},
		},
		"stale: a query fails once": {
			short, during(m, 2*m, reply{err: refused}), 3*m + s,
			map[string]string{"a": "0@0s stale@1m 2@2m 3@3m"},
		},
		"stale: a query fails slowly, and the marker has the time of that": {
			short, during(m, 2*m, reply{err: refused, takes: 7 * s}), 2*m + s,
			map[string]string{"a": "0@0s stale@1m7s 2@2m"},
		},
		"stale: a query fails for long": {
			short, during(m, time.Hour, reply{err: refused}), 30 * m,
			map[string]string{"a": "0@0s stale@1m"},
		},
		"stale: the database is dead, and back": {
			short, during(m, 5*m, reply{err: errDown}), 6*m + s,
			map[string]string{"a": "0@0s stale@1m 5@5m 6@6m"},
		},
		"stale: a long interval is no reason to wait for the next tick": {
			but(long, func(c *config.Clock) { c.OnError = config.OnErrorStale }),
			during(10*m, 10*m+s, reply{err: refused}), 15 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m stale@10m 10@10m30s 10@14m30s"},
		},
		"keep: a query fails once": {
			long, during(10*m, 10*m+s, reply{err: refused}), 21 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 10@10m30s 10@14m30s 10@18m30s 20@20m"},
		},
		"keep: a query fails for long": {
			long, during(10*m, time.Hour, reply{err: refused}), 59 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 0@12m 0@16m 0@20m 0@24m 0@28m stale@30m"},
		},
		"keep: the database is dead for longer than the result holds, and back": {
			long, during(10*m, 43*m, reply{err: errDown}), 45 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 0@12m 0@16m 0@20m 0@24m 0@28m stale@30m 43@43m"},
		},
		"keep: a short interval has something to emit again while it fails": {
			but(short, func(c *config.Clock) { c.OnError = config.OnErrorKeep }),
			during(m, time.Hour, reply{err: refused}), 59 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m stale@10m"},
		},
		"keep_for": {
			but(long, func(c *config.Clock) { c.OnError, c.KeepFor = config.OnErrorKeepFor, 15*m }),
			during(10*m, time.Hour, reply{err: refused}), 59 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 0@12m stale@15m"},
		},
		"keep_for: what is older than that goes with the first failure": {
			but(long, func(c *config.Clock) { c.OnError, c.KeepFor = config.OnErrorKeepFor, 5*m }),
			during(10*m, time.Hour, reply{err: refused}), 59 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m stale@10m"},
		},
		"a quick run keeps its tick": {
			long, during(10*m, 11*m, reply{statuses: "a", takes: 5 * s}), 11 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 10@10m"},
		},
		"a slow run has its older value emitted meanwhile, and its own time": {
			long, during(10*m, 11*m, reply{statuses: "a", takes: 5 * m}), 21 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m 0@12m 15@15m 15@19m 20@20m"},
		},
		"a slow first run has its tick, and is soon emitted again": {
			long, during(0, m, reply{statuses: "a", takes: 6 * m}), 11 * m,
			map[string]string{"a": "6@0s 6@6m 10@10m"},
		},
		"a result that ends during a slow run ends once": {
			but(long, func(c *config.Clock) { c.StaleAfter = 11 * m }),
			func(at time.Duration) reply {
				if at < 10*m {
					return good("ab")
				}
				return reply{statuses: "a", takes: 5 * m}
			}, 16 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m stale@11m 15@15m", "b": "0@0s 0@4m 0@8m stale@11m"},
		},
		"resend_interval: 0": {
			but(long, func(c *config.Clock) { c.ResendInterval = 0 }),
			during(10*m, time.Hour, reply{err: refused}), 59 * m,
			map[string]string{"a": "0@0s stale@30m"},
		},
		"an empty result": {
			long, during(10*m, 11*m, good("")), 21 * m,
			map[string]string{"a": "0@0s 0@4m 0@8m stale@10m 20@20m"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(t0))
				log := openLog(t)
				reader := log.Reader(wal.Position{})
				defer reader.Close()
				live(t, log, c.clock, 10*m, c.until, c.db)
				if diff := cmp.Diff(c.want, histories(t, reader)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Neither a shutdown nor a restart ends a series, also not in the middle of a
// run; what is absent afterwards was never in a result of the new process.
func TestRestartEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(t0))
		log := openLog(t)
		reader := log.Reader(wal.Position{})
		defer reader.Close()
		clock := config.Clock{Interval: time.Minute, Align: true}
		live(t, log, clock, time.Minute, 90*time.Second, func(at time.Duration) reply {
			return reply{statuses: "ab", takes: at} // the second run is not to end
		})
		live(t, log, clock, time.Minute, time.Minute, func(time.Duration) reply { return reply{statuses: "a"} })
		want := map[string]string{"a": "0@0s 2@2m", "b": "0@0s"}
		if diff := cmp.Diff(want, histories(t, reader)); diff != "" {
			t.Error(diff)
		}
	})
}

// A clock that is set back makes no sample that the log would refuse: until it
// has passed the newest one, nothing is collected or emitted again. One that is
// set back in the middle of a run costs that run.
func TestClockSetBackOverTime(t *testing.T) {
	const m, s = time.Minute, time.Second
	short := config.Clock{Interval: m, Align: true}
	long := config.Clock{Interval: 10 * m, Align: true, ResendInterval: 4 * m, StaleAfter: 30 * m, OnError: config.OnErrorKeep}
	for name, c := range map[string]struct {
		clock     config.Clock
		at, back  time.Duration
		takes     time.Duration // each run
		until     time.Duration
		want      string
		clockBack float64
	}{
		"between ticks":                   {short, 2*m + 30*s, 3*m + 15*s, 0, 7 * m, "0@0s 1@1m 2@2m 6@3m", 3},
		"between a result and its repeat": {long, 9 * m, 3 * m, 0, 25 * m, "0@0s 0@4m 0@8m 13@10m 13@14m 13@18m 23@20m", 0},
		"back behind a repeat":            {long, 9 * m, 8 * m, 0, 21 * m, "0@0s 0@4m 0@8m 18@10m", 0},
		"in a run, which has its tick":    {short, 2*m + 5*s, m, 10 * s, 4*m + 15*s, "0@0s 1@1m 2@2m 4@3m", 1},
		"in a run that has no time left":  {long, 13*m + 30*s, 4 * m, 5 * m, 23 * m, "5@0s 5@5m 5@9m 5@13m 5@17m", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(t0))
				log := openLog(t)
				reader := log.Reader(wal.Position{})
				defer reader.Close()
				clock := func() time.Time {
					now := time.Now()
					if now.Sub(t0) < c.at {
						return now
					}
					return now.Add(-c.back)
				}
				n := liveBy(t, clock, log, c.clock, 10*m, c.until, func(time.Duration) reply {
					return reply{statuses: "a", takes: c.takes}
				})
				if diff := cmp.Diff(map[string]string{"a": c.want}, histories(t, reader)); diff != "" {
					t.Error(diff)
				}
				if n != c.clockBack {
					t.Errorf("%v ticks were skipped for the clock, want %v", n, c.clockBack)
				}
			})
		})
	}
}

// Samples with their own time are shown for as long as the round beside them,
// and never emitted again.
func TestTimedSamplesAreNotEmittedAgain(t *testing.T) {
	log := openLog(t)
	reader := log.Reader(wal.Position{})
	defer reader.Close()
	v := values{log: log}
	defer v.close()
	f := &family{name: "m"}
	series := func(status string) *series {
		return &series{family: f, handle: log.Series(labels.FromStrings("status", status), wal.Metadata{}), forget: func(*series) {}}
	}
	v.begin(t0)
	v.add(series("round"), 1)
	v.addTimed(series("timed"), t0.Add(-time.Hour).UnixMilli(), 2)
	if _, _, err := v.finish(t0); err != nil {
		t.Fatal(err)
	}
	if _, err := v.resend(t0.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := len(v.points(nil)); n != 2 {
		t.Errorf("%d points are shown, want 2", n)
	}
	if _, _, err := v.expire(t0.Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := len(v.points(nil)); n != 0 {
		t.Errorf("%d points are shown after the end", n)
	}
	want := map[string]string{"round": "1@0s 1@1m stale@2m", "timed": "2@-1h"}
	if diff := cmp.Diff(want, histories(t, reader)); diff != "" {
		t.Error(diff)
	}
}
