package wal

import (
	"math"
	"time"
)

// rememberFor is how long the last times of a released series are remembered
// at least, so that one that comes back is still held to them. Far longer than
// any tick is late.
const rememberFor = 10 * time.Minute

// maxReleased bounds how many released series are remembered in each of two
// generations, however many there are in that time: some 10 MiB for each.
const maxReleased = 1 << 18

// released remembers the last times of series that the log has no handle of,
// by the hash of their labels: of what a target makes up anew with each page,
// the labels are most of the bytes. Two series of one hash are held to the later
// of their times.
//
// It has two generations. The older one is forgotten as a whole when the
// younger one is full, or rememberFor old, and takes its place.
type released struct {
	young, old generation
	limit      int // of the series in a generation
}

type generation struct {
	begun  int64 // the append clock
	newest int64 // no series in it has a later sample
	times  map[uint64]lastTimes
}

// lastTimes are the newest times of a series in Unix milliseconds, or
// neverAppended.
type lastTimes struct{ sample, exemplar int64 }

func newGeneration(now int64) generation {
	return generation{begun: now, newest: neverAppended, times: make(map[uint64]lastTimes)}
}

func newReleased() released {
	return released{young: newGeneration(math.MinInt64), old: newGeneration(math.MinInt64), limit: maxReleased}
}

// of returns what is remembered of a hash.
func (r *released) of(hash uint64) lastTimes {
	return r.young.of(hash).later(r.old.of(hash))
}

func (g *generation) of(hash uint64) lastTimes {
	if t, ok := g.times[hash]; ok {
		return t
	}
	return lastTimes{neverAppended, neverAppended}
}

func (t lastTimes) later(o lastTimes) lastTimes {
	return lastTimes{max(t.sample, o.sample), max(t.exemplar, o.exemplar)}
}

// add remembers the times of a series.
func (r *released) add(hash uint64, t lastTimes) {
	g := &r.young
	g.times[hash] = t.later(g.of(hash))
	g.newest = max(g.newest, t.sample)
}

// forget drops the older generation if its time has come, or there is no room
// for one series more, and returns the time that no unknown series may go back
// before from then on: any of them may be one of those that are forgotten.
//
// Those that are forgotten early may have samples from the data's own times,
// which lie ahead. They hold back no other series: the time returned is not
// after now then.
func (r *released) forget(now int64) (floor int64) {
	full := len(r.young.times) >= r.limit
	if !full && now-rememberFor.Milliseconds() < r.young.begun {
		return neverAppended
	}
	floor = r.old.newest
	if now-rememberFor.Milliseconds() < r.young.begun {
		floor = min(floor, now)
	}
	r.old, r.young = r.young, newGeneration(now)
	return floor
}

// setBack has what was released in a future that the clock has left be
// forgotten as if it had been released now.
func (r *released) setBack(now int64) {
	r.young.begun = min(r.young.begun, now)
}
