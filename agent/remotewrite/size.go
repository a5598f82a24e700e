package remotewrite

import "time"

// growAfter is how many requests of a learned size are accepted before a
// larger one is tried.
const growAfter = 200

// limit is how many points a request may have.
func (s *Shipper) limit() int {
	most := s.endpoint.Queue.MaxSamplesPerSend
	if s.learned.Limit > 0 {
		return min(s.learned.Limit, most)
	}
	return most
}

// shrink draws the consequences of a piece that was too large: half as many
// points in each request from here on, and a single one that is too large is
// given up.
func (s *Shipper) shrink(f *flight, r *request, now time.Time) {
	f.request = none
	if r.trying() {
		s.inquire(f, r, now) // a point that is too large is one that is refused
		return
	}
	p := r.next()
	limit := (p.points() + 1) / 2
	if s.learned.Limit == 0 || limit < s.learned.Limit {
		s.logger.Info("the endpoint finds requests too large; send smaller ones", "samples", limit, "answer", f.answer.String())
		s.learned.Limit, s.unsaved = limit, true
	}
	s.grown = 0
	first, second, ok := s.window.halve(*p)
	if !ok {
		s.refuse(f, r, ReasonTooLarge, &f.answer, true, now)
		return
	}
	r.divide(first, second)
}

// grow lets requests become larger again.
func (s *Shipper) grow() {
	if s.learned.Limit == 0 {
		return
	}
	if s.grown++; s.grown < growAfter {
		return
	}
	s.grown = 0
	s.learned.Limit *= 2
	if s.learned.Limit >= s.endpoint.Queue.MaxSamplesPerSend {
		s.learned.Limit = 0
	}
	s.unsaved = true
}
