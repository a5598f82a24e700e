package remotewrite

import (
	"errors"
	"slices"
	"time"

	"sql2metrics/wal"
)

// restore takes over what was saved with the cursor.
func (s *Shipper) restore(saved []byte) {
	s.books = books{base: s.position.Totals, dropped: map[Reason]wal.Totals{}}
	s.learned = learned{URL: address(s.endpoint)}
	s.unsaved = true
	if s.cursor.Recovered() {
		s.doubtful = s.log.Stats().Synced.Seq
	}
	if len(saved) == 0 {
		return
	}
	st, err := decodeState(saved)
	if err != nil {
		s.doubtful = s.log.Stats().Synced.Seq
		s.logger.Warn("the saved counters of this endpoint cannot be read; they begin at zero, its place in the log is kept", "err", err)
		return
	}
	s.books.base = st.Base.totals()
	s.books.sent = st.Sent.totals()
	s.books.unconfirmed = st.Unconfirmed.totals()
	for r, n := range st.Dropped {
		s.books.dropped[r] = n.totals()
	}
	if st.Learned.URL == s.learned.URL {
		s.learned = st.Learned
	}
	s.doubtful = max(s.doubtful, st.Doubtful)
	s.resumed = st.Window
	s.unsaved = false
}

// keepDoubt saves a doubt that has just come up: the next life finds a cursor
// that is in order, and would know nothing of it.
func (s *Shipper) keepDoubt() {
	if !s.unsaved || s.doubtful == 0 {
		return
	}
	if err := errors.Join(s.save(), s.cursor.Sync()); err != nil {
		s.logger.Warn("it cannot be saved which samples may have been sent before the cursor was lost; it is tried again before any is sent", "err", err)
	}
}

// bookGone closes the books on the window that was in flight when the last run
// ended, if the log has removed all of it since: what was answered is what the
// answer said, and only the rest is evicted. The books are saved with the
// position they lead to, so that a kill before that has the next run book the
// same again. It tells whether there was such a window.
func (s *Shipper) bookGone() bool {
	r, oldest := s.resumed, s.log.Stats().Oldest
	if r == nil || oldest.Seq < r.End || s.window.frames > 0 {
		return false
	}
	o := r.known()
	s.books.close(&s.window, o)
	s.books.drop(ReasonEvicted, minus(minus(oldest.Totals, s.position.Totals), o.total()))
	s.position, s.resumed, s.unsaved = oldest, nil, true
	return true
}

// takeUp marks the requests of a window just cut with what is known of them
// from before. Those that a process before this one had not seen answered may
// have been sent; if the requests are not the same as then, so may everything
// in them.
func (s *Shipper) takeUp(now time.Time) {
	doubt := s.window.first <= s.doubtful
	if r := s.resumed; r != nil {
		s.resumed = nil
		doubt = true
		same := r.Shape == s.shape() && r.fits(len(s.window.series)) && r.Counts == tallyOf(s.window.counts)
		if same {
			r.apply(s.window.requests)
			s.window.goOn(r.Divided)
			if i := s.window.unanswered(); i != none && r.Blocked != 0 {
				s.window.requests[i].next().blocked = time.UnixMilli(r.Blocked)
			}
			for _, place := range r.Alone {
				s.window.series[place].aloneUntil = now.Add(aloneFor).UnixMilli()
			}
			s.outcome = r.outcome()
		}
		s.logger.Info("requests that were in flight when the last run ended go first", "requests", len(s.window.requests), "unchanged", same)
	}
	for i := range s.window.requests {
		r := &s.window.requests[i]
		r.doubt = doubt
		for k := range r.open {
			r.open[k].doubt = doubt
		}
	}
}

// divided is how far the first request is booked of which some pieces are; nil
// if there is none.
func (w *window) divided() *divided {
	for i := w.answered; i < min(w.answered+maxAhead, len(w.requests)); i++ {
		r := &w.requests[i]
		if r.done || len(r.open) == 0 || r.outcome.total().IsZero() {
			continue
		}
		p := r.next()
		if r.trying() {
			p = &r.open[len(r.open)-2]
		}
		return &divided{Request: i, Place: p.series.first, From: p.from, savedOutcome: savedOutcomeOf(r.outcome)}
	}
	return nil
}

// goOn is the reverse of divided. What does not add up is left whole.
func (w *window) goOn(d *divided) {
	if d == nil || d.Request < 0 || d.Request >= len(w.requests) {
		return
	}
	r, o := &w.requests[d.Request], d.outcome()
	if r.done || d.Place < r.series.first || d.Place >= r.series.last {
		return
	}
	rest := piece{series: span{d.Place, r.series.last}}
	var open []piece
	if d.From != 0 {
		_, after := w.split(w.series[d.Place], d.From)
		slice := piece{series: span{d.Place, d.Place + 1}, slice: []member{after}, from: d.From, counts: after.counts()}
		open = append(open, slice)
		rest.series.first++
	}
	rest.counts = countMembers(w.members(&rest))
	if rest.points() > 0 {
		open = slices.Insert(open, 0, rest)
	}
	left := o.total()
	for i := range open {
		left = left.Add(open[i].counts)
	}
	if left == r.counts {
		r.open, r.outcome = open, o
	}
}

// save writes the cursor: the books, and the window if its requests may be
// sent from here on.
func (s *Shipper) save() error {
	st := state{
		Version:     stateVersion,
		Base:        tallyOf(s.books.base),
		Sent:        tallyOf(s.books.sent),
		Unconfirmed: tallyOf(s.books.unconfirmed),
		Dropped:     tallies(s.books.dropped),
		Doubtful:    s.doubtful,
		Learned:     s.learned,
		Window:      s.resumed,
	}
	if s.window.closed {
		st.Window = &inFlight{
			End:          s.window.end.Seq,
			Shape:        s.shape(),
			Counts:       tallyOf(s.window.counts),
			cutting:      s.window.cutting,
			savedOutcome: savedOutcomeOf(s.outcome),
			Divided:      s.window.divided(),
		}
		st.Window.mark(s.window.requests)
		if i := s.window.unanswered(); i != none && s.endpoint.MaxBlock > 0 {
			if since := s.window.requests[i].next().blocked; !since.IsZero() {
				st.Window.Blocked = since.UnixMilli()
			}
		}
	}
	b, err := st.encode()
	if err != nil {
		return err
	}
	s.deadLetter.sync(s.endpoint.Name)
	if err := s.cursor.Save(s.position, b); err != nil {
		return err
	}
	s.unsaved = false
	return nil
}
