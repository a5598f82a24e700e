package collect

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"sql2metrics/config"
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
	name() string // of the metric
	// afresh says what it comes to that the keeper begins again, without a state
	// or with an old one.
	afresh() string
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

// origin is what a metric is made from.
type origin struct {
	source string
	query  config.Query
}

// key returns the key of a metric's state: what is kept, the source and the
// metric, and then what makes another one of it. A statement that changes in any
// way does, or a path into its answer: its rows may mean something else. Metrics
// of one name are told apart by their collectors and queries, and in one query
// by their labels and columns.
func (o origin) key(what string, m config.Metric) string {
	id := o.query.SQL
	if o.query.JSON != nil {
		id += fmt.Sprintf("\x00%q", *o.query.JSON)
	}
	same := func(other config.Metric) bool { return other.Name == m.Name }
	if first := slices.IndexFunc(o.query.Metrics, same); first >= 0 && slices.ContainsFunc(o.query.Metrics[first+1:], same) {
		id += fmt.Sprintf("\x00%q %q %q %q", m.StaticLabels, m.KeyLabels, m.ValueLabel, m.Values)
	}
	sum := sha256.Sum256([]byte(id))
	return namePath(what, o.source, m.Name) + namePath(o.query.Collector, o.query.Name) + hex.EncodeToString(sum[:8])
}

// metricPath is what the keys of a metric's states begin with, whatever its
// query is.
func metricPath(key string) string {
	parts := strings.SplitN(key, "/", 4)
	return strings.TrimSuffix(key, parts[len(parts)-1])
}

// namePath writes names one after the other, each of which may have a slash.
func namePath(names ...string) (path string) {
	for _, name := range names {
		path += url.PathEscape(name) + "/"
	}
	return path
}

// KeepStates has the log forget what was kept of metrics that no worker has any
// more, so that it does not take the room of others. Those of them that a worker
// has with another query are named in its log: they begin again. It is called
// when all workers have been made, and none of those that begin has appended
// anything.
func KeepStates(log *wal.Log, all []Runner) {
	var workers []*Worker
	wanted := map[string]bool{}
	for _, r := range all {
		w, ok := r.(*Worker)
		if !ok {
			continue
		}
		workers = append(workers, w)
		for _, k := range w.values.keepers {
			wanted[k.stateKey()] = true
		}
	}
	kept, left := map[string]bool{}, map[string]bool{}
	for _, key := range log.StateKeys() {
		kept[key] = true
		if !wanted[key] {
			left[metricPath(key)] = true
		}
	}
	for _, w := range workers {
		for _, k := range w.values.keepers {
			if key := k.stateKey(); !kept[key] && left[metricPath(key)] {
				w.logger.Warn("a metric begins again: its query has another text, name or collector than before", "metric", k.name(), "effect", k.afresh())
			}
		}
	}
	log.KeepStates(func(key string) bool { return wanted[key] })
}

// append gives a round to the log. That there is no room for one of its states
// is no error: it is noted in news.
func (v *values) append(r *wal.Round, now time.Time) (wal.Appended, error) {
	appended, err := v.entry.append(v.log, r, now)
	var full *wal.StateError
	var without []string
	if errors.As(err, &full) {
		without, err = full.Keys, full.Err
	}
	for _, s := range r.State {
		if is := slices.Contains(without, s.Key); is != v.without[s.Key] {
			if v.without == nil {
				v.without = map[string]bool{}
			}
			v.without[s.Key] = is
			v.news = append(v.news, s.Key)
		}
	}
	return appended, err
}

// settleKeepers tells each keeper what became of the round.
func (v *values) settleKeepers(round, timed outcome) {
	for _, k := range v.keepers {
		if v.without[k.stateKey()] {
			k.settle(max(round, outcomeStateless), max(timed, outcomeStateless))
		} else {
			k.settle(round, timed)
		}
	}
}

// reportStates logs for which states there is no room any more, or again.
func (v *values) reportStates(logger *slog.Logger) {
	for _, k := range v.keepers {
		key := k.stateKey()
		switch {
		case !slices.Contains(v.news, key):
		case v.without[key]:
			logger.Warn("the state of a metric is not kept: there is no room for it; its samples are, and after a restart it goes on from the state before",
				"metric", k.name(), "room_bytes", v.log.StateRoom(key), "effect", k.afresh())
		default:
			logger.Info("the state of a metric is kept again", "metric", k.name())
		}
	}
	v.news = v.news[:0]
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
		logger.Warn("a metric begins again: what was kept of it cannot be used", "metric", k.name(), "effect", k.afresh(), "err", err)
	}
}
