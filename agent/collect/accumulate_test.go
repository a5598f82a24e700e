package collect

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

// payment is a row of the table that payments returns queries of.
type payment struct {
	id      int64
	shop    string
	seconds float64
}

// payments is a table behind a cursor: it understands a statement that ends in
// the cursor, and returns the rows above it, up to a limit.
type payments struct {
	database
	rows    []payment
	limit   int
	asked   []string // the cursors
	failing error    // after the rows
}

func (p *payments) Query(_ context.Context, q config.Query, each func(*sources.Row) error) error {
	var above int64
	if _, err := fmt.Sscanf(q.SQL, "SELECT id, shop, seconds FROM payments WHERE id > %d", &above); err != nil {
		return fmt.Errorf("%s: %w", q.SQL, err)
	}
	p.asked = append(p.asked, fmt.Sprint(above))
	slices.SortStableFunc(p.rows, func(a, b payment) int { return int(a.id - b.id) })
	columns, n := []string{"id", "shop", "seconds"}, 0
	for _, r := range p.rows {
		if r.id <= above || p.limit > 0 && n == p.limit {
			continue
		}
		n++
		if err := each(&sources.Row{Columns: columns, Values: []sources.Value{sources.IntValue(r.id), text(r.shop), sources.FloatValue(r.seconds)}}); err != nil {
			return err
		}
	}
	return p.failing
}

func paymentSeconds(overlap float64) config.Metric {
	return config.Metric{
		Name: "payment_seconds", Type: config.Histogram, KeyLabels: []string{"shop"},
		HistogramOptions: &config.HistogramOptions{
			Mode: config.HistogramAccumulate, Value: "seconds", Bounds: []float64{1, 2}, Classic: true,
			Cursor: &config.Cursor{Column: "id", Start: "0", Overlap: overlap},
		},
	}
}

func paymentQuery(overlap float64) config.Query {
	q := query(paymentSeconds(overlap))
	q.SQL = "SELECT id, shop, seconds FROM payments WHERE id > " + config.CursorMark
	return q
}

// bare leaves of samples what tests of accumulated histograms tell apart.
func bare(samples string) string {
	return strings.NewReplacer(`instance="h:1", job="pg", `, "", `, team="shop"`, "", "payment_seconds", "").Replace(samples)
}

// TestAccumulate reads each row once: new ones, none, late ones within the
// overlap and beyond it.
func TestAccumulate(t *testing.T) {
	p := &payments{rows: []payment{{1, "a", 0.5}, {2, "a", 1.5}, {5, "a", 3}}}
	r := newRig(t, dbSource(), paymentQuery(2), p)
	want := func(n int, cursor, counts string) {
		t.Helper()
		got := bare(r.step(n))
		var b1, b2, inf, sum, count string
		if _, err := fmt.Sscan(counts, &b1, &b2, &inf, &sum, &count); err != nil {
			t.Fatal(err)
		}
		all := fmt.Sprintf("_bucket{le=\"1.0\", shop=\"a\"} %[1]s @%[6]d\n_bucket{le=\"2.0\", shop=\"a\"} %[2]s @%[6]d\n_bucket{le=\"+Inf\", shop=\"a\"} %[3]s @%[6]d\n_sum{shop=\"a\"} %[4]s @%[6]d\n_count{shop=\"a\"} %[5]s @%[6]d\n", b1, b2, inf, sum, count, n)
		if d := cmp.Diff(all, got); d != "" {
			t.Errorf("round %d: %s", n, d)
		}
		if last := p.asked[len(p.asked)-1]; last != cursor {
			t.Errorf("round %d asks behind %s, want %s", n, last, cursor)
		}
	}
	want(1, "0", "1 2 3 5 3")
	want(2, "3", "1 2 3 5 3")
	p.rows = append(p.rows, payment{4, "a", 1}) // late, within the overlap
	want(3, "3", "2 3 4 6 4")
	want(4, "3", "2 3 4 6 4")
	p.rows = append(p.rows, payment{3, "a", 100}, payment{6, "a", 1}) // the first is too late
	want(5, "3", "3 4 5 7 5")
	p.failing = errDown
	if got := r.step(6); strings.Count(got, "stale") != 5 {
		t.Errorf("a failed run appends\n%s", got)
	}
	p.failing, p.rows = nil, append(p.rows, payment{7, "a", 1})
	want(7, "4", "4 5 6 8 6")
}

