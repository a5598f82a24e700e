package wal

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/tsdb/record"
)

// All states are written again at the beginning of each segment, and a frame has
// room for them beside its samples. That bounds them, in bytes: all together, and
// each, so that one does not take the room of the others.
const (
	maxStates = 2 << 20
	maxState  = maxStates / 4
)

// recordState is our own type of record, beside those of tsdb/record.
const recordState record.Type = 15

// StateError says that a round was appended without some of its states, because
// there is no room for them: the log still has the older ones. [Log.StateRoom]
// tells beforehand.
type StateError struct {
	Keys []string // of those states
	Err  error    // what else became of the append; may be nil
}

// Error names the states.
func (e *StateError) Error() string {
	text := fmt.Sprintf("no room for the states %q, so that the log still has the older ones", e.Keys)
	if e.Err != nil {
		text += "; " + e.Err.Error()
	}
	return text
}

// Unwrap returns what else became of the append.
func (e *StateError) Unwrap() error { return e.Err }

// State is a small value that whoever appends wants to find again after a
// restart, as it was with the samples that the log has then: neither the one nor
// the other is there alone. The value replaces what the key had; one that is
// nil removes it.
type State struct {
	Key   string
	Value []byte
}

// State returns the value that was last appended with the key; nil if there is
// none. The caller does not change it. Anyone may call it at any time; it waits
// for a running Append.
func (l *Log) State(key string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[key]
}

// StateKeys returns the keys of all states, in order. Anyone may call it at any
// time; it waits for a running Append.
func (l *Log) StateKeys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.states))
}

// StateRoom returns how many bytes the value of a key may have: a quarter of
// what there is for all states, or what the others leave of that. One that is
// not larger than the value before it always has room. Anyone may call it at any
// time; it waits for a running Append.
func (l *Log) StateRoom(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states.room(key) - stateBytes(key, nil)
}

// KeepStates removes all states whose key is not wanted. It is for those that
// nobody appends any more; the disk has them until the next segment, and has
// them back if the process ends before that.
func (l *Log) KeepStates(wanted func(key string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	after := maps.Clone(l.states)
	maps.DeleteFunc(after, func(key string, _ []byte) bool { return !wanted(key) })
	l.states = after
}

// states are all that are kept. They are never changed, only replaced, so that
// whoever holds them knows what they were at a time.
type states map[string][]byte

// with returns the states after some changes, of which nothing is kept.
func (s states) with(changes []State) states {
	if len(changes) == 0 {
		return s
	}
	after := make(states, len(s)+len(changes))
	maps.Copy(after, s)
	for _, c := range changes {
		if c.Value == nil {
			delete(after, c.Key)
		} else {
			after[c.Key] = slices.Clone(c.Value)
		}
	}
	return after
}

// size bounds what the states take in a frame.
func (s states) size() (bytes int) {
	for key, value := range s {
		bytes += stateBytes(key, value)
	}
	return bytes
}

// room is what the state of a key may take.
func (s states) room(key string) int {
	before := 0
	if value, ok := s[key]; ok {
		before = stateBytes(key, value)
	}
	return max(before, min(maxState, maxStates-s.size()+before))
}

// admit returns those of the changes that there is room for, and the keys of
// the others.
func (s states) admit(changes []State) (admitted []State, without []string) {
	after := maps.Clone(s)
	if after == nil {
		after = states{}
	}
	for _, c := range changes {
		switch {
		case c.Value == nil:
			delete(after, c.Key)
		case stateBytes(c.Key, c.Value) <= after.room(c.Key):
			after[c.Key] = c.Value
		default:
			without = append(without, c.Key)
			continue
		}
		admitted = append(admitted, c)
	}
	return admitted, without
}

func stateBytes(key string, value []byte) int {
	return 2*binary.MaxVarintLen32 + len(key) + len(value)
}

func cloneStates(all []State) []State {
	all = slices.Clone(all)
	for i := range all {
		all[i].Value = slices.Clone(all[i].Value)
	}
	return all
}

// list is all of s, in order of the keys.
func (s states) list() []State {
	all := make([]State, 0, len(s))
	for _, key := range slices.Sorted(maps.Keys(s)) {
		all = append(all, State{key, s[key]})
	}
	return all
}

// encodeStates appends a frame with all states, for the beginning of a segment.
func (e *encoder) encodeStates(s states, h frameHeader) {
	if len(s) == 0 {
		return
	}
	e.states = s.list()
	h.flags = flagTable
	e.encodeFrame(h)
}

// appendStates appends a record: the type, and for each state the length of its
// key, its key, the length of its value and one, or zero where it is removed,
// and its value. The lengths are uvarints.
func appendStates(rec []byte, all []State) []byte {
	rec = append(rec, byte(recordState))
	for _, s := range all {
		rec = binary.AppendUvarint(rec, uint64(len(s.Key)))
		rec = append(rec, s.Key...)
		if s.Value == nil {
			rec = append(rec, 0)
			continue
		}
		rec = binary.AppendUvarint(rec, uint64(len(s.Value))+1)
		rec = append(rec, s.Value...)
	}
	return rec
}

// decodeStates appends the states of a record to all.
func decodeStates(rec []byte, all []State) ([]State, error) {
	rec = rec[1:]
	field := func(less uint64) ([]byte, bool) {
		n, w := binary.Uvarint(rec)
		if w <= 0 || n < less || n-less > uint64(len(rec)-w) {
			return nil, false
		}
		end := w + int(n-less)
		field := rec[w:end]
		rec = rec[end:]
		return field, true
	}
	for len(rec) > 0 {
		key, ok := field(0)
		if !ok || len(rec) == 0 {
			return all, errRecord
		}
		s := State{Key: string(key)}
		if rec[0] == 0 {
			rec = rec[1:]
		} else {
			value, ok := field(1)
			if !ok {
				return all, errRecord
			}
			s.Value = append([]byte{}, value...)
		}
		all = append(all, s)
	}
	return all, nil
}
