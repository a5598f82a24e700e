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
// points in each request from here on. A single one that is too large is given
// up. It was no measure for the others then, so that they go as they did before,
// and its series alone.
func (s *Shipper) shrink(f *flight, r *request, now time.Time) {
	f.request = none
	if r.trying() {
		s.inquire(f, r, now) // a point that is too large is one that is refused
		return
	}
	p := r.next()
	lonely := r.series.len() == 1 && s.window.series[r.series.first].aloneUntil > now.UnixMilli()
	first, second, ok := s.window.halve(*p)
	if !ok {
		if !lonely {
			s.setLimit(s.window.cutting.Limit)
		}
		for _, place := range s.window.inhabited(p) {
			s.window.series[place].aloneUntil = now.Add(aloneFor).UnixMilli()
		}
		s.refuse(f, r, ReasonTooLarge, &f.answer, true, now)
		return
	}
	if limit := (p.points() + 1) / 2; !lonely && limit < s.limit() {
		if len(r.open) == 0 {
			s.logger.Info("the endpoint finds requests too large; send smaller ones", "samples", limit, "answer", f.answer.String())
		}
		s.setLimit(limit)
	}
	s.grown = 0
	r.divide(first, second)
}

// setLimit has requests be of so many points at most.
func (s *Shipper) setLimit(limit int) {
	if limit >= s.endpoint.Queue.MaxSamplesPerSend {
		limit = 0
	}
	s.learned.Limit, s.unsaved = limit, true
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
	s.setLimit(2 * s.learned.Limit)
}
