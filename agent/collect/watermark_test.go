package collect

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

func backups(o config.Timestamp) config.Metric {
	return config.Metric{
		Name: "backup_bytes", Type: config.Gauge, KeyLabels: []string{"of"}, Values: []string{"n"},
		TimestampValue: "at", Timestamp: o,
	}
}

// backup is a row: the name, the size and the seconds after t0, or the time as
// a value.
func backup(of string, n int64, at any) []sources.Value {
	cell, ok := at.(sources.Value)
	if !ok {
		cell = sources.TimeValue(t0.Add(time.Duration(at.(int)) * time.Second))
	}
	return []sources.Value{text(of), sources.IntValue(n), cell}
}

func backupRows(rows ...[]sources.Value) answer {
	return answer{columns: []string{"of", "n", "at"}, rows: rows}
}

func backupLog(samples string) string {
	return strings.NewReplacer(`backup_bytes{instance="h:1", job="pg", of="`, "", `", team="shop"}`, "").Replace(samples)
}

func TestTimestampValue(t *testing.T) {
	type refusals map[string]float64
	newer := config.Timestamp{OnlyNewer: true}
	for name, c := range map[string]struct {
		options config.Timestamp
		dup     config.OnDuplicate
		rounds  []answer
		log     []string
		page    string
		refused refusals
		warns   string // in the log; empty: nothing is
	}{
		"sent once, in order of time": {
			options: newer,
			rounds:  []answer{backupRows(backup("a", 3, -10), backup("b", 1, -30), backup("a", 2, -20)), backupRows(backup("a", 3, -10), backup("a", 4, -5))},
			log:     []string{"a 2 @-20\na 3 @-10\nb 1 @-30\n", "a 4 @-5\n"},
			page:    "a 4\n",
			refused: refusals{"not_newer": 1},
		},
		"absent and back, without a marker": {
			options: newer,
			rounds:  []answer{backupRows(backup("a", 1, -10)), backupRows(), backupRows(backup("a", 1, -10)), backupRows(backup("a", 2, -9))},
			log:     []string{"a 1 @-10\n", "", "", "a 2 @-9\n"},
			page:    "a 2\n",
			refused: refusals{"not_newer": 1},
		},
		"behind the newest, worth a warning": {
			rounds:  []answer{backupRows(backup("a", 1, -10)), backupRows(backup("a", 1, -11))},
			log:     []string{"a 1 @-10\n", ""},
			refused: refusals{"not_newer": 1},
			warns:   "what was sent ends at 2026-03-01T11:59:50Z",
		},
		"too old, and in the future": {
			options: config.Timestamp{OnlyNewer: true, MaxAge: time.Minute},
			rounds:  []answer{backupRows(backup("a", 1, -60), backup("b", 1, -59), backup("c", 1, 602), backup("d", 1, 601))},
			log:     []string{"b 1 @-59\nd 1 @601\n"},
			page:    "b 1\nd 1\n",
			refused: refusals{"max_age": 1, "future": 1},
			warns:   "older than max_age",
		},
		"no time": {
			options: newer,
			rounds:  []answer{backupRows(backup("a", 1, null), backup("b", 1, text("soon")), backup("c", 1, sources.BoolValue(true)), backup("d", 1, -1))},
			log:     []string{"d 1 @-1\n"},
			page:    "d 1\n",
			refused: refusals{"null": 1, "unparsable": 2},
			warns:   "time of the row",
		},
		"first of two": {
			options: newer,
			rounds:  []answer{backupRows(backup("a", 1, -1), backup("a", 2, -1))},
			log:     []string{"a 1 @-1\n"}, page: "a 1\n",
			refused: refusals{"duplicate": 1}, warns: "the first one counts",
		},
		"sum of two": {
			options: newer, dup: config.OnDuplicateSum,
			rounds: []answer{backupRows(backup("a", 1, -1), backup("a", 2, -1))},
			log:    []string{"a 3 @-1\n"}, page: "a 3\n",
			refused: refusals{"duplicate": 1},
		},
		"neither of two": {
			options: newer, dup: config.OnDuplicateDrop,
			rounds: []answer{backupRows(backup("a", 1, -1), backup("a", 2, -1), backup("a", 3, -2))},
			log:    []string{"a 3 @-2\n"}, page: "a 3\n",
			refused: refusals{"duplicate": 2}, warns: "neither",
		},
		"a failed run": {
			options: newer,
			rounds:  []answer{backupRows(backup("a", 1, -10)), {columns: []string{"of", "n", "at"}, rows: [][]sources.Value{backup("a", 2, -9)}, err: errDown}, backupRows(backup("a", 2, -9))},
			log:     []string{"a 1 @-10\n", "", "a 2 @-9\n"},
			page:    "a 2\n",
			warns:   "source is down",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := backups(c.options)
			m.OnDuplicate = c.dup
			r := newRig(t, dbSource(), query(m), &database{answers: c.rounds})
			for i, want := range c.log {
				if d := cmp.Diff(want, backupLog(r.step(i+1))); d != "" {
					t.Errorf("round %d: %s", i+1, d)
				}
			}
			page := ""
			for _, p := range r.points(nil) {
				page += fmt.Sprintln(p.labels.Get("of"), p.v)
			}
			if d := cmp.Diff(c.page, page); d != "" {
				t.Error("page:", d)
			}
			got := refusals{}
			for _, why := range reasonNames {
				if n := r.refusedCount(why); n > 0 {
					got[why] = n
				}
			}
			if c.refused == nil {
				c.refused = refusals{}
			}
			if d := cmp.Diff(c.refused, got); d != "" {
				t.Error("refused:", d)
			}
			if logged := r.logged.String(); !strings.Contains(logged, c.warns) || c.warns == "" && logged != "" {
				t.Errorf("logged %q, want %q", logged, c.warns)
			}
		})
	}
}

