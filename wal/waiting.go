package wal

import (
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"
)

// maxWaitingBytes bounds what the rounds in memory take: enough for a disk
// that is full for seconds, little beside everything else in the process.
const maxWaitingBytes = 8 << 20

// waiting are the rounds that could not be written, oldest first. They are in
// nobody's totals: what is written later is appended then, and what falls out
// is lost. It is part of the writer and has no lock of its own.
type waiting struct {
	rounds []waitingRound
	bytes  int
	counts Totals
	why    error // of the last failed write
}

// waitingRound is a copy that belongs to the log. It is a user of each of its
// series, which are not forgotten meanwhile.
type waitingRound struct {
	Round
	bytes int
}

// keep lets a round wait in memory, and returns what it has of it: all, or
// nothing of one that is larger than all that may wait.
func (l *Log) keep(w waitingRound) Totals {
	w.bytes = w.size()
	if w.bytes > maxWaitingBytes {
		l.lose(w)
		return Totals{}
	}
	q := &l.waiting
	for q.bytes+w.bytes > maxWaitingBytes {
		l.lose(l.shift())
	}
	w.eachSeries(l.series.use)
	q.rounds = append(q.rounds, w)
	q.bytes += w.bytes
	q.counts = q.counts.Add(w.Totals())
	return w.Totals()
}

// shift takes the oldest round out.
func (l *Log) shift() waitingRound {
	q := &l.waiting
	w := q.rounds[0]
	q.rounds = slices.Delete(q.rounds, 0, 1)
	q.bytes -= w.bytes
	q.counts = q.counts.Sub(w.Totals())
	w.eachSeries(l.giveBack)
	return w
}

// lose counts a round that is given up, by what kept it from being written.
func (l *Log) lose(w waitingRound) {
	if errors.Is(l.waiting.why, unix.ENOSPC) || errors.Is(l.waiting.why, unix.EDQUOT) {
		l.lost.NoSpace = l.lost.NoSpace.Add(w.Totals())
	} else {
		l.lost.DiskError = l.lost.DiskError.Add(w.Totals())
	}
}

// writeWaiting appends the rounds that wait, oldest first, until one fails.
func (l *Log) writeWaiting(now int64) {
	q := &l.waiting
	if len(q.rounds) == 0 {
		return
	}
	for len(q.rounds) > 0 {
		_, rest, err := l.writeRound(&q.rounds[0].Round, now)
		if err == nil {
			l.shift()
			continue
		}
		q.why = err
		l.shrink(rest)
		return
	}
	q.why = nil
	l.log.Info("the log is written again; what waited in memory is in it", "path", l.o.Path, "lost_samples", l.lost.total().Samples)
}

// shrink replaces the oldest round by what is left of it.
func (l *Log) shrink(rest waitingRound) {
	q := &l.waiting
	old := q.rounds[0]
	rest.bytes = rest.size()
	rest.eachSeries(l.series.use)
	q.rounds[0] = rest
	q.bytes += rest.bytes - old.bytes
	q.counts = q.counts.Sub(old.Totals()).Add(rest.Totals())
	old.eachSeries(l.giveBack)
}

// loseWaiting gives up what still waits when the log is closed.
func (l *Log) loseWaiting() {
	q := &l.waiting
	if len(q.rounds) == 0 {
		return
	}
	n := q.counts
	for len(q.rounds) > 0 {
		l.lose(l.shift())
	}
	l.log.Error("the log could not be written until the end; what waited in memory is lost",
		"samples", n.Samples, "histograms", n.Histograms, "exemplars", n.Exemplars, "err", q.why)
}

// copyRound copies what a caller may reuse.
func copyRound(r *Round) waitingRound {
	w := waitingRound{Round: Round{
		Samples:    slices.Clone(r.Samples),
		Histograms: slices.Clone(r.Histograms),
		Exemplars:  slices.Clone(r.Exemplars),
		State:      cloneStates(r.State),
		OwnTime:    r.OwnTime,
		again:      r.again,
	}}
	w.ownHistograms()
	return w
}

// copyTaken copies those items of a round that the encoder took, without what
// has been written of them.
func copyTaken(r *Round, taken []takenItem) waitingRound {
	w := waitingRound{Round: Round{State: cloneStates(r.State), OwnTime: r.OwnTime, again: r.again}}
	next := func(s *Series, t int64, exemplar int) bool {
		if len(taken) == 0 || taken[0] != (takenItem{s, t, exemplar}) {
			return false
		}
		taken = taken[1:]
		return true
	}
	for _, s := range r.Samples {
		if next(s.Series, s.T, 0) {
			w.Samples = append(w.Samples, s)
		}
	}
	for _, h := range r.Histograms {
		if next(h.Series, h.T, 0) {
			w.Histograms = append(w.Histograms, h)
		}
	}
	for i, e := range r.Exemplars {
		if next(e.Series, e.T, i+1) {
			w.Exemplars = append(w.Exemplars, e)
		}
	}
	w.ownHistograms()
	return w
}

func (w *waitingRound) ownHistograms() {
	for i := range w.Histograms {
		h := &w.Histograms[i]
		if h.H != nil {
			h.H = h.H.Copy()
		} else if h.FH != nil {
			h.FH = h.FH.Copy()
		}
	}
}

func (w *waitingRound) eachSeries(do func(*Series)) {
	for i := range w.Samples {
		do(w.Samples[i].Series)
	}
	for i := range w.Histograms {
		do(w.Histograms[i].Series)
	}
	for i := range w.Exemplars {
		do(w.Exemplars[i].Series)
	}
}

// size is what the round takes in memory, about.
func (w *waitingRound) size() int {
	bytes := 32*len(w.Samples) + 40*len(w.Histograms)
	for i := range w.Histograms {
		if h := &w.Histograms[i]; h.H != nil {
			bytes += histogramBytes(h.H)
		} else if h.FH != nil {
			bytes += floatHistogramBytes(h.FH)
		}
	}
	for i := range w.Exemplars {
		bytes += 40 + exemplarLabelBytes(w.Exemplars[i].Labels)
	}
	return bytes + states(nil).with(w.State).size()
}

func exemplarLabelBytes(lset labels.Labels) int { return int(2 * lset.ByteSize()) }

// Lost counts samples that were given to Append and are not in the log, by
// what kept them from being written.
type Lost struct {
	NoSpace   Totals // the disk or the quota was full
	DiskError Totals // anything else
}

func (l Lost) total() Totals { return l.NoSpace.Add(l.DiskError) }
