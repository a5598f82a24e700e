package wal

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
)

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
	last    int64 // newest time in the log, Unix milliseconds
	pending int64 // the same with the round being encoded
	round   uint64

	segment   uint64 // the segment that ref belongs to
	ref       seriesRef
	described uint64 // the segment that has the metadata as it is now

	labels    labels.Labels
	metadata  *Metadata      // shared, and not written to
	exemplars *lastExemplars // nil before the first
	next      *Series        // of the same hash
	users     int            // calls of Log.Series not yet released
	idle      int            // bytes of it among those without users
}

// Labels returns the label set. Anyone may call it at any time.
func (s *Series) Labels() labels.Labels { return s.labels }

// maxIdle bounds the bytes of series without users that the open segment has
// and the log therefore has whole: it is sealed when they are more. Of labels
// that compress well, a segment has far more than its size on disk.
const maxIdle = 32 << 20

// seriesBase is what a series takes in memory beside its texts, about.
const seriesBase = 256

// seriesTable interns the handles of a log: those of series that have a user
// or are in the open segment, which has one reference for each. Of the others
// only the last times are remembered. It has no lock of its own: it is part of
// the writer.
type seriesTable struct {
	byHash   map[uint64]*Series
	len      int
	metadata *Metadata // of the series interned last; not nil
	idle     int       // bytes of the series without users
	maxIdle  int
	released released
	// floor is the largest time among forgotten series. A series that is not
	// known is held to it: it may be one of them.
	floor int64
}

func newSeriesTable(floor int64) seriesTable {
	return seriesTable{byHash: make(map[uint64]*Series), metadata: &Metadata{}, maxIdle: maxIdle, released: newReleased(), floor: floor}
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
	before := t.released.of(hash)
	s := &Series{labels: lset, metadata: t.metadata, next: t.byHash[hash], last: before.sample}
	if before.exemplar != neverAppended {
		s.exemplars = exemplarsAfter(before.exemplar)
	}
	t.byHash[hash] = s
	t.len++
	return s
}

// use counts a user of a series.
func (t *seriesTable) use(s *Series) {
	s.users++
	t.idle -= s.idle
	s.idle = 0
}

// rest keeps a series without users whole, for as long as the open segment has
// it.
func (t *seriesTable) rest(s *Series) {
	t.idle -= s.idle
	s.idle = seriesBase + int(s.labels.ByteSize()) + len(s.metadata.Unit) + len(s.metadata.Help)
	t.idle += s.idle
}

// shorten drops a series without users, and remembers its last times. One that
// was never appended leaves nothing.
func (t *seriesTable) shorten(s *Series, now int64) {
	t.idle -= s.idle
	s.idle = 0
	t.drop(s)
	last := lastTimes{s.last, neverAppended}
	if s.exemplars != nil {
		last.exemplar = s.exemplars.last.t
	}
	if last == (lastTimes{neverAppended, neverAppended}) {
		return
	}
	t.forget(now)
	t.released.add(s.labels.Hash(), last)
}

// forget drops what is remembered of the series released longest ago, if it is
// time to.
func (t *seriesTable) forget(now int64) { t.floor = max(t.floor, t.released.forget(now)) }

// left shortens those without users of the series of a segment that was open.
func (t *seriesTable) left(table []*Series, now int64) {
	for _, s := range table {
		if s.users == 0 {
			t.shorten(s, now)
		}
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
// while it has users, and counts one more of them. m replaces what was
// known of the metric; if it differs it goes out with the next sample. The
// caller has validated both, keeps the handle for as long as it appends to the
// series, and then calls Release. Anyone may call it at any time; it waits for
// a running Append.
func (l *Log) Series(lset labels.Labels, m Metadata) *Series {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.series.intern(lset, m)
	l.series.use(s)
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
	at = l.series.released.of(lset.Hash()).sample
	if s := l.series.find(lset); s != nil {
		at = s.last
	}
	if at == neverAppended {
		return 0, false
	}
	return at, true
}

// Release gives a handle back, once per call of Series; the caller does not
// append to it again. The last time of the series is remembered for ten minutes
// of appends at least, so that whoever asks for the same labels in that time can
// still not go back before it. Where a quarter of a million others and more are
// released in that time, it may be forgotten before, and its time is part of
// the floor then, which rounds with OwnTime are not held to.
func (l *Log) Release(s *Series) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(s)
}

// giveBack is Release for who has l.mu.
func (l *Log) giveBack(s *Series) {
	if s.users--; s.users > 0 {
		return
	}
	if l.open != nil && s.segment == l.open.header.first {
		l.series.rest(s)
	} else {
		l.series.shorten(s, l.now)
	}
}

// take decides whether a sample of that time may follow what the log has of
// the series, and notes it for the round being encoded if so.
func (t *seriesTable) take(s *Series, at int64, round uint64, r *Round) bool {
	if s.round != round {
		s.round, s.pending = round, s.last
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

func (s *Series) refMetadata() record.RefMetadata {
	return record.RefMetadata{
		Ref:  s.ref,
		Type: record.GetMetricType(s.metadata.Type),
		Unit: s.metadata.Unit,
		Help: s.metadata.Help,
	}
}
