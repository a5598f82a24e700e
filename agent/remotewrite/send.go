package remotewrite

import (
	"context"
	"time"

	"github.com/klauspost/compress/s2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// flight carries one request of the window to the endpoint. It keeps the
// request, and its bytes for the next attempt, until there is a final answer.
type flight struct {
	request  int // index in the window, or none
	inFlight bool

	protocol config.Protocol // of body
	message  []byte          // the encoded request
	body     []byte          // message as snappy block; empty: not compressed yet
	answer   answer
	took     time.Duration
}

const none = -1

// condition is how the endpoint is.
type condition int

const (
	up condition = iota
	down
	shut // it is reached and takes nothing
)

// send sends the requests of the window that have no final answer. It ends
// when all have one, when the endpoint has to be left alone for a while, when
// ctx ends, and with an error when an answer cannot be saved.
func (s *Shipper) send(ctx context.Context, now time.Time) (err error) {
	if s.unsaved {
		if err := s.save(); err != nil {
			return err
		}
	}
	landed := make(chan *flight, len(s.flights))
	flying := 0
	var trouble verdict // the worst so far
	var asked time.Duration
	for {
		for trouble == accepted && err == nil && ctx.Err() == nil && flying < s.pace.limit {
			f := s.board()
			if f == nil {
				break
			}
			flying++
			f.inFlight = true
			go func() {
				s.fly(ctx, f)
				landed <- f
			}()
		}
		if flying == 0 {
			break
		}
		f := <-landed
		flying--
		f.inFlight = false
		if ctx.Err() != nil && f.answer.err != nil {
			s.window.requests[f.request].doubt = true
			continue
		}
		v := s.land(f)
		if v == unavailable || v == misconfigured {
			trouble = max(trouble, v)
			asked = max(asked, f.answer.wait(now))
		}
		if s.unsaved && err == nil && s.window.unanswered() != none {
			err = s.save()
		}
	}
	switch trouble {
	case unavailable:
		s.pace.unavailable(now, asked)
	case misconfigured:
		s.pace.misconfigured(now, asked)
	}
	return err
}

// board returns a flight with the next request to send: the first that is not
// answered and not in the air. It returns nil if there is none, or none may
// go yet.
func (s *Shipper) board() *flight {
	first := s.window.unanswered()
	if first == none {
		return nil
	}
	for i := first; i < min(first+maxAhead, len(s.window.requests)); i++ {
		if s.window.requests[i].done {
			continue
		}
		f := s.flightOf(i)
		if f.inFlight {
			continue
		}
		if p := s.protocol(); f.request != i || f.protocol != p {
			f.request, f.protocol = i, p
			f.message = s.encoder.append(f.message[:0], p, &s.window, &s.window.requests[i])
			f.body = f.body[:0]
		} else {
			s.metrics.retries.Inc()
		}
		return f
	}
	return nil
}

// flightOf returns the flight that has request i, or a free one.
func (s *Shipper) flightOf(i int) *flight {
	var free *flight
	for _, f := range s.flights {
		if f.request == i {
			return f
		}
		if f.request == none {
			free = f
		}
	}
	return free
}

// fly makes one attempt. It runs beside other flights and touches nothing but
// its own.
func (s *Shipper) fly(ctx context.Context, f *flight) {
	if len(f.body) == 0 {
		f.body = s2.EncodeSnappy(f.body[:cap(f.body)], f.message)
	}
	start := time.Now()
	f.answer = s.client.post(ctx, f.protocol, f.body)
	f.took = time.Since(start)
}

// land draws the consequences of an answer.
func (s *Shipper) land(f *flight) verdict {
	r, a := &s.window.requests[f.request], &f.answer
	s.metrics.landed(f)

	spoke2 := f.protocol == config.ProtocolV2 && a.counted
	if spoke2 && !s.learned.Confirmed {
		s.learned.Confirmed, s.unsaved = true, true
	}
	other := config.ProtocolV1
	if f.protocol == config.ProtocolV1 {
		other = config.ProtocolV2
	}
	mayReword := s.endpoint.Protocol == config.ProtocolAuto && !s.declined[other]

	v := a.judge(f.protocol, mayReword, s.learned.Confirmed)
	switch v {
	case accepted:
		got := r.counts
		if spoke2 {
			got = least(a.written, r.counts)
		} else if f.protocol == config.ProtocolV2 && !s.uncounted {
			s.uncounted = true
			s.logger.Warn("the receiver answers 2.0 without saying what it wrote; its word is taken for everything")
		}
		s.conclude(f, r, got)
		s.recovered()
	case refused:
		got := wal.Totals{}
		if spoke2 {
			got = least(a.written, r.counts)
		}
		s.conclude(f, r, got)
		s.recovered()
	case reworded:
		r.doubt = r.doubt || !a.declined()
		s.reword(f.protocol, other, a)
	case unavailable:
		r.doubt = true
		s.become(down, a)
	case misconfigured:
		if a.declined() && s.endpoint.Protocol == config.ProtocolAuto {
			// It has declined both, one after the other: the next try begins anew.
			clear(s.declined)
			s.learned.Protocol, s.unsaved = other, true
		}
		s.become(shut, a)
	}
	return v
}

// conclude books the final answer to r, of which the receiver has got.
func (s *Shipper) conclude(f *flight, r *request, got wal.Totals) {
	r.done = true
	s.unsaved = true
	f.request = none
	s.outcome.sent = s.outcome.sent.Add(got)
	lost := r.counts.Sub(got)
	if lost.IsZero() {
		return
	}
	if r.doubt {
		s.outcome.unconfirmed = s.outcome.unconfirmed.Add(lost)
	} else {
		s.outcome.rejected = s.outcome.rejected.Add(lost)
	}
	if !s.rejecting {
		s.rejecting = true
		s.logger.Warn("the receiver refused samples for good; they are counted, and this is not said again until it takes everything",
			"answer", f.answer.String(), "samples", lost.Samples, "histograms", lost.Histograms, "exemplars", lost.Exemplars,
			"sent_before", r.doubt)
	}
}

// reword changes to the other protocol, unless a flight before this one has.
func (s *Shipper) reword(from, to config.Protocol, a *answer) {
	s.declined[from] = true
	if s.protocol() != from {
		return
	}
	s.learned.Protocol, s.unsaved = to, true
	s.logger.Info("the endpoint does not take this version of the protocol; use the other one",
		"from", wireVersion(from), "to", wireVersion(to), "answer", a.String())
}

// recovered notes that the endpoint is at work.
func (s *Shipper) recovered() {
	clear(s.declined)
	s.pace.accepted()
	if s.condition != up {
		s.condition = up
		s.logger.Info("endpoint recovered")
	}
}

// become notes trouble with the endpoint, and says so when it begins.
func (s *Shipper) become(c condition, a *answer) {
	if s.condition == c {
		return
	}
	s.condition = c
	if c == down {
		s.logger.Warn("endpoint down; samples wait in the log until it answers", "answer", a.String())
		return
	}
	s.logger.Error("the endpoint takes nothing as it is configured; samples wait in the log", "answer", a.String(), "do", a.advice())
}