// TestOwnTime reads times as databases have them.
func TestOwnTime(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	at := time.Date(2026, 3, 1, 12, 30, 15, 250e6, time.UTC).UnixMilli()
	for name, c := range map[string]struct {
		cell sources.Value
		o    config.Timestamp
		want int64 // 0: none
	}{
		"database type":      {cell: sources.TimeValue(time.UnixMilli(at)), want: at},
		"seconds":            {cell: sources.FloatValue(float64(at) / 1e3), want: at},
		"milliseconds":       {cell: sources.IntValue(at), o: config.Timestamp{Unit: config.TimestampMilliseconds}, want: at},
		"microseconds":       {cell: sources.IntValue(at * 1e3), o: config.Timestamp{Unit: config.TimestampMicroseconds}, want: at},
		"nanoseconds":        {cell: sources.IntValue(at * 1e6), o: config.Timestamp{Unit: config.TimestampNanoseconds}, want: at},
		"seconds as a text":  {cell: text(" 1772368215.25 "), want: at},
		"RFC 3339":           {cell: text("2026-03-01T13:30:15.25+01:00"), want: at},
		"zone of PostgreSQL": {cell: text("2026-03-01 13:30:15.25+01"), want: at},
		"no zone":            {cell: text("2026-03-01 13:30:15.25"), o: config.Timestamp{Location: berlin}, want: at},
		"no zone, T":         {cell: text("2026-03-01T12:30:15.25"), want: at},
		"date":               {cell: text("2026-03-01"), want: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli()},
		"wrong unit":         {cell: sources.IntValue(at)},
		"NaN":                {cell: text("NaN")},
		"infinity":           {cell: text("infinity")},
		"a word":             {cell: text("yesterday")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ownTime(c.cell, c.o)
			if (err != nil) != (c.want == 0) || got != c.want {
				t.Errorf("%d, %v; want %d", got, err, c.want)
			}
		})
	}
}

// TestWatermarksOverARestart sends nothing twice, after a kill and after a
// reload, also where the log no longer has the series.
func TestWatermarksOverARestart(t *testing.T) {
	q := query(backups(config.Timestamp{OnlyNewer: true}))
	r := newRig(t, dbSource(), q, &database{answers: []answer{backupRows(backup("a", 1, -10), backup("b", 1, -20))}})
	r.step(1)

	w := r.successor(q, &database{answers: []answer{backupRows(backup("a", 1, -10), backup("b", 2, -5))}})
	r.step(2)
	w.Prepare(t.Context(), []Runner{r.Worker})
	r.now = t0.Add(3 * time.Second)
	if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(r.now); err != nil {
		t.Fatal(err)
	}
	if err := w.Step(t.Context(), t0.Add(4*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := backupLog(newSamples(t, r.reader)); got != "b 2 @-5\n" {
		t.Errorf("after a reload:\n%s", got)
	}

	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	log := openLogIn(t, killed)
	again := NewWorker(WorkerOptions{
		Source: dbSource(), Query: q, Client: &database{answers: []answer{backupRows(backup("a", 1, -10), backup("b", 2, -5), backup("b", 3, -4))}},
		Health: r.health, Log: log, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { return r.now },
	})
	defer again.Close()
	reader := log.Reader(wal.Position{})
	defer reader.Close()
	newSamples(t, reader)
	if err := again.Step(t.Context(), t0.Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := backupLog(newSamples(t, reader)); got != "b 3 @-4\n" {
		t.Errorf("after a restart:\n%s", got)
	}
}

func FuzzStates(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{watermarksVersion, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	newWorker := func() (*accumulating, *timestamped) {
		v := &values{}
		a := newAccumulating(&mapper{metric: paymentSeconds(1), values: v})
		return a, newTimestamped(&mapper{metric: backups(config.Timestamp{}), values: v})
	}
	a, _ := newWorker()
	key := []byte{1, 0, 0, 0, 'x'}
	a.counted.near = []rowID{{place{kind: placeText, text: "b"}, "k"}}
	a.counted.floor = place{kind: placeText, text: "a"}
	o := &observations{bounds: a.options.Bounds}
	o.reset()
	a.counted.groups[string(key)] = o
	f.Add(a.hand())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, m := newWorker()
		if m.restore(b) == nil {
			_, again := newWorker()
			if err := again.restore(m.hand()); err != nil || !cmp.Equal(m.marks, again.marks) {
				t.Error("watermarks do not come back", err)
			}
		}
		if a.restore(b) == nil {
			again, _ := newWorker()
			if err := again.restore(a.hand()); err != nil || len(a.counted.groups) != len(again.counted.groups) || a.counted.reach != again.counted.reach {
				t.Error("what is counted does not come back", err)
			}
		}
	})
}
