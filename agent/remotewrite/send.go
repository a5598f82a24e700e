package remotewrite

import (
	"context"
	"fmt"
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
	s.pace.throttle.behind = now.Sub(time.UnixMilli(s.window.oldest)) > 2*s.endpoint.Queue.BatchSendDeadline+10*time.Second
	if s.condition == up && s.protocol() == config.ProtocolV1 {
		s.metadata.send(ctx, now, s.table.families)
	}
	landed := make(chan *flight, len(s.flights))
	flying := 0
	var trouble verdict // the worst so far
	var asked time.Duration
	for {
		for trouble == accepted && err == nil && ctx.Err() == nil && flying < s.pace.limit && s.pace.rest(now) == 0 {
			f := s.board(now, flying == 0)
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
			s.window.requests[f.request].next().doubt = true
			continue
		}
		v := s.land(f, now)
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

// board returns a flight with the next piece to send. Requests that are being
// inquired into come after all others, one at a time, so they go only when
// nothing else is in the air. It returns nil if there is nothing to send, or
// nothing may go yet.
func (s *Shipper) board(now time.Time, empty bool) *flight {
	first := s.window.unanswered()
	if first == none {
		return nil
	}
	suspect, waits := none, false
	for i := first; i < min(first+maxAhead, len(s.window.requests)); i++ {
		r, f := &s.window.requests[i], s.flightOf(i)
		switch {
		case r.done:
		case f == nil:
			return nil
		case f.inFlight:
			waits = true
		case r.inquiry != nil:
			if suspect == none {
				suspect = i
			}
		default:
			if f := s.take(i, now); f != nil {
				return f
			}
			if !r.done {
				return nil // the pace does not allow it
			}
		}
	}
	if suspect == none || waits || !empty {
		return nil
	}
	return s.take(suspect, now)
}

// take puts the next piece of request i on a flight. It returns nil when there
// is nothing left of the request that can be sent, or it may not go yet.
func (s *Shipper) take(i int, now time.Time) *flight {
	f, r := s.flightOf(i), &s.window.requests[i]
	version := s.protocol()
	if f.request == i && f.protocol == version {
		s.metrics.retries.Inc()
		return f
	}
	f.protocol = version
	p := s.prepare(f, r, now)
	for p != nil && version == config.ProtocolV1 && s.window.unsupported(p) == p.counts {
		s.conclude(f, r, wal.Totals{}, ReasonUnsupported, &f.answer, true)
		p = s.prepare(f, r, now)
	}
	if p == nil || !s.pace.admit(now, p.points()) {
		return nil
	}
	f.request = i
	f.message = s.encoder.append(f.message[:0], version, &s.window, p)
	f.body = f.body[:0]
	return f
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
func (s *Shipper) land(f *flight, now time.Time) verdict {
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

	p := r.next()
	asking := r.inquiry != nil
	if asking {
		r.inquiry.sent++
	}
	v := a.judge(f.protocol, mayReword, s.learned.Confirmed)
	switch v {
	case accepted:
		s.accept(f, r, spoke2)
		s.recovered()
	case refused:
		if spoke2 {
			s.keepLetter(r, ReasonRejected, a, now)
			s.conclude(f, r, a.written, ReasonRejected, a, true)
		} else {
			s.inquire(f, r, now)
		}
		s.recovered()
		if asking {
			s.pace.breathe(now)
		}
	case tooLarge:
		s.shrink(f, r, now)
		s.recovered()
		s.pace.breathe(now)
	case reworded:
		p.doubt = p.doubt || !a.declined()
		s.reword(f.protocol, other, a, now)
	case unavailable:
		p.doubt = true
		if !s.park(f, r, now) {
			s.become(down, a)
		}
	case misconfigured:
		if a.declined() && s.endpoint.Protocol == config.ProtocolAuto {
			// It has declined both, one after the other: the next try begins anew.
			clear(s.declined)
			s.learned.Protocol, s.learned.At, s.unsaved = other, now.UnixMilli(), true
		}
		s.become(shut, a)
	}
	return v
}

// accept books that the receiver took the next piece of r.
func (s *Shipper) accept(f *flight, r *request, counted bool) {
	if q := r.inquiry; q != nil && q.trying {
		s.tookProbe(f, r)
		return
	}
	p := r.next()
	got, half := p.counts, p.half
	if counted {
		got = f.answer.written
	} else if f.protocol == config.ProtocolV2 && !s.uncounted {
		s.uncounted = true
		s.logger.Warn("the receiver answers 2.0 without saying what it wrote; its word is taken for everything")
	}
	s.conclude(f, r, got, ReasonRejected, &f.answer, true)
	if half && !r.done {
		r.next().refused = true
	}
	s.grow()
}

// park gives up the next piece of r if it has been blocked for too long.
func (s *Shipper) park(f *flight, r *request, now time.Time) bool {
	p := r.next()
	if p.blocked.IsZero() {
		p.blocked = now
	}
	if limit := s.endpoint.MaxBlock; limit == 0 || now.Sub(p.blocked) < limit {
		return false
	}
	if q := r.inquiry; q != nil && q.trying {
		r.open, q.trying = r.open[:len(r.open)-1], false // its answer says nothing of the others
	}
	s.refuse(f, r, ReasonMaxBlock, &f.answer, true, now)
	return true
}

// refuse gives up the next piece of r: into the dead letter and the books.
func (s *Shipper) refuse(f *flight, r *request, reason Reason, a *answer, known bool, now time.Time) {
	s.keepLetter(r, reason, a, now)
	s.conclude(f, r, wal.Totals{}, reason, a, known)
}

// keepLetter writes the next piece of r to the dead letter. Its name is a
// function of the window, so that a process that died and isolates again
// writes the same file.
func (s *Shipper) keepLetter(r *request, reason Reason, a *answer, now time.Time) {
	p := r.next()
	version := s.protocol()
	s.letter = s.encoder.append(s.letter[:0], version, &s.window, p)
	at := time.UnixMilli(s.window.oldest).UTC().Format("20060102T150405")
	id := fmt.Sprintf("%s-%d-%d", at, s.window.end.Seq, p.series.first)
	if p.slice != nil {
		id += fmt.Sprintf("-%d", s.window.start(p))
	}
	l := Letter{
		Endpoint: s.endpoint.Name, Time: now.UTC(), Reason: reason, Status: a.status, Words: a.words, Protocol: version,
		Samples: p.counts.Samples, Histograms: p.counts.Histograms, Exemplars: p.counts.Exemplars,
	}
	if a.err != nil {
		l.Words = a.err.Error()
	}
	s.deadLetter.keep(&l, id, s2.EncodeSnappy(nil, s.letter))
}

// reportLost says that samples were given up, when that begins.
func (s *Shipper) reportLost(a *answer, reason Reason, lost wal.Totals, doubt bool) {
	if s.rejecting {
		return
	}
	s.rejecting = true
	s.logger.Warn("the receiver refused samples for good; they are counted, and this is not said again until it takes everything",
		"answer", a.String(), "reason", reason, "samples", lost.Samples, "histograms", lost.Histograms, "exemplars", lost.Exemplars,
		"sent_before", doubt, "do", a.remedy())
}

// reword changes to the other protocol, unless a flight before this one has.
func (s *Shipper) reword(from, to config.Protocol, a *answer, now time.Time) {
	s.declined[from] = true
	if s.protocol() != from {
		return
	}
	s.learned.Protocol, s.learned.At, s.unsaved = to, now.UnixMilli(), true
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
