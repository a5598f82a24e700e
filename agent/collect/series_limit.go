package collect

import (
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

// SeriesLimit bounds how many series all workers of an agent have together: it
// is given to each of them. A series counts from the round it first shows up
// in until it is stale. Any goroutine may use it; nil is no bound.
//
// During a reload, from Begin to Commit or Rollback, workers that leave and
// those that enter have series at the same time, and often the same ones. Those
// of the configuration before and those of the one after are counted apart;
// workers that stay are in both.
type SeriesLimit struct {
	mu   sync.Mutex
	now  room
	next *transition // during a reload
}

// room is how many series there are, and may be; most 0 is no bound.
type room struct{ most, live int }

// full tells whether one more is too many, where places are kept for others.
func (r *room) full(kept int) bool { return r.most > 0 && r.live+kept >= r.most }

// transition is what a limit becomes by a reload.
type transition struct {
	room
	// heirs are hashes of the series of those that leave that those that enter
	// will have as well. A place is kept for each until it is taken, so that
	// nothing that is new costs a metric what it had.
	heirs             map[uint64]bool
	leaving, entering []*share
}

// NewSeriesLimit returns a limit of so many series; 0: no bound.
func NewSeriesLimit(most int) *SeriesLimit { return &SeriesLimit{now: room{most: most}} }

// Live returns how many series there are; during a reload, without those of the
// workers that enter.
func (l *SeriesLimit) Live() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now.live
}

// Begin prepares for a reload to a limit of so many series. It comes before
// those that enter collect anything. Series that are above a lower bound stay
// with workers that stay, and with those that enter in the place of their own.
func (l *SeriesLimit) Begin(s Succession, most int) {
	next := &transition{heirs: s.heirs(), leaving: shares(s.Leaving), entering: shares(s.Entering)}
	l.mu.Lock()
	defer l.mu.Unlock()
	next.room = room{most, l.now.live}
	for _, left := range next.leaving {
		left.standing = leaves
		next.live -= left.live
	}
	for _, entered := range next.entering {
		entered.standing = enters
	}
	l.next = next
}

// Commit ends a reload, after [Succession.Carry]: what leaves counts no more.
func (l *SeriesLimit) Commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, left := range l.next.leaving {
		left.standing = over
	}
	for _, entered := range l.next.entering {
		entered.standing = stays
	}
	l.now, l.next = l.next.room, nil
}

// Rollback ends a reload that is given up: all is as it was before.
func (l *SeriesLimit) Rollback() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, left := range l.next.leaving {
		left.standing = stays
	}
	for _, entered := range l.next.entering {
		entered.standing = over
	}
	l.next = nil
}

// heirs are hashes of the series of those that leave that those that enter make
// as well, as long as there are rows for them.
func (s Succession) heirs() map[uint64]bool {
	all := map[uint64]bool{}
	for _, r := range s.Leaving {
		switch before := r.(type) {
		case *Worker:
			known := map[*family]bool{}
			before.values.hashes(all, func(f *family) bool {
				goesOn, asked := known[f]
				if !asked {
					goesOn = slices.ContainsFunc(s.Entering, func(r Runner) bool {
						w, ok := r.(*Worker)
						return ok && before.attaches(w) && w.continues(before, f) != nil
					})
					known[f] = goesOn
				}
				return goesOn
			})
		case *Scrape:
			if slices.ContainsFunc(s.Entering, func(r Runner) bool {
				next, ok := r.(*Scrape)
				return ok && next.source == before.source
			}) {
				before.values.hashes(all, func(*family) bool { return true })
			}
		}
	}
	return all
}

// hashes adds those of the series of the last good round whose families are
// wanted.
func (v *values) hashes(into map[uint64]bool, wanted func(*family) bool) {
	for _, p := range slices.Concat(v.lastGood(), v.lastTimed()) {
		if p.series.handle != nil && wanted(p.series.family) {
			into[p.series.handle.Labels().Hash()] = true
		}
	}
}

// share is what one worker has of a [SeriesLimit]; nil is no bound.
type share struct {
	of *SeriesLimit

	// Guarded by the lock of the limit.
	standing standing
	live     int
	// inherited are hashes of the series that the worker has from another one,
	// and so counts already when it first makes them itself.
	inherited map[uint64]bool
}

// standing is that of a worker in a reload.
type standing int

const (
	stays standing = iota
	leaves
	enters
	over // it is in no configuration, and gets no more series
)

// share returns that of a worker that is made. It is over with the worker's
// last series.
func (l *SeriesLimit) share() *share {
	if l == nil {
		return nil
	}
	return &share{of: l}
}

func shares(runners []Runner) (all []*share) {
	for _, r := range runners {
		var s *share
		switch w := r.(type) {
		case *Worker:
			s = w.values.limit
		case *Scrape:
			s = w.values.limit
		}
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// rooms are those that the share's series count in.
func (s *share) rooms() (now *room, next *transition) {
	if s.standing == stays || s.standing == leaves {
		now = &s.of.now
	}
	if s.standing == stays || s.standing == enters {
		next = s.of.next
	}
	return now, next
}

func (s *share) count(n int) {
	s.live += n
	now, next := s.rooms()
	if now != nil {
		now.live += n
	}
	if next != nil {
		next.live += n
	}
}

// take counts the series with those labels, which is new to the worker, or
// returns false if it is one too many.
func (s *share) take(lset labels.Labels) bool {
	if s == nil {
		return true
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	now, next := s.rooms()
	if now == nil && next == nil {
		return false
	}
	if !s.had(lset, next) && (now != nil && now.full(0) || next != nil && next.full(len(next.heirs))) {
		return false
	}
	s.count(1)
	return true
}

// had tells whether no bound is asked, because the worker, or the one before it,
// has the series already.
func (s *share) had(lset labels.Labels, next *transition) bool {
	if s.inherited != nil && s.inherited[lset.Hash()] {
		return true
	}
	return s.standing == enters && next.claim(lset)
}

// claim takes the place that is kept for a series; false: there is none.
func (t *transition) claim(lset labels.Labels) bool {
	hash := lset.Hash()
	kept := t.heirs[hash]
	delete(t.heirs, hash)
	return kept
}

// inherit counts a series that another worker has already, so that no bound is
// asked.
func (s *share) inherit(lset labels.Labels) {
	if s == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.inherited == nil {
		s.inherited = map[uint64]bool{}
	}
	s.inherited[lset.Hash()] = true
	if s.standing == enters {
		s.of.next.claim(lset)
	}
	s.count(1)
}

// settle comes after a good round, which has ended what was inherited.
func (s *share) settle() {
	if s == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.inherited = nil
}

func (s *share) giveBack() {
	if s == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.count(-1)
}