// TestAccumulateRefuses rows that cannot be told apart, each alone.
func TestAccumulateRefuses(t *testing.T) {
	columns := []string{"id", "shop", "seconds"}
	one := sources.FloatValue(1)
	db := &database{answers: []answer{{columns: columns, rows: [][]sources.Value{
		{sources.IntValue(1), text("a"), one},
		{null, text("a"), one},
		{text("a\\"), text("a"), one},
		{sources.IntValue(1), text("a"), one},
		{sources.IntValue(2), text("a"), null},
		{sources.IntValue(3), text("a\xff"), one},
	}}}}
	r := newRig(t, dbSource(), paymentQuery(5), db)
	got := r.step(1)
	r.step(2) // none of them again but those without a place
	if !strings.Contains(got, `_count{instance="h:1", job="pg", shop="a", team="shop"} 1 @1`) {
		t.Errorf("got\n%s", got)
	}
	for why, want := range map[string]float64{"null": 3, "unparsable": 2, "duplicate": 1, "invalid_label": 1} {
		if n := r.refusedCount(why); n != want {
			t.Errorf("%v refused as %s, want %v", n, why, want)
		}
	}
}

// TestAccumulateCut counts what came before a limit, if that is in order.
func TestAccumulateCut(t *testing.T) {
	q := paymentQuery(0)
	q.Policies = config.Policies{RowLimit: 2, OnLimit: config.OnLimitTruncate}
	p := &payments{rows: []payment{{1, "a", 1}, {2, "a", 1}, {3, "a", 1}}}
	r := newRig(t, dbSource(), q, p)
	for n, want := range []string{"2", "3", "3"} {
		if got := bare(r.step(n + 1)); !strings.Contains(got, `_count{shop="a"} `+want) {
			t.Errorf("round %d: %s", n, got)
		}
	}
	mixed := answer{columns: []string{"id", "shop", "seconds"}}
	for _, id := range []int64{9, 4, 5} {
		mixed.rows = append(mixed.rows, []sources.Value{sources.IntValue(id), text("a"), sources.FloatValue(1)})
	}
	r = newRig(t, dbSource(), q, &database{answers: []answer{mixed}})
	if got := r.step(1); got != "" || r.refusedCount("limit") != 2 || !strings.Contains(r.logged.String(), "ORDER BY") {
		t.Errorf("got\n%s\n%s", got, r.logged)
	}
}

// TestAccumulateLimitWithinOverlap comes to all rows, late ones too, where a
// limit leaves less than the overlap has.
func TestAccumulateLimitWithinOverlap(t *testing.T) {
	for name, limit := range map[string]func(*config.Query, *payments, int){
		"LIMIT": func(_ *config.Query, p *payments, n int) { p.limit = n },
		"row_limit": func(q *config.Query, _ *payments, n int) {
			q.Policies = config.Policies{RowLimit: n, OnLimit: config.OnLimitTruncate}
		},
	} {
		for _, n := range []int{1, 2, 3, 5, 10, 11} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				q, p := paymentQuery(10), &payments{}
				limit(&q, p, n)
				for id := range int64(30) {
					p.rows = append(p.rows, payment{id + 1, "a", 1})
				}
				r := newRig(t, dbSource(), q, p)
				step := 0
				until := func(want int) {
					t.Helper()
					for got := ""; !strings.Contains(got, fmt.Sprintf(`_count{shop="a"} %d @`, want)); {
						if step++; step > 600 {
							t.Fatalf("never counts %d; asked behind %v, got\n%s", want, p.asked[len(p.asked)-20:], got)
						}
						got = bare(r.step(step))
						if step%3 == 0 { // a failed run leaves it where it is
							p.failing = errDown
							step++
							r.step(step)
							p.failing = nil
						}
					}
				}
				until(30)
				p.rows = slices.DeleteFunc(p.rows, func(row payment) bool { return row.id == 29 })
				p.rows = append(p.rows, payment{31, "a", 1})
				until(31)
				p.rows = append(p.rows, payment{29, "a", 1}, payment{33, "a", 1}) // 29 has been counted
				until(32)
				p.rows = append(p.rows, payment{32, "a", 1}) // late
				until(33)
			})
		}
	}
}

