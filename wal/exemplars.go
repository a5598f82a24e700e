package wal

import "math"

// lastExemplars is the writer's memory of a series' exemplars.
type lastExemplars struct {
	last    exemplarPlace // of the newest in the log
	pending exemplarPlace // the same with the round being encoded
	round   uint64
}

// exemplarPlace is where an exemplar stands among those of its series: by its
// time, its value and the hash of its labels, as Prometheus has it. Targets
// show an exemplar until they have a newer, and a native histogram has several
// of one time.
type exemplarPlace struct {
	t    int64
	v    float64
	hash uint64
}

func (e *Exemplar) place() exemplarPlace { return exemplarPlace{e.T, e.V, e.Labels.Hash()} }

// after tells whether an exemplar is neither the same as another one nor
// before it. One that is not a number is after none of its time.
func (p exemplarPlace) after(o exemplarPlace) bool {
	switch {
	case p.t != o.t:
		return p.t > o.t
	case p.v != o.v:
		return p.v > o.v
	}
	return p.hash > o.hash
}

// exemplarsAfter is the memory of a series of whose exemplars no more than the
// newest time is known: another one of that time may be the same again.
func exemplarsAfter(at int64) *lastExemplars {
	return &lastExemplars{last: exemplarPlace{at, math.Inf(1), math.MaxUint64}}
}

// takeExemplar is take for an exemplar: one that was scraped before is refused.
// After a start the first one of a series is taken, and the receiver's to know
// again.
func (t *seriesTable) takeExemplar(e *Exemplar, round uint64, r *Round) bool {
	if e.Series.exemplars == nil {
		e.Series.exemplars = exemplarsAfter(neverAppended)
	}
	x := e.Series.exemplars
	if x.round != round {
		x.round, x.pending = round, x.last
	}
	p := e.place()
	if !p.after(x.pending) && !r.again {
		return false
	}
	x.pending = p
	return true
}
