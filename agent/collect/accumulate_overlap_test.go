package collect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// countedRows returns how often the row of each id was counted, where each row has a
// shop of its own.
func countedRows(w *Worker) map[string]uint64 {
	all := map[string]uint64{}
	for key, o := range w.values.keepers[0].(*accumulating).counted.groups {
		all[key[4:]] = o.count
	}
	return all
}

// TestAccumulateLateAfterQuiet counts rows that appear within the overlap
// together with more new ones than it has, after a run without any.
func TestAccumulateLateAfterQuiet(t *testing.T) {
	rows := func(from, to int64, without ...int64) (all []payment) {
		for id := from; id <= to; id++ {
			if !slices.Contains(without, id) {
				all = append(all, payment{id, "a", 1})
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		first, then []payment
		restarts    bool
		want        int
	}{
		"in one process":  {rows(1, 5, 3), append(rows(6, 14), payment{3, "a", 1}), false, 14},
		"after a restart": {rows(1, 100, 98), append(rows(101, 109), payment{98, "a", 1}), true, 109},
	} {
		t.Run(name, func(t *testing.T) {
			q, p := paymentQuery(10), &payments{rows: c.first}
			r := newRig(t, dbSource(), q, p)
			r.step(1)
			if c.restarts {
				r.restart(q, p)
			}
			r.step(2)
			p.rows = append(p.rows, c.then...)
			for n := 3; n < 6; n++ {
				r.step(n)
			}
			if got := bare(r.step(6)); !strings.Contains(got, fmt.Sprintf(`_count{shop="a"} %d @`, c.want)) {
				t.Errorf("asked behind %v, got\n%s", p.asked, got)
			}
		})
	}
}

// TestAccumulateOverlapModel lets rows appear in any order, with limits, quiet
// and failed runs and restarts. Those that were within the overlap when they
// appeared are counted once, the others at most once.
func TestAccumulateOverlapModel(t *testing.T) {
	const overlap = 10
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 2))
		q, p := paymentQuery(overlap), &payments{}
		p.limit = []int{0, 0, 1, 2, 5, 10, 11, 25}[random.IntN(8)]
		r := newRig(t, dbSource(), q, p)
		var owed []string
		var inFlight []int64
		next := int64(1)
		appear := func(id int64) {
			shop := fmt.Sprint(id)
			if id > r.values.keepers[0].(*accumulating).counted.at.n-overlap {
				owed = append(owed, shop)
			}
			p.rows = append(p.rows, payment{id, shop, 1})
		}
		step := 0
		run := func() {
			step++
			r.now = t0.Add(time.Duration(step) * time.Second)
			_ = r.Step(t.Context(), r.now)
			addsUp(t, r.metrics)
		}
		for range 120 {
			// Else the tick is quiet, as most are on the way to the newest row.
			if behind := next - 1 - r.values.keepers[0].(*accumulating).counted.at.n; behind <= 2 && random.IntN(2) > 0 || random.IntN(8) == 0 {
				for range random.IntN(14) {
					if inFlight = append(inFlight, next); random.IntN(3) > 0 {
						appear(next)
						inFlight = inFlight[:len(inFlight)-1]
					}
					next++
				}
				for range random.IntN(4) {
					if n := len(inFlight); n > 0 {
						i := max(0, n-1-random.IntN(6))
						appear(inFlight[i])
						inFlight = slices.Delete(inFlight, i, i+1)
					}
				}
			}
			switch random.IntN(10) {
			case 0:
				p.failing = errDown
				run()
				p.failing = nil
			case 1:
				r.restart(q, p)
			default:
				run()
			}
		}
		// With a limit of one, a row takes a sweep of the overlap.
		missing := func(counts map[string]uint64) bool {
			return slices.ContainsFunc(owed, func(shop string) bool { return counts[shop] == 0 })
		}
		counts := countedRows(r.Worker)
		for end := step + (overlap+4)*len(p.rows); step < end && missing(counts); counts = countedRows(r.Worker) {
			run()
		}
		for _, shop := range owed {
			if counts[shop] == 0 {
				t.Errorf("seed %d, limit %d: row %s is not counted", seed, p.limit, shop)
			}
		}
		for shop, n := range counts {
			if n > 1 {
				t.Errorf("seed %d, limit %d: row %s is counted %d times", seed, p.limit, shop, n)
			}
		}
		if t.Failed() {
			return
		}
	}
}
