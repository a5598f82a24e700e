package collect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// crowd leaves room for so many bytes of states in the log.
func (r *rig) crowd(left int) {
	r.t.Helper()
	s := r.log.Series(labels.FromStrings("__name__", "crowd"), wal.Metadata{})
	defer r.log.Release(s)
	e := entry{book: r.metrics.books.open(r.log, bookName{query: "crowd"}, nil)}
	for n := range 4 {
		key := fmt.Sprint("crowd/", n)
		state := make([]byte, r.log.StateRoom(key))
		if n == 3 {
			state = state[:len(state)-left]
		}
		at := t0.Add(time.Duration(n-10) * time.Second)
		e.mapped = 1
		if _, err := e.append(r.log, &wal.Round{Samples: []wal.Sample{{Series: s, T: at.UnixMilli(), V: 1}}, State: []wal.State{{Key: key, Value: state}}}, at); err != nil {
			r.t.Fatal(err)
		}
	}
	newSamples(r.t, r.reader)
}

// TestAccumulateWithoutRoom counts nothing while the state has no room, and
// says so once; then it counts each row once. Its neighbour goes on.
func TestAccumulateWithoutRoom(t *testing.T) {
	small := paymentSeconds(1000)
	small.Name, small.KeyLabels = "small", nil
	q := paymentQuery(1000)
	q.Metrics = append(q.Metrics, small)
	p := &payments{}
	r := newRig(t, dbSource(), q, p)
	r.crowd(2000)
	add := func(from, to int64) {
		for id := from; id <= to; id++ {
			p.rows = append(p.rows, payment{id, strings.Repeat("x", 200) + fmt.Sprint(id%10), 1})
		}
	}
	step := func(n, sets, count int) {
		t.Helper()
		got := r.step(n)
		if n := strings.Count(got, "payment_seconds_count") - strings.Count(got, "stale"); sets > 0 && n != sets {
			t.Errorf("%d label sets, want %d:\n%s", n, sets, got)
		}
		if !strings.Contains(got, fmt.Sprintf(`small_count{instance="h:1", job="pg", team="shop"} %d @`, count)) {
			t.Errorf("the neighbour does not count %d:\n%s", count, got)
		}
	}
	add(1, 4)
	step(1, 4, 4)
	add(5, 10)
	step(2, 0, 10)
	add(11, 20)
	step(3, 0, 20)
	if n := r.refusedCount("limit"); n != 6+16 {
		t.Errorf("%v refused, want all rows that are new", n)
	}
	if logged := r.logged.String(); strings.Count(logged, "has room for") != 1 || !strings.Contains(logged, "metric=payment_seconds") || !strings.Contains(logged, "10 rows within cursor.overlap and 10 label sets") {
		t.Errorf("logged %s", logged)
	}
	if got := r.points(nil); slices.ContainsFunc(got, func(p shown) bool {
		return p.family.name != "small_bucket" && p.family.name != "small_sum" && p.family.name != "small_count"
	}) {
		t.Errorf("the page shows what is not kept")
	}
	r.log.KeepStates(func(key string) bool { return !strings.HasPrefix(key, "crowd/") })
	step(4, 10, 20)
	r.restart(q, p)
	step(5, 10, 20)
	for shop, c := range countsOf(r.Worker) {
		if shop != "" && c[3] != 2 {
			t.Errorf("%s: %v, want 2 observations", shop, c)
		}
	}
}

// TestAccumulateRoomIsTaken while the round is on its way: its samples are ahead
// of the state until there is room again.
func TestAccumulateRoomIsTaken(t *testing.T) {
	p := &payments{rows: []payment{{1, "a", 1}}}
	r := newRig(t, dbSource(), paymentQuery(2), p)
	r.now = t0.Add(time.Second)
	err := r.collect(t.Context(), r.now)
	r.crowd(0)
	if err := r.commit(t.Context(), r.now, err); err != nil {
		t.Fatal(err)
	}
	k := r.values.keepers[0]
	if got := bare(newSamples(t, r.reader)); !strings.Contains(got, `_count{shop="a"} 1 @1`) || r.log.State(k.stateKey()) != nil {
		t.Errorf("appended %s", got)
	}
	if logged := r.logged.String(); strings.Count(logged, "is not kept") != 1 {
		t.Errorf("logged %s", logged)
	}
	r.log.KeepStates(func(string) bool { return false })
	if got := bare(r.step(2)); !strings.Contains(got, `_count{shop="a"} 1 @2`) || string(r.log.State(k.stateKey())) != string(k.hand()) {
		t.Errorf("appended %s, and the state is not kept", got)
	}
}

