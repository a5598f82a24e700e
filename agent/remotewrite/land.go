package remotewrite

import (
	"time"

	"github.com/klauspost/compress/s2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// land draws the consequences of an answer.
func (s *Shipper) land(f *flight, now time.Time) verdict {
	r, a := &s.window.requests[f.request], &f.answer
	a.at = now
	s.metrics.landed(f)
	if a.err == nil {
		s.pace.throttle.took(f.took)
	}

	spoke2 := f.protocol == config.ProtocolV2 && a.counted
	if spoke2 {
		s.trusted = false
		if !s.learned.Confirmed {
			s.learned.Confirmed, s.unsaved = true, true
		}
	}
	other := config.ProtocolV1
	if f.protocol == config.ProtocolV1 {
		other = config.ProtocolV2
	}
	mayReword := s.endpoint.Protocol == config.ProtocolAuto && !s.declined[other]

	p := r.next()
	v := a.judge(f.protocol, mayReword, s.learned.Confirmed, s.trusted)
	asking := r.inquiry != nil
	if asking && (v == accepted || v == refused || v == tooLarge) {
		r.inquiry.sent++ // others say nothing about the piece
	}
	switch v {
	case accepted:
		s.accept(f, r, spoke2, now)
		s.recovered(a)
	case refused:
		if spoke2 && !r.trying() && !a.claims(p.counts) {
			s.keepMissing(r, a.written, a, now)
			s.conclude(f, r, a.written, ReasonRejected, a, true)
		} else {
			s.inquire(f, r, now)
		}
		s.recovered(a)
		if asking {
			s.pace.breathe(now)
		}
	case tooLarge:
		s.shrink(f, r, now)
		s.recovered(a)
		s.pace.breathe(now)
	case reworded:
		p.doubt = p.doubt || !a.declined()
		s.reword(f.protocol, other, a, now)
	case unavailable:
		p.doubt = true
		s.become(a.trouble(), a)
		s.park(f, r, now)
	case misconfigured:
		if a.declined() && s.endpoint.Protocol == config.ProtocolAuto {
			// It has declined both, one after the other: the next try begins anew.
			clear(s.declined)
			s.learned.Protocol, s.learned.At, s.unsaved = other, now.UnixMilli(), true
		}
		s.become(EndpointMisconfigured, a)
	}
	return v
}

// accept books that the receiver took the next piece of r, or what it says it
// wrote of it.
func (s *Shipper) accept(f *flight, r *request, counted bool, now time.Time) {
	p := r.next()
	got, half := p.counts, p.half
	if counted {
		got = least(f.answer.written, p.counts)
	} else if f.protocol == config.ProtocolV2 && !s.uncounted {
		s.uncounted = true
		s.logger.Warn("the receiver answers 2.0 without saying what it wrote; its word is taken for everything")
	}
	whole := got == p.counts
	switch {
	case !r.trying():
		s.keepMissing(r, got, &f.answer, now)
		s.conclude(f, r, got, ReasonRejected, &f.answer, true)
	case whole:
		s.tookProbe(f, r)
	default:
		s.inquire(f, r, now)
	}
	if half && whole && !r.done {
		r.next().refused = true
	}
	s.grow()
}

// park gives up the next piece of r if it has been blocked for too long.
func (s *Shipper) park(f *flight, r *request, now time.Time) {
	limit := s.endpoint.MaxBlock
	if limit == 0 {
		return
	}
	p := r.next()
	if p.blocked.IsZero() {
		p.blocked, s.unsaved = now, true
	}
	if now.Sub(p.blocked) < limit {
		return
	}
	if r.trying() {
		r.endProbes() // the answer to one says nothing of the others
	}
	s.refuse(f, r, ReasonMaxBlock, &f.answer, true, now)
	// Those that failed beside it have hardly been tried since: their time
	// begins anew.
	for i := s.window.answered; i < min(s.window.answered+maxAhead, len(s.window.requests)); i++ {
		if p := s.window.requests[i].next(); p != nil {
			p.blocked = time.Time{}
		}
	}
}

// refuse gives up the next piece of r: into the dead letter and the books.
func (s *Shipper) refuse(f *flight, r *request, reason Reason, a *answer, known bool, now time.Time) {
	s.keepLetter(r, reason, a, r.next().unconfirmed(reason, known), now)
	s.conclude(f, r, wal.Totals{}, reason, a, known)
}

// keepMissing writes the next piece of r to the dead letter if the receiver has
// not got all its samples and histograms. Exemplars that are missing are not
// worth what is there already: Prometheus, for one, writes none of them unless
// it is told to, and sent again they fare no better.
func (s *Shipper) keepMissing(r *request, got wal.Totals, a *answer, now time.Time) {
	if p := r.next(); got.Samples < p.counts.Samples || got.Histograms < p.counts.Histograms {
		s.keepLetter(r, ReasonRejected, a, p.unconfirmed(ReasonRejected, true), now)
	}
}

// namedInLetter is how many series of a request a letter names.
const namedInLetter = 3

// keepLetter writes the next piece of r to the dead letter, as the request was
// that a is the answer to.
func (s *Shipper) keepLetter(r *request, reason Reason, a *answer, unconfirmed bool, now time.Time) {
	p := r.next()
	counts := p.counts
	if a.protocol == config.ProtocolV1 {
		counts = counts.Sub(s.window.unsupported(p))
	}
	l := Letter{
		Endpoint: s.endpoint.Name, Time: now.UTC(), Reason: reason, Unconfirmed: unconfirmed, Status: a.status, Words: a.words, Protocol: a.protocol,
		Appended: time.UnixMilli(s.window.oldest).UTC(), Window: s.window.end.Seq, Series: s.window.names(p, namedInLetter),
		Samples: counts.Samples, Histograms: counts.Histograms, Exemplars: counts.Exemplars,
	}
	if a.err != nil {
		l.Words = printable(a.err.Error())
	}
	if w := least(a.written, counts); a.counted && !w.IsZero() && !a.claims(counts) {
		l.Written = &Written{w.Samples, w.Histograms, w.Exemplars}
	}
	s.letter = s.encoder.append(s.letter[:0], a.protocol, &s.window, p)
	s.deadLetter.keep(&l, s2.EncodeSnappy(nil, s.letter))
}

// reword changes to the other protocol, unless a flight before this one has.
// A receiver that has counted what it wrote of 2.0, and ceases to, has not
// declined it: if it does decline 1.0 then, 2.0 it is, and its word is taken.
func (s *Shipper) reword(from, to config.Protocol, a *answer, now time.Time) {
	ceased := from == config.ProtocolV2 && a.status/100 == 2 && s.learned.Confirmed
	s.declined[from] = !ceased
	s.trusted = from == config.ProtocolV1 && s.learned.Confirmed
	if s.protocol() != from {
		return
	}
	s.learned.Protocol, s.learned.At, s.unsaved = to, now.UnixMilli(), true
	s.logger.Info("the endpoint does not take this version of the protocol; use the other one",
		"from", wireVersion(from), "to", wireVersion(to), "answer", a.String())
}
