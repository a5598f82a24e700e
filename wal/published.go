package wal

import "sync"

// published is what others may see of a log without waiting for its writer,
// which may be waiting for a disk.
type published struct {
	mu      sync.Mutex
	stats   Stats
	bounds  []uint64 // first sequence numbers of segments whose header is whole: there the one before ends; replaced, never changed
	changed chan struct{}
}

func newPublished() *published { return &published{changed: make(chan struct{})} }

// set publishes everything but what syncs publish, and calls booked, which may
// be nil, in the same moment.
func (p *published) set(s Stats, bounds []uint64, booked func(Appended), a Appended) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Synced = p.stats.Synced
	p.stats, p.bounds = s, bounds
	if booked != nil {
		booked(a)
	}
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

func (p *published) audit(look func(Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	look(p.stats)
}

// readable returns the segments there are, those of them that have a whole
// header, and up to where all may be read.
func (p *published) readable() (segments, bounds []uint64, synced Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats.segments, p.bounds, p.stats.Synced
}

func (p *published) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Stats is one consistent view of the log. For each kind
//
//	handed to Append + TakenUp = Appended - Opened + Refused + Waiting + Lost
//
// since Open. What is not a size or a count of
// what is there now counts since the log began, where it says so, or since Open.
type Stats struct {
	Appended      Totals   // running totals after the newest frame, since the log began
	Opened        Totals   // Appended when Open had recovered the log
	TakenUp       Totals   // appended once more by the log itself, from segments set aside; since Open
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

	segments []uint64 // first sequence numbers of those that can be read, in order; replaced, never changed
	sizes    []int64  // theirs, but for the newest; replaced, never changed
	newest   int64    // size of the newest
}

// BytesAfter returns how many bytes of the log lie after a position that a
// Reader gave out: frames, written ones that are not synced too, and the
// headers and series tables of segments between them. It is zero when no frame
// does. What has been removed is not among them.
func (s *Stats) BytesAfter(p Position) (bytes int64) {
	if p.Totals == s.Appended {
		return 0
	}
	for i, first := range s.segments {
		size := s.newest
		if i < len(s.sizes) {
			size = s.sizes[i]
		}
		switch {
		case first > p.Segment:
			bytes += size
		case first == p.Segment:
			bytes += max(0, size-p.Offset)
		}
	}
	return bytes
}

// Stats returns one consistent view. It never waits for the disk.
func (l *Log) Stats() Stats {
	s := l.published.get()
	s.DamagedBytes = l.quarantine.found.Load()
	return s
}

// Audit calls look while the figures of Stats stand still, and what
// [Round.Booked] has written beside them: whatever was appended by then is in
// both. look must be quick, must not call the log, and may change what Booked
// writes. Audit never waits for the disk.
func (l *Log) Audit(look func(Stats)) { l.published.audit(look) }

// Changed returns a channel that is closed when more frames can be read. Take
// it before calling Reader.Next: what comes after is then not missed.
func (l *Log) Changed() <-chan struct{} { return l.published.wait() }

// publish shows the writer's state. The caller holds l.mu.
func (l *Log) publish() { l.book(nil, Appended{}) }

// book is publish after an append, which booked is told of in the same moment.
func (l *Log) book(booked func(Appended), a Appended) {
	s := Stats{
		Appended:    l.end.Totals,
		Opened:      l.opened,
		TakenUp:     l.takenUp,
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
			s.newest = seg.size
		}
	}
	if !l.listed(s.Segments) {
		l.list(s.Segments)
	}
	s.segments, s.sizes = l.readable, l.sizes
	l.published.set(s, l.bounds, booked, a)
	if l.o.Sync == SyncNever {
		l.published.advance(l.end)
	}
}

// listed tells whether the lists of the n readable segments still hold.
func (l *Log) listed(n int) bool {
	if len(l.readable) != n {
		return false
	}
	at := 0
	for i := range l.segments {
		seg := &l.segments[i]
		if !seg.readable() {
			continue
		}
		if l.readable[at] != seg.first || at < len(l.sizes) && l.sizes[at] != seg.size {
			return false
		}
		at++
	}
	return true
}

// list makes the lists of the n readable segments anew.
func (l *Log) list(n int) {
	l.readable, l.bounds, l.sizes = make([]uint64, 0, n), make([]uint64, 0, n), make([]int64, 0, n)
	for i := range l.segments {
		seg := &l.segments[i]
		if !seg.readable() {
			continue
		}
		if len(l.readable) < n-1 {
			l.sizes = append(l.sizes, seg.size)
		}
		l.readable = append(l.readable, seg.first)
		if !seg.headless {
			l.bounds = append(l.bounds, seg.first)
		}
	}
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
