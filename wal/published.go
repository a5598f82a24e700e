package wal

import "sync"

// published is what others may see of a log without waiting for its writer,
// which may be waiting for a disk.
type published struct {
	mu       sync.Mutex
	stats    Stats
	segments []uint64 // first sequence numbers of those that can be read; replaced, never changed
	bounds   []uint64 // of those whose header is whole: there the one before ends
	changed  chan struct{}
}

func newPublished() *published { return &published{changed: make(chan struct{})} }

// set publishes everything but what syncs publish.
func (p *published) set(s Stats, segments, bounds []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Synced = p.stats.Synced
	p.stats, p.segments, p.bounds = s, segments, bounds
}

// advance publishes that readers may read up to here. It never goes back: with
// SyncNever an append may have been published since to was looked at.
func (p *published) advance(to Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.stats.Synced
	if to.Seq < now.Seq || to.Seq == now.Seq && to.Segment == now.Segment && to.Offset <= now.Offset {
		return
	}
	p.stats.Synced = to
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *published) get() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// readable returns the segments there are, those of them that have a whole
// header, and up to where all may be read.
func (p *published) readable() (segments, bounds []uint64, synced Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.segments, p.bounds, p.stats.Synced
}

func (p *published) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Stats is one consistent view of the log. What is not a size or a count of
// what is there now counts since the log began, where it says so, or since Open.
type Stats struct {
	Appended      Totals   // running totals after the newest frame, since the log began
	Refused       Totals   // since Open
	Waiting       Totals   // in memory until they can be written
	Lost          Lost     // given up while waiting, since Open
	Evicted       Totals   // removed before every open cursor had passed it, to keep a bound; since Open
	Synced        Position // what readers may read up to
	Oldest        Position // just before the oldest frame there is
	Bytes         int64    // of everything under Path
	MaxBytes      int64    // its bound
	Segments      int      // those that can be read; NewerSegments are not among them
	NewerSegments int      // of a newer format version, left alone
	Series        int      // handles in memory
	DamagedBytes  uint64   // found unreadable and kept in the quarantine, since Open
	WriteErrors   uint64   // failed writes and syncs, since Open
}

// Stats returns one consistent view. It never waits for the disk.
func (l *Log) Stats() Stats {
	s := l.published.get()
	s.DamagedBytes = l.quarantine.found.Load()
	return s
}

// Changed returns a channel that is closed when more frames can be read. Take
// it before calling Reader.Next: what comes after is then not missed.
func (l *Log) Changed() <-chan struct{} { return l.published.wait() }

// publish shows the writer's state. The caller holds l.mu.
func (l *Log) publish() {
	s := Stats{
		Appended:    l.end.Totals,
		Refused:     l.refused,
		Waiting:     l.waiting.counts,
		Lost:        l.lost,
		Evicted:     l.evicted,
		Oldest:      l.oldest(),
		Bytes:       l.bytes + l.others,
		MaxBytes:    l.o.MaxBytes,
		Series:      l.series.len,
		WriteErrors: l.writeErrors,
	}
	for i := range l.segments {
		switch seg := &l.segments[i]; {
		case seg.newer:
			s.NewerSegments++
		case seg.readable():
			s.Segments++
		}
	}
	if !l.sameSegments(s.Segments) {
		l.readable, l.bounds = make([]uint64, 0, s.Segments), make([]uint64, 0, s.Segments)
		for i := range l.segments {
			if seg := &l.segments[i]; seg.readable() {
				l.readable = append(l.readable, seg.first)
				if !seg.headless {
					l.bounds = append(l.bounds, seg.first)
				}
			}
		}
	}
	l.published.set(s, l.readable, l.bounds)
	if l.o.Sync == SyncNever {
		l.published.advance(l.end)
	}
}

// sameSegments tells whether the published list still holds. Segments come at
// the end and go at the beginning; one that comes in between makes it longer.
func (l *Log) sameSegments(n int) bool {
	if len(l.readable) != n || n == 0 {
		return len(l.readable) == n
	}
	return l.readable[0] == l.oldest().Segment && l.readable[n-1] == l.segments[len(l.segments)-1].first
}

// oldest is the position just before the oldest frame.
func (l *Log) oldest() Position {
	for i := range l.segments {
		if s := &l.segments[i]; s.readable() {
			return Position{Seq: s.first - 1, Segment: s.first, Offset: segmentHeaderSize, Totals: s.start}
		}
	}
	return l.end
}
