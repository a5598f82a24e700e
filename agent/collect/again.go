package collect

import (
	"time"

	"sql2metrics/wal"
)

// What follows deals with the last good round alone. The next one may be
// collected meanwhile by another goroutine.

// resend appends the last good round once more, stamped stamp. Samples with
// their own time are not among it.
func (v *values) resend(stamp time.Time) (wal.Appended, error) {
	if !v.tenure.enter() {
		return wal.Appended{}, errRetired
	}
	defer v.tenure.leave()
	r, t := v.emptyAgain(), stamp.UnixMilli()
	for _, p := range v.last {
		if p.native() {
			r.Histograms = append(r.Histograms, wal.Histogram{Series: p.series.handle, T: t, H: p.h, FH: p.fh})
			continue
		}
		r.Samples = append(r.Samples, wal.Sample{Series: p.series.handle, T: t, V: p.v})
	}
	v.repeated.resent = uint64(len(v.last))
	return v.repeated.append(v.log, r, stamp)
}

// expire ends the last good round where it is: its series get stale markers,
// stamped stamp, and the page shows none. They are forgotten by the end of the
// next round, which marks none of them again.
func (v *values) expire(stamp time.Time) (stale int, appended wal.Appended, err error) {
	if !v.tenure.enter() {
		return 0, wal.Appended{}, errRetired
	}
	defer v.tenure.leave()
	r := v.emptyAgain()
	markStale(r, v.last, stamp.UnixMilli())
	v.repeated.stale = uint64(len(v.last))
	appended, err = v.repeated.append(v.log, r, stamp)
	v.mu.Lock()
	v.ended = true
	v.mu.Unlock()
	return len(v.last), appended, err
}

func (v *values) emptyAgain() *wal.Round {
	v.repeated.book = v.entry.book
	v.again.Samples, v.again.Histograms = v.again.Samples[:0], v.again.Histograms[:0]
	return &v.again
}

// restamp gives the round being collected another timestamp. Samples with
// their own time keep theirs.
func (v *values) restamp(stamp time.Time) {
	v.stamp = stamp.UnixMilli()
	for i := range v.round.Samples {
		v.round.Samples[i].T = v.stamp
	}
	for i := range v.round.Histograms {
		v.round.Histograms[i].T = v.stamp
	}
}