// TestWatermarksWithoutRoom sends samples all the same, and says once that they
// may come again.
func TestWatermarksWithoutRoom(t *testing.T) {
	q := query(backups(config.Timestamp{OnlyNewer: true}))
	var rows []answer
	for n := range 4 {
		a := backupRows()
		for i := range 100 {
			a.rows = append(a.rows, backup(fmt.Sprint(i), 1, -20+n))
		}
		rows = append(rows, a)
	}
	r := newRig(t, dbSource(), q, &database{answers: rows})
	r.crowd(500)
	for n := 1; n <= 2; n++ {
		if got := strings.Count(r.step(n), "backup_bytes"); got != 100 {
			t.Errorf("%d samples, want 100", got)
		}
	}
	if logged := r.logged.String(); strings.Count(logged, "is not kept") != 1 || !strings.Contains(logged, "metric=backup_bytes") || strings.Contains(logged, "failed") {
		t.Errorf("logged %s", logged)
	}
	r.log.KeepStates(func(key string) bool { return !strings.HasPrefix(key, "crowd/") })
	r.step(3)
	if logged := r.logged.String(); strings.Count(logged, "is kept again") != 1 || r.log.State(r.values.keepers[0].stateKey()) == nil {
		t.Errorf("logged %s", logged)
	}
}

// TestMetricsHaveStatesOfTheirOwn although their names and statements are the
// same.
func TestMetricsHaveStatesOfTheirOwn(t *testing.T) {
	q := paymentQuery(0)
	labelled := paymentSeconds(0)
	labelled.StaticLabels = map[string]string{"a": "b"}
	q.Metrics = append(q.Metrics, labelled)
	inOther, named, slashed := paymentQuery(0), paymentQuery(0), paymentQuery(0)
	inOther.Collector = "d"
	named.Name = "r"
	slashed.Collector, slashed.Name = "c/d", "q"
	r := newRig(t, dbSource(), q, &payments{})
	keys := map[string]bool{}
	for _, q := range []config.Query{q, inOther, named, slashed} {
		for _, k := range r.successor(q, &payments{}).values.keepers {
			keys[k.stateKey()] = true
		}
	}
	if len(keys) != 5 {
		t.Errorf("the keys are %v, want 5", keys)
	}
}

// TestKeepStates frees the room of metrics that are not configured, and names
// those that begin again because their query is another one.
func TestKeepStates(t *testing.T) {
	edited, renamed, relabelled, added := paymentQuery(2), paymentQuery(2), paymentQuery(2), paymentQuery(2)
	edited.SQL += " "
	renamed.Name = "payments"
	relabelled.Metrics[0].StaticLabels = map[string]string{"a": "b"}
	added.Name, added.Metrics[0].Name = "added", "added_seconds"
	for name, c := range map[string]struct {
		queries []config.Query
		frees   bool
		warns   int
	}{
		"the same":           {[]config.Query{paymentQuery(2)}, false, 0},
		"removed":            {nil, true, 0},
		"another":            {[]config.Query{added}, true, 0},
		"edited":             {[]config.Query{edited}, true, 1},
		"renamed":            {[]config.Query{renamed}, true, 1},
		"labelled otherwise": {[]config.Query{relabelled}, false, 0},
		"beside the same":    {[]config.Query{paymentQuery(2), renamed}, false, 0},
	} {
		for _, reload := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", reload ", reload), func(t *testing.T) {
				p := &payments{rows: []payment{{1, "a", 0.5}}}
				r := newRig(t, dbSource(), paymentQuery(2), p)
				r.step(1)
				key := r.values.keepers[0].stateKey()
				before := r.Worker
				if !reload {
					r.restart(paymentQuery(2), p)
				}
				if r.log.State(key) == nil {
					t.Fatal("there is no state")
				}
				var workers []Runner
				for _, q := range c.queries {
					workers = append(workers, r.successor(q, p))
				}
				r.now = t0.Add(2 * time.Second)
				if !reload {
					KeepStates(r.log, workers)
				} else {
					for _, w := range workers {
						w.Prepare(t.Context(), []Runner{before})
					}
					if err := (Succession{Leaving: []Runner{before}, Entering: workers}).Carry(r.now); err != nil {
						t.Fatal(err)
					}
				}
				if freed := r.log.State(key) == nil; freed != c.frees {
					t.Errorf("freed %t, want %t", freed, c.frees)
				}
				if n := strings.Count(r.logged.String(), `begins again: its query has another text`); n != c.warns {
					t.Errorf("%d warnings, want %d:\n%s", n, c.warns, r.logged)
				}
			})
		}
	}
}
