package collect

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"

	"sql2metrics/wal"
)

// keeper is a shape that remembers more than its last round, and keeps it in
// the log as a state beside the samples it belongs to. What it has learned from
// rows counts once their round is settled; until then it can be discarded.
type keeper interface {
	// settle comes after the round has been given to the log, with what became
	// of its samples and of those with their own time.
	settle(round, timed outcome)
	// discard forgets the round being collected.
	discard()
	stateKey() string
	// hand returns what restore needs to go on from the last settled round in
	// another worker. A round may be collected meanwhile.
	hand() []byte
	// restore goes on from a state. After an error it begins anew.
	restore(state []byte) error
	close()
}

// outcome is what became of a round and its state.
type outcome int

const (
	outcomeDone      outcome = iota // both are in the log, or wait in memory for it
	outcomeStateless                // the samples are, or the log refuses them; the state is not
	outcomeLost                     // samples are lost
)

func outcomeOf(r *wal.Round, a wal.Appended, err error) outcome {
	taken := a.Appended.Add(a.Kept)
	switch {
	case taken.Add(a.Refused) != r.Totals():
		return outcomeLost
	case err != nil || taken.IsZero():
		return outcomeStateless
	}
	return outcomeDone
}

// origin is what a metric is made from. It goes into the keys of states.
type origin struct{ source, sql string }

// key returns the key of a metric's state. A statement that changes in any way
// is another one: its rows may mean something else.
func (o origin) key(what, metric string) string {
	sum := sha256.Sum256([]byte(o.sql))
	return what + "/" + o.source + "/" + metric + "/" + hex.EncodeToString(sum[:8])
}

// restoreFrom has each keeper go on from what the log has of it.
func (v *values) restoreFrom(log *wal.Log, logger *slog.Logger) {
	for _, k := range v.keepers {
		if state := log.State(k.stateKey()); state != nil {
			restore(k, state, logger)
		}
	}
}

// follows tells whether there is a keeper here that goes on from one of before.
func (v *values) follows(before *values) bool {
	return slices.ContainsFunc(v.keepers, func(k keeper) bool {
		return slices.ContainsFunc(before.keepers, func(old keeper) bool { return k.stateKey() == old.stateKey() })
	})
}

// succeed has each keeper go on from what that of another worker has, which
// may be ahead of the log.
func (v *values) succeed(before *values, logger *slog.Logger) {
	for _, old := range before.keepers {
		for _, k := range v.keepers {
			if k.stateKey() == old.stateKey() {
				restore(k, old.hand(), logger)
			}
		}
	}
}

func restore(k keeper, state []byte, logger *slog.Logger) {
	if err := k.restore(state); err != nil {
		logger.Warn("what was kept of a metric cannot be used: it begins anew, a histogram at cursor.start", "state", k.stateKey(), "err", err)
	}
}