// TestAccumulateOtherStart counts rows whose cursor is not what start is, and
// says so once.
func TestAccumulateOtherStart(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		start string
		cells [2]sources.Value
		asks  string
		warns bool
	}{
		"text, times":   {"the beginning", [2]sources.Value{sources.TimeValue(at), sources.TimeValue(at.Add(time.Hour))}, "'2026-03-01 12:59:50+00:00'", true},
		"text, numbers": {"a", [2]sources.Value{sources.IntValue(20), sources.IntValue(40)}, "30", true},
		"time, numbers": {"2026-01-01", [2]sources.Value{sources.IntValue(20), sources.IntValue(40)}, "30", true},
		"number, times": {"0", [2]sources.Value{sources.TimeValue(at), sources.TimeValue(at.Add(time.Hour))}, "'2026-03-01 12:59:50+00:00'", true},
		"time, times":   {"2026-03-01T12:59:55", [2]sources.Value{text("2026-03-01T13:00"), text("2026-03-01 13:00:01")}, "'2026-03-01T12:59:55'", false},
		"year 1":        {"0001-01-01", [2]sources.Value{text("0001-01-02"), text("2026-03-01 13:00:00")}, "'2026-03-01 12:59:50'", false},
	} {
		t.Run(name, func(t *testing.T) {
			q := paymentQuery(10)
			q.Metrics[0].HistogramOptions.Cursor.Start = c.start
			db := &database{}
			for _, cell := range c.cells {
				db.answers = append(db.answers, answer{columns: []string{"id", "shop", "seconds"}, rows: [][]sources.Value{{cell, text("a"), sources.FloatValue(1)}}})
			}
			r := newRig(t, dbSource(), q, db)
			r.now = at.Add(2 * time.Hour)
			r.step(1)
			if got := bare(r.step(2)); !strings.Contains(got, `_count{shop="a"} 2`) {
				t.Errorf("got\n%s", got)
			}
			a := r.statement.behind[0]
			if got := a.from().literal(); got != c.asks {
				t.Errorf("asks behind %s, want %s", got, c.asks)
			}
			want := 0
			if c.warns {
				want = 1
			}
			if n := strings.Count(r.logged.String(), "cursor.start"); n != want {
				t.Errorf("%d warnings:\n%s", n, r.logged)
			}
		})
	}
}

// TestAccumulateSucceeds hands what is counted to the worker that takes the
// place of another.
func TestAccumulateSucceeds(t *testing.T) {
	described, other := paymentQuery(2), paymentQuery(2)
	described.Metrics[0].Help = "Payments."
	other.Metrics[0].HistogramOptions.Bounds = []float64{1, 3}
	renamed := paymentQuery(2)
	renamed.Metrics[0].KeyLabels, renamed.Metrics[0].StaticLabels = nil, map[string]string{"shop": "a"}
	for name, c := range map[string]struct {
		query config.Query
		asks  string
	}{
		"help":    {described, "2"},
		"buckets": {other, "0"},
		"labels":  {renamed, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &payments{rows: []payment{{1, "a", 0.5}, {2, "a", 1.5}, {3, "a", 1.5}}}
			r := newRig(t, dbSource(), paymentQuery(2), p)
			r.step(1)
			w := r.successor(c.query, p)
			p.rows = append(p.rows, payment{4, "a", 0.5})
			r.step(2)
			w.Prepare(t.Context(), []Runner{r.Worker})
			r.now = t0.Add(3 * time.Second)
			if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(r.now); err != nil {
				t.Fatal(err)
			}
			newSamples(t, r.reader)
			r.now = r.now.Add(time.Second)
			if err := w.Step(t.Context(), r.now); err != nil {
				t.Fatal(err)
			}
			if got := bare(newSamples(t, r.reader)); !strings.Contains(got, `_count{shop="a"} 4 @4`) {
				t.Errorf("got\n%s", got)
			}
			if got := p.asked[2]; got != c.asks {
				t.Errorf("its first run asks behind %s, want %s", got, c.asks)
			}
		})
	}
}

