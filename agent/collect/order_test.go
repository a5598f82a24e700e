package collect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/sources"
)

// Rows that come, go, change places and fail in between become the samples
// that a plain map of the last good round says.
func TestRowsInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	db := &database{answers: []answer{{}}}
	r := newRig(t, dbSource(), query(orders()), db)
	last := map[string]bool{}
	for round := range 300 {
		rows := answer{columns: []string{"status", "n"}}
		want, now := map[string]string{}, map[string]bool{}
		for _, status := range random.Perm(12)[:random.IntN(13)] {
			name := fmt.Sprint("s", status)
			rows.rows = append(rows.rows, []sources.Value{text(name), sources.IntValue(int64(round))})
			now[name] = true
			want[name] = fmt.Sprint(round)
		}
		if random.IntN(8) == 0 {
			rows.err = errors.New("broken off")
			want, now = map[string]string{}, map[string]bool{}
		}
		for name := range last {
			if !now[name] {
				want[name] = "stale"
			}
		}
		last = now

		db.answers = []answer{rows}
		got := map[string]string{}
		for _, s := range appendedSamples(t, r, round+1) {
			got[s.status] = s.value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
	}
}

type statusSample struct{ status, value string }

// appendedSamples runs the worker once and returns what that added to the log.
func appendedSamples(t *testing.T, r *rig, second int) (all []statusSample) {
	t.Helper()
	for line := range strings.Lines(r.step(second)) {
		var s statusSample
		var at string
		if _, err := fmt.Sscanf(line, "orders{instance=\"h:1\", job=\"pg\", status=%q, team=\"shop\"} %s %s\n", &s.status, &s.value, &at); err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		all = append(all, s)
	}
	return all
}
