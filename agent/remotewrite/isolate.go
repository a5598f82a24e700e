package remotewrite

import (
	"math/rand/v2"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

const (
	// maxInquiry bounds the attempts that one refused piece may cost after
	// its refusal: a poison series among 2,000 costs about 20.
	maxInquiry = 64
	// maxProbes is how many samples are tried before a piece is believed to
	// be refused as a whole.
	maxProbes = 3
	// maxAlone bounds the series of a window that travel alone; they are
	// saved with it.
	maxAlone = 64
	// aloneFor is how long a series travels alone after it was refused alone.
	aloneFor = 10 * time.Minute
)

// inquiry finds out what of a refused piece the receiver takes. A receiver
// that says no without saying what it wrote may have rolled everything back
// because of one series (Prometheus, 1.0), or it may have stored all that is
// good (Thanos, Mimir).
//
// First the oldest samples of up to three series are tried. The oldest,
// because a sample that is sent again as the newest of its series is taken
// silently, and then the rest of the series fits behind it. If the receiver
// takes none of them, it refuses the piece as a whole, such as for being too
// old. Otherwise the piece is bisected between series, depth first, so that
// the guilty ones are known as soon as can be. A part that is in doubt and is
// refused is asked about in the same way before it is bisected: it may be
// refused because it is stored.
type inquiry struct {
	floor  int   // how many open pieces are not part of it
	sent   int   // attempts so far
	probes []int // places of series that are to be tried yet, the next one last
	taken  []int // places of series whose oldest sample the receiver took
	trying bool  // the next piece is a probe
	found  answer
}

// trying tells whether the next piece of r is a probe.
func (r *request) trying() bool { return r.inquiry != nil && r.inquiry.trying }

// endProbes takes the probe off, so that the piece in question is next.
func (r *request) endProbes() {
	r.open = r.open[:len(r.open)-1]
	r.inquiry.trying, r.inquiry.probes = false, nil
}

// inquire begins or goes on to find out why the receiver has refused the next
// piece of r without saying what it wrote.
func (s *Shipper) inquire(f *flight, r *request, now time.Time) {
	f.request = none
	q, p := r.inquiry, r.next()
	if r.trying() {
		if !s.nextProbe(r) { // none was taken
			s.refuse(f, r, ReasonRejected, &q.found, s.pointwise(r.next()), now)
		}
		return
	}
	at := s.window.inhabited(p)
	if len(at) == 1 {
		s.accuse(f, r, at[0], now)
		return
	}
	p.refused = true
	if q == nil {
		if len(r.open) == 0 {
			r.open = append(r.open, r.piece)
		}
		q = &inquiry{floor: len(r.open) - 1}
		r.inquiry = q
	} else if !p.doubt {
		return
	}
	q.found, q.trying = f.answer, true
	q.probes = s.someOf(at)
	last := len(q.probes) - 1
	r.open = append(r.open, s.window.oldestPoint(q.probes[last]))
	q.probes = q.probes[:last]
}

// someOf returns up to maxProbes of the places, the one to begin with last:
// the ends, because what an earlier attempt has stored begins or ends with
// one, and another one in between in each window, so that series which are
// refused for themselves are not taken for all of them again and again. It is
// the same one when this window is sent once more.
func (s *Shipper) someOf(places []int) []int {
	last := len(places) - 1
	if last < maxProbes-1 {
		return []int{places[last], places[0]}
	}
	random := rand.New(rand.NewPCG(s.window.end.Seq, uint64(places[0])))
	return []int{places[last], places[1+random.IntN(last-1)], places[0]}
}

// nextProbe puts the next probe in the place of the one at hand. Without one
// it ends the probing, so that the piece in question is next, and returns
// false.
func (s *Shipper) nextProbe(r *request) bool {
	q := r.inquiry
	n := len(q.probes)
	if n == 0 {
		r.endProbes()
		return false
	}
	r.open[len(r.open)-1] = s.window.oldestPoint(q.probes[n-1])
	q.probes = q.probes[:n-1]
	return true
}

// tookProbe notes that the receiver takes something of the piece in question.
func (s *Shipper) tookProbe(f *flight, r *request) {
	f.request = none
	r.inquiry.taken = append(r.inquiry.taken, r.next().series.first)
	r.endProbes()
}

// pointwise tells whether every series of p has one point at most in the whole
// window, so that the receiver would have taken silently what it has already.
func (s *Shipper) pointwise(p *piece) bool {
	for i := p.series.first; i < p.series.last; i++ {
		if s.window.series[i].points() > 1 {
			return false
		}
	}
	return true
}

// accuse books a series that was refused alone, and lets it travel alone for a
// while, so that the next windows are not bisected because of it.
func (s *Shipper) accuse(f *flight, r *request, place int, now time.Time) {
	s.window.series[place].aloneUntil = now.Add(aloneFor).UnixMilli()
	known := s.pointwise(r.next())
	if q := r.inquiry; q != nil {
		for _, taken := range q.taken {
			known = known && taken != place
		}
	}
	s.refuse(f, r, ReasonRejected, &f.answer, known, now)
}

// prepare divides what r has to send next as far as it must be, and returns
// it; nil if nothing is left to send.
func (s *Shipper) prepare(f *flight, r *request, now time.Time) *piece {
	for {
		p := r.next()
		if p == nil {
			return nil
		}
		if q := r.inquiry; q != nil && q.sent >= maxInquiry {
			if q.trying {
				r.endProbes()
			}
			s.refuse(f, r, ReasonIsolationLimit, &q.found, true, now)
			continue
		}
		if p.refused {
			if first, second, ok := s.window.bisect(*p); ok {
				first.half = true
				r.divide(first, second)
				continue
			}
		}
		if limit := s.learned.Limit; limit > 0 && p.points() > limit {
			if first, second, ok := s.window.halve(*p); ok {
				r.divide(first, second)
				continue
			}
		}
		return p
	}
}

// conclude books the final answer to the next piece of r, of which the
// receiver has got, and leaves it. What it did not get is dropped for reason,
// or unconfirmed if an earlier attempt may have stored it.
func (s *Shipper) conclude(f *flight, r *request, got wal.Totals, reason Reason, a *answer, known bool) {
	p := r.next()
	rest := p.counts
	if f.protocol == config.ProtocolV1 {
		u := s.window.unsupported(p)
		r.outcome.drop(ReasonUnsupported, u)
		rest = rest.Sub(u)
	}
	got = least(got, rest)
	r.outcome.sent = r.outcome.sent.Add(got)
	if lost := rest.Sub(got); !lost.IsZero() {
		unconfirmed := p.unconfirmed(reason, known)
		if unconfirmed {
			r.outcome.unconfirmed = r.outcome.unconfirmed.Add(lost)
		} else {
			r.outcome.drop(reason, lost)
		}
		s.reportLost(a, Refusal{Reason: reason, Unconfirmed: unconfirmed, Lost: lost}, unconfirmed && p.doubt)
	}
	s.leave(f, r)
}

// unconfirmed tells whether p, if it is given up for reason, may be stored and
// is to be counted so. known says that the receiver has nothing of it from this
// attempt. Some reasons say by themselves that nobody knows.
func (p *piece) unconfirmed(reason Reason, known bool) bool {
	return reason != ReasonIsolationLimit && reason != ReasonMaxBlock && (p.doubt || !known)
}

// leave takes the next piece of r from what is left of it.
func (s *Shipper) leave(f *flight, r *request) {
	f.request = none
	s.unsaved = true
	if n := len(r.open); n > 0 {
		r.open = r.open[:n-1]
	}
	if q := r.inquiry; q != nil && len(r.open) <= q.floor {
		r.inquiry = nil
	}
	if len(r.open) > 0 {
		return
	}
	r.done = true
	s.outcome.add(r.outcome)
}