// TestAccumulateRemoved leaves no state behind, where a reload removes it.
func TestAccumulateRemoved(t *testing.T) {
	p := &payments{rows: []payment{{1, "a", 0.5}}}
	r := newRig(t, dbSource(), paymentQuery(2), p)
	r.step(1)
	key := r.values.keepers[0].stateKey()
	if r.log.State(key) == nil {
		t.Fatal("there is no state")
	}
	if err := (Succession{Leaving: []Runner{r.Worker}}).Carry(t0.Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if r.log.State(key) != nil {
		t.Error("the state stays")
	}
}

// TestAccumulateOverKills lets rows appear, late ones too, and the process end
// between any two steps, with rounds that fail, are abandoned or come back
// from a reload in between. In the end each row is counted once.
func TestAccumulateOverKills(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		dir, now := t.TempDir(), t0
		q := paymentQuery(10)
		if seed%2 == 1 {
			q.Metrics[0].HistogramOptions.Native = true
		}
		p := &payments{}
		var log *wal.Log
		var w *Worker
		var metrics *Metrics
		clock := func() time.Time { return now }
		worker := func() *Worker {
			return NewWorker(WorkerOptions{
				Source: dbSource(), Query: q, Client: p, Health: NewHealth("db", slog.New(slog.DiscardHandler)),
				Log: log, Metrics: metrics, Logger: slog.New(slog.DiscardHandler), Clock: clock,
			})
		}
		begin := func() {
			var err error
			log, err = wal.Open(t.Context(), wal.Options{Path: dir, Sync: wal.SyncNever, SegmentBytes: 4000, Logger: slog.New(slog.DiscardHandler)}, now)
			if err != nil {
				t.Fatal(err)
			}
			metrics = NewMetrics(prometheus.NewRegistry())
			w = worker()
		}
		end := func() {
			w.Close()
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// kill goes on with what a process that is killed has written.
		kill := func() {
			left := t.TempDir()
			if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			end()
			dir = left
			begin()
		}
		begin()
		next := int64(1)
		var late []payment
		for range 60 {
			now = now.Add(time.Second)
			for range random.IntN(6) {
				row := payment{next, fmt.Sprint("shop", random.IntN(3)), random.Float64() * 3}
				next++
				if random.IntN(4) == 0 {
					late = append(late, row)
				} else {
					p.rows = append(p.rows, row)
				}
			}
			late = slices.DeleteFunc(late, func(row payment) bool {
				if next-row.id > 7 || random.IntN(2) == 0 {
					p.rows = append(p.rows, row)
					return true
				}
				return false
			})
			p.limit = 0
			if random.IntN(3) == 0 {
				p.limit = 20
			}
			switch random.IntN(8) {
			case 0:
				p.failing = errDown
				_ = w.Step(t.Context(), now)
				p.failing = nil
			case 1:
				_ = w.collect(t.Context(), now)
				kill()
			case 2:
				_ = w.collect(t.Context(), now)
				w.values.abandon()
			case 3:
				kill()
			case 4:
				after := worker()
				after.Prepare(t.Context(), []Runner{w})
				if err := (Succession{Leaving: []Runner{w}, Entering: []Runner{after}}).Carry(now); err != nil {
					t.Fatal(err)
				}
				w.Close()
				w = after
			default:
				if err := w.Step(t.Context(), now); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.rows, p.limit = append(p.rows, late...), 0
		now = now.Add(time.Second)
		if err := w.Step(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		workersAddUp(t, metrics)
		if d := cmp.Diff(tally(p.rows), countsOf(w)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		end()
	}
}

// tally counts rows the simple way.
func tally(rows []payment) map[string][4]uint64 {
	all := map[string][4]uint64{}
	for _, r := range rows {
		c := all[r.shop]
		c[3]++
		switch {
		case r.seconds <= 1:
			c[0]++
		case r.seconds <= 2:
			c[1]++
		default:
			c[2]++
		}
		all[r.shop] = c
	}
	return all
}

// countsOf is what the worker shows, in the shape of tally.
func countsOf(w *Worker) map[string][4]uint64 {
	all, native := map[string][4]uint64{}, map[string]uint64{}
	for _, p := range w.points(nil) {
		shop := p.labels.Get("shop")
		c := all[shop]
		switch {
		case p.h != nil: // of the same observations
			native[shop] = p.h.Count
		case p.labels.Get("le") == "1.0":
			c[0] += uint64(p.v)
			c[1] -= uint64(p.v)
		case p.labels.Get("le") == "2.0":
			c[1] += uint64(p.v)
			c[2] -= uint64(p.v)
		case p.labels.Get("le") == "+Inf":
			c[2] += uint64(p.v)
		case p.family.name == "payment_seconds_count":
			c[3] = uint64(p.v)
		}
		all[shop] = c
	}
	for shop, n := range native {
		if n != all[shop][3] {
			delete(all, shop)
		}
	}
	return all
}
