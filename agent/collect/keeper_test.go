package collect

import (
	"bytes"
	"testing"
	"time"

	"sql2metrics/config"
)

// TestLostRounds has the log lose a round. What a histogram has counted stays,
// and the state follows with the next round; samples with their own time are
// sent again.
func TestLostRounds(t *testing.T) {
	p := &payments{rows: []payment{{1, "a", 0.5}}}
	r := newRig(t, dbSource(), paymentQuery(2), p)
	lose := func(r *rig, n int) {
		t.Helper()
		if err := r.collect(t.Context(), t0.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
		r.values.keepers[0].settle(outcomeLost, outcomeLost)
		r.values.abandon()
	}
	r.step(1)
	p.rows = append(p.rows, payment{4, "a", 0.5})
	lose(r, 2)
	r.step(3) // reads nothing new
	k := r.values.keepers[0]
	if got, want := r.log.State(k.stateKey()), k.hand(); !bytes.Equal(got, want) || p.asked[2] != "2" {
		t.Errorf("the log has the state %q, want %q; cursors %v", got, want, p.asked)
	}

	r = newRig(t, dbSource(), query(backups(config.Timestamp{})), &database{answers: []answer{backupRows(backup("a", 1, -1))}})
	lose(r, 1)
	if got := backupLog(r.step(2)); got != "a 1 @-1\n" {
		t.Errorf("what was lost is not sent again: %q", got)
	}
}
