package wal

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
)

// forgetAfter is how long a released series is remembered, so that one that
// comes back is still held to its last time. Far longer than any tick is late.
const forgetAfter = 10 * time.Minute

// neverAppended is the last time of a series that has none yet.
const neverAppended = math.MinInt64

// seriesRef is a series' place in its segment's table, from 1.
type seriesRef = chunks.HeadSeriesRef

// Series is a handle to one label set in the log. It is the writer's memory
// of it: its last time and its reference in the open segment. Handles are
// compared by identity.
type Series struct {
	// All but labels is the writer's, under Log.mu. What every append of a
	// sample looks at comes first, in as few cache lines as can be: an append
	// of thousands of series mostly waits for these.
	last, lastExemplar       int64 // newest times in the log, Unix milliseconds
	pending, pendingExemplar int64 // the same with the round being encoded
	round                    uint64

	segment   uint64 // the segment that ref belongs to
	ref       seriesRef
	described uint64 // the segment that has the metadata as it is now

	labels     labels.Labels
	metadata   *Metadata // shared, and not written to
	next       *Series   // of the same hash
	users      int       // calls of Log.Series not yet released
	releasedAt int64     // the append clock when users became 0
}

// Labels returns the label set. Anyone may call it at any time.
func (s *Series) Labels() labels.Labels { return s.labels }

// seriesTable interns the handles of a log. It has no lock of its own: it is
// part of the writer.
type seriesTable struct {
	byHash   map[uint64]*Series
	len      int
	metadata *Metadata        // of the series interned last; not nil
	released []releasedSeries // oldest first; stale entries are skipped
	// floor is the largest time among forgotten series. A series that is not
	// known is held to it: it may be one of them.
	floor int64
}

type releasedSeries struct {
	series *Series
	at     int64
}

func newSeriesTable(floor int64) seriesTable {
	return seriesTable{byHash: make(map[uint64]*Series), metadata: &Metadata{}, floor: floor}
}

// find returns the handle of the label set; nil if there is none.
func (t *seriesTable) find(lset labels.Labels) *Series {
	for s := t.byHash[lset.Hash()]; s != nil; s = s.next {
		if labels.Equal(s.labels, lset) {
			return s
		}
	}
	return nil
}

// intern returns the handle of the label set, making it if there is none. The
// series of a metric come one after the other, and share its metadata.
func (t *seriesTable) intern(lset labels.Labels, m Metadata) *Series {
	if *t.metadata != m {
		t.metadata = &m
	}
	if s := t.find(lset); s != nil {
		if *s.metadata != m {
			s.metadata = t.metadata
			s.described = 0
		}
		return s
	}
	hash := lset.Hash()
	s := &Series{labels: lset, metadata: t.metadata, next: t.byHash[hash], last: neverAppended, lastExemplar: neverAppended}
	t.byHash[hash] = s
	t.len++
	return s
}

// release puts a series without users on the way to being forgotten.
func (t *seriesTable) release(s *Series, now int64) {
	s.releasedAt = now
	t.released = append(t.released, releasedSeries{s, now})
}

// forget drops the series that were released long enough ago.
func (t *seriesTable) forget(now int64) {
	n := 0
	for ; n < len(t.released) && now-t.released[n].at >= forgetAfter.Milliseconds(); n++ {
		s := t.released[n].series
		if s.users > 0 || s.releasedAt != t.released[n].at {
			continue // taken again since
		}
		t.floor = max(t.floor, s.last)
		t.drop(s)
	}
	if n > 0 {
		t.released = slices.Delete(t.released, 0, n)
	}
}

// setBack lets what was released in a future that the clock has left be
// forgotten as if it had been released now.
func (t *seriesTable) setBack(now int64) {
	for i := range t.released {
		r := &t.released[i]
		if r.series.releasedAt == r.at {
			r.series.releasedAt = min(r.at, now)
		}
		r.at = min(r.at, now)
	}
}

func (t *seriesTable) drop(s *Series) {
	hash := s.labels.Hash()
	if head := t.byHash[hash]; head == s {
		if s.next == nil {
			delete(t.byHash, hash)
		} else {
			t.byHash[hash] = s.next
		}
		t.len--
		return
	}
	for p := t.byHash[hash]; p != nil; p = p.next {
		if p.next == s {
			p.next = s.next
			t.len--
			return
		}
	}
}

// Series returns the handle of a label set, the same one for the same labels
// until it is forgotten, and counts one more user of it. m replaces what was
// known of the metric; if it differs it goes out with the next sample. The
// caller has validated both, keeps the handle for as long as it appends to the
// series, and then calls Release. Anyone may call it at any time; it waits for
// a running Append.
func (l *Log) Series(lset labels.Labels, m Metadata) *Series {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.series.intern(lset, m)
	s.users++
	return s
}

// Floor returns the largest time of the series that the log no longer has,
// those before the start among them, in Unix milliseconds: it refuses a sample
// that is not after it of a series that has none yet. Anyone may call it at any
// time; it waits for a running Append.
func (l *Log) Floor() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.series.floor
}

// Last returns the newest time that the log has of the series with that label
// set, or remembers of it, in Unix milliseconds; false if there is none. A sample
// that is not after it is refused. Anyone may call it at any time; it waits for a
// running Append.
func (l *Log) Last(lset labels.Labels) (at int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.series.find(lset)
	if s == nil || s.last == neverAppended {
		return 0, false
	}
	return s.last, true
}

// Release gives a handle back, once per call of Series; the caller does not
// append to it again. The last time of the series is kept for ten minutes of
// appends more, so that whoever asks for the same labels in that time can
// still not go back before it.
func (l *Log) Release(s *Series) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(s)
}

// giveBack is Release for who has l.mu.
func (l *Log) giveBack(s *Series) {
	if s.users--; s.users == 0 {
		l.series.release(s, l.now)
	}
}

// take decides whether a sample of that time may follow what the log has of
// the series, and notes it for the round being encoded if so.
func (t *seriesTable) take(s *Series, at int64, round uint64, r *Round) bool {
	if s.round != round {
		s.round, s.pending, s.pendingExemplar = round, s.last, s.lastExemplar
	}
	if r.again {
		return true
	}
	if at <= s.pending || s.pending == neverAppended && at <= t.floor && !r.OwnTime {
		return false
	}
	s.pending = at
	return true
}

// takeExemplar is take for an exemplar: one that was scraped before is the
// same again. A native histogram may have several of one time; before is the one
// taken last.
func (t *seriesTable) takeExemplar(e, before *Exemplar, round uint64, r *Round) bool {
	s := e.Series
	if s.round != round {
		s.round, s.pending, s.pendingExemplar = round, s.last, s.lastExemplar
	}
	if e.T <= s.pendingExemplar && !e.beside(before) && !r.again {
		return false
	}
	s.pendingExemplar = e.T
	return true
}

// beside tells whether two exemplars of one series and time are not the same.
func (e *Exemplar) beside(o *Exemplar) bool {
	return o != nil && o.Series == e.Series && o.T == e.T && (o.V != e.V || !labels.Equal(o.Labels, e.Labels))
}

func (s *Series) refMetadata() record.RefMetadata {
	return record.RefMetadata{
		Ref:  s.ref,
		Type: record.GetMetricType(s.metadata.Type),
		Unit: s.metadata.Unit,
		Help: s.metadata.Help,
	}
}
